//! Faults 22 to 26, 46 and 47: how responses leave.

use std::time::Duration;

use local_gcp::faults::Fault;
use local_gcp::history::{Event, What};
use local_gcp::pubsub::wire::{self, PubsubMessage, RetryPolicy, Subscription, Topic};

use super::{Trial, is_delivery, is_expiry, is_nack, subscription, with_dead_letters};
use crate::support::clock::Clock;
use crate::support::harness::RESPONSES;
use crate::support::oracle::{self, Allowed, End, wine};

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
    // Five calls of at most 256 messages.
    let verdict = trial.judge(&worker, Allowed { duplicates: 5 * 256 }, "").await;
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
    let injected = "three ordered publishes refused, as for want of rights";
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
    trial.judge(&worker, Allowed::default(), "order kept").await;
    trial.each_was_delivered_once();
    trial.world.server.history.with(|events| {
        for key in &keys {
            oracle::in_order(events, key.iter().map(String::as_str));
        }
    });
}

/// The request that must come first is nacked, but the nack is lost: it is redelivered when its lease is over.
#[tokio::test(flavor = "multi_thread")]
async fn fault_25_and_its_request_is_not_given_back() {
    let ordering = Subscription { enable_message_ordering: true, ..subscription() };
    let injected = "an ordered response refused in every form, and its nack lost";
    let mut trial = Trial::with(ordering, 25, injected, "what follows waits, in order").await;
    let mut clock = Clock::new();
    let variables = clock.variables();
    let worker = trial.worker(&variables.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    trial.inject("Publish", fails("INVALID_ARGUMENT"), 2);
    // More than one: the first may meet an extension of the lease.
    trial.inject("ModifyAckDeadline", fails("UNAVAILABLE"), 1000);
    let rows = trial.next_wine();
    let first = trial.ordered(wine().request(&rows), &[], "key", End::Wine(rows));
    trial.until_met("Publish", 2, 2).await;
    trial.until_met("ModifyAckDeadline", 1000, 1).await;
    let rows = trial.next_wine();
    let second = trial.ordered(wine().request(&rows), &[], "key", End::Wine(rows));
    // Later requests of another key are published: it had its chance, and waits. Also once the pause after a
    // refusal is over.
    for _ in 0..2 {
        let rows = trial.next_wine();
        let other = trial.ordered(wine().request(&rows), &[], "another key", End::Wine(rows));
        trial.world.acknowledged(&other).await;
        worker.until_metric("predictd_messages_in_hand", 1.0).await;
        clock.put_forward(Duration::from_secs(2));
    }
    trial.world.server.faults.clear();
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

/// Responses are refused for which this holds, and their whole calls with them.
fn refuse(trial: &Trial, is_refused: impl Fn(&PubsubMessage) -> bool + Send + Sync + 'static) {
    let is_valid = move |message: &PubsubMessage| !is_refused(message);
    trial.world.server.pubsub.set_schema(RESPONSES, Some(is_valid)).unwrap();
}

/// Predictions are accepted from now on. What was refused before must not be answered with its error now.
fn accept_predictions(trial: &Trial) {
    refuse(trial, |message| message.attributes["status"] == "error");
}

fn is_refused_publish(event: &Event) -> bool {
    matches!(&event.what, What::Refused { method: "Publish", .. })
}

fn is_of(message: &PubsubMessage, request_id: &str) -> bool {
    message.attributes.get("request_id").is_some_and(|id| id == request_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_46_one_refused_response_among_many() {
    let injected = "a response topic with a schema that one response of many does not fit";
    let promise = "it gets an error, its neighbours are answered at once";
    let mut trial = Trial::new(46, injected, promise).await;
    refuse(&trial, |message| is_of(message, "misfit") && message.attributes["status"] == "ok");
    // There before the worker, so that calls are full.
    trial.wines(300);
    let rows = trial.next_wine();
    trial.request(wine().request(&rows), &[("request_id", "misfit")], End::Code("INFERENCE_FAILED"));
    trial.wines(300);
    let worker = trial.worker(&[]).await;
    trial.judge(&worker, Allowed::default(), "no request was delivered twice").await;
    trial.each_was_delivered_once();
    assert!(trial.count(is_refused_publish) >= 1);
    assert_eq!(worker.metric("predictd_publish_failures_total").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_46_one_refused_in_every_form() {
    let injected = "a response topic with a schema that neither a response nor its error fits";
    let promise = "its request is nacked alone and dead-lettered, its neighbours are answered at once";
    let mut trial = Trial::with(with_dead_letters(), 46, injected, promise).await;
    refuse(&trial, |message| is_of(message, "misfit"));
    trial.wines(300);
    let rows = trial.next_wine();
    trial.request(wine().request(&rows), &[("request_id", "misfit")], End::Dead);
    trial.wines(300);
    let worker = trial.worker(&[]).await;
    let happened = "its neighbours were delivered once";
    let verdict = trial.judge(&worker, Allowed::default(), happened).await;
    assert_eq!(verdict.dead, 1);
    assert_eq!((trial.count(is_delivery), trial.count(is_nack)), (600 + 5, 5));
    assert_eq!(worker.metric("predictd_publish_failures_total").await, Some(5.0));
    assert!(worker.log().contains("check the response topic's schema"), "{}", worker.log());
    assert!(!worker.log().contains("responses are not accepted"), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_46_no_response_fits() {
    let injected = "a response topic with a schema that no response fits, for a while";
    let mut trial = Trial::new(46, injected, "no acknowledgement, not ready, recovers").await;
    let worker = trial.worker(&[]).await;
    refuse(&trial, |_| true);
    trial.wines(200);
    worker.until_not_ready("Message failed schema validation").await;
    let is_ack = |event: &Event| matches!(event.what, What::Acked(_));
    assert_eq!(trial.count(is_ack), 0);
    accept_predictions(&trial);
    trial.judge(&worker, Allowed::default(), "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_47_ordered_publishes_of_many_keys_are_refused() {
    let seconds = |seconds| Some(wire::Duration { seconds, nanos: 0 });
    let retry = RetryPolicy { minimum_backoff: seconds(1), maximum_backoff: seconds(2) };
    let ordering =
        Subscription { enable_message_ordering: true, retry_policy: Some(retry), ..subscription() };
    let injected = "all responses of 40 keys refused in every form, four times as many as may be in flight";
    let promise = "those without a key are answered meanwhile, then the keys in order";
    let mut trial = Trial::with(ordering, 47, injected, promise).await;
    let worker = trial.worker(&[("PREDICTD_REQUESTS__MAX_OUTSTANDING_MESSAGES", "100")]).await;
    refuse(&trial, |message| !message.ordering_key.is_empty());
    let (mut keys, mut keyless) = (vec![Vec::new(); 40], Vec::new());
    for n in 0..400 {
        let rows = trial.next_wine();
        let key = n % keys.len();
        let id = trial.ordered(wine().request(&rows), &[], &format!("key-{key}"), End::Wine(rows));
        keys[key].push(id);
        keyless.extend(trial.wines(1));
    }
    // While the refusal holds.
    trial.world.responses(&keyless).await;
    let answered = trial.world.server.history.with(|events| oracle::responses(events).len());
    assert_eq!(answered, keyless.len());
    accept_predictions(&trial);
    trial.judge(&worker, Allowed::default(), "order kept").await;
    trial.world.server.history.with(|events| {
        for key in &keys {
            oracle::in_order(events, key.iter().map(String::as_str));
        }
    });
}
