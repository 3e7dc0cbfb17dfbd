//! The one-shot commands, and the one clear message of each thing that keeps the worker from starting.

use std::process::Command;

use crate::harness::{REQUEST_SUBSCRIPTION, World, model_file, onnxruntime, outcome, repository, temporary};

pub(crate) fn predictd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_predictd"));
    command.args(arguments).env("ORT_DYLIB_PATH", onnxruntime()).current_dir(repository());
    command
}

/// Exit code 1, one error, as text or in a log's JSON, which says so; and a hint as the last line.
pub(crate) fn assert_fails(command: Command, says: &str) {
    let (code, _, stderr) = outcome(command, "");
    assert_eq!(code, 1, "{stderr}");
    let errors: Vec<String> = stderr
        .lines()
        .filter_map(|line| match serde_json::from_str::<serde_json::Value>(line) {
            Ok(line) => (line["severity"] == "ERROR")
                .then(|| format!("{}: {}", line["message"], line["why"].as_str().unwrap_or_default())),
            Err(_) => line.starts_with("error: ").then(|| line.to_owned()),
        })
        .collect();
    assert!(
        matches!(&errors[..], [only] if only.contains(says)),
        "{says:?} is not the one error in {stderr}"
    );
    assert!(stderr.trim_end().lines().last().unwrap().starts_with("hint: "), "{stderr}");
}

#[test]
fn the_help_teaches() {
    let (code, stdout, _) = outcome(predictd(&["--help"]), "");
    assert_eq!(code, 0);
    for said in [
        "run",
        "check",
        "inspect",
        "predict",
        "ready",
        "PUBSUB_EMULATOR_HOST",
        "PREDICTD_LOG",
        "78 bad configuration",
    ] {
        assert!(stdout.contains(said), "{said:?} is missing in {stdout}");
    }
    assert_eq!(outcome(predictd(&["predit"]), "").0, 2);
}

#[test]
fn bad_configuration_ends_with_78() {
    let (_folder, path) = temporary("bad.yaml", "project: p\nrequests: {subscripton: s}\n");
    for command in ["check", "run"] {
        let (code, stdout, stderr) = outcome(predictd(&[command, "--config", path.to_str().unwrap()]), "");
        assert_eq!((code, stdout.as_str()), (78, ""), "{stderr}");
        for said in [
            "requests.subscripton: unknown key",
            "did you mean `requests.subscription`?",
            "responses.topic: missing",
        ] {
            assert!(stderr.contains(said), "{said:?} is missing in {stderr}");
        }
    }
}

#[test]
fn check_prints_what_a_good_configuration_comes_to() {
    for file in ["config/predictd.yaml", "config/local.yaml"] {
        let (code, stdout, stderr) = outcome(predictd(&["check", "--config", file]), "");
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains("max_rows: 128"), "{stdout}");
        assert!(stdout.contains(&format!("/topics/prediction-responses # {file}")), "{stdout}");
    }
}

#[test]
fn every_sample_request_works_when_pasted_back() {
    let bundle = tempfile::tempdir().unwrap();
    std::fs::write(bundle.path().join("model.onnx"), model_file("zoo/torch-conv", "model.onnx")).unwrap();
    std::fs::write(bundle.path().join("model.yaml"), "image: {}\n").unwrap();
    let picture = bundle.path().to_str().unwrap().to_owned();
    let zoo = [
        "bfloat16",
        "keras-functional",
        "lightgbm-multiclass",
        "map-inputs",
        "map-inputs-other",
        "map-strings",
        "optional-input",
        "optional-sequence",
        "optional-weights",
        "scalar",
        "sequence-input",
        "sequence-inputs",
        "sklearn-columns",
        "sklearn-dict-vectorizer",
        "sklearn-mlflow",
        "sklearn-zipmap-strings",
        "string-identity",
        "torch-conv-batch4",
        "torch-conv-no-batch",
        "torch-dynamo",
        "torch-lstm",
        "torch-multi",
        "uint64-max",
        "zero-size",
    ];
    let zoo = zoo.map(|name| format!("tests/models/zoo/{name}"));
    let mut tried = std::collections::BTreeSet::new();
    for model in
        ["tests/models/wine/1".to_owned(), "tests/models/wine/2".to_owned(), picture].iter().chain(&zoo)
    {
        let (code, stdout, stderr) = outcome(predictd(&["inspect", model, "--json"]), "");
        assert_eq!(code, 0, "{stderr}");
        let inspected: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        for sample in inspected["samples"].as_array().unwrap() {
            let text = |key: &str| sample[key].as_str().unwrap();
            let arguments = ["predict", "--model", model, "--content-type", text("content_type")];
            let (code, body, stderr) = outcome(predictd(&arguments), text("body"));
            assert_eq!(code, 0, "{model}: {sample}: {body} {stderr}");
            tried.insert(text("protocol").to_owned());
        }
        let (_, table, _) = outcome(predictd(&["inspect", model]), "");
        assert!(table.contains("a request of rows (pipe it into `predictd predict --model"), "{table}");
    }
    assert_eq!(tried.into_iter().collect::<Vec<_>>(), ["columns", "csv", "rows", "v2"]);
}

#[test]
fn what_is_missing_is_named() {
    let mut library = predictd(&["inspect", "tests/models/wine/1"]);
    library.env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so");
    assert_fails(library, "cannot load ONNX Runtime from /nowhere/libonnxruntime.so");
    assert_fails(predictd(&["inspect", "tests/models/nothing"]), "cannot find the model");
    let (_folder, path) = temporary("model.onnx", "no model");
    assert_fails(predictd(&["inspect", path.to_str().unwrap()]), "cannot load");
    assert_fails(
        predictd(&["predict", "--model", "tests/models/wine/1", "--input", "/nowhere"]),
        "cannot read the request",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_subscription_ends_the_start() {
    let world = World::start_with(|builder| builder).await;
    world.upload("models/wine/1/model.onnx", model_file("wine/1", "model.onnx"));
    let mut command = world.command();
    command
        .args(["run", "--config"])
        .arg(repository().join("config/local.yaml"))
        .env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0");
    tokio::task::spawn_blocking(|| assert_fails(command, "prediction-requests\" does not exist"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_server_ends_the_start() {
    let (_folder, path) = temporary("source.yaml", "models: {source: tests/models}\n");
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = predictd(&["run", "--config", "config/local.yaml", "--config", path.to_str().unwrap()]);
    command.env("PUBSUB_EMULATOR_HOST", free.to_string()).env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0");
    tokio::task::spawn_blocking(|| assert_fails(command, "cannot reach http://127.0.0.1:")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_says_what_the_worker_says() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let worker = world.worker(&[]);
    let address = worker.address().await;
    let ask = move |address: String| async move {
        let command = predictd(&["ready", "--address", &address]);
        tokio::task::spawn_blocking(move || outcome(command, "")).await.unwrap()
    };
    worker.until_ready().await;
    let (code, stdout, stderr) = ask(address.clone()).await;
    assert_eq!((code, stdout.as_str()), (0, "ready\n"), "{stderr}");
    world.server.pubsub.delete_subscription(REQUEST_SUBSCRIPTION).unwrap();
    worker.until_not_ready("NOT_FOUND").await;
    let (code, stdout, stderr) = ask(address.clone()).await;
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains("not ready: ") && stderr.contains("NOT_FOUND"), "{stderr}");
    drop(worker);
    let (code, _, stderr) = ask(address.clone()).await;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains(&format!("cannot ask the worker at {address}")), "{stderr}");
    assert!(stderr.trim_end().lines().last().unwrap().starts_with("hint: "), "{stderr}");
}
