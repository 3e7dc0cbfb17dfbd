//! Faults 37, 38, 40, 41, 48 and 49: how workers come and go, and how long they keep requests.

use std::time::{Duration, Instant};

use local_gcp::faults::Fault;
use local_gcp::history::What;

use super::receiving::steps;
use super::{Trial, is_delivery, is_expiry, is_nack, with_dead_letters};
use crate::support::clock::Clock;
use crate::support::harness::{PATIENCE, Worker};
use crate::support::oracle::{self, Allowed, End};

#[tokio::test(flavor = "multi_thread")]
async fn fault_37_sigterm_under_load() {
    let injected = "SIGTERM under load with a grace of 3 s, the last responses never accepted";
    let mut trial = Trial::new(37, injected, "out within the grace, the rest nacked").await;
    let mut worker = trial.worker(&[("PREDICTD_SHUTDOWN__GRACE", "3s")]).await;
    trial.wines(500);
    let history = &trial.world.server.history;
    assert!(history.wait_until(PATIENCE, |events| oracle::responses(events).len() > 100).await);
    trial.inject("Publish", Fault::Hang, 10_000);
    trial.wines(500);
    trial.until_met("Publish", 10_000, 1).await;
    trial.weigh(&worker);
    let started = Instant::now();
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());
    let took = started.elapsed();
    // Its own time, and some for a busy machine to notice.
    assert!(took < Duration::from_secs(4), "{took:?}");
    let nacked = trial.count(|event| matches!(event.what, What::Nacked(_)));
    assert!(nacked > 0);
    trial.world.server.faults.clear();
    let next = trial.worker(&[]).await;
    let happened = format!("out after {:.1} s, {nacked} nacked", took.as_secs_f64());
    trial.judge(&next, Allowed { duplicates: 128 }, &happened).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_38_sigkill() {
    let mut trial = Trial::new(38, "SIGKILL under load, W = 300", "at most W duplicates").await;
    let mut worker = trial.worker(&[("PREDICTD_REQUESTS__MAX_OUTSTANDING_MESSAGES", "300")]).await;
    trial.wines(2000);
    let history = &trial.world.server.history;
    assert!(history.wait_until(PATIENCE, |events| oracle::responses(events).len() > 700).await);
    trial.weigh(&worker);
    worker.signal("-KILL");
    assert!(!worker.end().await.success());
    let next = trial.worker(&[]).await;
    // Requests in flight in the dead one are redelivered when its leases of 20 s are over.
    trial.judge(&next, Allowed { duplicates: 300 }, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_40_no_credentials() {
    let injected =
        "every Pub/Sub call UNAUTHENTICATED until 8 were refused (in place of no token for 10 minutes)";
    let mut trial = Trial::new(40, injected, "no crash, recovers").await;
    let mut worker = trial.worker(&[]).await;
    trial.wines(100);
    let methods = ["StreamingPull", "Publish", "Acknowledge", "ModifyAckDeadline", "GetSubscription"];
    for method in methods {
        trial.inject(method, Fault::Fail("UNAUTHENTICATED".to_owned()), 10_000);
    }
    trial.world.server.reset_streams();
    trial.wines(100);
    worker.until_not_ready("UNAUTHENTICATED").await;
    // The last of them after some ten seconds of backoff.
    super::until("8 refusals", || methods.iter().map(|method| trial.met(method, 10_000)).sum::<usize>() >= 8)
        .await;
    assert!(worker.is_alive());
    trial.world.server.faults.clear();
    // In hand when it began: 100 at most.
    trial.judge(&worker, Allowed { duplicates: 100 }, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_41_rolling_restarts() {
    let injected = "ten rolling restarts under load";
    let promise = "nothing lost, nothing healthy in the dead-letter topic";
    let mut trial = Trial::with(with_dead_letters(), 41, injected, promise).await;
    let mut worker = trial.worker(&[]).await;
    for _ in 0..10 {
        trial.wines(150);
        let next = trial.worker(&[]).await;
        trial.wines(150);
        trial.weigh(&worker);
        worker.signal("-TERM");
        assert!(worker.end().await.success(), "{}", worker.log());
        worker = next;
    }
    let verdict = trial.judge(&worker, Allowed { duplicates: 300 }, "").await;
    assert_eq!(verdict.dead, 0);
}

/// One request that takes seconds, which runs, and some behind it: how many in all.
async fn run_slowly(trial: &mut Trial, worker: &Worker) -> usize {
    let slow = [("model", "slow")];
    trial.request(steps(30_000), &slow, End::Contains("30000".to_owned()));
    worker.until_metric("predictd_queue_wait_seconds_count{model=\"slow\",version=\"1\"}", 1.0).await;
    for _ in 0..5 {
        trial.request(steps(1), &slow, End::Contains("[1]".to_owned()));
    }
    worker.until_metric("predictd_messages_in_hand", 6.0).await;
    6
}

/// A request that runs, and others that wait for its thread, all within the grace.
#[tokio::test(flavor = "multi_thread")]
async fn fault_37_what_runs_and_what_waits_is_finished() {
    let injected = "SIGTERM while a request runs and others wait behind it, with a grace of a minute";
    let mut trial = Trial::new(37, injected, "all are answered, none is nacked").await;
    trial.world.upload_version("faults/slow/1", "slow", "1");
    let own = [("PREDICTD_INFERENCE__THREADS", "1"), ("PREDICTD_SHUTDOWN__GRACE", "60s")];
    let mut worker = trial.worker(&own).await;
    worker.until_serving("slow", "1").await;
    let requests = run_slowly(&mut trial, &worker).await;
    trial.weigh(&worker);
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());
    assert_eq!(trial.count(is_nack), 0, "{}", worker.log());
    let history = &trial.world.server.history;
    assert!(history.wait_until(PATIENCE, |events| oracle::responses(events).len() == requests).await);
    let next = trial.worker(&own).await;
    trial.judge(&next, Allowed::default(), "all answered before the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_48_in_flight_for_an_hour() {
    let injected = "an hour goes by while a request runs and others wait behind it";
    let mut trial = Trial::new(48, injected, "nacked and counted, answered once").await;
    trial.world.upload_version("faults/slow/1", "slow", "1");
    let mut clock = Clock::new();
    let own = clock.variables();
    let mut variables: Vec<_> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    variables.push(("PREDICTD_INFERENCE__THREADS", "1"));
    let worker = trial.worker(&variables).await;
    let in_flight = run_slowly(&mut trial, &worker).await;
    clock.put_forward(Duration::from_secs(3600));
    trial.judge(&worker, Allowed::default(), "").await;
    let counts = (trial.count(is_delivery), trial.count(is_nack), trial.count(is_expiry));
    assert_eq!(counts, (2 * in_flight, in_flight, 0));
    worker.until_metric("predictd_overdue_total", in_flight as f64).await;
    worker.until_log("in flight for an hour").await;
    // The one that ran was computed twice; those that waited were not, until they were redelivered.
    let rows = "predictd_rows_total{model=\"slow\",version=\"1\"}";
    worker.until_metric(rows, in_flight as f64 + 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_49_a_forced_end() {
    let injected = "SIGTERM with a grace of 1 s while a batch runs for seconds and another is queued";
    let mut trial = Trial::new(49, injected, "all nacked, none waits for its lease").await;
    trial.world.upload_version("faults/slow/1", "slow", "1");
    let variables = [
        ("PREDICTD_SHUTDOWN__GRACE", "1s"),
        ("PREDICTD_INFERENCE__THREADS", "1"),
        ("PREDICTD_BATCHING__MAX_ROWS", "1"),
    ];
    let mut worker = trial.worker(&variables).await;
    let in_flight = run_slowly(&mut trial, &worker).await;
    trial.weigh(&worker);
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());
    assert_eq!((trial.count(is_nack), trial.count(is_expiry)), (in_flight, 0));
    let next = trial.worker(&[]).await;
    trial.judge(&next, Allowed::default(), "").await;
    assert_eq!((trial.count(is_delivery), trial.count(is_expiry)), (2 * in_flight, 0));
}
