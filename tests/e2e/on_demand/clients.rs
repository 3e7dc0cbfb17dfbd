//! Other people's clients, as they are on PyPI. `scripts/setup-checks` lays them into `.cache`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::serve;
use crate::support::harness::{Worker, repository, skip};

/// Models that the clients ask for.
const MODELS: [&str; 8] = [
    "torch-multi",
    "string-identity",
    "torch-float16",
    "bool",
    "uint64-max",
    "int64-extremes",
    "sklearn-zipmap-off",
    "torch-conv",
];

/// Python with the clients, unless they could not be installed here.
fn python(set: &str) -> Option<PathBuf> {
    let python = repository().join(".cache").join(set).join("bin/python");
    if !python.exists() {
        skip(&format!("clients of PyPI: scripts/setup-checks could not install .cache/{set}"));
    }
    python.exists().then_some(python)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Makes the convolutional network of the zoo take images.
const PHOTOS: &str =
    "image: {resize: {width: 32, height: 32}, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}\n";

/// A worker with these models of the zoo, one that takes images, and wine.
async fn worker() -> (tempfile::TempDir, Worker) {
    let root = tempfile::tempdir().unwrap();
    for model in MODELS {
        copy(&repository().join("tests/models/zoo").join(model), &root.path().join(model).join("1"));
    }
    copy(&repository().join("tests/models/wine/2"), &root.path().join("wine/2"));
    let photos = root.path().join("photos/1");
    copy(&repository().join("tests/models/zoo/torch-conv"), &photos);
    std::fs::write(photos.join("model.yaml"), PHOTOS).unwrap();
    let worker = serve(root.path(), &[("PREDICTD_MODELS__DEFAULT", "wine")]);
    worker
        .until_info("every model", |info| {
            let is_served = |model: &&str| info["models"][model]["serving"].is_object();
            MODELS.iter().chain(&["wine", "photos"]).all(is_served)
        })
        .await;
    (root, worker)
}

/// Runs a script of `tests/clients` to its end.
fn run(python: &Path, script: &str, arguments: &[&str]) {
    let output = Command::new(python)
        .arg(repository().join("tests/clients").join(script))
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tritons_clients_over_http() {
    let Some(python) = python("http-clients") else { return };
    let (_root, worker) = worker().await;
    run(&python, "triton_http.py", &[&worker.address().await]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tritons_client_over_grpc() {
    let Some(python) = python("http-clients") else { return };
    let (_root, worker) = worker().await;
    run(&python, "triton_grpc.py", &[&worker.address().await]);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_inference_kserve_streamlit_and_curl() {
    let Some(python) = python("http-clients") else { return };
    let (_root, worker) = worker().await;
    run(&python, "others.py", &[&worker.address().await]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mlflows_client() {
    let Some(python) = python("clients") else { return };
    let (_root, worker) = worker().await;
    let address = worker.address().await;
    let (host, port) = address.split_once(':').unwrap();
    run(&python, "mlflow_client.py", &[host, port]);
}

/// Every request that the description allows, and many that it does not: no 500, no status that is not described.
#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_true() {
    let Some(python) = python("http-clients") else { return };
    let (_root, worker) = worker().await;
    let url = format!("http://{}/openapi.json", worker.address().await);
    let output = Command::new(python.with_file_name("schemathesis"))
        .args(["run", &url, "--checks", "status_code_conformance", "--max-examples", "25"])
        .args(["--seed", "1", "--suppress-health-check", "all", "--no-color", "--workers", "1"])
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(worker.metric("predictd_http_responses_total{status=\"500\"}").await, None);
    assert!(worker.metric("predictd_http_responses_total{status=\"400\"}").await > Some(100.0));
}
