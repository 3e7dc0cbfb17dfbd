//! The server as a bare gRPC client sees it: what it refuses, deadlines, filters, faults.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use local_gcp::Server;
use local_gcp::faults::Fault;
use local_gcp::history::What;
use local_gcp::pubsub::wire::publisher_client::PublisherClient;
use local_gcp::pubsub::wire::subscriber_client::SubscriberClient;
use local_gcp::pubsub::wire::*;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

const TOPIC: &str = "projects/p/topics/requests";
const SUBSCRIPTION: &str = "projects/p/subscriptions/requests";
const SOON: Duration = Duration::from_secs(20);

async fn server() -> (Server, PublisherClient<Channel>, SubscriberClient<Channel>) {
    let server =
        Server::builder().record().topic(TOPIC).subscription(SUBSCRIPTION, TOPIC).start().await.unwrap();
    let channel = Endpoint::from_shared(server.endpoint()).unwrap().connect().await.unwrap();
    (server, PublisherClient::new(channel.clone()), SubscriberClient::new(channel))
}

fn message(data: &str) -> PubsubMessage {
    PubsubMessage { data: data.to_owned().into(), ..PubsubMessage::default() }
}

fn publish(messages: Vec<PubsubMessage>) -> PublishRequest {
    PublishRequest { topic: TOPIC.to_owned(), messages }
}

fn attributes(count: usize, key: &str, value: &str) -> HashMap<String, String> {
    (0..count).map(|i| (format!("{key}{i}"), value.to_owned())).collect()
}

#[tokio::test]
async fn refuses_what_the_real_service_refuses() {
    let (server, mut publisher, mut subscriber) = server().await;
    let with = |attributes| PubsubMessage { attributes, ..PubsubMessage::default() };
    for (what, messages) in [
        ("no message", vec![]),
        ("an empty message", vec![PubsubMessage::default()]),
        ("too many messages", vec![message("x"); 1001]),
        ("a message over 10 MB", vec![message(&"x".repeat(10_000_001))]),
        ("a request over 10 MB", vec![message(&"x".repeat(6_000_000)); 2]),
        ("101 attributes", vec![with(attributes(101, "k", "v"))]),
        ("a long key", vec![with(attributes(1, &"k".repeat(256), "v"))]),
        ("a long value", vec![with(attributes(1, "k", &"v".repeat(1025)))]),
        ("a long ordering key", vec![PubsubMessage { ordering_key: "k".repeat(1025), ..message("x") }]),
    ] {
        let refusal = publisher.publish(publish(messages)).await.expect_err(what);
        assert_eq!(refusal.code(), Code::InvalidArgument, "{what}: {}", refusal.message());
    }
    publisher
        .publish(publish(vec![with(attributes(100, &"k".repeat(254), &"v".repeat(1024)))]))
        .await
        .unwrap();
    publisher.publish(publish(vec![message(&"x".repeat(10_000_000))])).await.unwrap();

    let missing =
        PublishRequest { topic: "projects/p/topics/missing".to_owned(), messages: vec![message("x")] };
    assert_eq!(publisher.publish(missing).await.unwrap_err().code(), Code::NotFound);
    let topic = |name: &str| Topic { name: name.to_owned(), ..Topic::default() };
    assert_eq!(publisher.create_topic(topic(TOPIC)).await.unwrap_err().code(), Code::AlreadyExists);
    for name in ["requests", "projects/p/topics/ab", "projects/p/topics/1abc", "projects/p/topics/goog-abc"] {
        assert_eq!(
            publisher.create_topic(topic(name)).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{name}"
        );
    }

    let new = |name: &str| Subscription {
        name: format!("projects/p/subscriptions/{name}"),
        topic: TOPIC.to_owned(),
        ..Subscription::default()
    };
    let policy = |attempts| {
        Some(DeadLetterPolicy { dead_letter_topic: TOPIC.to_owned(), max_delivery_attempts: attempts })
    };
    for (code, wrong) in [
        (Code::AlreadyExists, new("requests")),
        (Code::NotFound, Subscription { topic: "projects/p/topics/missing".to_owned(), ..new("new") }),
        (Code::InvalidArgument, Subscription { ack_deadline_seconds: 9, ..new("new") }),
        (Code::InvalidArgument, Subscription { ack_deadline_seconds: 601, ..new("new") }),
        (Code::InvalidArgument, Subscription { filter: "nonsense".to_owned(), ..new("new") }),
        (Code::InvalidArgument, Subscription { dead_letter_policy: policy(4), ..new("new") }),
        (Code::InvalidArgument, Subscription { dead_letter_policy: policy(101), ..new("new") }),
    ] {
        let what = format!("{wrong:?}");
        assert_eq!(subscriber.create_subscription(wrong).await.unwrap_err().code(), code, "{what}");
    }
    let forged =
        AcknowledgeRequest { subscription: SUBSCRIPTION.to_owned(), ack_ids: vec!["forged".to_owned()] };
    assert_eq!(subscriber.acknowledge(forged).await.unwrap_err().code(), Code::InvalidArgument);
    let push = ModifyPushConfigRequest { subscription: SUBSCRIPTION.to_owned(), push_config: None };
    assert_eq!(subscriber.modify_push_config(push).await.unwrap_err().code(), Code::Unimplemented);
    let refused = |event: &local_gcp::history::Event| matches!(event.what, What::Refused { .. });
    assert!(server.history.snapshot().iter().filter(|event| refused(event)).count() >= 20);
}

