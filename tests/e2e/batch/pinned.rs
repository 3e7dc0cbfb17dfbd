//! A job's version stays, and its rows leave room for requests.

use serde_json::json;

use super::remote::{Remote, until};
use super::{assert_wine, wine_lines};
use crate::support::harness::outcome;

const SHARDS: [&str; 2] = ["--shard-size", "16KiB"];

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_does_not_join_a_running_job_and_workers_load_the_old_one_aside() {
    let remote = Remote::start(100).await;
    // Wine 2 as version 1, so that version 2 has other answers.
    remote.world.upload_version("wine/1", "own", "1");
    let input = remote.put("in/wines.jsonl", wine_lines(8000));
    let mut worker = remote.worker().await;
    worker.until_serving("own", "1").await;
    let watcher = remote.begin("own", &input, "a", &SHARDS);
    remote.until_finished("a", 3).await;
    remote.world.upload_version("wine/2", "own", "2");
    worker.until_serving("own", "2").await;
    // A worker that never served the old version takes over.
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());
    let before = remote.finished("a");
    let worker = remote.worker().await;
    worker.until_serving("own", "2").await;
    let (code, stdout, stderr) = watcher.end().await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("own 1: 8000 rows"), "{stdout}");
    assert!(before < remote.finished("a"), "the job was finished before the version was there");
    worker.until_log("version loaded for batches").await;
    for (number, line) in remote.results("a").iter().enumerate() {
        assert_wine("1", number, &line["prediction"]);
    }
    // Requests and new jobs have the new version.
    let answer = remote.world.ask(crate::support::oracle::wine().request(&[3]), &[("model", "own")]).await;
    assert_eq!(answer.attributes["model_version"], "2");
    remote.ends(0, "own", &input, "b", &[]);
    assert_wine("2", 9, &remote.results("b")[9]["prediction"]);
    remote.ends(0, "own", &input, "c", &["--model-version", "1"]);
    assert_wine("1", 9, &remote.results("c")[9]["prediction"]);
}

/// Each call of the job is slow; a request waits for the calls that run, not for the job.
#[tokio::test(flavor = "multi_thread")]
async fn requests_beside_a_job_wait_for_one_call_at_most() {
    let remote = Remote::start(5).await;
    remote.world.upload_version("faults/slow/1", "slow", "1");
    let worker = remote.worker().await;
    worker.until_serving("slow", "1").await;
    // Thousands of products of matrices for each chunk of 128 rows.
    let input = remote.put("in/rows.jsonl", "2000\n".repeat(20_000));
    let watcher = remote.begin("slow", &input, "a", &["--shard-size", "16KiB"]);
    let rows = "predictd_rows_total{model=\"slow\",version=\"1\"}";
    let ran = async || worker.metric(rows).await.unwrap_or(0.0);
    worker.until("rows of the job", async || (ran().await > 200.0).then_some(())).await;
    let mut most: f64 = 0.0;
    for _ in 0..5 {
        let before = ran().await;
        let answer = remote.world.ask(r#"{"instances": [1]}"#, &[("model", "slow")]).await;
        assert_eq!(answer.attributes["status"], "ok", "{answer:?}");
        most = most.max(ran().await - before - 1.0);
    }
    // The call that ran when the request came, and one more that began while the answer was read.
    assert!(most <= 3.0 * 128.0, "{most} rows of the job ran before an answer");
    assert!(remote.finished("a") < 15, "the job was over before the requests");
    let (code, _, stderr) = outcome(remote.batch(&["cancel", "gs://data/out/a"]), "");
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(watcher.end().await.0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_no_rows_and_one_of_a_list_end_on_workers() {
    let remote = Remote::start(5).await;
    let _worker = remote.worker().await;
    let input = remote.put("in/empty.jsonl", "");
    let printed = remote.ends(0, "wine", &input, "a", &[]);
    assert!(printed.contains("0 rows") && printed.contains("the input has no rows"), "{printed}");
    let good = remote.put("files/good.json", json!({"instances": [super::wine_row(3)]}).to_string());
    let list =
        remote.put("in/list.txt", format!("{good}\ngs://secret/x.json\n{good}\ngs://data/none.json\n"));
    remote.ends(3, "wine", &list, "b", &[]);
    assert_eq!(remote.results("b").len(), 2);
    let errors = remote.output("b").remove("prediction.errors_stats-00000-of-00001").unwrap();
    let errors = super::json_lines(std::str::from_utf8(&errors).unwrap());
    let codes: Vec<_> = errors.iter().map(|error| (&error["line"], &error["error"]["code"])).collect();
    assert_eq!(codes[0], (&json!(2), &json!("INPUT_FORBIDDEN")));
    assert_eq!(codes[1], (&json!(4), &json!("INVALID_INPUT")));
    until("the end", || remote.status("b")["state"] == "finished").await;
}
