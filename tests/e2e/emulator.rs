//! The same smoke against Google's own Pub/Sub emulator, where it is installed: local-gcp is not its own judge.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, World, http};
use crate::oracle::wine;

/// The emulator's jar beside the gcloud on the PATH, and a java to run it.
fn emulator() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let find =
        |name: &str| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.exists());
    find("java")?;
    let gcloud = find("gcloud")?.canonicalize().ok()?;
    let lib = gcloud.parent()?.parent()?.join("platform/pubsub-emulator/lib");
    let mut files = std::fs::read_dir(lib).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    files.find(|file| file.to_string_lossy().ends_with("-all.jar"))
}

struct Emulator {
    child: Child,
    host: String,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Emulator {
    async fn start(jar: PathBuf) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("java")
            .arg("-jar")
            .arg(jar)
            .args(["--host=127.0.0.1", &format!("--port={port}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let emulator = Self { child, host: format!("127.0.0.1:{port}") };
        let end = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(&emulator.host).await.is_err() {
            assert!(Instant::now() < end, "the emulator does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        emulator
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let url = format!("http://{}/v1/projects/demo/{path}", self.host);
        let response = http().request(method, url).json(&body).send().await.unwrap();
        let status = response.status();
        let answer = response.json().await.unwrap_or_default();
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    async fn publish(&self, topic: &str, data: &str, attributes: Value) {
        let message = json!({"data": BASE64.encode(data), "attributes": attributes});
        self.call(reqwest::Method::POST, &format!("topics/{topic}:publish"), json!({"messages": [message]}))
            .await;
    }

    /// The next response, acknowledged: attributes and body.
    async fn response(&self) -> local_gcp::pubsub::wire::PubsubMessage {
        let subscription = "subscriptions/prediction-responses";
        let end = Instant::now() + PATIENCE;
        loop {
            let pulled = self
                .call(
                    reqwest::Method::POST,
                    &format!("{subscription}:pull"),
                    json!({"maxMessages": 1, "returnImmediately": true}),
                )
                .await;
            if let Some(received) = pulled["receivedMessages"].get(0) {
                let acknowledge = json!({"ackIds": [received["ackId"]]});
                self.call(reqwest::Method::POST, &format!("{subscription}:acknowledge"), acknowledge).await;
                let attributes = received["message"]["attributes"].as_object().unwrap();
                return local_gcp::pubsub::wire::PubsubMessage {
                    data: BASE64.decode(received["message"]["data"].as_str().unwrap()).unwrap().into(),
                    attributes: attributes
                        .iter()
                        .map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned()))
                        .collect(),
                    ..Default::default()
                };
            }
            assert!(Instant::now() < end, "no response came");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_predict_reload_on_googles_emulator() {
    let Some(jar) = emulator() else {
        eprintln!("SKIPPED: Google's Pub/Sub emulator is not installed");
        return;
    };
    let emulator = Emulator::start(jar).await;
    for topic in ["prediction-requests", "prediction-responses", "model-updates"] {
        let name = format!("projects/demo/topics/{topic}");
        emulator.call(reqwest::Method::PUT, &format!("topics/{topic}"), json!({})).await;
        emulator
            .call(
                reqwest::Method::PUT,
                &format!("subscriptions/{topic}"),
                json!({"topic": name, "ackDeadlineSeconds": 60}),
            )
            .await;
    }
    // Only the buckets are local-gcp's.
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let worker = world.ready_worker(&[("PUBSUB_EMULATOR_HOST", &emulator.host)]).await;

    emulator.publish("prediction-requests", &wine().request(&[4, 5]), json!({"tenant": "t"})).await;
    let response = emulator.response().await;
    assert_eq!(wine().check(&[4, 5], &response), "1");
    assert_eq!(response.attributes["tenant"], "t");

    world.upload_version("wine/2", "wine", "2");
    let notification =
        json!({"eventType": "OBJECT_FINALIZE", "bucketId": "models", "objectId": "models/wine/2/model.onnx"});
    emulator.publish("model-updates", "{}", notification).await;
    worker.until_serving("wine", "2").await;
    emulator.publish("prediction-requests", &wine().request(&[6]), json!({})).await;
    assert_eq!(wine().check(&[6], &emulator.response().await), "2");

    emulator.publish("prediction-requests", "no json", json!({})).await;
    assert_eq!(emulator.response().await.attributes["error_code"], "INVALID_INPUT");
}
