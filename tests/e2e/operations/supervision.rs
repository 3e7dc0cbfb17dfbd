//! The worker watches itself: `/health` and `/ready` tell of a stage that makes no progress, and one that
//! fails ends the worker in order, with one line that says why.
//!
//! Limits of minutes are not waited for: the clock of the worker, and nothing else, is put forward. No request
//! makes a stage panic, but a clock that fails does.

use std::time::Duration;

use crate::support::clock::Clock;
use crate::support::harness::{REQUEST_SUBSCRIPTION, Worker, World};
use crate::support::oracle::{self, wine};

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_without_progress_is_told() {
    let world = World::start().await;
    world.upload_version("faults/slow/1", "slow", "1");
    let mut clock = Clock::new();
    let worker = clock.worker(&world, &[]).await;
    assert_eq!(worker.get("/health").await, (200, "ok\n".to_owned()));
    let id = world.publish("{\"instances\": [60000]}", &[("model", "slow")]);
    // Seen by the inference thread that has taken it.
    worker.until_metric("predictd_queue_wait_seconds_count{model=\"slow\",version=\"1\"}", 1.0).await;
    assert_eq!(worker.get("/health").await.0, 200);

    clock.put_forward(Duration::from_secs(600));
    let (status, health) = worker.get("/health").await;
    assert!(status == 503 && health.starts_with("stuck: infer-"), "{status} {health}");
    assert!(health.contains("has made no progress for 6") && health.ends_with(" seconds\n"), "{health}");
    let (status, ready) = worker.get("/ready").await;
    assert!(status == 503 && ready.contains("infer-"), "{status} {ready}");
    assert_eq!(worker.info().await["ready"], false);

    world.responses(&[id]).await;
    worker.until_ready().await;
    assert_eq!(worker.get("/health").await, (200, "ok\n".to_owned()));
    world.settled().await;
}

/// A restart would only begin it again: `/health` says nothing of a load, which has a limit of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_without_end_is_given_up_and_told() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let temporary = tempfile::tempdir().unwrap();
    let mut clock = Clock::new();
    let variables =
        [("TMPDIR", temporary.path().to_str().unwrap()), ("PREDICTD_MODELS__POLL_INTERVAL", "1s")];
    let worker = clock.worker(&world, &variables).await;
    world.upload_version("faults/endless/1", "wine", "2");
    let is_loading = || async {
        let folders = std::fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut marks = folders.filter(|path| path.to_str().unwrap().contains("predictd-loads-"));
        marks.next().filter(|folder| folder.read_dir().is_ok_and(|mut files| files.next().is_some()))
    };
    worker.until("the load", is_loading).await;
    let reason = |info: &serde_json::Value| info["models"]["wine"]["refused"][0]["reason"].clone();
    for _ in 0..2 {
        clock.put_forward(Duration::from_secs(299));
        assert_eq!(worker.get("/health").await, (200, "ok\n".to_owned()));
        assert!(reason(&worker.info().await).is_null());
    }
    // The load's time may have begun after the first step: its mark is older.
    clock.put_forward(Duration::from_secs(310));
    let info = worker.until_info("a refusal", |info| reason(info).is_string()).await;
    assert!(reason(&info).as_str().unwrap().contains("`models.load_timeout` (600s)"), "{info}");
    assert_eq!(worker.get("/health").await, (200, "ok\n".to_owned()));
    wine().check(&[5], &world.ask(wine().request(&[5]), &[]).await);
    world.upload_version("wine/2", "wine", "3");
    worker.until_serving("wine", "3").await;
    worker.until_ready().await;
}

/// The stage that receives fails: requests in flight are answered, and the last line says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_subscription_ends_the_worker_in_order() {
    let world = World::start().await;
    world.upload_version("faults/slow/1", "slow", "1");
    let mut clock = Clock::new();
    let mut worker = clock.worker(&world, &[("PREDICTD_SHUTDOWN__GRACE", "1h")]).await;
    let id = world.publish("{\"instances\": [100000]}", &[("model", "slow")]);
    worker.until_metric("predictd_queue_wait_seconds_count{model=\"slow\",version=\"1\"}", 1.0).await;
    world.server.pubsub.delete_subscription(REQUEST_SUBSCRIPTION).unwrap();
    let is_stopping = async || worker.get("/ready").await.1.contains("stopping, nothing more is received");
    // Each pause between two attempts ends early; an attempt during which a minute goes by would count as a
    // success.
    let mut for_an_attempt = Duration::from_millis(100);
    while !is_stopping().await {
        assert!(clock.ahead < 3000, "{}", worker.log());
        clock.put_forward(Duration::from_secs(25));
        tokio::time::sleep(for_an_attempt).await;
        for_an_attempt += for_an_attempt / 10;
    }
    assert!(world.server.history.with(|events| oracle::responses(events).is_empty()));
    let status = worker.end().await;
    assert_eq!(status.code(), Some(1), "{}", worker.log());
    let response = world.responses(std::slice::from_ref(&id)).await.remove(&id).unwrap();
    assert!(String::from_utf8_lossy(&response.data).contains("100000"), "{response:?}");
    let says = format!("the request subscription {REQUEST_SUBSCRIPTION:?} is gone: ");
    let (why, hint) = last_words(&worker);
    assert!(why.starts_with(&says), "{why}");
    assert!(hint.starts_with("hint: create it again"), "{hint}");
}

/// One of two inference threads panics while the other computes.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_the_worker_in_order() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    world.upload_version("faults/slow/1", "slow", "1");
    let clock = Clock::new();
    let mut worker = clock
        .worker(&world, &[("PREDICTD_INFERENCE__THREADS", "2"), ("PREDICTD_SHUTDOWN__GRACE", "1h")])
        .await;
    let computing = world.publish("{\"instances\": [30000]}", &[("model", "slow")]);
    worker.until_metric("predictd_queue_wait_seconds_count{model=\"slow\",version=\"1\"}", 1.0).await;
    clock.fail_inference();
    let dropped = world.publish(wine().request(&[7]), &[("model", "wine")]);
    let status = worker.end().await;
    assert_eq!(status.code(), Some(1), "{}", worker.log());
    let (why, _) = last_words(&worker);
    assert!(why.starts_with("the stage `infer-") && why.contains("` failed: panicked: "), "{why}");
    assert!(why.contains("Invalid argument"), "{why}");
    let log = worker.log();
    assert!(lines(&log).any(|line| line["message"] == "a panic, which is an error in predictd"), "{log}");
    // Finished, and not only nacked: no other worker was there.
    world.acknowledged(&computing).await;
    assert!(world.server.history.with(|events| oracle::responses(events).contains_key(&*computing)));
    // Given back at once: by whom it is answered then depends on who is quicker, the drain or Pub/Sub.
    let _next = world.ready_worker(&[]).await;
    wine().check(&[7], &world.responses(std::slice::from_ref(&dropped)).await[&dropped]);
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}

/// The only line that says why the worker ended, and what to do.
fn last_words(worker: &Worker) -> (String, String) {
    let log = worker.log();
    let said: Vec<_> = lines(&log).filter(|line| line["message"] == "predictd ends").collect();
    let [line] = &said[..] else { panic!("{log}") };
    let last: Vec<&str> = log.lines().rev().take(2).collect();
    assert!(lines(last[1]).eq([line.clone()]), "{log}");
    (line["why"].as_str().unwrap().to_owned(), last[0].to_owned())
}

fn lines(log: &str) -> impl Iterator<Item = serde_json::Value> {
    log.lines().filter_map(|line| serde_json::from_str(line).ok())
}
