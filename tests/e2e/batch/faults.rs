//! Faults 64 to 67: workers that die, messages that are lost and doubled, a storage that fails, and a shard
//! that kills its worker. The results are byte for byte those of a job that nobody disturbed.

use std::collections::BTreeSet;

use local_gcp::faults::Fault;
use local_gcp::history::{Event, What};
use serde_json::{Value, json};

use super::remote::{DEAD, Remote, SUBSCRIPTION, until};
use super::wine_lines;
use crate::faults::table;
use crate::support::harness::{Worker, outcome};

const SHARDS: [&str; 2] = ["--shard-size", "16KiB"];

/// Numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// A world with an input of so many rows, some of them bad, whose undisturbed results are in `whole`.
async fn prepared(rows: usize) -> (Remote, String) {
    let remote = Remote::start(100).await;
    let lines = wine_lines(rows);
    let change =
        |(at, line): (usize, &str)| if at % 333 == 7 { "{}\n".to_owned() } else { format!("{line}\n") };
    let input = remote.put("in/wines.jsonl", lines.lines().enumerate().map(change).collect::<String>());
    let _worker = remote.worker().await;
    remote.ends(3, "wine", &input, "whole", &SHARDS);
    remote.settled().await;
    (remote, input)
}

/// Each row has its result once, as in the undisturbed job.
fn assert_undisturbed(remote: &Remote, out: &str) {
    let (got, expected) = (remote.output(out), remote.output("whole"));
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, text) in &expected {
        assert!(got[name] == text, "{name} differs from that of an undisturbed job");
    }
    // Nothing was written twice.
    assert_eq!(remote.written(out), remote.finished(out));
    assert_eq!(remote.status(out)["state"], "finished");
}

fn expire(remote: &Remote) {
    remote.world.server.pubsub.expire_leases(SUBSCRIPTION).unwrap();
}

fn dead(remote: &Remote) -> usize {
    remote.count(|what| matches!(what, What::DeadLettered(_)))
}

/// The shards whose messages are dead letters.
fn dead_shards(remote: &Remote) -> BTreeSet<u64> {
    remote.world.server.history.with(|events| {
        let shard = |event: &Event| match &event.what {
            What::Published { topic, message } if **topic == *DEAD => {
                serde_json::from_slice::<Value>(&message.message.data).unwrap()["shard"].as_u64()
            }
            _ => None,
        };
        events.iter().filter_map(shard).collect()
    })
}

