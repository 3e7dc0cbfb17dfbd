//! Any model.yaml beside a model: a version that answers its samples, or a reason; never a panic.

use std::path::Path;

use predictd::cli::sample::samples;
use predictd::lifecycle::load;
use predictd::model::Models;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::harness::model_file;
use crate::support::runtime::RUNTIME;

/// Loads a folder and asks its model for predictions; the number of its samples.
fn loads(folder: &Path) -> Result<usize, String> {
    let loaded = load::load(&RUNTIME, folder, "m", "1", String::new());
    let models = Models::of(loaded.map_err(|problem| problem.to_string())?);
    Ok(models.serving().values().map(|model| samples(&models, model, None).len()).sum())
}

fn value() -> impl Strategy<Value = String> {
    let numbers = [
        "0",
        "1",
        "2",
        "-1",
        "32",
        "0.5",
        ".nan",
        ".inf",
        "1e300",
        "65536",
        "4294967296",
        "18446744073709551615",
    ];
    let texts = [
        "x",
        "ids",
        "input",
        "features",
        "softmax",
        "gray",
        "nhwc",
        "null",
        "[]",
        "{}",
        "[a, b]",
        "[1, 2, 3]",
        "true",
    ];
    let resize = ["{width: 32, height: 32}", "{width: 4000000000, height: 4000000000}", "{shorter: 8}"];
    select([&numbers[..], &texts, &resize].concat()).prop_map(str::to_owned)
}

/// A few settings, most of them with a name that exists.
fn section(
    name: &'static str,
    keys: &'static [&'static str],
    is_list: bool,
) -> impl Strategy<Value = String> {
    proptest::collection::vec((select(keys), value()), 0..4).prop_map(move |pairs| {
        let mut pairs = pairs;
        pairs.sort();
        pairs.dedup_by(|a, b| a.0 == b.0);
        let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let map = format!("{{{}}}", pairs.join(", "));
        format!("{name}: {}\n", if is_list { format!("[{map}]") } else { map })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_declaration_is_survived(
        model in select(vec!["keras-functional", "sklearn-kmeans", "free-image-size", "token-scores", "torch-conv"]),
        sections in proptest::collection::vec(prop_oneof![
            section("image", &["input", "color", "resize", "crop", "scale", "mean", "std", "layout", "max_pixels"], false),
            section("padding", &["input", "axis", "value", "multiple", "buckets"], true),
            section("columns", &["name", "input", "categories", "unknown", "missing"], true),
            section("output", &["from", "name", "activation", "labels", "top", "threshold"], true),
            section("batching", &["max_rows", "dimension"], false),
            section("session", &["optimization"], false),
            section("samples", &["request", "expected", "tolerance"], true),
        ], 0..3),
    ) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.onnx"), model_file(&format!("zoo/{model}"), "model.onnx")).unwrap();
        std::fs::write(folder.path().join("model.yaml"), sections.concat()).unwrap();
        if let Err(reason) = loads(folder.path()) {
            prop_assert!(!reason.is_empty());
        }
    }
}

/// The property above is of declarations that are also taken.
#[test]
fn a_declaration_that_fits_loads_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), model_file("zoo/torch-conv", "model.onnx")).unwrap();
    std::fs::write(folder.path().join("model.yaml"), "image: {mean: 0.5}\nbatching: {max_rows: 2}\n")
        .unwrap();
    assert_eq!(loads(folder.path()), Ok(6));
}
