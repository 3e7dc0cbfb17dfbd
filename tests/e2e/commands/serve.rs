//! `serve`: a worker without Pub/Sub and without a configuration, as people and platforms start it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::command::{assert_fails, predictd};
use crate::support::harness::{Worker, World, http, outcome, repository, temporary};
use crate::support::oracle::wine;

/// `serve` on a free port of this machine, with no configuration but these variables.
fn serve(models: Option<&str>, variables: &[(&str, &str)]) -> Command {
    let mut command = predictd(&["serve"]);
    if let Some(models) = models {
        command.args(["--models", models]);
    }
    command.env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0").envs(variables.iter().copied());
    command
}

/// Model and version of a prediction.
async fn ask(worker: &Worker, path: &str) -> (String, String) {
    worker.until_ready().await;
    let request = http().post(format!("http://{}{path}", worker.address().await));
    let response = request.body(wine().request(&[1])).send().await.unwrap();
    let (status, body) = (response.status(), response.text().await.unwrap());
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["predictions"].as_array().map(Vec::len), Some(1), "{body}");
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("model"), text("model_version"))
}

fn names(model: &str, version: &str) -> (String, String) {
    (model.to_owned(), version.to_owned())
}

fn copy(from: &str, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in ["MLmodel", "model.onnx"] {
        std::fs::copy(repository().join("tests/models").join(from).join(file), to.join(file)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_models_is_enough() {
    let mut worker = Worker::spawn(serve(Some("tests/models"), &[]));
    assert_eq!(ask(&worker, "/predict").await, names("wine", "2"));
    // The folder has many other files.
    let ignored = worker.log().matches("ignored in the models' source").count();
    assert_eq!(ignored, 11, "{}", worker.log());
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bundle_is_a_source() {
    let worker = Worker::spawn(serve(Some("tests/models/wine/1"), &[]));
    assert_eq!(ask(&worker, "/predict").await, names("wine", "1"));
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("cellar");
    copy("wine/1", &bundle);
    let mut command = serve(Some("."), &[]);
    command.current_dir(&bundle);
    let worker = Worker::spawn(command);
    assert_eq!(ask(&worker, "/predict").await, names("cellar", "1"));
    let info = worker.info().await;
    assert_eq!(info["ignored"].as_array().map(Vec::len), Some(0), "{info}");
    copy("wine/2", &bundle);
    let mut command = serve(Some("cellar"), &[("PREDICTD_MODELS__POLL_INTERVAL", "10ms")]);
    command.current_dir(folder.path());
    let worker = Worker::spawn(command);
    ask(&worker, "/predict").await;
    let before = worker.info().await["models"]["cellar"]["serving"].clone();
    copy("wine/1", &bundle);
    worker.until_info("another content", |info| info["models"]["cellar"]["serving"] != before).await;
    // Once it holds models, it is a repository.
    copy("wine/1", &bundle.join("wine/7"));
    worker.until_serving("wine", "7").await;
}

/// The variables of a container on Vertex AI, which reaches it from outside.
#[tokio::test(flavor = "multi_thread")]
async fn vertex_ai_names_the_models_the_port_and_the_routes() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    for file in ["MLmodel", "model.onnx"] {
        let path = repository().join("tests/models/wine/2").join(file);
        world.upload(&format!("uploads/7301/artifacts/{file}"), std::fs::read(path).unwrap());
    }
    for (address, expected, routes) in [
        (
            "gs://models/models",
            names("wine", "1"),
            ["/v1/endpoints/1/deployedModels/2", "/v1/endpoints/1/deployedModels/2:predict"],
        ),
        ("gs://models/models/wine/1/", names("wine", "1"), ["/v2/health/ready", "/"]),
        ("gs://models/uploads/7301/artifacts", names("artifacts", "1"), ["/health", "/health"]),
    ] {
        let mut command = world.command();
        command
            .arg("serve")
            .envs([("AIP_STORAGE_URI", address), ("AIP_HTTP_PORT", "0"), ("PORT", "1")])
            .envs([("AIP_HEALTH_ROUTE", routes[0]), ("AIP_PREDICT_ROUTE", routes[1])]);
        let worker = Worker::spawn(command);
        assert_eq!(ask(&worker, routes[1]).await, expected);
        assert!(worker.address().await.starts_with("0.0.0.0:"), "{}", worker.log());
        assert_eq!(worker.get(routes[0]).await, (200, "ready\n".to_owned()));
        assert_eq!(worker.get("/").await.0, 200, "a route is of one method");
        worker.until_log("predictions are answered to whoever reaches this address").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_route_of_vertex_ai_waits_for_a_model() {
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().to_str().unwrap();
    for route in ["/health", "/", "/own/health"] {
        let worker = Worker::spawn(serve(None, &[("AIP_STORAGE_URI", path), ("AIP_HEALTH_ROUTE", route)]));
        let (status, text) = worker.get(route).await;
        assert_eq!(status, 503, "{route}: {text}");
        assert!(text.starts_with("not ready: "), "{route}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_run_chooses_the_port_and_a_configuration_the_rest() {
    let (_folder, path) = temporary("predictd.yaml", "models: {source: tests/models/wine/1}\n");
    let mut command = serve(None, &[("PORT", "0"), ("AIP_STORAGE_URI", "/nowhere")]);
    command.arg("--config").arg(&path);
    let worker = Worker::spawn(command);
    assert_eq!(ask(&worker, "/predict").await, names("wine", "1"));
    assert!(worker.address().await.starts_with("0.0.0.0:"), "{}", worker.log());
    let mut command = serve(Some("tests/models/wine/2"), &[]);
    command.arg("--config").arg(&path);
    assert_eq!(ask(&Worker::spawn(command), "/predict").await, names("wine", "2"));
}

#[test]
fn problems_are_reported_as_by_run() {
    let refused = |command: Command, says: &[&str]| {
        let (code, stdout, stderr) = outcome(command, "");
        assert_eq!((code, stdout.as_str()), (78, ""), "{stderr}");
        for said in says {
            assert!(stderr.contains(said), "{said:?} is missing in {stderr}");
        }
        assert!(stderr.trim_end().lines().last().unwrap().starts_with("hint: "), "{stderr}");
    };
    let one = "the configuration has 1 problem\n";
    refused(serve(None, &[]), &[one, "models.source: missing", "`--models DIR`"]);
    refused(serve(Some("s3://models"), &[]), &[one, "models.source: expected", "option --models"]);
    refused(serve(Some("."), &[("PORT", "http")]), &[one, "http.listen: expected", "0.0.0.0:http", "PORT"]);
    let mut two = serve(None, &[("PREDICTD_BATCHING__MAX_ROWS", "0")]);
    two.args(["--config", "config/local.yaml", "--models", "./models"]);
    refused(two, &[one, "batching.max_rows"]);
    assert_fails(serve(Some("/nowhere"), &[]), "the models' directory \"/nowhere\" does not exist");
}
