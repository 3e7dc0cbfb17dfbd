use std::time::{Duration, Instant};

use serde_json::json;

use super::{at_work, instances, post, slow_world, steps, value};
use crate::support::harness::http;

/// Steps that take a second or more.
const LONG: u32 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_would_wait_too_long_is_refused_at_once() {
    let (_world, worker) = slow_world(&[]).await;
    // One measured call; then one at work and others behind it.
    assert_eq!(post(&worker, "/predict?model=slow", &[], steps(LONG / 3)).await.0, 200);
    let mut all = vec![at_work(&worker, LONG).await];
    let url = format!("http://{}/predict?model=slow", worker.address().await);
    for _ in 0..5 {
        let request = http().post(&url).body(steps(LONG / 3));
        all.push(tokio::spawn(async move {
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.headers().clone(), response.bytes().await.unwrap().to_vec())
        }));
    }
    worker
        .until("a queue", async || (worker.metric("predictd_queue_seconds").await? > 0.1).then_some(()))
        .await;
    let short = [("x-request-timeout-ms", "1")];
    let (status, headers, body) = post(&worker, "/predict?model=slow", &short, steps(1)).await;
    assert_eq!((status, &value(&body)["error"]["code"]), (429, &json!("OVERLOADED")), "{:?}", value(&body));
    let after: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&after));
    // Another model has its own queue.
    assert_eq!(post(&worker, "/predict", &[], instances(1)).await.0, 200);
    for asked in all {
        assert_eq!(asked.await.unwrap().0, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_is_not_computed() {
    let (_world, worker) = slow_world(&[]).await;
    let first = at_work(&worker, LONG).await;
    let url = format!("http://{}/predict?model=slow", worker.address().await);
    let is_queued = "predictd_bytes_in_hand ";
    let before = worker.metric(is_queued).await;
    // One by the time of its client, one that goes away, one by its own deadline.
    let gone = http().post(&url).body(steps(LONG)).timeout(Duration::from_millis(200)).send().await;
    assert!(gone.unwrap_err().is_timeout());
    let late = [("x-request-timeout-ms", "200")];
    let (status, _, body) = post(&worker, "/predict?model=slow", &late, steps(LONG)).await;
    assert_eq!((status, &value(&body)["error"]["code"]), (504, &json!("DEADLINE_EXCEEDED")));
    let v2 = json!({"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [LONG]}],
        "parameters": {"timeout": 200_000}});
    let (status, _, body) = post(&worker, "/v2/models/slow/infer", &[], v2.to_string()).await;
    assert_eq!(status, 504, "{:?}", value(&body));
    assert!(worker.metric(is_queued).await >= before);
    assert_eq!(first.await.unwrap().0, 200);
    let begun = Instant::now();
    assert_eq!(post(&worker, "/predict?model=slow", &[], steps(1)).await.0, 200);
    assert!(begun.elapsed() < Duration::from_secs(60));
    let rows = "predictd_rows_total{model=\"slow\",version=\"1\"}";
    assert_eq!(worker.metric(rows).await, Some(2.0));
    worker.until_metric("predictd_http_responses_total{status=\"499\"}", 1.0).await;
}

/// Requests of Pub/Sub in the same worker have their share, and its bytes in flight are its own.
#[tokio::test(flavor = "multi_thread")]
async fn pubsub_goes_on_beside_a_flood_over_http() {
    let (world, worker) = slow_world(&[]).await;
    let address = worker.address().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (url, stop) = (format!("http://{address}/predict?model=slow"), stop.clone());
            tokio::spawn(async move {
                let (client, mut answered) = (http(), 0);
                while !stop.is_cancelled() {
                    let response = client.post(&url).body(steps(3_000)).send().await.unwrap();
                    assert!(matches!(response.status().as_u16(), 200 | 429), "{}", response.status());
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let flows = "predictd_http_responses_total{status=\"200\"}";
    worker.until("a flood", async || (worker.metric(flows).await? > 16.0).then_some(())).await;
    let ids: Vec<String> = (0..20).map(|_| world.publish(steps(1), &[("model", "slow")])).collect();
    let responses = world.responses(&ids).await;
    assert!(responses.values().all(|response| response.attributes["status"] == "ok"));
    stop.cancel();
    let mut answered = 0;
    for client in clients {
        answered += client.await.unwrap();
    }
    assert!(answered > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_it_says_when_to_try_again() {
    let empty = tempfile::tempdir().unwrap();
    let worker = super::serve(empty.path(), &[]);
    worker.address().await;
    for path in ["/predict", "/v1/models/wine:predict", "/v2/models/wine/infer", "/invocations"] {
        let (status, headers, _) = post(&worker, path, &[], instances(1)).await;
        assert_eq!(status, 503, "{path}");
        assert!(headers.contains_key("retry-after"));
    }
    assert_eq!(worker.get("/ready").await.0, 503);
    assert_eq!(worker.get("/ping").await.0, 404);
    assert_eq!(worker.get("/v2/health/ready").await.0, 503);
}