#[tokio::test]
async fn an_expired_lease_comes_back_and_its_late_ack_still_counts() {
    let (server, mut publisher, _) = server().await;
    publisher.publish(publish(vec![message("slow")])).await.unwrap();
    let first = server.pubsub.pull(SUBSCRIPTION, 1, false).await.unwrap().remove(0);
    // Shorter than a subscription may ask for: an extension can, down to a second.
    server.pubsub.modify_ack_deadline(SUBSCRIPTION, std::slice::from_ref(&first.ack_id), 1).unwrap();
    let expired = |events: &[local_gcp::history::Event]| {
        events.iter().any(|event| matches!(&event.what, What::Expired(it) if it.ack_id == first.ack_id))
    };
    let asked = Instant::now();
    assert!(server.history.wait_until(SOON, expired).await);
    assert!(asked.elapsed() > Duration::from_millis(900));
    let second = server.pubsub.pull(SUBSCRIPTION, 1, false).await.unwrap().remove(0);
    assert_ne!(second.ack_id, first.ack_id);
    assert_eq!(second.message.unwrap().message_id, first.message.unwrap().message_id);
    server.pubsub.acknowledge(SUBSCRIPTION, &[first.ack_id]).unwrap();
    assert_eq!(server.pubsub.counts(SUBSCRIPTION).unwrap().outstanding, 0);
}

#[tokio::test]
async fn a_filter_lets_only_its_messages_through() {
    let (server, mut publisher, mut subscriber) = server().await;
    let filtered = Subscription {
        name: "projects/p/subscriptions/filtered".to_owned(),
        topic: TOPIC.to_owned(),
        filter: r#"attributes.model = "wine" AND NOT attributes:skip"#.to_owned(),
        ..Subscription::default()
    };
    let name = subscriber.create_subscription(filtered).await.unwrap().into_inner().name;
    let tagged = |data: &str, pairs: &[(&str, &str)]| PubsubMessage {
        attributes: pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        ..message(data)
    };
    let wine = tagged("yes", &[("model", "wine")]);
    let skipped = tagged("no", &[("model", "wine"), ("skip", "")]);
    publisher.publish(publish(vec![message("no"), skipped, wine])).await.unwrap();
    let received = server.pubsub.drain(&name).unwrap();
    assert_eq!(received.iter().map(|stored| &stored.message.data[..]).collect::<Vec<_>>(), [b"yes"]);
    assert_eq!(server.pubsub.drain(SUBSCRIPTION).unwrap().len(), 3);
}

