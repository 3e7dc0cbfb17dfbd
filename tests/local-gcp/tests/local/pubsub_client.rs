//! The server as Google's own client sees it.

use std::collections::BTreeSet;
use std::time::Duration;

use google_cloud_auth::credentials::anonymous;
use google_cloud_pubsub::client::{Publisher, Subscriber};
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::MessageStream;
use google_cloud_pubsub::subscriber::handler::Handler;
use local_gcp::Server;
use local_gcp::faults::Fault;
use local_gcp::history::What;
use local_gcp::pubsub::wire::{DeadLetterPolicy, Subscription};

const TOPIC: &str = "projects/p/topics/requests";
const SUBSCRIPTION: &str = "projects/p/subscriptions/requests";
const SOON: Duration = Duration::from_secs(20);

fn subscription() -> Subscription {
    Subscription { name: SUBSCRIPTION.to_owned(), topic: TOPIC.to_owned(), ..Subscription::default() }
}

async fn server(subscription: Subscription) -> Server {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::builder().record().topic(TOPIC).topic("projects/p/topics/dead");
    let server = server.subscription("projects/p/subscriptions/dead", "projects/p/topics/dead");
    server.subscription_with(subscription).start().await.unwrap()
}

async fn publisher(server: &Server) -> Publisher {
    let builder = Publisher::builder(TOPIC).with_endpoint(server.endpoint());
    builder.with_credentials(anonymous::Builder::new().build()).build().await.unwrap()
}

async fn subscriber(server: &Server) -> Subscriber {
    let builder = Subscriber::builder().with_endpoint(server.endpoint());
    builder.with_credentials(anonymous::Builder::new().build()).build().await.unwrap()
}

async fn next(stream: &mut MessageStream) -> (Message, Handler) {
    tokio::time::timeout(SOON, stream.next())
        .await
        .expect("a message in time")
        .expect("an open stream")
        .unwrap()
}

async fn wait_for_acks(server: &Server, count: usize) {
    let acked = |events: &[local_gcp::history::Event]| {
        events.iter().filter(|event| matches!(event.what, What::Acked(_))).count() >= count
    };
    assert!(server.history.wait_until(SOON, acked).await, "{:?}", server.pubsub.all_counts());
}

#[tokio::test]
async fn every_message_arrives_once_and_is_acknowledged() {
    let server = server(subscription()).await;
    let publisher = publisher(&server).await;
    let sent: Vec<_> =
        (0..2500).map(|i| publisher.publish(Message::new().set_data(format!("message {i}")))).collect();
    let mut ids = BTreeSet::new();
    for publish in sent {
        ids.insert(publish.await.unwrap());
    }
    assert_eq!(ids.len(), 2500);
    let mut stream = subscriber(&server).await.subscribe(SUBSCRIPTION).build();
    let mut received = BTreeSet::new();
    for _ in 0..2500 {
        let (message, handler) = next(&mut stream).await;
        assert_eq!(handler.delivery_attempt(), None);
        received.insert(message.message_id);
        handler.ack();
    }
    assert_eq!(received, ids);
    wait_for_acks(&server, 2500).await;
    let counts = server.pubsub.counts(SUBSCRIPTION).unwrap();
    assert_eq!((counts.delivered, counts.undelivered, counts.outstanding), (2500, 0, 0));
}

#[tokio::test]
async fn nacked_messages_end_in_the_dead_letter_topic() {
    let policy =
        DeadLetterPolicy { dead_letter_topic: "projects/p/topics/dead".to_owned(), max_delivery_attempts: 5 };
    let server = server(Subscription { dead_letter_policy: Some(policy), ..subscription() }).await;
    publisher(&server).await.publish(Message::new().set_data("poison")).await.unwrap();
    let mut stream = subscriber(&server).await.subscribe(SUBSCRIPTION).build();
    for attempt in 1..=5 {
        let (_, handler) = next(&mut stream).await;
        assert_eq!(handler.delivery_attempt(), Some(attempt));
        handler.nack();
    }
    let dead = server.pubsub.pull("projects/p/subscriptions/dead", 1, false).await.unwrap();
    let message = dead[0].message.clone().unwrap();
    assert_eq!(message.data, "poison");
    let attribute = |name: &str| message.attributes[&format!("CloudPubSubDeadLetterSource{name}")].as_str();
    assert_eq!(attribute("DeliveryCount"), "5");
    assert_eq!(attribute("Subscription"), "requests");
    assert_eq!(attribute("SubscriptionProject"), "p");
    assert!(attribute("TopicPublishTime").starts_with("20"));
}

