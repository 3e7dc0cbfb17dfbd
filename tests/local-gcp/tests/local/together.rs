//! Parts that the two services share: one port, one set of faults, one history.

use bytes::Bytes;
use local_gcp::Server;
use local_gcp::faults::Fault;
use local_gcp::history::{Generation, What};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{BUCKET, BUCKET_PATH, Local, NEWS, NEWS_SUBSCRIPTION, call};

#[tokio::test]
async fn a_history_tells_of_both_in_one_order() {
    let local = Local::start().await;
    local.storage.create_notification(BUCKET, NEWS, None).unwrap();
    let client = local.client().await;
    let written = client.write_object(BUCKET_PATH, "x", Bytes::from("x")).send_buffered().await.unwrap();
    assert_eq!(call(&local.server, "DELETE", "/storage/v1/b/models/o/x", Value::Null).await.0, 204);
    assert_eq!(local.server.pubsub.drain(NEWS_SUBSCRIPTION).unwrap().len(), 2);
    let events = local.server.history.snapshot();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    let expected =
        Generation { bucket: BUCKET.to_owned(), object: "x".to_owned(), generation: written.generation };
    let whats: Vec<&What> = events.iter().map(|event| &event.what).collect();
    let [
        What::Finalized(finalized),
        What::Published { topic, .. },
        What::Deleted(deleted),
        What::Published { message, .. },
        What::Delivered(_),
        What::Delivered(_),
        What::Acked(_),
        What::Acked(_),
    ] = whats[..]
    else {
        panic!("{whats:#?}")
    };
    assert_eq!((finalized, deleted), (&expected, &expected));
    assert_eq!(&**topic, NEWS);
    assert_eq!(message.message.attributes["eventType"], "OBJECT_DELETE");
}

#[tokio::test]
async fn refused_calls_of_both_are_remembered_by_name() {
    let local = Local::start().await;
    let server = &local.server;
    server.faults.inject("storage.buckets.patch", Fault::Fail("PERMISSION_DENIED".to_owned()), 1);
    for (method, path, status) in [
        ("GET", "/storage/v1/b/missing", 404),
        ("PATCH", "/storage/v1/b/models", 403),
        ("GET", "/storage/v1/b/models/o/missing?alt=media", 404),
        ("DELETE", "/storage/v1/b/models/o/missing", 404),
        ("PUT", "/v1/projects/demo/topics/news", 409),
    ] {
        assert_eq!(call(server, method, path, json!({})).await.0, status, "{method} {path}");
    }
    let control = local.control().await;
    assert!(control.get_object().set_bucket(BUCKET_PATH).set_object("missing").send().await.is_err());
    let refused: Vec<(&str, Code)> = server.history.with(|events| {
        let code = |what: &What| match what {
            What::Refused { method, code, message } if !message.is_empty() => Some((*method, *code)),
            _ => None,
        };
        events.iter().filter_map(|event| code(&event.what)).collect()
    });
    let expected = [
        ("storage.buckets.get", Code::NotFound),
        ("storage.buckets.patch", Code::PermissionDenied),
        ("storage.objects.get.media", Code::NotFound),
        ("storage.objects.delete", Code::NotFound),
        ("CreateTopic", Code::AlreadyExists),
        ("GetObject", Code::NotFound),
    ];
    assert_eq!(refused, expected);
}

#[tokio::test]
async fn nothing_is_remembered_unless_asked() {
    let server = Server::builder().topic(NEWS).subscription(NEWS_SUBSCRIPTION, NEWS).bucket(BUCKET);
    let server = server.start().await.unwrap();
    server.storage.create_notification(BUCKET, NEWS, None).unwrap();
    server.storage.put(BUCKET, "x", "x").unwrap();
    assert_eq!(server.pubsub.drain(NEWS_SUBSCRIPTION).unwrap().len(), 1);
    assert!(!server.history.is_recording());
    assert!(server.history.snapshot().is_empty());
}

#[tokio::test]
async fn draining_waits_for_what_comes() {
    let local = Local::start().await;
    let news = local.server.pubsub.clone();
    let soon = std::time::Duration::from_secs(20);
    let drained = tokio::spawn(async move { news.drain_within(NEWS_SUBSCRIPTION, soon).await });
    // The pull that waits is counted nowhere; publishing before or after it begins must do the same.
    tokio::task::yield_now().await;
    local.storage.create_notification(BUCKET, NEWS, None).unwrap();
    local.storage.put(BUCKET, "x", "x").unwrap();
    let drained = drained.await.unwrap().unwrap();
    assert_eq!(drained[0].message.attributes["objectId"], "x");
    assert_eq!(local.server.pubsub.counts(NEWS_SUBSCRIPTION).unwrap().acked, 1);
    let nothing = local.server.pubsub.drain_within(NEWS_SUBSCRIPTION, std::time::Duration::ZERO).await;
    assert!(nothing.unwrap().is_empty());
}
