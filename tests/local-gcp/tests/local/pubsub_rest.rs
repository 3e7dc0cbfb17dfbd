//! The server as REST clients see it: a plain HTTP client, gcloud, and the control endpoint.

use std::process::Command;

use local_gcp::Server;
use serde_json::{Value, json};

use crate::support::call;

async fn server() -> Server {
    let server = Server::builder().topic("projects/demo/topics/requests");
    let server = server.subscription("projects/demo/subscriptions/requests", "projects/demo/topics/requests");
    server.start().await.unwrap()
}

#[tokio::test]
async fn publishes_pulls_and_acknowledges() {
    let server = server().await;
    let topic = "/v1/projects/demo/topics/requests";
    let subscription = "/v1/projects/demo/subscriptions/requests";
    let messages = json!({"messages": [{"data": "aGk=", "attributes": {"a": "b"}, "orderingKey": "k"}]});
    let (status, published) = call(&server, "POST", &format!("{topic}:publish"), messages).await;
    assert_eq!(status, 200);
    let (_, pulled) =
        call(&server, "POST", &format!("{subscription}:pull"), json!({"maxMessages": 10})).await;
    let received = &pulled["receivedMessages"][0];
    assert_eq!(received["message"]["data"], "aGk=");
    assert_eq!(received["message"]["attributes"], json!({"a": "b"}));
    assert_eq!(received["message"]["orderingKey"], "k");
    assert_eq!(received["message"]["messageId"], published["messageIds"][0]);
    let ids = json!({"ackIds": [received["ackId"]], "ackDeadlineSeconds": 30});
    assert_eq!(call(&server, "POST", &format!("{subscription}:modifyAckDeadline"), ids.clone()).await.0, 200);
    assert_eq!(call(&server, "POST", &format!("{subscription}:acknowledge"), ids).await, (200, json!({})));
    let (_, stats) = call(&server, "GET", "/control/stats", json!(null)).await;
    assert_eq!(stats["topics"]["projects/demo/topics/requests"], 1);
    assert_eq!(stats["subscriptions"]["projects/demo/subscriptions/requests"]["acked"], 1);
}

#[tokio::test]
async fn manages_resources_as_terraform_does() {
    let server = server().await;
    let path = "/v1/projects/demo/subscriptions/created";
    let body = json!({
        "topic": "projects/demo/topics/requests", "messageRetentionDuration": "604800s", "expirationPolicy": {},
        "deadLetterPolicy": {"deadLetterTopic": "projects/demo/topics/requests", "maxDeliveryAttempts": 7},
        "retryPolicy": null, "enableMessageOrdering": true,
    });
    assert_eq!(call(&server, "PUT", path, body.clone()).await.0, 200);
    let (_, found) = call(&server, "GET", path, json!(null)).await;
    for field in
        ["topic", "messageRetentionDuration", "expirationPolicy", "deadLetterPolicy", "enableMessageOrdering"]
    {
        assert_eq!(found[field], body[field], "{field}");
    }
    assert_eq!(found["name"], "projects/demo/subscriptions/created");
    assert_eq!(found.get("retryPolicy"), None);
    let mask = format!("{path}?updateMask=ackDeadlineSeconds,labels,bigqueryConfig");
    let change = json!({"subscription": {"ackDeadlineSeconds": 33, "labels": {"x": "y"}}});
    let (status, changed) = call(&server, "PATCH", &mask, change).await;
    assert_eq!(
        (status, &changed["ackDeadlineSeconds"], &changed["labels"]),
        (200, &json!(33), &json!({"x": "y"}))
    );
    let (status, refused) = call(&server, "PUT", path, body).await;
    assert_eq!((status, &refused["error"]["status"]), (409, &json!("ALREADY_EXISTS")));
    assert_eq!(call(&server, "DELETE", path, json!(null)).await, (200, json!({})));
    let (status, missing) = call(&server, "GET", path, json!(null)).await;
    assert_eq!((status, &missing["error"]["code"]), (404, &json!(404)));
    let (_, topics) = call(&server, "GET", "/v1/projects/demo/topics", json!(null)).await;
    assert_eq!(topics, json!({"topics": [{"name": "projects/demo/topics/requests"}]}));
}