#[tokio::test]
async fn a_nack_brings_back_every_later_message_of_the_key() {
    let server = server(Subscription { enable_message_ordering: true, ..subscription() }).await;
    let publisher = publisher(&server).await;
    for i in 0..6 {
        publisher.publish(Message::new().set_data(i.to_string()).set_ordering_key("key")).await.unwrap();
    }
    let mut stream = subscriber(&server).await.subscribe(SUBSCRIPTION).build();
    let mut seen = Vec::new();
    let mut nacked = false;
    let mut done = 0;
    while done < 6 {
        let (message, handler) = next(&mut stream).await;
        let number: usize = std::str::from_utf8(&message.data).unwrap().parse().unwrap();
        seen.push(number);
        if number == 2 && !nacked {
            nacked = true;
            handler.nack();
        } else {
            done = number + 1;
            // Later ones of the first round go unanswered: they come again anyway.
            if !nacked || seen.iter().filter(|seen| **seen == 2).count() == 2 {
                handler.ack();
            } else {
                done = 0;
                std::mem::forget(handler);
            }
        }
    }
    let second = seen.iter().rposition(|number| *number == 2).unwrap();
    assert_eq!(seen[..3], [0, 1, 2]);
    assert_eq!(seen[second..], [2, 3, 4, 5], "{seen:?}");
}

#[tokio::test]
async fn exactly_once_acks_are_confirmed_and_stale_ones_refused() {
    let server = server(Subscription { enable_exactly_once_delivery: true, ..subscription() }).await;
    let publisher = publisher(&server).await;
    publisher.publish(Message::new().set_data("one")).await.unwrap();
    let mut stream = subscriber(&server).await.subscribe(SUBSCRIPTION).build();
    let (_, Handler::ExactlyOnce(handler)) = next(&mut stream).await else { panic!("at least once") };
    handler.confirmed_ack().await.unwrap();

    publisher.publish(Message::new().set_data("two")).await.unwrap();
    let (_, Handler::ExactlyOnce(handler)) = next(&mut stream).await else { panic!("at least once") };
    let history = server.history.snapshot();
    let Some(What::Delivered(delivery)) =
        history.iter().rev().map(|event| &event.what).find(|what| matches!(what, What::Delivered(_)))
    else {
        panic!("no delivery")
    };
    server.pubsub.modify_ack_deadline(SUBSCRIPTION, std::slice::from_ref(&delivery.ack_id), 0).unwrap();
    assert!(handler.confirmed_ack().await.is_err(), "the lease had ended");
}

#[tokio::test]
async fn the_client_survives_resets_failures_and_clean_closes() {
    let server = server(subscription()).await;
    server.faults.inject("StreamingPull", Fault::ResetAfter(3), 1);
    server.faults.inject("StreamingPull", Fault::Fail("UNAVAILABLE".to_owned()), 1);
    server.faults.inject("Publish", Fault::Fail("UNAVAILABLE".to_owned()), 2);
    let publisher = publisher(&server).await;
    let mut stream = subscriber(&server).await.subscribe(SUBSCRIPTION).build();
    let sent: Vec<_> = (0..10).map(|i| publisher.publish(Message::new().set_data(format!("{i}")))).collect();
    for publish in sent {
        publish.await.unwrap();
    }
    let mut received = BTreeSet::new();
    while received.len() < 10 {
        let (message, handler) = next(&mut stream).await;
        received.insert(message.data);
        handler.ack();
        if received.len() == 5 {
            server.reset_streams();
        }
    }
    assert_eq!((server.faults.waiting("StreamingPull"), server.faults.waiting("Publish")), (0, 0));
}
