//! The one-shot commands, and the one clear message of each thing that keeps the worker from starting.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{REQUEST_SUBSCRIPTION, World, model_file, onnxruntime, outcome, repository, temporary};
use crate::zoo::has_text_locale;

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

/// Asks what `inspect` shows of a model through a shell, as a person would paste it; the protocols that it showed.
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
    // What cannot be loaded.
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

/// `head` and the like close the pipe when they have enough.
#[test]
fn a_closed_pipe_ends_a_command_silently() {
    let model = "tests/models/wine/2";
    let config = "config/local.yaml";
    let commands: [&[&str]; 7] = [
        &["inspect", model],
        &["inspect", model, "--json"],
        &["predict", "--model", model, "--input", "/dev/null"],
        &["check", "--config", config],
        &["generate", "completions", "bash"],
        &["generate", "completions", "man"],
        &["--help"],
    ];
    for arguments in commands {
        let mut command = predictd(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let is_error = arguments[0] == "predict"; // An empty request is one, whoever reads of it.
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*stderr), (Some(i32::from(is_error)), ""), "{arguments:?}");
    }
    for (arguments, code) in [(["check", "--config", "/nowhere"], 78), (["inspect", "--json", "/nowhere"], 1)]
    {
        let mut child = predictd(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{arguments:?}");
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_the_servers_when_told_to() {
    let world = World::start().await;
    world.upload("models/wine/1/model.onnx", model_file("wine/1", "model.onnx"));
    let check = async |variables: &[(&str, &str)]| {
        let mut command = world.command();
        command.args(["check", "--connect", "--config", "config/local.yaml"]);
        command.current_dir(repository()).envs(variables.iter().copied());
        tokio::task::spawn_blocking(|| outcome(command, "")).await.unwrap()
    };
    let (code, stdout, stderr) = check(&[]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.starts_with("project: demo") && stderr.lines().all(|line| line.starts_with("ok ")));
    for said in [
        "credentials: not needed with PUBSUB_EMULATOR_HOST",
        "requests.subscription: projects/demo/subscriptions/prediction-requests\n",
        "responses.topic: projects/demo/topics/prediction-responses\n",
        "models.updates: projects/demo/subscriptions/model-updates\n",
        "models.source: projects/_/buckets/models\n",
        "models.source: gs://models/models has wine\n",
    ] {
        assert!(stderr.contains(&format!("ok       {said}")), "{said:?} is missing in {stderr}");
    }
    let (code, _, stderr) = check(&[
        ("PREDICTD_REQUESTS__SUBSCRIPTION", "no-requests"),
        ("PREDICTD_RESPONSES__TOPIC", "no-responses"),
        ("PREDICTD_RESPONSES__BUCKET", "gs://no-results"),
        ("PREDICTD_REQUESTS__ALLOWED_BUCKETS", "no-images"),
        ("PREDICTD_MODELS__DEFAULT", "beer"),
    ])
    .await;
    assert_eq!(code, 1, "{stderr}");
    for said in [
        "requests.subscription: projects/demo/subscriptions/no-requests: it does not exist\n  try: create it",
        "responses.topic: projects/demo/topics/no-responses: it does not exist\n  try: create it, or correct",
        "responses.bucket: projects/_/buckets/no-results: it does not exist",
        "requests.allowed_buckets: projects/_/buckets/no-images: it does not exist",
        "models.source: gs://models/models: the default model \"beer\" is not among wine",
    ] {
        assert!(stderr.contains(&format!("problem  {said}")), "{said:?} is missing in {stderr}");
    }
    assert!(stderr.contains("error: 5 of 8 checks failed\nhint: "), "{stderr}");
    assert!(stderr.contains("ok       models.updates"), "{stderr}");
}

#[test]
fn credentials_that_are_not_there_are_the_one_problem() {
    let mut command = predictd(&["check", "--connect", "--config", "config/local.yaml"]);
    command.env("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json");
    let (code, _, stderr) = outcome(command, "");
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.starts_with("problem  credentials: Application Default Credentials: no token: "),
        "{stderr}"
    );
    assert!(stderr.contains("GOOGLE_APPLICATION_CREDENTIALS") && stderr.contains("1 of 1"), "{stderr}");
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
