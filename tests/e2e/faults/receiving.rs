//! Faults 1 to 14: how requests arrive and are acknowledged.

use std::time::{Duration, Instant};

use local_gcp::faults::Fault;
use local_gcp::history::What;
use local_gcp::pubsub::wire::Subscription;

use super::black_hole::Hole;
use super::{Trial, is_delivery, is_expiry, subscription};
use crate::support::oracle::{self, Allowed, End, wine};

fn unavailable() -> Fault {
    Fault::Fail("UNAVAILABLE".to_owned())
}

pub(super) fn steps(steps: u64) -> String {
    format!("{{\"instances\": [{steps}]}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_01_inference_outlives_its_lease() {
    let injected = "inference takes more than 2 ack deadlines of 10 s (in place of 5)";
    let mut trial = Trial::new(1, injected, "no duplicate").await;
    trial.world.upload_version("faults/slow/1", "slow", "1");
    let worker = trial.worker(&[]).await;
    let slow = [("model", "slow")];
    let (mut count, mut took) = (20_000.0, Duration::ZERO);
    let mut calls = 0;
    // Longer each time: how fast this machine is changes with what else it does.
    while took < Duration::from_secs(21) {
        calls += 1;
        let whole = count as u64;
        let started = Instant::now();
        let id = trial.request(steps(whole), &slow, End::Contains(whole.to_string()));
        trial.world.responses(&[id]).await;
        took = started.elapsed();
        count *= 23.0 / took.as_secs_f64().clamp(1.0, 20.0);
    }
    trial.judge(&worker, Allowed::default(), &format!("one call of {:.0} s", took.as_secs_f64())).await;
    assert_eq!(trial.count(is_expiry), 0);
    assert_eq!(trial.count(is_delivery), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_02_leases_cannot_be_extended() {
    let injected = "extensions UNAVAILABLE until all leases are over (in place of 30 s)";
    let mut trial = Trial::new(2, injected, "recovers, at most W duplicates").await;
    let worker = trial.worker(&[]).await;
    trial.inject("ModifyAckDeadline", unavailable(), 10_000);
    trial.inject("Publish", unavailable(), 10_000);
    // Less than the least limit of requests in flight.
    let in_hand = trial.wines(100).len();
    trial.world.delivered(in_hand).await;
    trial.until_met("ModifyAckDeadline", 10_000, 2).await;
    trial.expire_leases();
    trial.world.delivered(2 * in_hand).await;
    trial.world.server.faults.clear();
    trial.judge(&worker, Allowed { duplicates: in_hand }, &format!("W = {in_hand}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_03_an_acknowledgement_is_refused() {
    let promise = "at most 1000 duplicates, same request_message_id";
    let mut trial = Trial::new(3, "one Acknowledge answered UNAVAILABLE", promise).await;
    let worker = trial.worker(&[]).await;
    trial.inject("Acknowledge", unavailable(), 1);
    let ids = trial.wines(1500);
    trial.world.responses(&ids).await;
    trial.until_met("Acknowledge", 1, 1).await;
    trial.judge(&worker, Allowed { duplicates: 1000 }, "").await;
    assert!(trial.count(is_expiry) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_04_an_acknowledgements_reply_is_lost() {
    let mut trial = Trial::new(4, "ack applied, its reply lost, three times", "nothing").await;
    let worker = trial.worker(&[]).await;
    trial.inject("Acknowledge", Fault::LoseReply, 3);
    let ids = trial.wines(1500);
    trial.world.responses(&ids).await;
    for _ in 0..3 {
        let ids = trial.wines(1);
        trial.world.responses(&ids).await;
        trial.world.settled().await;
    }
    trial.until_met("Acknowledge", 3, 3).await;
    trial.judge(&worker, Allowed::default(), "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_05_the_stream_is_reset_again_and_again() {
    let injected = "stream reset 30 times, every 100 messages (in place of every 5 s)";
    let mut trial = Trial::new(5, injected, "nothing lost, bytes in hand under the cap").await;
    let worker = trial.worker(&[("PREDICTD_REQUESTS__MAX_OUTSTANDING_BYTES", "64KiB")]).await;
    trial.inject("StreamingPull", Fault::ResetAfter(100), 30);
    // Long enough to see the bytes in flight.
    trial.inject("Publish", Fault::DelayMs(100), 100_000);
    trial.world.server.reset_streams();
    let mut most: f64 = 0.0;
    for _ in 0..30 {
        // A megabyte each time.
        let ids: Vec<String> = (0..100)
            .map(|_| {
                let rows = trial.next_wine();
                let body = format!("{}{}", wine().request(&rows), " ".repeat(10_000));
                trial.request(body, &[], End::Wine(rows))
            })
            .collect();
        trial.world.delivered(trial.ends.len() - 60).await;
        most = most.max(worker.metric("predictd_bytes_in_hand ").await.unwrap());
        trial.world.responses(&ids).await;
    }
    trial.until_met("StreamingPull", 30, 29).await;
    assert!((10_000.0..=65536.0).contains(&most), "{most}");
    trial.judge(&worker, Allowed::default(), &format!("at most {most} of 65536 bytes seen in hand")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_06_the_stream_is_closed() {
    let mut trial = Trial::new(6, "the server closes the stream cleanly", "back within 1 s").await;
    let worker = trial.worker(&[]).await;
    trial.inject("StreamingPull", Fault::CloseAfter(100), 1);
    trial.world.server.reset_streams();
    let ids = trial.wines(200);
    trial.world.responses(&ids).await;
    let deliveries: Vec<Instant> = trial
        .world
        .server
        .history
        .with(|events| events.iter().filter(|event| is_delivery(event)).map(|event| event.at).collect());
    let gap = deliveries.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(gap < Duration::from_secs(1), "{gap:?}");
    trial.judge(&worker, Allowed::default(), &format!("back after {} ms", gap.as_millis())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_07_rights_are_gone_for_a_while() {
    let injected = "PERMISSION_DENIED for five attempts to open the stream (in place of a minute)";
    let mut trial = Trial::new(7, injected, "not ready, backs off, recovers by itself").await;
    let worker = trial.worker(&[]).await;
    let started = Instant::now();
    trial.inject("StreamingPull", Fault::Fail("PERMISSION_DENIED".to_owned()), 10_000);
    trial.world.server.reset_streams();
    trial.until_met("StreamingPull", 10_000, 5).await;
    worker.until_not_ready("PERMISSION_DENIED").await;
    let (attempts, took) = (trial.met("StreamingPull", 10_000), started.elapsed());
    // 0.1, 0.2, 0.4 and 0.8 s lie between them, or more.
    assert!(took > Duration::from_millis(1500) && attempts <= 8, "{attempts} attempts in {took:?}");
    let ids = trial.wines(100);
    assert_eq!(trial.count(is_delivery), 0, "{ids:?}");
    trial.world.server.faults.clear();
    let happened = format!("{attempts} attempts in {:.1} s", took.as_secs_f64());
    trial.judge(&worker, Allowed::default(), &happened).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_08_the_stream_is_accepted_and_reset() {
    let injected = "both streams accepted and reset at once, always";
    let mut trial = Trial::new(8, injected, "bounded reconnects and processor time, not ready").await;
    // The stream of model updates is reset as well.
    let worker = trial.worker(&[("PREDICTD_MODELS__UPDATES", "model-updates")]).await;
    trial.inject("StreamingPull", Fault::ResetAfter(0), 100_000);
    trial.world.server.reset_streams();
    worker.until_not_ready("broken again as soon as it is open").await;
    let (before, started, busy) =
        (trial.met("StreamingPull", 100_000), Instant::now(), worker.processor_time());
    trial.until_met("StreamingPull", 100_000, before + 10).await;
    let seconds = started.elapsed().as_secs_f64();
    let rate = (trial.met("StreamingPull", 100_000) - before) as f64 / seconds;
    let load = (worker.processor_time() - busy).as_secs_f64() / seconds;
    // Some five a second; without a bound there are hundreds. Ten are too few for more than the order of it.
    assert!(
        rate < 20.0 && load < 0.5 && before < 200,
        "{before} at first, then {rate} a second, load {load}"
    );
    trial.world.server.faults.clear();
    trial.wines(100);
    let happened = format!("{before} reconnects, then {rate:.1} a second at {:.0} % of a core", load * 100.0);
    trial.judge(&worker, Allowed::default(), &happened).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_09_a_message_is_delivered_ten_times() {
    let mut trial = Trial::new(9, "a message delivered ten times", "at most ten responses, one key").await;
    let worker = trial.worker(&[]).await;
    trial.inject("Publish", unavailable(), 10_000);
    trial.wines(1);
    for delivery in 1..10 {
        trial.world.delivered(delivery).await;
        trial.expire_leases();
    }
    trial.world.delivered(10).await;
    trial.world.server.faults.clear();
    trial.judge(&worker, Allowed { duplicates: 9 }, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_10_the_server_ignores_flow_control() {
    let injected = "flow limits ignored: 40 MB sent at once against a cap of 4 MiB";
    let mut trial = Trial::new(10, injected, "memory under the cap").await;
    let worker = trial.worker(&[("PREDICTD_REQUESTS__MAX_OUTSTANDING_BYTES", "4MiB")]).await;
    let before = trial.weigh(&worker);
    trial.inject("StreamingPull", Fault::IgnoreFlowControl, 10);
    trial.inject("Publish", unavailable(), 10_000);
    trial.world.server.reset_streams();
    for _ in 0..400 {
        let rows = trial.next_wine();
        let body = format!("{}{}", wine().request(&rows), " ".repeat(100_000));
        trial.request(body, &[], End::Wine(rows));
    }
    trial.until_met("Publish", 10_000, 3).await;
    let full = async || worker.metric("predictd_bytes_in_hand ").await.filter(|bytes| *bytes >= 2e6);
    let bytes = worker.until("a full budget", full).await;
    assert!(bytes <= 4_194_304.0, "{bytes}");
    let grown = trial.weigh(&worker) - before;
    // The cap, its copies in flight and what the connection has read ahead.
    assert!(grown <= 24, "{grown} MiB more");
    trial.world.server.faults.clear();
    trial
        .judge(&worker, Allowed::default(), &format!("{bytes} bytes in hand, {grown} MiB more memory"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_11_large_messages() {
    let injected = "100 messages of 9.9 MB (in place of 500 of 10 MB) against a cap of 64 MiB";
    let mut trial = Trial::new(11, injected, "memory under the cap").await;
    let worker = trial.worker(&[("PREDICTD_REQUESTS__MAX_OUTSTANDING_BYTES", "64MiB")]).await;
    let before = trial.weigh(&worker);
    let rows = trial.next_wine();
    let body = bytes::Bytes::from(format!("{}{}", wine().request(&rows), " ".repeat(9_900_000)));
    for _ in 0..100 {
        trial.request(body.clone(), &[], End::Wine(rows.clone()));
    }
    trial.judge(&worker, Allowed::default(), &format!("{before} MiB before")).await;
    let grown = trial.peak_mib - before;
    assert!(grown <= 192, "{grown} MiB more");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_12_a_black_hole() {
    let injected = "the stream goes silent, without a reset";
    let mut trial = Trial::new(12, injected, "noticed in bounded time: 45 s").await;
    let worker = trial.worker(&[]).await;
    trial.inject("StreamingPull", Fault::StallAfter(100), 1);
    trial.world.server.reset_streams();
    trial.wines(100);
    trial.world.delivered(100).await;
    let started = Instant::now();
    let ids = trial.wines(100);
    trial.world.responses(&ids).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    trial.judge(&worker, Allowed::default(), &format!("noticed after {:.0} s", took.as_secs_f64())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_12_every_connection_is_a_black_hole() {
    let injected = "every open connection swallows all, and stays open";
    let promise = "noticed in bounded time: 45 s for the stream, then 35 s for publishing";
    let mut trial = Trial::new(12, injected, promise).await;
    let hole = Hole::before(trial.world.server.address).await;
    let worker = trial.worker(&[("PUBSUB_EMULATOR_HOST", &*hole.address.to_string())]).await;
    trial.wines(100);
    trial.judge(&worker, Allowed::default(), "").await;
    hole.freeze();
    let started = Instant::now();
    let ids = trial.wines(100);
    worker.until_not_ready("").await;
    trial.world.responses(&ids).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(120), "{took:?}");
    // Responses that were sent into the hole may have arrived.
    let happened = format!("answered again after {:.0} s", took.as_secs_f64());
    trial.judge(&worker, Allowed { duplicates: 100 }, &happened).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_13_stale_ids_on_exactly_once() {
    let injected = "exactly-once delivery, every lease over before its ack";
    let exactly_once = Subscription { enable_exactly_once_delivery: true, ..subscription() };
    let mut trial = Trial::with(exactly_once, 13, injected, "counted, no retry loop").await;
    let worker = trial.worker(&[]).await;
    trial.inject("Publish", unavailable(), 10_000);
    let in_hand = trial.wines(100).len();
    trial.world.delivered(in_hand).await;
    trial.expire_leases();
    trial.world.delivered(2 * in_hand).await;
    trial.world.server.faults.clear();
    trial.judge(&worker, Allowed { duplicates: in_hand }, "").await;
    worker.until_metric("predictd_ack_failures_total", in_hand as f64).await;
    let refused = trial.count(|event| matches!(&event.what, What::Refused { method: "Acknowledge", .. }));
    assert!((1..=10).contains(&refused), "{refused} calls refused");
    // Without a fault, each is acknowledged once and confirmed.
    trial.wines(100);
    let happened = format!("{in_hand} counted, {refused} calls refused");
    trial.judge(&worker, Allowed { duplicates: in_hand }, &happened).await;
    worker.until_metric("predictd_ack_failures_total", in_hand as f64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_14_one_poison_among_ordered_keys() {
    let injected = "ordered keys on two inference threads, one with a slow and a bad request";
    let ordering = Subscription { enable_message_ordering: true, ..subscription() };
    let mut trial = Trial::with(ordering, 14, injected, "other keys move, this one stays in order").await;
    trial.world.upload_version("faults/slow/1", "slow", "1");
    let worker = trial.worker(&[("PREDICTD_INFERENCE__THREADS", "2")]).await;
    let slow = [("model", "slow")];
    let first = trial.ordered(steps(60_000), &slow, "poisoned", End::Contains("60000".to_owned()));
    trial.world.delivered(1).await;
    let mut poisoned = vec![first.clone()];
    let mut others = [Vec::new(), Vec::new()];
    for n in 0..30 {
        let end = End::Contains("[1]".to_owned());
        poisoned.push(match n {
            10 => trial.ordered("not JSON", &slow, "poisoned", End::Code("INVALID_INPUT")),
            _ => trial.ordered(steps(1), &slow, "poisoned", end),
        });
        for (key, ids) in others.iter_mut().enumerate() {
            let rows = trial.next_wine();
            let key = format!("healthy-{key}");
            ids.push(trial.ordered(wine().request(&rows), &[], &key, End::Wine(rows)));
        }
    }
    let healthy: Vec<String> = others.concat();
    trial.world.responses(&healthy).await;
    let overtaken = trial.world.server.history.with(|events| {
        let answered = oracle::responses(events);
        poisoned.iter().filter(|id| answered.contains_key(id.as_str())).count()
    });
    assert_eq!(overtaken, 0, "the poisoned key should still wait for its first");
    trial.judge(&worker, Allowed::default(), "60 of other keys answered while the first one ran").await;
    trial.world.server.history.with(|events| {
        for key in others.iter().chain([&poisoned]) {
            oracle::in_order(events, key.iter().map(String::as_str));
        }
    });
}
