//! Promises 1 to 3 under traffic: thousands of requests with everything going on at once.

use std::collections::BTreeSet;

use local_gcp::faults::Fault;
use local_gcp::history::What;

use crate::support::harness::{PATIENCE, World};
use crate::support::oracle::{self, wine};

/// Rows of the `n`th request: one, or a few.
fn rows(n: usize) -> Vec<usize> {
    let count = wine().rows.len();
    (0..1 + n % 3).map(|more| (n * 7 + more) % count).collect()
}

fn publish(world: &World, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| world.publish(wine().request(&rows(n)), &[("request_id", &format!("r{n}"))])).collect()
}

/// Checks each against scikit-learn and the history as a whole; the versions that answered.
async fn judge(world: &World, ids: &[String]) -> BTreeSet<String> {
    let responses = world.responses(ids).await;
    world.settled().await;
    let mut versions = BTreeSet::new();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(responses[id].attributes["request_id"], format!("r{n}"));
        versions.insert(wine().check(&rows(n), &responses[id]));
    }
    world.server.history.with(oracle::nothing_was_lost);
    versions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_in_the_middle_fails_nothing() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let worker = world.ready_worker(&[]).await;
    let mut ids = publish(&world, 0..1500);
    world.upload_version("wine/2", "wine", "2");
    ids.extend(publish(&world, 1500..3000));
    worker.until_serving("wine", "2").await;
    ids.extend(publish(&world, 3000..4500));
    let versions = judge(&world, &ids).await;
    assert!(versions.contains("2"), "{versions:?}");
    assert_eq!(world.server.history.with(oracle::duplicates), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_nothing() {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    let mut first = world.ready_worker(&[]).await;
    let ids = publish(&world, 0..3000);
    let some =
        world.server.history.wait_until(PATIENCE, |events| oracle::responses(events).len() > 100).await;
    assert!(some);
    first.signal("-TERM");
    let more: Vec<String> = publish(&world, 3000..3500);
    assert!(first.end().await.success(), "{}", first.log());
    let _second = world.ready_worker(&[]).await;
    judge(&world, &[ids, more].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_work() {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    let (one, two) = tokio::join!(world.ready_worker(&[]), world.ready_worker(&[]));
    let ids = publish(&world, 0..3000);
    judge(&world, &ids).await;
    let line = "predictd_requests_total{model=\"wine\",version=\"2\",status=\"ok\"}";
    // Each counts a response after it was published and its request acknowledged.
    one.until("3000 counted responses", async || {
        let answered = one.metric(line).await? + two.metric(line).await?;
        (answered >= 3000.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_opened_again() {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    world.server.faults.inject("StreamingPull", Fault::ResetAfter(300), 3);
    world.server.faults.inject("StreamingPull", Fault::CloseAfter(200), 2);
    world.server.faults.inject("StreamingPull", Fault::Fail("PERMISSION_DENIED".to_owned()), 1);
    let worker = world.ready_worker(&[]).await;
    let mut ids = publish(&world, 0..1500);
    world.responses(&ids).await;
    world.server.pubsub.reset_streams();
    ids.extend(publish(&world, 1500..2000));
    judge(&world, &ids).await;
    worker.until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_publish_loses_nothing() {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    let worker = world.ready_worker(&[]).await;
    for fault in [
        Fault::Fail("UNAVAILABLE".to_owned()),
        Fault::LoseReply,
        Fault::Fail("PERMISSION_DENIED".to_owned()),
        Fault::DelayMs(50),
    ] {
        world.server.faults.inject("Publish", fault, 3);
    }
    let ids = publish(&world, 0..1000);
    judge(&world, &ids).await;
    worker.until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_delivered_twice_is_answered_with_one_key() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    world.server.faults.inject("StreamingPull", Fault::DeliverTwice, 1);
    let _worker = world.ready_worker(&[]).await;
    let ids = publish(&world, 0..50);
    judge(&world, &ids).await;
    assert!(world.server.history.with(oracle::duplicates) <= 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_hand_stays_under_the_byte_cap() {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    // Publishing is delayed, and the server sends all it has.
    world.server.faults.inject("StreamingPull", Fault::IgnoreFlowControl, 1);
    world.server.faults.inject("Publish", Fault::DelayMs(300), 1000);
    let worker = world.ready_worker(&[("PREDICTD_REQUESTS__MAX_OUTSTANDING_BYTES", "64KiB")]).await;
    let ids = publish(&world, 0..300);
    world.delivered(101).await;
    // 64 KiB in units of 1 KiB. The server has sent them; the worker may take them a moment later.
    for (metric, most) in [("predictd_messages_in_hand ", 64.0), ("predictd_bytes_in_hand ", 65536.0)] {
        let some = async || worker.metric(metric).await.filter(|in_hand| *in_hand >= 1.0);
        let in_hand = worker.until("requests in hand", some).await;
        assert!(in_hand <= most, "{metric} {in_hand}");
    }
    world.server.faults.clear();
    judge(&world, &ids).await;
}

/// Publishing hangs, so nothing can be finished: at the end of the grace all of it goes back.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_finished_in_the_grace_goes_back() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let mut worker = world.ready_worker(&[("PREDICTD_SHUTDOWN__GRACE", "2s")]).await;
    world.server.faults.inject("Publish", Fault::Hang, 1000);
    let ids: Vec<String> = (0..20).map(|row| world.publish(wine().request(&[row]), &[])).collect();
    worker.until_metric("predictd_messages_in_hand", 20.0).await;
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());
    let nacked = world
        .server
        .history
        .with(|events| events.iter().filter(|event| matches!(event.what, What::Nacked(_))).count());
    assert!(nacked >= 20, "{nacked}");
    world.server.faults.clear();
    let _next = world.ready_worker(&[]).await;
    world.responses(&ids).await;
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}