#[tokio::test]
async fn flow_control_holds_until_it_is_told_to_be_ignored() {
    for (fault, expected) in [(None, 5), (Some(Fault::IgnoreFlowControl), 50)] {
        let (server, mut publisher, mut subscriber) = server().await;
        if let Some(fault) = fault {
            server.faults.inject("StreamingPull", fault, 1);
        }
        publisher.publish(publish(vec![message("x"); 50])).await.unwrap();
        let first = StreamingPullRequest {
            subscription: SUBSCRIPTION.to_owned(),
            stream_ack_deadline_seconds: 60,
            max_outstanding_messages: 5,
            ..StreamingPullRequest::default()
        };
        let requests = futures::StreamExt::chain(
            futures::stream::iter([first]),
            futures::stream::pending::<StreamingPullRequest>(),
        );
        let mut stream = subscriber.streaming_pull(requests).await.unwrap().into_inner();
        let batch = stream.message().await.unwrap().unwrap();
        assert_eq!(batch.received_messages.len(), expected);
        // A later delivery beyond the limit would raise this count before the publish below is answered.
        publisher.publish(publish(vec![message("y")])).await.unwrap();
        let outstanding = server.pubsub.counts(SUBSCRIPTION).unwrap().outstanding;
        assert!(if expected == 5 { outstanding == 5 } else { outstanding >= 50 }, "{outstanding}");
    }
}

#[tokio::test]
async fn a_schema_refuses_the_whole_call_of_a_message_that_does_not_fit() {
    let (server, mut publisher, _) = server().await;
    server.pubsub.set_schema(TOPIC, Some(|message: &PubsubMessage| *message.data != *b"no")).unwrap();
    let refused = publisher.publish(publish(vec![message("yes"), message("no")])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "Invalid data in message: Message failed schema validation.");
    assert_eq!(server.pubsub.published()[TOPIC], 0);
    publisher.publish(publish(vec![message("yes")])).await.unwrap();
    server.pubsub.set_schema(TOPIC, None::<fn(&PubsubMessage) -> bool>).unwrap();
    publisher.publish(publish(vec![message("no")])).await.unwrap();
    assert_eq!(server.pubsub.published()[TOPIC], 2);
}

