//! `inspect`: what a model takes and gives, and requests that work when they are pasted.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::requests::zoo::has_text_locale;
use crate::support::command::predictd;
use crate::support::harness::{model_file, onnxruntime, outcome, repository};

/// Asks what `inspect` shows of a model through a shell, as a person would paste it; the protocols that it
/// showed.
fn ask_samples(model: &str) -> BTreeSet<String> {
    let (code, stdout, stderr) = outcome(predictd(&["inspect", model, "--json"]), "");
    assert_eq!((code, stderr.as_str()), (0, ""), "{model}");
    let inspected: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let folder = Path::new(env!("CARGO_BIN_EXE_predictd")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut tried = BTreeSet::new();
    for sample in inspected["samples"].as_array().unwrap() {
        let mut shell = Command::new("sh");
        shell.env("ORT_DYLIB_PATH", onnxruntime()).env("PATH", &path);
        // A long command does not fit into an argument.
        let (code, body, stderr) = outcome(shell, sample["command"].as_str().unwrap());
        assert_eq!(code, 0, "{model}: {sample}: {body} {stderr}");
        tried.insert(sample["protocol"].as_str().unwrap().to_owned());
    }
    tried
}

#[test]
fn every_sample_request_works_when_pasted_back() {
    let bundle = |model: &str, declared: &str| {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("model.onnx"), model_file(model, "model.onnx")).unwrap();
        std::fs::write(bundle.path().join("model.yaml"), declared).unwrap();
        bundle
    };
    let shown = |model: &str| ask_samples(model).into_iter().collect::<Vec<_>>().join(" ");
    let tables = "csv csv-without-header pandas-records pandas-split";
    assert_eq!(
        shown("tests/models/zoo/sklearn-kmeans"),
        "cloudevent columns csv-without-header raw rows v2 v2-binary",
        "one input of several unnamed columns"
    );
    let named = format!("cloudevent columns {tables} raw rows v2 v2-binary");
    assert_eq!(shown("tests/models/wine/2"), named);
    let image = bundle("zoo/torch-conv", "image: {}\n");
    assert_eq!(shown(image.path().to_str().unwrap()), "cloudevent columns image rows v2 v2-binary");
    let every_table = format!("cloudevent columns {tables} rows v2 v2-binary");
    assert_eq!(shown("tests/models/zoo/sklearn-columns"), every_table);
    assert_eq!(
        shown("tests/models/zoo/sklearn-text-cased"),
        format!("cloudevent columns {tables} rows text v2 v2-binary")
    );
    let names: Vec<String> = (0..13)
        .map(|number| format!("{{name: \"it's, {number}\", categories: [\"b \\\"c\\\"\", d]}}"))
        .collect();
    let categories = bundle("wine/2", &format!("columns: [{}]\n", names.join(", ")));
    assert_eq!(shown(categories.path().to_str().unwrap()), every_table);
}

/// Two at a time, as the machine may have no more cores.
#[test]
fn every_sample_of_every_model_of_the_zoo_works() {
    let folders = |folder: &str| {
        let entries = std::fs::read_dir(repository().join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut models = [folders("tests/models/zoo"), folders("tests/models/types")].concat();
    // These cannot be loaded.
    let without = ["optional-sequence-input", "sklearn-unloadable", "torch-bfloat16"];
    models.retain(|path| !without.iter().any(|name| path.ends_with(name)));
    models.retain(|path| !path.ends_with("sklearn-text") || has_text_locale());
    assert!(models.len() > 70, "{models:?}");
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(model) = models.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tried = ask_samples(model.to_str().unwrap());
                    assert!(tried.contains("rows") || tried.contains("columns"), "{model:?}: {tried:?}");
                }
            });
        }
    });
}

