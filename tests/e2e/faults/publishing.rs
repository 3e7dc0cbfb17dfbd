//! Faults 22 to 26: how responses leave.

use local_gcp::faults::Fault;
use local_gcp::history::What;
use local_gcp::pubsub::wire::{Subscription, Topic};

use super::{Trial, is_delivery, is_expiry, subscription};
use crate::harness::RESPONSES;
use crate::oracle::{self, Allowed, End, wine};

fn fails(code: &str) -> Fault {
    Fault::Fail(code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_22_publishing_is_unavailable() {
    let injected = "Publish UNAVAILABLE until every lease was extended twice (in place of 60 s)";
    let promise = "intake stops at the cap, leases held, nothing lost";
    let mut trial = Trial::new(22, injected, promise).await;
    let worker = trial.worker(&[("PREDICTD_REQUESTS__MAX_OUTSTANDING_MESSAGES", "100")]).await;
    trial.inject("Publish", fails("UNAVAILABLE"), 10_000);
    trial.wines(500);
    worker.until_metric("predictd_messages_in_hand", 100.0).await;
    worker.until_not_ready("no response was accepted").await;
    let is_extension = |event: &local_gcp::history::Event| matches!(event.what, What::Extended(..));
    trial.until_counted("an extension", 200, is_extension).await;
    assert_eq!(worker.metric("predictd_messages_in_hand ").await, Some(100.0));
    assert_eq!(trial.count(is_delivery), 100);
    trial.world.server.faults.clear();
    trial.judge(&worker, Allowed::default(), "100 of 500 in hand").await;
    assert_eq!(trial.count(is_expiry), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_23_a_publishs_reply_is_lost() {
    let mut trial =
        Trial::new(23, "Publish accepted, its reply lost, five times", "one response or more, same key")
            .await;
    let worker = trial.worker(&[]).await;
    trial.inject("Publish", Fault::LoseReply, 5);
    trial.wines(1000);
    trial.until_met("Publish", 5, 5).await;
    // Five calls of at most 128 messages.
    let verdict = trial.judge(&worker, Allowed { duplicates: 5 * 128 }, "").await;
    assert!(verdict.duplicates >= 5, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_24_the_response_topic_is_missing() {
    let mut trial = Trial::new(24, "the response topic is missing", "no ack, not ready, recovers").await;
    let worker = trial.worker(&[]).await;
    trial.world.server.pubsub.delete_topic(RESPONSES).unwrap();
    trial.wines(100);
    worker.until_not_ready("the response topic refused responses").await;
    let is_ack = |event: &local_gcp::history::Event| matches!(event.what, What::Acked(_));
    assert_eq!(trial.count(is_ack), 0);
    let topic = Topic { name: RESPONSES.to_owned(), ..Topic::default() };
    trial.world.server.pubsub.create_topic(topic).unwrap();
    trial.judge(&worker, Allowed::default(), "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_25_an_ordered_publish_fails() {
    let injected = "three ordered publishes refused for good, which pauses their keys in the client";
    let ordering = Subscription { enable_message_ordering: true, ..subscription() };
    let mut trial = Trial::with(ordering, 25, injected, "resumed, in order, others unaffected").await;
    let worker = trial.worker(&[]).await;
    let mut keys: Vec<Vec<String>> = vec![Vec::new(); 5];
    for n in 0..200 {
        if n == 50 {
            trial.inject("Publish", fails("PERMISSION_DENIED"), 3);
        }
        let rows = trial.next_wine();
        let id = trial.ordered(wine().request(&rows), &[], &format!("key-{}", n % 5), End::Wine(rows));
        keys[n % 5].push(id);
    }
    trial.until_met("Publish", 3, 3).await;
    trial.judge(&worker, Allowed { duplicates: 200 }, "order kept").await;
    trial.world.server.history.with(|events| {
        for key in &keys {
            oracle::in_order(events, key.iter().map(String::as_str));
        }
    });
    assert!(worker.metric("predictd_publish_failures_total").await.unwrap() >= 1.0);
}

/// The request that must come first is given back, but Pub/Sub does not hear of it: it comes when its lease is over.
#[tokio::test(flavor = "multi_thread")]
async fn fault_25_and_its_request_is_not_given_back() {
    let ordering = Subscription { enable_message_ordering: true, ..subscription() };
    let injected = "an ordered publish refused, and its nack lost";
    let mut trial = Trial::with(ordering, 25, injected, "what follows waits, in order").await;
    let worker = trial.worker(&[]).await;
    trial.inject("Publish", fails("PERMISSION_DENIED"), 1);
    trial.inject("ModifyAckDeadline", fails("UNAVAILABLE"), 1);
    let rows = trial.next_wine();
    let first = trial.ordered(wine().request(&rows), &[], "key", End::Wine(rows));
    trial.until_met("ModifyAckDeadline", 1, 1).await;
    let rows = trial.next_wine();
    let second = trial.ordered(wine().request(&rows), &[], "key", End::Wine(rows));
    // What comes after it under another key is published: it had its chance, and waits.
    let rows = trial.next_wine();
    let other = trial.ordered(wine().request(&rows), &[], "another key", End::Wine(rows));
    trial.world.acknowledged(&other).await;
    worker.until_metric("predictd_messages_in_hand", 1.0).await;
    trial.expire_leases();
    trial.judge(&worker, Allowed::default(), "").await;
    trial.world.server.history.with(|events| oracle::in_order(events, [&*first, &*second]));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_26_fewer_ids_than_messages() {
    let injected = "three Publish calls answered with an id too few";
    let mut trial = Trial::new(26, injected, "a failure: the request comes again").await;
    let worker = trial.worker(&[]).await;
    trial.inject("Publish", Fault::FewerIds, 3);
    trial.wines(500);
    trial.until_met("Publish", 3, 3).await;
    let verdict = trial.judge(&worker, Allowed { duplicates: 3 }, "").await;
    assert_eq!(verdict.duplicates, 3, "each was published, not believed, and published again");
    assert_eq!(worker.metric("predictd_publish_failures_total").await, Some(3.0));
}
