//! Any model.yaml beside a model gives a loaded version or an error, never a panic. Needs ORT_DYLIB_PATH.
//!
//! The first byte chooses the model.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use predictd::cli::sample::samples;
use predictd::config::Inference;
use predictd::lifecycle::load;
use predictd::model::Models;
use predictd::model::onnx::runtime::Runtime;

const MODELS: [&str; 4] = ["keras-functional", "sklearn-columns", "free-image-size", "token-scores"];

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::load(&Inference::default()).expect("ORT_DYLIB_PATH is set"));

fuzz_target!(|data: &[u8]| {
    let Some((which, yaml)) = data.split_first() else { return };
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/zoo");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let model = zoo.join(MODELS[usize::from(*which) % MODELS.len()]).join("model.onnx");
    std::fs::copy(model, folder.path().join("model.onnx")).expect("the model can be copied");
    std::fs::write(folder.path().join("model.yaml"), yaml).expect("the folder can be written to");
    let loaded = load::load(&RUNTIME, folder.path(), "m", "1", String::new());
    if let Ok(model) = loaded {
        let models = Models::of(model);
        for model in models.serving().values() {
            let _ = samples(&models, model, None);
        }
    }
});
