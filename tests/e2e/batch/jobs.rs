//! Jobs of workers: by the command, by a message, by a bucket; their states, their end, and what is refused.

use serde_json::{Value, json};

use super::remote::{Remote, until};
use super::{assert_wine, named, wine_lines, wine_row};
use crate::support::harness::outcome;

const SHARDS: [&str; 2] = ["--shard-size", "16KiB"];

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_compute_a_job_and_count_it() {
    let remote = Remote::start(5).await;
    let workers = [remote.worker().await, remote.worker().await, remote.worker().await];
    let mut lines = wine_lines(3000);
    lines.insert_str(0, "{}\n");
    remote.put("in/a.jsonl", lines);
    remote.put("in/b.jsonl", wine_lines(500));
    remote.put("in/deeper/c.jsonl", "not of this folder");
    let printed = remote.ends(3, "wine", "gs://data/in/*.jsonl", "a", &SHARDS);
    assert!(printed.contains("3501 rows, 3500 predicted, 1 failed"), "{printed}");
    assert!(printed.contains("the first: gs://data/in/a.jsonl, line 1: expected a value"), "{printed}");
    let results = remote.results("a");
    assert_eq!(results.len(), 3500);
    for (number, line) in results.iter().enumerate() {
        let number = if number < 3000 { number } else { number - 3000 };
        assert_eq!(line["instance"], *wine_row(number));
        assert_wine("2", number, &line["prediction"]);
    }
    remote.settled().await;
    let status = remote.status("a");
    let shards = status["shards"].as_u64().unwrap();
    assert!(shards > 15, "{status}");
    assert_eq!(remote.written("a") as u64, shards);
    let mut sums = [0.0; 5];
    let lines = [
        "predictd_files_rows_total{model=\"wine\",status=\"ok\"}",
        "predictd_files_rows_total{model=\"wine\",status=\"error\"}",
        "predictd_files_shards_total{outcome=\"computed\"}",
        "predictd_files_jobs_total{outcome=\"planned\"}",
        "predictd_files_jobs_total{outcome=\"finished\"}",
    ];
    for worker in &workers {
        for (sum, line) in sums.iter_mut().zip(lines) {
            *sum += worker.metric(line).await.unwrap_or(0.0);
        }
    }
    // Two workers that finish the last two shards at once may both end the job.
    assert_eq!(sums[..4], [3500.0, 1.0, shards as f64, 1.0]);
    assert!(sums[4] >= 1.0, "{sums:?}");
    // A shard's results say that it is finished: they are written last, and the job ends behind all of them.
    let order = remote.order("a");
    let place =
        |name: &str| order.iter().position(|one| one == name).unwrap_or_else(|| panic!("{name}: {order:?}"));
    for shard in 0..shards {
        let end = format!("{shard:05}-of-{shards:05}");
        let [errors, results] =
            ["errors_stats", "results"].map(|kind| place(&format!("prediction.{kind}-{end}")));
        assert!(errors < results && results < place("summary.json"), "{order:?}");
    }
    assert!(place("summary.json") < place("_SUCCESS"));
    // Messages of finished shards are acknowledged, and nothing is computed.
    for shard in 0..shards {
        remote.publish(json!({"job": "gs://data/out/a", "shard": shard}).to_string());
    }
    remote.settled().await;
    let mut again = [0.0; 2];
    for worker in &workers {
        again[0] += worker.metric(lines[0]).await.unwrap_or(0.0);
        again[1] += worker.metric("predictd_files_shards_total{outcome=\"repeated\"}").await.unwrap_or(0.0);
    }
    assert_eq!(again, [3500.0, shards as f64]);
    // The same command again finds all there.
    let printed = remote.ends(3, "wine", "gs://data/in/*.jsonl", "a", &SHARDS);
    assert!(printed.contains("3501 rows"), "{printed}");
    assert_eq!(remote.written("a") as u64, shards);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_a_job() {
    let remote = Remote::start(5).await;
    let worker = remote.worker().await;
    let input = remote.put("in/wines.jsonl", wine_lines(300));
    let job = json!({
        "model": "wine", "input": input, "output": "gs://data/out/m",
        "output_format": "csv", "shard_size": 4096,
    });
    // Twice, as Pub/Sub may deliver it.
    remote.publish(job.to_string());
    remote.publish(job.to_string());
    until("the end", || remote.status_if("m").is_some_and(|status| status["state"] == "finished")).await;
    remote.settled().await;
    let output = remote.output("m");
    let shards = remote.finished("m");
    assert!(shards > 3);
    assert_eq!(remote.written("m"), shards);
    let rows: usize = output.values().map(|text| text.split(|byte| *byte == b'\n').count() - 1).sum();
    // A header and the rows; a line of counts for each shard.
    assert_eq!(rows, 300 + 2 * shards);
    // Another job for the folder is refused, and stops nothing there.
    let other = json!({"model": "wine", "input": job["input"], "output": job["output"]});
    remote.publish(other.to_string());
    worker.until_log("holds the results of another job").await;
    remote.settled().await;
    assert!(remote.objects("data", "out/m/stopped").is_empty());
    assert!(remote.output("m") == output, "the results have changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_under_a_watched_prefix_is_a_job_with_the_notifications_options() {
    let remote = Remote::start(5).await;
    let worker = remote.worker().await;
    let mut lines = String::new();
    for number in 0..50 {
        let mut row = named(number);
        row.insert("id".to_owned(), json!(number));
        row.insert("note".to_owned(), json!("corked"));
        lines += &(Value::Object(row).to_string() + "\n");
    }
    remote.put("watched/new wines [1].jsonl", lines);
    let done = |remote: &Remote| {
        let objects = remote.objects("results", "here/watched/new wines [1].jsonl-");
        objects.keys().any(|name| name.ends_with("_SUCCESS")).then_some(objects)
    };
    until("the end", || done(&remote).is_some()).await;
    let objects = done(&remote).unwrap();
    let (_, results) = objects.iter().find(|(name, _)| name.contains("prediction.results-")).unwrap();
    let results = super::json_lines(std::str::from_utf8(results).unwrap());
    assert_eq!(results.len(), 50);
    for (number, line) in results.iter().enumerate() {
        assert_eq!(line["key"], number);
        assert_wine("2", number, &line["prediction"]);
    }
    // An object that stands for a folder is no job.
    remote.put("watched/", "");
    remote.settled().await;
    assert_eq!(worker.metric("predictd_files_jobs_total{outcome=\"planned\"}").await, Some(1.0));
    assert_eq!(worker.metric("predictd_files_jobs_total{outcome=\"refused\"}").await.unwrap_or(0.0), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_cannot_be_are_refused_with_the_reason() {
    let remote = Remote::start(5).await;
    let worker = remote.worker().await;
    let input = remote.put("in/wines.jsonl", wine_lines(10));
    remote.world.server.storage.put("secret", "in/wines.jsonl", wine_lines(10)).unwrap();
    for (out, model, input, says) in [
        ("a", "nope", &*input, "nope"),
        ("b", "wine", "gs://secret/in/wines.jsonl", "gs://secret/in/wines.jsonl is not allowed"),
        ("c", "wine", "gs://data/in/none*.jsonl", "no file matches"),
        ("d", "wine", "gs://results/elsewhere/*.jsonl", "is not allowed"),
    ] {
        let printed = remote.ends(1, model, input, out, &[]);
        assert!(printed.contains(&format!("the job in gs://data/out/{out} was stopped")), "{printed}");
        assert!(printed.contains(says), "{says:?}: {printed}");
        worker.until_log(says).await;
        let status = remote.batch(&["status", &format!("gs://data/out/{out}")]);
        let (code, _, stderr) = outcome(status, "");
        assert_eq!(code, 1);
        assert!(stderr.contains("was refused") && stderr.contains(says), "{stderr}");
    }
    // An output that is not allowed: nothing can be written there.
    remote.publish(json!({"model": "wine", "input": input, "output": "gs://secret/out"}).to_string());
    worker.until_log("gs://secret/out").await;
    worker.until_log("is not allowed").await;
    // Messages that are no job at all.
    remote.publish("hello");
    remote.publish(r#"{"model": "wine", "input": "gs://data/in", "output": "gs://data/o", "speed": 9}"#);
    remote.settled().await;
    assert!(remote.objects("secret", "out").is_empty());
    worker.until_metric("predictd_files_jobs_total{outcome=\"refused\"}", 7.0).await;
    worker.until_log("unknown field `speed`").await;
    // Once the cause is gone, the same command goes on; so does a message.
    remote.put("in/none-1.jsonl", wine_lines(10));
    remote.ends(0, "wine", "gs://data/in/none*.jsonl", "c", &[]);
    remote.world.upload_version("wine/1", "nope", "1");
    worker.until_serving("nope", "1").await;
    let job = json!({"model": "nope", "input": input, "output": "gs://data/out/a"});
    remote.publish(job.to_string());
    until("the end", || remote.status_if("a").is_some_and(|status| status["state"] == "finished")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stops_and_the_same_command_goes_on() {
    let remote = Remote::start(100).await;
    let worker = remote.worker().await;
    let input = remote.put("in/wines.jsonl", wine_lines(20_000));
    remote.ends(0, "wine", &input, "whole", &SHARDS);
    let watcher = remote.begin("wine", &input, "a", &SHARDS);
    remote.until_finished("a", 5).await;
    let status = remote.status("a");
    assert_eq!(status["state"], "running", "{status}");
    let cancel = || outcome(remote.batch(&["cancel", "gs://data/out/a"]), "");
    let (code, stdout, stderr) = cancel();
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("the job is cancelled"), "{stdout}");
    let (code, _, stderr) = watcher.end().await;
    assert_eq!(code, 1);
    assert!(stderr.contains("cancelled by `predictd batch cancel`"), "{stderr}");
    remote.settled().await;
    let status = remote.status("a");
    assert_eq!(status["state"], "stopped", "{status}");
    assert!(status["finished_shards"].as_u64() < status["shards"].as_u64(), "{status}");
    assert!(worker.metric("predictd_files_shards_total{outcome=\"stopped\"}").await.unwrap() >= 1.0);
    let (code, stdout, _) = outcome(remote.batch(&["status", "gs://data/out/a"]), "");
    assert!(code == 0 && stdout.contains("why: cancelled"), "{stdout}");
    remote.ends(0, "wine", &input, "a", &SHARDS);
    assert!(remote.output("a") == remote.output("whole"), "the results differ");
    assert_eq!(remote.written("a"), remote.finished("a"));
    let (code, stdout, _) = cancel();
    assert!(code == 0 && stdout.contains("the job is finished"), "{stdout}");
    assert_eq!(remote.status("a")["state"], "finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_errors_stop_a_job_of_workers() {
    let remote = Remote::start(100).await;
    let _worker = remote.worker().await;
    let lines = wine_lines(2000);
    let lines: String = lines
        .lines()
        .enumerate()
        .map(|(at, line)| if at % 100 == 99 { "{}\n".to_owned() } else { format!("{line}\n") })
        .collect();
    let input = remote.put("in/wines.jsonl", lines);
    let limited = |most: &'static str| vec!["--shard-size", "16KiB", "--max-errors", most];
    let printed = remote.ends(1, "wine", &input, "a", &limited("5"));
    assert!(printed.contains("expected at most 5 failed rows, got more"), "{printed}");
    assert_eq!(remote.status("a")["state"], "stopped");
    remote.settled().await;
    remote.ends(3, "wine", &input, "a", &limited("20"));
    assert_eq!(remote.results("a").len(), 1980);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_job_and_one_that_is_left_go_on_without_their_command() {
    let remote = Remote::start(5).await;
    let input = remote.put("in/wines.jsonl", wine_lines(2000));
    let printed = remote.ends(0, "wine", &input, "a", &["--detach", "--shard-size", "16KiB"]);
    assert!(printed.contains("the workers have the job"), "{printed}");
    let (code, _, stderr) = outcome(remote.batch(&["status", "gs://data/out/a"]), "");
    assert!(code == 1 && stderr.contains("there is no job in"), "{stderr}");
    let watcher = remote.begin("wine", &input, "b", &SHARDS);
    until("the second job", || {
        remote.world.server.pubsub.counts(super::remote::SUBSCRIPTION).unwrap().undelivered == 2
    })
    .await;
    watcher.signal("-INT");
    let (code, _, stderr) = watcher.end().await;
    assert_eq!(code, 1);
    assert!(stderr.contains("watched no more") && stderr.contains("predictd batch status"), "{stderr}");
    let _worker = remote.worker().await;
    for out in ["a", "b"] {
        until("the end", || remote.status_if(out).is_some_and(|status| status["state"] == "finished")).await;
    }
    assert!(remote.output("a") == remote.output("b"), "the results differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_changes_under_a_job_stops_it_by_name() {
    let remote = Remote::start(5).await;
    let input = remote.put("in/wines.jsonl", wine_lines(20_000));
    let worker = remote.worker().await;
    let watcher = remote.begin("wine", &input, "a", &SHARDS);
    remote.until_finished("a", 2).await;
    remote.put("in/wines.jsonl", wine_lines(30));
    let (code, _, stderr) = watcher.end().await;
    assert_eq!(code, 1);
    assert!(
        stderr.contains("gs://data/in/wines.jsonl was replaced or deleted after the job was planned"),
        "{stderr}"
    );
    assert_eq!(remote.status("a")["state"], "stopped");
    worker.until_log("was replaced or deleted").await;
    remote.settled().await;
    let refused = remote.ends(1, "wine", &input, "a", &SHARDS);
    assert!(refused.contains("the input has changed"), "{refused}");
    let refused = remote.ends(1, "wine", &input, "a", &["--key-field", "id"]);
    assert!(refused.contains("holds the results of another job"), "{refused}");
}
