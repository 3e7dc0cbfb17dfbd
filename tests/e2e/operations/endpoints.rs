//! The pages of a worker: `/health`, `/info`, `/metrics`, and `/`, which lists them.

use std::time::{Duration, SystemTime};

use crate::support::harness::World;
use crate::support::oracle::wine;

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_tell_what_is_going_on() {
    // The times of `/info` are whole milliseconds.
    let before = SystemTime::now() - Duration::from_millis(1);
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let worker = world.ready_worker(&[]).await;
    wine().check(&[5], &world.ask(wine().request(&[5]), &[]).await);
    world.settled().await;
    assert_eq!(worker.get("/health").await, (200, "ok\n".to_owned()));
    let info = worker.info().await;
    let serving = &info["models"]["wine"]["serving"];
    assert_eq!(serving["from"], "gs://models/models/wine/1");
    assert_eq!(serving["inputs"][0]["shape"], serde_json::json!([-1, 13]));
    assert_eq!(serving["columns"].as_array().unwrap().len(), 13);
    let loaded_at = predictd::engine::deadline::parse(serving["loaded_at"].as_str().unwrap()).unwrap();
    assert!(loaded_at >= before && loaded_at <= SystemTime::now(), "{loaded_at:?}");
    let (status, routes) = worker.get("/").await;
    assert_eq!(status, 200);
    let routes: serde_json::Value = serde_json::from_str(&routes).unwrap();
    let operations = routes["operations"].as_array().unwrap();
    for route in operations {
        assert_eq!(worker.get(route.as_str().unwrap()).await.0, 200, "{route}");
    }
    assert_eq!(operations.len(), 4, "{routes}");
    for (line, value) in [
        ("predictd_requests_total{model=\"wine\",version=\"1\",status=\"ok\"} ", 1.0),
        ("predictd_rows_total{model=\"wine\",version=\"1\"} ", 1.0),
        ("predictd_request_seconds_count{model=\"wine\",version=\"1\"} ", 1.0),
        ("predictd_inference_seconds_count{model=\"wine\",version=\"1\"} ", 1.0),
        ("predictd_queue_wait_seconds_count{model=\"wine\",version=\"1\"} ", 1.0),
        ("predictd_batch_rows_count{model=\"wine\",version=\"1\"} ", 1.0),
        ("predictd_reloads_total{model=\"wine\",outcome=\"serving\"} ", 1.0),
        ("predictd_messages_in_hand ", 0.0),
        ("predictd_bytes_in_hand ", 0.0),
        ("predictd_models_serving ", 1.0),
    ] {
        worker.until_metric(line, value).await;
    }
    assert!(worker.get("/metrics").await.1.ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn utilisation_and_backlog_are_measured() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    // One row waits for four more.
    let variables = [("PREDICTD_BATCHING__MAX_WAIT", "60s"), ("PREDICTD_BATCHING__MAX_ROWS", "5")];
    let worker = world.ready_worker(&variables).await;
    let above_zero = async |metric: &str| {
        worker.until(metric, async || worker.metric(metric).await.filter(|value| *value > 0.0)).await
    };
    assert_eq!(worker.metric("predictd_utilisation ").await, Some(0.0));
    let full = world.publish(wine().request(&[0, 1, 2, 3, 4]), &[]);
    assert!(above_zero("predictd_utilisation ").await < 1.0);
    assert_eq!(worker.metric("predictd_queue_seconds ").await, Some(0.0));
    let waits = world.publish(wine().request(&[5]), &[]);
    assert!(above_zero("predictd_queue_seconds ").await < 60.0);
    let rest = world.publish(wine().request(&[6, 7, 8, 9]), &[]);
    world.responses(&[full, waits, rest]).await;
    worker.until_metric("predictd_queue_seconds ", 0.0).await;
}
