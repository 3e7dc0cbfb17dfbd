//! Flow control: a worker holds about two seconds of its work, and what it leaves is there for others.

use local_gcp::faults::Fault;
use local_gcp::pubsub::wire::PubsubMessage;

use crate::support::harness::{REQUEST_SUBSCRIPTION, REQUESTS, World};
use crate::support::oracle::{self, wine};

const IN_HAND: &str = "predictd_messages_in_hand ";
const LIMIT: &str = "predictd_messages_in_hand_limit ";

fn publish(world: &World, count: usize) -> Vec<String> {
    (0..count).map(|n| world.publish(wine().request(&[n % 100]), &[])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_worker_leaves_the_rest_to_later_ones() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    // Nothing is settled, so that what each worker took can be counted.
    world.server.faults.inject("Publish", Fault::Fail("UNAVAILABLE".to_owned()), 10_000);
    let ids = publish(&world, 500);
    let variables = [("PREDICTD_BATCHING__MAX_ROWS", "24"), ("PREDICTD_INFERENCE__THREADS", "2")];
    let first = world.ready_worker(&variables).await;
    first.until_metric(IN_HAND, 48.0).await;
    let second = world.ready_worker(&variables).await;
    second.until_metric(IN_HAND, 48.0).await;
    let counts = world.server.pubsub.counts(REQUEST_SUBSCRIPTION).unwrap();
    assert_eq!((counts.outstanding, counts.undelivered), (96, 404));
    assert_eq!(first.metric(LIMIT).await, Some(48.0));
    world.server.faults.clear();
    world.responses(&ids).await;
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_follows_the_throughput_and_loses_nothing() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    // The least limit of all: ten.
    let variables = [("PREDICTD_BATCHING__MAX_ROWS", "1"), ("PREDICTD_INFERENCE__THREADS", "1")];
    let worker = world.ready_worker(&variables).await;
    assert_eq!(worker.metric(LIMIT).await, Some(10.0));
    let ids = publish(&world, 2000);
    let raised = async || worker.metric(LIMIT).await.filter(|limit| *limit >= 100.0);
    worker.until("a limit of a hundred", raised).await;
    world.responses(&ids).await;
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
    let counts = world.server.pubsub.counts(REQUEST_SUBSCRIPTION).unwrap();
    assert_eq!((counts.delivered, counts.nacked, counts.expired), (2000, 0, 0));
    // The configured limit is the ceiling.
    let capped = [variables[0], variables[1], ("PREDICTD_REQUESTS__MAX_OUTSTANDING_MESSAGES", "7")];
    let capped = world.ready_worker(&capped).await;
    assert_eq!(capped.metric(LIMIT).await, Some(7.0));
}

/// The keys go on where a stream was closed in their middle.
#[tokio::test(flavor = "multi_thread")]
async fn ordering_keys_keep_their_order_while_the_limit_changes() {
    let world = World::start_ordered(|builder| builder).await;
    world.upload_version("wine/1", "wine", "1");
    let ordered = |n: usize| PubsubMessage {
        data: wine().request(&[n % 100]).into(),
        ordering_key: format!("key-{}", n % 20),
        ..Default::default()
    };
    let ids = world.server.pubsub.publish(REQUESTS, (0..1000).map(ordered).collect()).unwrap();
    let variables = [("PREDICTD_BATCHING__MAX_ROWS", "1"), ("PREDICTD_INFERENCE__THREADS", "1")];
    let worker = world.ready_worker(&variables).await;
    world.responses(&ids).await;
    let raised = async || worker.metric(LIMIT).await.filter(|limit| *limit > 10.0);
    worker.until("a higher limit", raised).await;
    for key in 0..20 {
        let of_key = ids.iter().skip(key).step_by(20).map(String::as_str);
        world.server.history.with(|events| oracle::in_order(events, of_key));
    }
}
