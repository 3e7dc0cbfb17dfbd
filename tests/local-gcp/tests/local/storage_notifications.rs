//! Notifications of a bucket: the messages are Cloud Storage's, attribute by attribute.

use std::collections::HashMap;
use std::sync::Arc;

use crate::support::{BUCKET, BUCKET_PATH, Local, NEWS, NEWS_SUBSCRIPTION};
use bytes::Bytes;
use local_gcp::pubsub::Stored;
use serde_json::{Value, json};

async fn post(url: String, body: Value) -> Value {
    let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    answer.error_for_status().unwrap().json().await.unwrap()
}

/// Attributes and data of every message since the last call, but `eventTime`, which must be there.
fn taken(local: &Local) -> Vec<(HashMap<String, String>, Bytes)> {
    let messages = local.server.pubsub.drain(NEWS_SUBSCRIPTION).unwrap();
    let split = |stored: &Arc<Stored>| {
        let mut attributes = stored.message.attributes.clone();
        let time = attributes.remove("eventTime").unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
        (attributes, stored.message.data.clone())
    };
    messages.iter().map(split).collect()
}

fn attributes(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    let fixed =
        [("bucketId", BUCKET), ("notificationConfig", "projects/_/buckets/models/notificationConfigs/1")];
    let all = fixed.iter().chain(pairs);
    all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn overwriting_and_deleting_are_told_with_both_generations() {
    let local = Local::start().await;
    let client = local.client().await;
    local.storage.create_notification(BUCKET, NEWS, Some("m/")).unwrap();

    let write = |name: &str| client.write_object(BUCKET_PATH, name, Bytes::from("x")).send_buffered();
    write("other/x").await.unwrap();
    assert_eq!(taken(&local), [], "outside of the prefix");

    let first = write("m/x").await.unwrap().generation.to_string();
    let told = taken(&local);
    let [(got, data)] = &told[..] else { panic!("one message, not {told:?}") };
    let finalize = [("eventType", "OBJECT_FINALIZE"), ("payloadFormat", "JSON_API_V1"), ("objectId", "m/x")];
    assert_eq!(*got, attributes(&[&finalize[..], &[("objectGeneration", first.as_str())]].concat()));
    let resource: Value = serde_json::from_slice(data).unwrap();
    assert_eq!((&resource["generation"], &resource["size"]), (&json!(first), &json!("1")));
    assert_eq!(resource["kind"], "storage#object");

    let second = write("m/x").await.unwrap().generation.to_string();
    let delete = [("eventType", "OBJECT_DELETE"), ("payloadFormat", "JSON_API_V1"), ("objectId", "m/x")];
    let told: Vec<_> = taken(&local).into_iter().map(|(attributes, _)| attributes).collect();
    let (one, two) = (first.as_str(), second.as_str());
    assert_eq!(
        told,
        [
            attributes(&[&finalize[..], &[("objectGeneration", two), ("overwroteGeneration", one)]].concat()),
            attributes(
                &[&delete[..], &[("objectGeneration", one), ("overwrittenByGeneration", two)]].concat()
            ),
        ]
    );

    let patch =
        reqwest::Client::new().patch(local.url("/o/m%2Fx")).json(&json!({ "metadata": { "k": "v" } }));
    let patched: Value = patch.send().await.unwrap().json().await.unwrap();
    assert_eq!((&patched["metageneration"], &patched["metadata"]["k"]), (&json!("2"), &json!("v")));
    reqwest::Client::new().delete(local.url("/o/m%2Fx")).send().await.unwrap().error_for_status().unwrap();
    let told: Vec<_> =
        taken(&local).into_iter().map(|(mut all, _)| all.remove("eventType").unwrap()).collect();
    assert_eq!(told, ["OBJECT_METADATA_UPDATE", "OBJECT_DELETE"]);
}

#[tokio::test]
async fn versioned_buckets_archive() {
    let local = Local::start().await;
    let client = local.client().await;
    let patch =
        reqwest::Client::new().patch(local.url("")).json(&json!({ "versioning": { "enabled": true } }));
    patch.send().await.unwrap().error_for_status().unwrap();
    local.storage.create_notification(BUCKET, NEWS, None).unwrap();
    for body in ["1", "2"] {
        client.write_object(BUCKET_PATH, "x", Bytes::from(body)).send_buffered().await.unwrap();
    }
    reqwest::Client::new().delete(local.url("/o/x")).send().await.unwrap().error_for_status().unwrap();
    let told: Vec<_> =
        taken(&local).into_iter().map(|(mut all, _)| all.remove("eventType").unwrap()).collect();
    assert_eq!(told, ["OBJECT_FINALIZE", "OBJECT_FINALIZE", "OBJECT_ARCHIVE", "OBJECT_ARCHIVE"]);
    let all: Value = reqwest::get(local.url("/o?versions=true")).await.unwrap().json().await.unwrap();
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    let live: Value = reqwest::get(local.url("/o")).await.unwrap().json().await.unwrap();
    assert_eq!(live.get("items"), None);
}

#[tokio::test]
async fn configurations_filter_and_are_listed() {
    let local = Local::start().await;
    let client = local.client().await;
    let config = post(
        local.url("/notificationConfigs"),
        json!({
            "topic": "//pubsub.googleapis.com/projects/demo/topics/news",
            "payload_format": "NONE",
            "event_types": ["OBJECT_DELETE"],
            "custom_attributes": { "team": "tests" },
        }),
    )
    .await;
    assert_eq!(config["id"], "1");
    client.write_object(BUCKET_PATH, "x", Bytes::from("x")).send_buffered().await.unwrap();
    reqwest::Client::new().delete(local.url("/o/x")).send().await.unwrap().error_for_status().unwrap();
    let told = taken(&local);
    let [(attributes, data)] = &told[..] else { panic!("one message, not {told:?}") };
    assert_eq!(data.len(), 0);
    assert_eq!((attributes["eventType"].as_str(), attributes["team"].as_str()), ("OBJECT_DELETE", "tests"));
    assert_eq!(attributes["payloadFormat"], "NONE");

    let listed: Value = reqwest::get(local.url("/notificationConfigs")).await.unwrap().json().await.unwrap();
    assert_eq!(listed["items"], json!([config]));
    let one = local.url("/notificationConfigs/1");
    assert_eq!(reqwest::Client::new().delete(&one).send().await.unwrap().status(), 204);
    assert_eq!(reqwest::get(&one).await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_server_begins_with_notifications_that_carry_attributes() {
    let notification = local_gcp::Notification {
        bucket: "tables".to_owned(),
        topic: NEWS.to_owned(),
        prefix: Some("daily/".to_owned()),
        attributes: [("model".to_owned(), "wine".to_owned())].into(),
    };
    let builder = local_gcp::Server::builder().topic(NEWS).subscription(NEWS_SUBSCRIPTION, NEWS);
    let server = builder.bucket("tables").notification_with(notification).start().await.unwrap();
    server.storage.put("tables", "weekly/x", "x").unwrap();
    server.storage.put("tables", "daily/x", "x").unwrap();
    let told = server.pubsub.drain(NEWS_SUBSCRIPTION).unwrap();
    let [told] = &told[..] else { panic!("one message, not {told:?}") };
    let attributes = &told.message.attributes;
    assert_eq!((&*attributes["model"], &*attributes["objectId"]), ("wine", "daily/x"));
    assert_eq!(attributes["bucketId"], "tables");
}

#[tokio::test]
async fn buckets_keep_what_terraform_gives_them() {
    let local = Local::start().await;
    let http = reqwest::Client::new();
    let buckets = format!("{}/storage/v1/b", local.base);
    let wish = json!({
        "name": "infra", "location": "europe-west1", "storageClass": "STANDARD", "labels": { "a": "1", "b": "2" },
        "lifecycle": { "rule": [] }, "iamConfiguration": { "uniformBucketLevelAccess": { "enabled": true } },
        "softDeletePolicy": { "retentionDurationSeconds": "604800" },
    });
    post(format!("{buckets}?project=demo"), wish.clone()).await;
    let twice = http.post(format!("{buckets}?project=demo")).json(&wish).send().await.unwrap();
    assert_eq!(twice.status(), 409);
    let infra = format!("{buckets}/infra");
    let got: Value = reqwest::get(&infra).await.unwrap().json().await.unwrap();
    assert_eq!((&got["location"], &got["id"]), (&json!("EUROPE-WEST1"), &json!("infra")));
    for key in ["lifecycle", "iamConfiguration", "softDeletePolicy", "labels"] {
        assert_eq!(got[key], wish[key]);
    }
    let patch = json!({ "labels": { "a": null, "c": "3" } });
    let patched: Value = http.patch(&infra).json(&patch).send().await.unwrap().json().await.unwrap();
    assert_eq!(patched["labels"], json!({ "b": "2", "c": "3" }));

    let policy: Value = reqwest::get(format!("{infra}/iam")).await.unwrap().json().await.unwrap();
    let bindings = json!([{ "role": "roles/storage.objectViewer", "members": ["user:a@b.test"] }]);
    let set = |etag: &Value| {
        http.put(format!("{infra}/iam")).json(&json!({ "bindings": bindings, "etag": etag })).send()
    };
    let stored: Value = set(&policy["etag"]).await.unwrap().json().await.unwrap();
    assert_eq!(stored["bindings"], bindings);
    assert_eq!(set(&policy["etag"]).await.unwrap().status(), 412, "the policy has changed since");

    let put = format!("{}/upload/storage/v1/b/infra/o?uploadType=media&name=x", local.base);
    http.post(put).body("x").send().await.unwrap().error_for_status().unwrap();
    assert_eq!(http.delete(&infra).send().await.unwrap().status(), 409, "not empty");
    http.delete(format!("{infra}/o/x")).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(http.delete(&infra).send().await.unwrap().status(), 204);
    assert_eq!(reqwest::get(&infra).await.unwrap().status(), 404);
    let bad = http.post(format!("{buckets}?project=demo")).json(&json!({ "name": "Bad_Name" }));
    assert_eq!(bad.send().await.unwrap().status(), 400);
}
