//! A request over HTTP is answered at once, in the protocol of its path, or refused at once with when to try
//! again.

mod clients;
mod console;
mod drain;
mod errors;
mod overload;
mod protocols;
mod tokens;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::harness::{Worker, World, http, onnxruntime, repository};
use crate::support::oracle::wine;

/// A worker over HTTP alone, with these models and variables.
fn serve(models: &std::path::Path, variables: &[(&str, &str)]) -> Worker {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_predictd"));
    command
        .args(["serve", "--models"])
        .arg(models)
        .env("ORT_DYLIB_PATH", onnxruntime())
        .env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0")
        .env_remove("PORT")
        .envs(variables.iter().copied());
    Worker::spawn(command)
}

/// Such a worker with the models of `tests/models`, once it answers.
async fn serve_wine(variables: &[(&str, &str)]) -> Worker {
    let worker = serve(&repository().join("tests/models"), variables);
    worker.until_ready().await;
    worker
}

/// Status, headers and body.
type Answer = (u16, reqwest::header::HeaderMap, Vec<u8>);

async fn post(worker: &Worker, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    let url = format!("http://{}{path}", worker.address().await);
    let mut request = http().post(url).body(body.into());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.timeout(Duration::from_secs(120)).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.bytes().await.unwrap().to_vec())
}

fn value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| panic!("{:?}", String::from_utf8_lossy(body)))
}

fn instances(rows: usize) -> String {
    json!({ "instances": &wine().rows[..rows] }).to_string()
}

/// A world with a model that takes as long as its request says, and a worker for it.
async fn slow_world(variables: &[(&str, &str)]) -> (World, Worker) {
    let world = World::start().await;
    world.upload_version("faults/slow/1", "slow", "1");
    world.upload_version("wine/2", "wine", "2");
    let own = [
        ("PREDICTD_MODELS__DEFAULT", "wine"),
        ("PREDICTD_INFERENCE__THREADS", "1"),
        ("PREDICTD_HTTP__TIMEOUT", "10m"),
    ];
    let all: Vec<(&str, &str)> = own.iter().chain(variables).copied().collect();
    let worker = world.ready_worker(&all).await;
    worker.until_serving("slow", "1").await;
    worker.until_serving("wine", "2").await;
    (world, worker)
}

/// A request for the slow model.
fn steps(number: u32) -> String {
    json!({ "instances": [number] }).to_string()
}

/// A request for the slow model that is at work when this returns.
async fn at_work(worker: &Worker, number: u32) -> tokio::task::JoinHandle<Answer> {
    let url = format!("http://{}/predict?model=slow", worker.address().await);
    let begun = "predictd_queue_wait_seconds_count{model=\"slow\",version=\"1\"}";
    let before = worker.metric(begun).await.unwrap_or(0.0);
    let request = http().post(url).body(steps(number));
    let asked = tokio::spawn(async move {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.bytes().await.unwrap().to_vec())
    });
    worker.until_metric(begun, before + 1.0).await;
    asked
}
