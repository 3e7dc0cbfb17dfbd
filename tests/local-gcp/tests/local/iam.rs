//! Policies that count: a member's own port lets pass what is granted, with the services' own refusals for
//! the rest.

use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::{SubscriptionAdmin, TopicAdmin};
use google_cloud_storage::client::{Storage, StorageControl};
use local_gcp::pubsub::wire;
use local_gcp::{Builder, Server};
use serde_json::json;

const TOPIC: &str = "projects/demo/topics/requests";
const DEAD: &str = "projects/demo/topics/dead";
const SUBSCRIPTION: &str = "projects/demo/subscriptions/requests";
const BUCKET: &str = "projects/_/buckets/models";
const WORKER: &str = "serviceAccount:worker@demo.iam.gserviceaccount.com";
const PUBSUB_AGENT: &str = "serviceAccount:service-7@gcp-sa-pubsub.iam.gserviceaccount.com";
const STORAGE_AGENT: &str = "serviceAccount:service-7@gs-project-accounts.iam.gserviceaccount.com";

fn builder() -> Builder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Server::builder()
        .enforce_iam()
        .calls_as(WORKER, None)
        .topic(TOPIC)
        .topic(DEAD)
        .subscription(SUBSCRIPTION, TOPIC)
        .bucket("models")
}

fn endpoint(server: &Server) -> String {
    format!("http://{}", server.host_as(WORKER).unwrap())
}

macro_rules! client {
    ($kind:ident, $server:expr) => {{
        let credentials = anonymous::Builder::new().build();
        $kind::builder().with_endpoint(endpoint($server)).with_credentials(credentials).build().await.unwrap()
    }};
}