#[test]
fn inspect_shows_what_a_bundle_declares() {
    let bundle = tempfile::tempdir().unwrap();
    std::fs::write(bundle.path().join("model.onnx"), model_file("zoo/torch-conv", "model.onnx")).unwrap();
    let declared = "image: {resize: {width: 32, height: 32}, mean: 0.5}\n";
    std::fs::write(bundle.path().join("model.yaml"), declared).unwrap();
    let path = bundle.path().to_str().unwrap();
    let (code, table, stderr) = outcome(predictd(&["inspect", path]), "");
    assert_eq!(code, 0, "{stderr}");
    for said in ["declared in model.yaml", "mean: 0.5", "filter: bilinear", "width: 32", "# image\n"] {
        assert!(table.contains(said), "{said:?} is missing in {table}");
    }
    assert!(!table.contains("null") && !table.contains("session"), "{table}");
    let (_, json, _) = outcome(predictd(&["inspect", path, "--json"]), "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["declared"]["image"]["resize"]["height"], 32);
    let (_, plain, _) = outcome(predictd(&["inspect", "tests/models/zoo/torch-conv"]), "");
    assert!(!plain.contains("declared in"), "{plain}");
}

#[test]
fn inspect_measures_calls_of_several_sizes() {
    let (code, table, stderr) = outcome(predictd(&["inspect", "tests/models/wine", "--tune"]), "");
    assert_eq!((code, stderr.as_str()), (0, ""));
    let cells: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0].join(" "), "threads rows a call rows a second");
    for (cells, rows) in cells[1..].iter().zip(["1", "8", "32", "128"]) {
        assert!(cells[..2] == ["1", rows] && cells[3] == "ms", "{table}");
        let (call, speed): (f64, f64) = (cells[2].parse().unwrap(), cells[4].parse().unwrap());
        let rows: f64 = rows.parse().unwrap();
        assert!((0.9..1.1).contains(&(rows / call * 1e3 / speed)), "{table}");
    }
    assert!(table.trim_end().lines().last().unwrap().contains(" session"), "{table}");
}

/// A model file whose metadata has one more entry: a field at the end, as protobuf allows.
fn with_metadata(model: &[u8], key: &str, value: &str) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| {
        let mut length = bytes.len();
        let mut encoded = vec![tag];
        while length >= 128 {
            encoded.push((length % 128) as u8 | 128);
            length /= 128;
        }
        encoded.push(length as u8);
        [encoded, bytes.to_vec()].concat()
    };
    let entry = [field(0x0a, key.as_bytes()), field(0x12, value.as_bytes())].concat();
    [model.to_vec(), field(0x72, &entry)].concat()
}

#[test]
fn inspect_shows_inputs_first_and_shortens_long_metadata() {
    let characters = "x\n".repeat(6625);
    let model = with_metadata(&model_file("wine/2", "model.onnx"), "character", &characters);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), model).unwrap();
    let path = folder.path().to_str().unwrap();
    let (code, table, stderr) = outcome(predictd(&["inspect", path]), "");
    assert_eq!(code, 0, "{stderr}");
    let place = |text: &str| table.find(text).unwrap_or_else(|| panic!("no {text:?} in {table}"));
    assert!(place("inputs\n") < place("outputs\n") && place("outputs\n") < place("metadata\n"), "{table}");
    place("x x x… (13250 characters in all)");
    assert!(place("metadata\n") < 1000 && table.lines().all(|line| line.len() < 5000), "{table}");
    let (_, json, _) = outcome(predictd(&["inspect", path, "--json"]), "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["metadata"]["character"], *characters, "whole");
}

#[test]
fn inspect_shows_the_examples_of_a_bundle_that_the_model_answers() {
    let bundle = |files: &[(&str, &str)]| {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("model.onnx"), model_file("wine/2", "model.onnx")).unwrap();
        for (name, content) in files {
            std::fs::write(bundle.path().join(name), content).unwrap();
        }
        bundle
    };
    let row = "[13.2, 1.78, 2.14, 11.2, 100, 2.65, 2.76, 0.26, 1.28, 4.38, 1.05, 3.4, 1050]";
    let names = (0..13).map(|number| format!("{{name: c{number}}}")).collect::<Vec<_>>().join(", ");
    let quoted = (0..13).map(|number| format!("\"c{number}\"")).collect::<Vec<_>>().join(", ");
    let split = format!("{{\"dataframe_split\": {{\"columns\": [{quoted}], \"data\": [{row}]}}}}");
    let inputs = format!("{{\"inputs\": [{row}]}}");
    for (example, declared) in [(&split, format!("columns: [{names}]\n")), (&inputs, String::new())] {
        let declared = format!("{declared}samples: [{{request: {{instances: [{row}]}}}}]\n");
        let bundle = bundle(&[("serving_input_example.json", example), ("model.yaml", &declared)]);
        let path = bundle.path().to_str().unwrap();
        let tried = ask_samples(path);
        assert!(tried.contains("mlflow-example") && tried.contains("sample"), "{tried:?}");
        let (_, table, _) = outcome(predictd(&["inspect", path]), "");
        let (sample, zeros) = (table.find("# sample\n").unwrap(), table.find("# rows\n").unwrap());
        assert!(sample < zeros && table.contains(&format!("printf %s '{example}'")), "{table}");
    }
    let refused = bundle(&[("serving_input_example.json", "{\"inputs\": [[1]]}")]);
    assert!(!ask_samples(refused.path().to_str().unwrap()).contains("mlflow-example"));
}