fn is_settled(remote: &Remote) -> bool {
    let counts = remote.world.server.pubsub.counts(SUBSCRIPTION).unwrap();
    counts.undelivered + counts.outstanding == 0
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_64_workers_die_and_messages_are_lost_and_doubled() {
    let (remote, input) = prepared(12_000).await;
    let mut workers: Vec<Worker> = Vec::new();
    for _ in 0..3 {
        workers.push(remote.worker().await);
    }
    // Some streams deliver each message twice.
    remote.world.server.faults.inject("StreamingPull", Fault::DeliverTwice, 3);
    remote.world.server.reset_streams();
    let watcher = remote.begin("wine", &input, "a", &SHARDS);
    let shards = remote.finished("whole");
    let (mut numbers, mut kills) = (Numbers(64), 0);
    while remote.finished("a") < shards * 4 / 5 {
        let next = (remote.finished("a") + 1 + numbers.below(5)).min(shards * 4 / 5);
        remote.until_finished("a", next).await;
        let victim = numbers.below(workers.len());
        let signal = ["-KILL", "-TERM"][numbers.below(2)];
        workers[victim].signal(signal);
        let success = workers[victim].end().await.success();
        assert_eq!(success, signal == "-TERM", "{}", workers[victim].log());
        kills += 1;
        // In place of the time until the leases of the dead one are over: those of the others end, too.
        expire(&remote);
        workers[victim] = remote.unready_worker(&[]);
    }
    let (code, _, stderr) = watcher.end().await;
    assert_eq!(code, 3, "{stderr}");
    remote.settled().await;
    assert_undisturbed(&remote, "a");
    assert_eq!(dead(&remote), 0);
    assert!(kills > 5, "{kills}");
    let delivered =
        remote.count(|what| matches!(what, What::Delivered(one) if *one.subscription == *SUBSCRIPTION));
    table::row(
        64,
        "SIGKILL and SIGTERM of workers, expired leases and doubled messages during a batch job",
        "the same bytes as undisturbed, each row once",
        &format!("{shards} shards, {kills} workers ended, {delivered} deliveries for both jobs"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_65_the_storage_fails_while_a_job_reads_and_writes() {
    let (remote, input) = prepared(6_000).await;
    let unavailable = || Fault::Fail("UNAVAILABLE".to_owned());
    let _workers = [remote.worker().await, remote.worker().await];
    let faults = &remote.world.server.faults;
    let mut injected = 0;
    let mut inject = |method: &str, fault: Fault, times: usize| {
        faults.inject(method, fault, times);
        injected += times;
    };
    // In turn, so that each attempt of a call meets another fault.
    for round in 0..8 {
        inject("storage.objects.get.media", unavailable(), 1);
        inject("storage.objects.get.media", Fault::ResetAfter(100 + 1000 * round), 2);
        inject("storage.objects.insert", Fault::LoseReply, 3);
        inject("storage.objects.insert", unavailable(), 1);
        inject("GetObject", unavailable(), 1);
        inject("ListObjects", unavailable(), 1);
        inject("Publish", Fault::LoseReply, 1);
    }
    let (code, _, stderr) = remote.begin("wine", &input, "a", &SHARDS).end().await;
    assert_eq!(code, 3, "{stderr}");
    remote.settled().await;
    let methods =
        ["storage.objects.get.media", "storage.objects.insert", "GetObject", "ListObjects", "Publish"];
    let left: usize = methods.iter().map(|method| faults.waiting(method)).sum();
    faults.clear();
    assert_undisturbed(&remote, "a");
    assert!(injected - left > 50, "{left} of {injected} faults were not met");
    assert_eq!(faults.waiting("storage.objects.insert"), 0);
    assert_eq!(dead(&remote), 0);
    table::row(
        65,
        "503, cut reads and lost replies of Cloud Storage and Pub/Sub during a batch job",
        "the same bytes as undisturbed, each row once",
        &format!("{} faults", injected - left),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_66_all_workers_die_in_the_middle_of_a_job() {
    let (remote, input) = prepared(6_000).await;
    let mut workers = [remote.worker().await, remote.worker().await];
    let printed = remote.ends(0, "wine", &input, "a", &["--detach", "--shard-size", "16KiB"]);
    assert!(printed.contains("the workers have the job"), "{printed}");
    remote.until_finished("a", 6).await;
    for worker in &mut workers {
        worker.signal("-KILL");
    }
    for worker in &mut workers {
        worker.end().await;
    }
    // All that is left is lost, as if the subscription had been made anew.
    until("the loss of all messages", || {
        expire(&remote);
        remote.world.server.pubsub.drain(SUBSCRIPTION).unwrap();
        is_settled(&remote)
    })
    .await;
    let before = remote.finished("a");
    let status = remote.status("a");
    assert_eq!((&status["state"], &status["finished_shards"]), (&json!("running"), &json!(before)));
    let _worker = remote.worker().await;
    let (code, _, stderr) = remote.begin("wine", &input, "a", &SHARDS).end().await;
    assert_eq!(code, 3, "{stderr}");
    remote.settled().await;
    assert_undisturbed(&remote, "a");
    let happened = format!("{before} of {} shards were finished before", remote.finished("a"));
    table::row(
        66,
        "all workers are killed, all messages of a job are lost",
        "the same command goes on",
        &happened,
    );
}

/// Runs a worker, and another one when it dies, until this holds. The last worker, and how many died.
async fn supervised(remote: &Remote, what: &str, mut holds: impl FnMut() -> bool) -> (Worker, usize) {
    let mut worker = remote.unready_worker(&[]);
    let mut deaths = 0;
    until(what, || {
        if !worker.is_alive() {
            deaths += 1;
            worker = remote.unready_worker(&[]);
            expire(remote);
        }
        holds()
    })
    .await;
    (worker, deaths)
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_67_a_shard_that_kills_its_worker() {
    let remote = Remote::start(5).await;
    remote.world.upload_version("faults/divide/1", "divide", "1");
    // -1 ends the process.
    let mut rows: Vec<String> = (2..2002).map(|row| format!("{row}\n")).collect();
    rows[1000] = "-1\n".to_owned();
    let input = remote.put("in/rows.jsonl", rows.concat());
    let watcher = remote.begin("divide", &input, "a", &["--shard-size", "1KiB"]);
    let ended = || !dead_shards(&remote).is_empty() && is_settled(&remote);
    let (_worker, deaths) = supervised(&remote, "the dead letter", ended).await;
    let shards = remote.status("a")["shards"].as_u64().unwrap();
    assert_eq!(dead_shards(&remote).len(), 1, "its neighbours must not die with it");
    assert_eq!(remote.finished("a") as u64, shards - 1);
    let status = remote.status("a");
    let retried = status["retried"].as_array().unwrap();
    assert_eq!(retried.len(), 1, "{status}");
    assert_eq!((&retried[0]["source"], &retried[0]["deliveries"]), (&json!(input), &json!(5)), "{status}");
    let line = retried[0]["line"].as_u64().unwrap();
    assert!(line <= 1001 && line > 700, "{status}");
    let (code, stdout, _) = outcome(remote.batch(&["status", "gs://data/out/a"]), "");
    assert_eq!(code, 0);
    let named = format!(
        "shard {} ({input}, from line {line}): delivered 5 times without output",
        retried[0]["shard"]
    );
    assert!(stdout.contains(&named) && stdout.contains("dead-letter topic"), "{stdout}");
    watcher.signal("-INT");
    assert_eq!(watcher.end().await.0, 1);
    let happened =
        format!("{deaths} workers ended, {} of {shards} shards were finished", remote.finished("a"));
    table::row(
        67,
        "a shard that ends the process of its worker",
        "the dead-letter topic, named; the others finish",
        &happened,
    );
}

/// The first rows of a job are computed when it is planned, to measure the model.
#[tokio::test(flavor = "multi_thread")]
async fn fault_67_a_first_row_that_kills_its_worker_does_not_keep_the_job_from_its_plan() {
    let remote = Remote::start(5).await;
    remote.world.upload_version("faults/divide/1", "divide", "1");
    let rows: String = std::iter::once(-1).chain(2..1002).map(|row| format!("{row}\n")).collect();
    let input = remote.put("in/rows.jsonl", rows);
    remote.ends(0, "divide", &input, "a", &["--detach", "--shard-size", "1KiB"]);
    // The message of the job may be delivered again beside the first shards, which are published twice then.
    let ended = || !dead_shards(&remote).is_empty() && is_settled(&remote);
    let (_worker, _) = supervised(&remote, "the dead letter", ended).await;
    assert_eq!(dead_shards(&remote), BTreeSet::from([0]), "its neighbours must not die with it");
    let status = remote.status("a");
    assert_eq!(
        status["finished_shards"].as_u64(),
        status["shards"].as_u64().map(|shards| shards - 1),
        "{status}"
    );
    assert_eq!(
        (&status["retried"][0]["shard"], &status["retried"][0]["line"]),
        (&json!(0), &json!(1)),
        "{status}"
    );
}