/// A REST call as the worker: the HTTP status and what the answer says.
async fn rest(
    server: &Server,
    method: &str,
    path: &str,
    body: &serde_json::Value,
) -> (u16, serde_json::Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let answer = client.request(method, endpoint(server) + path).json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

#[tokio::test]
async fn pubsub_refuses_what_is_not_granted_on_both_faces() {
    let server = builder().start().await.unwrap();
    let publish = format!("/v1/{TOPIC}:publish");
    let message = json!({"messages": [{"data": "aGk="}]});
    let (status, refused) = rest(&server, "POST", &publish, &message).await;
    assert_eq!((status, &refused["error"]["status"]), (403, &json!("PERMISSION_DENIED")), "{refused}");
    server.grant("roles/pubsub.viewer", TOPIC, WORKER).unwrap();
    assert_eq!(rest(&server, "POST", &publish, &message).await.0, 403, "a viewer does not publish");
    server.grant("roles/pubsub.publisher", TOPIC, WORKER).unwrap();
    assert_eq!(rest(&server, "POST", &publish, &message).await.0, 200);

    let (topics, subscriptions) = (client!(TopicAdmin, &server), client!(SubscriptionAdmin, &server));
    let get = async || topics.get_topic().set_topic(TOPIC).send().await;
    get().await.unwrap();
    server.revoke("roles/pubsub.viewer", TOPIC, WORKER).unwrap();
    assert_eq!(get().await.unwrap_err().status().unwrap().code.name(), "PERMISSION_DENIED");
    let get = async || subscriptions.get_subscription().set_subscription(SUBSCRIPTION).send().await;
    assert_eq!(get().await.unwrap_err().status().unwrap().code.name(), "PERMISSION_DENIED");

    let pull = format!("/v1/{SUBSCRIPTION}:pull");
    let at_once = json!({"maxMessages": 1, "returnImmediately": true});
    assert_eq!(rest(&server, "POST", &pull, &at_once).await.0, 403);
    server.grant("roles/pubsub.subscriber", SUBSCRIPTION, WORKER).unwrap();
    let (status, pulled) = rest(&server, "POST", &pull, &at_once).await;
    assert_eq!((status, &pulled["receivedMessages"][0]["message"]["data"]), (200, &json!("aGk=")));
    // Resources of the project belong to the owner alone; no member gives itself a right.
    assert_eq!(rest(&server, "PUT", "/v1/projects/demo/topics/more", &json!({})).await.0, 403);
    assert_eq!(
        rest(&server, "POST", &format!("/v1/{TOPIC}:setIamPolicy"), &json!({"policy": {}})).await.0,
        403
    );
    let test = json!({"permissions": ["pubsub.topics.publish", "pubsub.topics.delete"]});
    let (_, held) = rest(&server, "POST", &format!("/v1/{TOPIC}:testIamPermissions"), &test).await;
    assert_eq!(held["permissions"], json!(["pubsub.topics.publish"]));
}

#[tokio::test]
async fn storage_refuses_what_is_not_granted_on_both_faces() {
    let server = builder().start().await.unwrap();
    server.storage.put("models", "a", "one").unwrap();
    let (storage, control) = (client!(Storage, &server), client!(StorageControl, &server));
    let list = async || control.list_objects().set_parent(BUCKET).send().await.map(|page| page.objects.len());
    let read = async || storage.read_object(BUCKET, "a").send().await.map(drop);
    let write = async |name: &str| storage.write_object(BUCKET, name, "two").send_buffered().await.map(drop);
    assert_eq!(list().await.unwrap_err().status().unwrap().code.name(), "PERMISSION_DENIED");
    assert_eq!(read().await.unwrap_err().http_status_code(), Some(403));
    server.grant("roles/storage.objectViewer", BUCKET, WORKER).unwrap();
    assert_eq!(list().await.unwrap(), 1);
    read().await.unwrap();
    assert_eq!(write("b").await.unwrap_err().http_status_code(), Some(403));
    server.grant("roles/storage.objectCreator", BUCKET, WORKER).unwrap();
    write("b").await.unwrap();
    let refused = write("b").await.unwrap_err();
    assert!(refused.to_string().contains("storage.objects.delete"), "overwriting deletes: {refused}");
    server.grant("roles/storage.objectUser", BUCKET, WORKER).unwrap();
    write("b").await.unwrap();
    let needed: Vec<_> = server.iam.asked(WORKER).into_iter().map(|asked| asked.permission).collect();
    assert_eq!(
        needed,
        ["storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list"]
    );
    assert_eq!(rest(&server, "GET", "/storage/v1/b/models", &json!({})).await.0, 403);
    assert_eq!(rest(&server, "GET", "/storage/v1/b/missing", &json!({})).await.0, 404, "names are public");
    let test = "/storage/v1/b/models/iam/testPermissions?permissions=storage.buckets.get&permissions=storage.objects.get";
    assert_eq!(rest(&server, "GET", test, &json!({})).await.1["permissions"], json!(["storage.objects.get"]));
}

#[tokio::test]
async fn googles_agents_need_their_grants() {
    let policy = wire::DeadLetterPolicy { dead_letter_topic: DEAD.to_owned(), max_delivery_attempts: 5 };
    let dying = "projects/demo/subscriptions/dying";
    let server = builder()
        .subscription_with(wire::Subscription {
            name: dying.to_owned(),
            topic: TOPIC.to_owned(),
            dead_letter_policy: Some(policy),
            ..Default::default()
        })
        .notification("models", TOPIC, None)
        .start()
        .await
        .unwrap();
    server.storage.put("models", "a", "one").unwrap();
    assert_eq!(server.pubsub.published()[TOPIC], 0, "Cloud Storage may not publish yet");
    server.grant("roles/pubsub.publisher", TOPIC, STORAGE_AGENT).unwrap();
    server.storage.put("models", "a", "two").unwrap();
    // The new generation and the end of the old one.
    assert_eq!(server.pubsub.published()[TOPIC], 2);

    let refuse_all = async || {
        for message in server.pubsub.pull(dying, 10, true).await.unwrap() {
            server.pubsub.modify_ack_deadline(dying, &[message.ack_id], 0).unwrap();
        }
    };
    for _ in 0..6 {
        refuse_all().await;
    }
    assert_eq!(server.pubsub.published()[DEAD], 0, "Pub/Sub may not move dead letters yet");
    server.grant("roles/pubsub.publisher", DEAD, PUBSUB_AGENT).unwrap();
    refuse_all().await;
    assert_eq!(server.pubsub.published()[DEAD], 0, "it must take them from the subscription, too");
    server.grant("roles/pubsub.subscriber", dying, PUBSUB_AGENT).unwrap();
    refuse_all().await;
    assert_eq!(server.pubsub.published()[DEAD], 2);
}