#[tokio::test]
async fn faults_of_unary_calls_do_what_they_say() {
    let (server, mut publisher, mut subscriber) = server().await;
    server.faults.inject("Publish", Fault::Fail("PERMISSION_DENIED".to_owned()), 1);
    server.faults.inject("Publish", Fault::LoseReply, 1);
    server.faults.inject("Publish", Fault::FewerIds, 1);
    server.faults.inject("Publish", Fault::DelayMs(50), 1);
    server.faults.inject("Publish", Fault::Hang, 1);
    let one = || publish(vec![message("x")]);
    assert_eq!(publisher.publish(one()).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(server.pubsub.published()[TOPIC], 0);
    assert_eq!(publisher.publish(one()).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.pubsub.published()[TOPIC], 1);
    assert_eq!(publisher.publish(one()).await.unwrap().into_inner().message_ids.len(), 0);
    let asked = Instant::now();
    assert_eq!(publisher.publish(one()).await.unwrap().into_inner().message_ids.len(), 1);
    assert!(asked.elapsed() >= Duration::from_millis(50));
    let mut hung = tonic::Request::new(one());
    hung.set_timeout(Duration::from_millis(200));
    publisher.publish(hung).await.expect_err("it hangs");
    assert_eq!(server.pubsub.published()[TOPIC], 3);

    let batch = server.pubsub.pull(SUBSCRIPTION, 10, false).await.unwrap();
    let ack_ids: Vec<String> = batch.into_iter().map(|received| received.ack_id).collect();
    let acknowledge = AcknowledgeRequest { subscription: SUBSCRIPTION.to_owned(), ack_ids };
    server.faults.inject("Acknowledge", Fault::LoseReply, 1);
    assert_eq!(subscriber.acknowledge(acknowledge).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(server.pubsub.counts(SUBSCRIPTION).unwrap().acked, 3);
}

#[tokio::test]
async fn a_deleted_topic_leaves_its_subscriptions_behind() {
    let (server, mut publisher, mut subscriber) = server().await;
    publisher.publish(publish(vec![message("kept")])).await.unwrap();
    publisher.delete_topic(DeleteTopicRequest { topic: TOPIC.to_owned() }).await.unwrap();
    let get = GetSubscriptionRequest { subscription: SUBSCRIPTION.to_owned() };
    assert_eq!(subscriber.get_subscription(get).await.unwrap().into_inner().topic, "_deleted-topic_");
    assert_eq!(server.pubsub.drain(SUBSCRIPTION).unwrap().len(), 1);
}

#[tokio::test]
async fn a_dropped_server_is_gone() {
    let (server, mut publisher, _) = server().await;
    server.faults.inject("Publish", Fault::Hang, 1);
    let mut hung = publisher.clone();
    let hung = tokio::spawn(async move { hung.publish(publish(vec![message("x")])).await });
    while server.faults.waiting("Publish") > 0 {
        tokio::task::yield_now().await;
    }
    let addr = server.address;
    drop(server);
    // The port is free, calls in flight are broken, and so are later ones.
    drop(std::net::TcpListener::bind(addr).unwrap());
    tokio::time::timeout(SOON, hung).await.expect("an answer").unwrap().unwrap_err();
    let later = tokio::time::timeout(SOON, publisher.publish(publish(vec![message("x")]))).await;
    later.expect("an answer").unwrap_err();
}

/// Makes a subscription that delivers in order; answers its name.
async fn ordered(subscriber: &mut SubscriberClient<Channel>, other: Subscription) -> String {
    let name = "projects/p/subscriptions/ordered".to_owned();
    let (topic, enable_message_ordering) = (TOPIC.to_owned(), true);
    let made = Subscription { name: name.clone(), topic, enable_message_ordering, ..other };
    subscriber.create_subscription(made).await.unwrap();
    name
}

fn keyed(data: &str, key: &str) -> PubsubMessage {
    PubsubMessage { ordering_key: key.to_owned(), ..message(data) }
}

#[tokio::test]
async fn a_key_stays_in_order_on_one_stream_while_others_move() {
    let (server, mut publisher, mut subscriber) = server().await;
    let second = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let retry_policy = Some(RetryPolicy { minimum_backoff: second, maximum_backoff: second });
    let name = ordered(&mut subscriber, Subscription { retry_policy, ..Subscription::default() }).await;
    publisher.publish(publish(vec![keyed("a1", "a"), keyed("b1", "b"), keyed("a2", "a")])).await.unwrap();
    let data = |batch: &[ReceivedMessage]| -> Vec<String> {
        let data = batch.iter().map(|it| it.message.as_ref().unwrap().data.to_vec());
        data.map(|data| String::from_utf8(data).unwrap()).collect()
    };
    let first = server.pubsub.pull(&name, 10, false).await.unwrap();
    let mut seen = data(&first);
    seen.sort();
    assert_eq!(seen, ["a1", "a2", "b1"]);
    // A key whose messages are out with one puller gives nothing to another.
    publisher.publish(publish(vec![keyed("a3", "a"), keyed("c1", "c")])).await.unwrap();
    assert_eq!(data(&server.pubsub.pull(&name, 10, true).await.unwrap()), ["c1"]);
    let a1 = first.iter().find(|it| it.message.as_ref().unwrap().data == "a1").unwrap();
    server.pubsub.modify_ack_deadline(&name, std::slice::from_ref(&a1.ack_id), 0).unwrap();
    // The whole key waits for its backoff and comes back in order; the later message was never acknowledged.
    assert!(server.pubsub.pull(&name, 10, true).await.unwrap().is_empty());
    assert_eq!(data(&server.pubsub.pull(&name, 10, false).await.unwrap()), ["a1", "a2", "a3"]);
}

#[tokio::test]
async fn a_key_out_with_a_stream_that_is_gone_waits_for_its_lease() {
    let (server, mut publisher, mut subscriber) = server().await;
    let name = ordered(&mut subscriber, Subscription::default()).await;
    publisher.publish(publish(vec![keyed("1", "k")])).await.unwrap();
    let first = StreamingPullRequest {
        subscription: name.clone(),
        stream_ack_deadline_seconds: 600,
        ..StreamingPullRequest::default()
    };
    server.faults.inject("StreamingPull", Fault::CloseAfter(1), 1);
    let requests = futures::StreamExt::chain(futures::stream::iter([first]), futures::stream::pending());
    let mut stream = subscriber.streaming_pull(requests).await.unwrap().into_inner();
    let delivered = stream.message().await.unwrap().unwrap().received_messages;
    assert!(stream.message().await.unwrap().is_none());
    publisher.publish(publish(vec![keyed("2", "k")])).await.unwrap();
    // Else 2 could be answered before 1, which only comes again when its lease is over.
    assert!(server.pubsub.pull(&name, 10, true).await.unwrap().is_empty());
    server.pubsub.acknowledge(&name, &[delivered[0].ack_id.clone()]).unwrap();
    let next = server.pubsub.pull(&name, 10, false).await.unwrap();
    assert_eq!(next[0].message.as_ref().unwrap().data, "2");
}

#[tokio::test]
async fn streams_end_stall_and_repeat_as_told() {
    let (server, mut publisher, mut subscriber) = server().await;
    let mut open = async |fault: Fault| {
        server.faults.inject("StreamingPull", fault, 1);
        let first = StreamingPullRequest {
            subscription: SUBSCRIPTION.to_owned(),
            stream_ack_deadline_seconds: 600,
            ..StreamingPullRequest::default()
        };
        let requests = futures::StreamExt::chain(
            futures::stream::iter([first]),
            futures::stream::pending::<StreamingPullRequest>(),
        );
        subscriber.streaming_pull(requests).await.unwrap().into_inner()
    };
    publisher.publish(publish(vec![message("x"); 10])).await.unwrap();

    let mut closed = open(Fault::CloseAfter(2)).await;
    assert_eq!(closed.message().await.unwrap().unwrap().received_messages.len(), 2);
    assert!(closed.message().await.unwrap().is_none());

    let mut reset = open(Fault::ResetAfter(2)).await;
    assert_eq!(reset.message().await.unwrap().unwrap().received_messages.len(), 2);
    assert_eq!(reset.message().await.unwrap_err().code(), Code::Unavailable);

    let mut stalled = open(Fault::StallAfter(2)).await;
    assert_eq!(stalled.message().await.unwrap().unwrap().received_messages.len(), 2);

    let mut twice = open(Fault::DeliverTwice).await;
    let first = twice.message().await.unwrap().unwrap().received_messages;
    let again = twice.message().await.unwrap().unwrap().received_messages;
    assert!(!first.is_empty());
    assert_eq!(first, again);

    // The stalled stream got nothing more, and still notices that all streams are reset.
    server.reset_streams();
    assert_eq!(stalled.message().await.unwrap_err().code(), Code::Unavailable);
    loop {
        match twice.message().await {
            Ok(more) => assert!(more.is_some(), "closed instead of reset"),
            Err(status) => break assert_eq!(status.code(), Code::Unavailable),
        }
    }
}
