//! Any files of a version give a bundle or an error, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predictd::model::bundle::Bundle;

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for (name, content) in
        ["model.onnx", "model.yaml", "MLmodel", "manifest.json"].iter().zip(data.split(|byte| *byte == 0xff))
    {
        if !content.is_empty() {
            std::fs::write(folder.path().join(name), content).expect("the folder can be written to");
        }
    }
    let _ = Bundle::open(folder.path());
});
