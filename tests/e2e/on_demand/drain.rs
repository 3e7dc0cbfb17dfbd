use super::{at_work, instances, post, slow_world, value};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn running_requests_are_finished_and_new_ones_are_refused() {
    let (_world, mut worker) = slow_world(&[("PREDICTD_SHUTDOWN__GRACE", "120s")]).await;
    let running = at_work(&worker, 10_000).await;
    worker.signal("-TERM");
    worker.until_not_ready("").await;
    let (status, headers, body) = post(&worker, "/predict", &[], instances(1)).await;
    assert_eq!((status, &value(&body)["error"]["code"]), (503, &json!("UNAVAILABLE")));
    assert!(headers.contains_key("retry-after"));
    assert_eq!(headers["connection"], "close");
    let (status, headers, body) = running.await.unwrap();
    assert_eq!(status, 200, "{:?}", value(&body));
    assert_eq!(headers["x-predictd-model"], "slow");
    assert!(worker.end().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_at_the_end_of_the_grace_is_refused() {
    let (_world, mut worker) = slow_world(&[("PREDICTD_SHUTDOWN__GRACE", "1s")]).await;
    let running = at_work(&worker, 400_000_000).await;
    worker.signal("-TERM");
    let (status, _, body) = running.await.unwrap();
    assert_eq!((status, &value(&body)["error"]["code"]), (503, &json!("UNAVAILABLE")));
    worker.end().await;
}
