//! The same smoke against Google's own Pub/Sub emulator, where it is installed: local-gcp is not its own
//! judge.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use local_gcp::faults::Fault;
use local_gcp::pubsub::wire::PubsubMessage;
use serde_json::{Value, json};

use crate::support::harness::{PATIENCE, World, http, model_file, skip};
use crate::support::oracle::wine;

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
    async fn response(&self) -> PubsubMessage {
        self.next("prediction-responses").await
    }

    /// The next message of a subscription, acknowledged.
    async fn next(&self, subscription: &str) -> PubsubMessage {
        let subscription = format!("subscriptions/{subscription}");
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
                return PubsubMessage {
                    data: BASE64
                        .decode(received["message"]["data"].as_str().unwrap_or_default())
                        .unwrap()
                        .into(),
                    attributes: attributes
                        .iter()
                        .map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned()))
                        .collect(),
                    ..Default::default()
                };
            }
            assert!(Instant::now() < end, "nothing came to {subscription}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// An emulator with every topic and subscription; `requests` is what its request subscription has besides.
/// `None`, and a word of it, where it is not installed.
async fn prepared(requests: Value) -> Option<Emulator> {
    let Some(jar) = emulator() else {
        skip(
            "Google's Pub/Sub emulator is not installed: its tests did not run (tests/e2e/delivery/google_emulator.rs)",
        );
        return None;
    };
    let emulator = Emulator::start(jar).await;
    for topic in ["dead-letters", "prediction-requests", "prediction-responses", "model-updates"] {
        let mut subscription =
            json!({"topic": format!("projects/demo/topics/{topic}"), "ackDeadlineSeconds": 60});
        if topic == "prediction-requests" {
            subscription.as_object_mut()?.extend(requests.as_object()?.clone());
        }
        emulator.call(reqwest::Method::PUT, &format!("topics/{topic}"), json!({})).await;
        emulator.call(reqwest::Method::PUT, &format!("subscriptions/{topic}"), subscription).await;
    }
    Some(emulator)
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_predict_reload_on_googles_emulator() {
    let Some(emulator) = prepared(json!({})).await else { return };
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

/// Answers for every number below `count`, each once or more; how many came in all.
async fn all_answered(emulator: &Emulator, count: usize) -> usize {
    let (mut seen, mut came) = (HashSet::new(), 0);
    while seen.len() < count {
        let response = emulator.response().await;
        let n: usize = response.attributes["request_id"].parse().unwrap();
        assert_eq!(wine().check(&[n % wine().rows.len()], &response), "2");
        seen.insert(n);
        came += 1;
    }
    came
}

async fn publish_wines(emulator: &Emulator, count: usize) {
    for n in 0..count {
        let request = wine().request(&[n % wine().rows.len()]);
        emulator.publish("prediction-requests", &request, json!({"request_id": n.to_string()})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_and_dead_letters_on_googles_emulator() {
    let policy = json!({"deadLetterTopic": "projects/demo/topics/dead-letters", "maxDeliveryAttempts": 5});
    let Some(emulator) = prepared(json!({"deadLetterPolicy": policy})).await else { return };
    let world = World::start_with(|builder| builder.bucket("inputs")).await;
    // Models from a folder: storage is only for what requests refer to.
    let models = tempfile::tempdir().unwrap();
    let version = models.path().join("wine/2");
    std::fs::create_dir_all(&version).unwrap();
    for file in ["MLmodel", "model.onnx"] {
        std::fs::write(version.join(file), model_file("wine/2", file)).unwrap();
    }
    let variables = [
        ("PUBSUB_EMULATOR_HOST", emulator.host.as_str()),
        ("PREDICTD_MODELS__SOURCE", models.path().to_str().unwrap()),
        ("PREDICTD_REQUESTS__ALLOWED_BUCKETS", "inputs"),
    ];
    // A request whose object cannot be read is nacked until Pub/Sub dead-letters it.
    world.server.faults.inject("storage.objects.get.media", Fault::Fail("UNAVAILABLE".to_owned()), 10_000);
    let mut worker = world.ready_worker(&variables).await;
    let lost = json!({"dataref": "gs://inputs/a", "request_id": "lost"});
    emulator.publish("prediction-requests", "", lost).await;
    publish_wines(&emulator, 100).await;
    worker.signal("-KILL");
    worker.end().await;
    let _next = world.ready_worker(&variables).await;
    all_answered(&emulator, 100).await;
    // The emulator may send another request there, which was in flight at the kill and is answered too.
    while emulator.next("dead-letters").await.attributes["request_id"] != "lost" {}
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_once_on_googles_emulator() {
    let Some(emulator) = prepared(json!({"enableExactlyOnceDelivery": true})).await else { return };
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    let worker = world.ready_worker(&[("PUBSUB_EMULATOR_HOST", &emulator.host)]).await;
    publish_wines(&emulator, 200).await;
    assert_eq!(all_answered(&emulator, 200).await, 200);
    worker.until_metric("predictd_messages_in_hand", 0.0).await;
    assert_eq!(worker.metric("predictd_ack_failures_total").await, Some(0.0));
}
