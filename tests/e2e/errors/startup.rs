//! Set-ups that keep predictd from starting or answering: each ends at once, with one clear message, a hint
//! and its exit code.

use std::net::TcpListener;
use std::process::Command;

use crate::support::command::{assert_fails, predictd};
use crate::support::harness::{World, model_file, outcome, repository, temporary};
use crate::support::oracle::wine;

const LEAST: &str =
    "project: demo\nrequests: {subscription: abc}\nresponses: {topic: abc}\nmodels: {source: ./models}\n";

/// Exit code 78 from `run` as from `check`, one `error: `, what it says, and a hint as the last line.
fn assert_bad_configuration(yaml: &str, says: &[&str]) {
    let (_folder, path) = temporary("predictd.yaml", yaml);
    assert_refused(path.to_str().unwrap(), says);
}

fn assert_refused(path: &str, says: &[&str]) {
    for command in ["check", "run"] {
        let (code, stdout, stderr) = outcome(predictd(&[command, "--config", path]), "");
        assert_eq!((code, stdout.as_str()), (78, ""), "{stderr}");
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
        for said in says.iter().chain(&[path]) {
            assert!(stderr.contains(said), "{said:?} is missing in {stderr}");
        }
        assert!(stderr.trim_end().lines().last().unwrap().starts_with("hint: "), "{stderr}");
    }
}

#[test]
fn a_missing_configuration_file() {
    let one = "the configuration has 1 problem\n";
    assert_refused("/nowhere/predictd.yaml", &[one, "the file cannot be read: No such file or directory"]);
}

#[test]
fn no_configuration_at_all() {
    for command in ["check", "run"] {
        let (code, _, stderr) = outcome(predictd(&[command]), "");
        assert_eq!(code, 78);
        for said in ["the configuration has 1 problem\n", "no file is given with --config", "`--config FILE`"]
        {
            assert!(stderr.contains(said), "{said:?} is missing in {stderr}");
        }
    }
}

#[test]
fn the_placeholder_of_the_template_is_warned_about() {
    let (code, effective, stderr) = outcome(predictd(&["check", "--config", "config/predictd.yaml"]), "");
    assert_eq!(code, 0, "{stderr}");
    assert!(effective.starts_with("project: my-project"), "{effective}");
    assert!(stderr.starts_with("warning: project: \"my-project\" is the placeholder"), "{stderr}");
}

#[test]
fn bad_yaml() {
    assert_bad_configuration(
        &format!("{LEAST}http: here: there\n"),
        &["the configuration has 1 problem\n", "the file is not a YAML mapping", "line 5"],
    );
}

#[test]
fn an_unknown_key() {
    let yaml = format!("{LEAST}batching: {{max_row: 1}}\n");
    assert_bad_configuration(&yaml, &["batching.max_row: unknown key", "did you mean `batching.max_rows`?"]);
}

#[test]
fn a_subscription_or_topic_that_is_not_given() {
    // The path is only said of what was given, so something else is wrong here too.
    assert_bad_configuration(
        "project: Demo\nmodels: {source: ./models}\n",
        &["requests.subscription: missing", "gcloud pubsub subscriptions list", "responses.topic: missing"],
    );
}

/// `run` with the local configuration and these variables, where everything that `world` has is right.
fn run(world: &World, variables: &[(&str, &str)]) -> Command {
    let mut command = world.command();
    command
        .args(["run", "--config", "config/local.yaml"])
        .current_dir(repository())
        .env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0")
        .envs(variables.iter().copied());
    command
}

async fn assert_ends(command: Command, says: &'static str) {
    tokio::task::spawn_blocking(move || assert_fails(command, says)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_exist() {
    let world = World::start().await;
    assert_ends(
        run(&world, &[("PREDICTD_MODELS__SOURCE", "gs://nothing/models")]),
        "the bucket \"nothing\" does not exist",
    )
    .await;
    let mut predict = world.command();
    predict.args(["predict", "--model", "gs://nothing/models/wine/1"]);
    assert_ends(predict, "the bucket \"nothing\" does not exist").await;
}

/// A port that is held without listening: no other process gets it, and connecting to it is refused.
fn unreachable_address() -> (tokio::net::TcpSocket, String) {
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap().to_string();
    (held, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_cannot_be_reached() {
    let world = World::start().await;
    let (_held, address) = unreachable_address();
    let mut inspect = world.command();
    inspect.args(["inspect", "gs://models/models/wine/1"]).env("STORAGE_EMULATOR_HOST", &address);
    let run = run(&world, &[("STORAGE_EMULATOR_HOST", &address)]);
    let says = "cannot reach http://127.0.0.1:";
    tokio::join!(assert_ends(inspect, says), assert_ends(run, says));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_refuses() {
    let world = World::start().await;
    let refused = local_gcp::faults::Fault::Fail("INVALID_ARGUMENT".to_owned());
    world.server.faults.inject("ListObjects", refused, 1);
    assert_ends(run(&world, &[]), "cannot list the bucket \"models\"").await;
}

/// Rights that are new take minutes to arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_permits_nothing_yet() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let refused = local_gcp::faults::Fault::Fail("PERMISSION_DENIED".to_owned());
    world.server.faults.inject("ListObjects", refused, 3);
    let worker = world.worker(&[]);
    worker.until_log("cannot look for new model versions, trying again").await;
    worker.until_log("check the rights (roles/storage.objectViewer)").await;
    worker.until_log("no model can serve yet").await;
    worker.until_ready().await;
    let response = world.ask(wine().request(&[1]), &[]).await;
    wine().check(&[1], &response);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use() {
    let world = World::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_ends(run(&world, &[("PREDICTD_HTTP__LISTEN", &address)]), "cannot listen on 127.0.0.1:").await;
}

#[test]
fn a_directory_of_models_that_does_not_exist() {
    let mut command = predictd(&["run", "--config", "config/local.yaml"]);
    command.env("PREDICTD_MODELS__SOURCE", "/nowhere").env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0");
    assert_fails(command, "the models' directory \"/nowhere\" does not exist");
}

#[test]
fn a_missing_library() {
    let mut command = predictd(&["run", "--config", "config/local.yaml"]);
    command.env("PREDICTD_INFERENCE__LIBRARY", "/nowhere/libonnxruntime.so");
    assert_fails(command, "cannot load ONNX Runtime from /nowhere/libonnxruntime.so");
}

#[test]
fn a_model_to_predict_with_that_does_not_exist() {
    assert_fails(predictd(&["predict", "--model", "tests/models/nothing"]), "cannot find the model");
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
    let (_held, address) = unreachable_address();
    let mut command = predictd(&["run", "--config", "config/local.yaml", "--config", path.to_str().unwrap()]);
    command.env("PUBSUB_EMULATOR_HOST", address).env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0");
    tokio::task::spawn_blocking(|| assert_fails(command, "cannot reach http://127.0.0.1:")).await.unwrap();
}