#[tokio::test]
async fn injects_faults_over_http() {
    let server = server().await;
    let publish = "/v1/projects/demo/topics/requests:publish";
    let messages = json!({"messages": [{"data": "aGk="}]});
    let fault = json!({"method": "Publish", "fault": {"fail": "UNAVAILABLE"}, "times": 2});
    assert_eq!(call(&server, "POST", "/control/faults", fault).await, (200, json!({"waiting": 2})));
    assert_eq!(call(&server, "POST", publish, messages.clone()).await.0, 503);
    assert_eq!(call(&server, "DELETE", "/control/faults", json!(null)).await.0, 200);
    assert_eq!(call(&server, "POST", publish, messages).await.0, 200);
    assert_eq!(call(&server, "POST", "/control/reset-streams", json!(null)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn gcloud_publishes_and_pulls() {
    if Command::new("gcloud").arg("--version").output().is_err() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/skipped");
        std::fs::create_dir_all(folder).unwrap();
        let what = "gcloud is not on the PATH: it did not talk to local-gcp\n";
        std::fs::write(format!("{folder}/gcloud"), what).unwrap();
        return;
    }
    let server = server().await;
    let config = std::env::temp_dir().join(format!("local-gcp-gcloud-{}", std::process::id()));
    let gcloud = |arguments: &[&str]| {
        let output = Command::new("gcloud")
            .args(["pubsub"])
            .args(arguments)
            .env("CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB", server.endpoint() + "/")
            .env("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "true")
            .env("CLOUDSDK_CORE_DISABLE_PROMPTS", "1")
            .env("CLOUDSDK_CORE_PROJECT", "demo")
            .env("CLOUDSDK_CONFIG", &config)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    gcloud(&["topics", "publish", "requests", "--message=hello", "--attribute=a=b"]);
    let pulled = gcloud(&["subscriptions", "pull", "requests", "--auto-ack", "--format=json"]);
    let pulled: Value = serde_json::from_str(&pulled).unwrap();
    assert_eq!(pulled[0]["message"]["data"], "aGVsbG8=");
    assert_eq!(pulled[0]["message"]["attributes"], json!({"a": "b"}));
    assert_eq!(server.pubsub.counts("projects/demo/subscriptions/requests").unwrap().acked, 1);
    let _ = std::fs::remove_dir_all(config);
}

#[tokio::test]
async fn topics_show_what_they_were_given_and_change_by_mask() {
    let server = server().await;
    let path = "/v1/projects/demo/topics/created";
    let body = json!({
        "labels": {"a": "1"}, "messageRetentionDuration": "86600s", "kmsKeyName": "projects/demo/keys/k",
        "schemaSettings": {"schema": "projects/demo/schemas/s", "encoding": "JSON"},
        "messageStoragePolicy": {"allowedPersistenceRegions": ["europe-west1"]},
    });
    assert_eq!(call(&server, "PUT", path, body.clone()).await.0, 200);
    let (_, mut found) = call(&server, "GET", path, Value::Null).await;
    assert_eq!(found["name"], "projects/demo/topics/created");
    found.as_object_mut().unwrap().remove("name");
    assert_eq!(found, body);
    let mask = format!("{path}?updateMask=labels,messageRetentionDuration&alt=json");
    let (_, changed) = call(&server, "PATCH", &mask, json!({"topic": {"labels": {"b": "2"}}})).await;
    assert_eq!((&changed["labels"], changed.get("messageRetentionDuration")), (&json!({"b": "2"}), None));
    assert_eq!(changed["schemaSettings"], body["schemaSettings"]);
    let refused = call(&server, "PATCH", &format!("{path}?updateMask=name"), json!({"topic": {}})).await;
    assert_eq!((refused.0, &refused.1["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
}

#[tokio::test]
async fn every_setting_of_a_subscription_changes_by_its_mask() {
    let server = server().await;
    let path = "/v1/projects/demo/subscriptions/requests";
    for (field, value) in [
        ("ackDeadlineSeconds", json!(60)),
        ("labels", json!({"a": "b"})),
        ("messageRetentionDuration", json!("1200s")),
        ("retainAckedMessages", json!(true)),
        ("expirationPolicy", json!({"ttl": "300000.500s"})),
        ("expirationPolicy", json!({})),
        ("retryPolicy", json!({"minimumBackoff": "5s", "maximumBackoff": "20s"})),
        (
            "deadLetterPolicy",
            json!({"deadLetterTopic": "projects/demo/topics/requests", "maxDeliveryAttempts": 9}),
        ),
        ("enableExactlyOnceDelivery", json!(true)),
    ] {
        let mask = format!("{path}?updateMask={field},bigqueryConfig,cloudStorageConfig&alt=json");
        let (status, changed) =
            call(&server, "PATCH", &mask, json!({"subscription": {field: value.clone()}})).await;
        assert_eq!((status, &changed[field]), (200, &value), "{field}: {changed}");
        assert_eq!(call(&server, "GET", path, Value::Null).await.1, changed, "{field}");
    }
    for (field, value) in
        [("topic", json!("projects/demo/topics/requests")), ("enableMessageOrdering", json!(true))]
    {
        let change = json!({"subscription": {field: value}});
        let refused = call(&server, "PATCH", &format!("{path}?updateMask={field}"), change).await;
        assert_eq!(refused.0, 400, "{field}");
    }
}

#[tokio::test]
async fn what_is_not_served_is_said_so_and_not_taken_for_missing() {
    let server = server().await;
    for (method, path) in [
        ("GET", "/v1/projects/demo/schemas/s"),
        ("DELETE", "/v1/projects/demo/topics"),
        ("POST", "/v1/projects/demo/topics/requests:detach"),
        ("GET", "/storage/v1/b/models/anywhereCaches"),
    ] {
        let (status, answer) = call(&server, method, path, json!({})).await;
        assert_eq!((status, &answer["error"]["status"]), (501, &json!("UNIMPLEMENTED")), "{method} {path}");
    }
}
