//! Faults 31 and 32: notifications that are repeated, reordered or lost.

use std::time::Instant;

use local_gcp::history::What;
use local_gcp::pubsub::wire::PubsubMessage;

use super::*;

const UPDATES: &str = "projects/demo/topics/model-updates";

fn announcement(object: &str) -> PubsubMessage {
    let attributes = [("bucketId", "models"), ("objectId", object), ("eventType", "OBJECT_FINALIZE")];
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
    PubsubMessage { attributes: attributes.into_iter().collect(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_31_notifications_doubled_and_reordered() {
    let injected = "five versions at once, each notification three times, newest first and oldest last";
    let mut trial = trial(31, injected, "ends on the highest version, one load each").await;
    let worker = trial.world.ready_worker(&[]).await;
    let file = |version: usize| if version.is_multiple_of(2) { "wine/2" } else { "wine/1" };
    for version in 2..=6 {
        trial.world.upload_version(file(version), "wine", &version.to_string());
    }
    // Beside the bucket's own: each twice, the newest first, the oldest last.
    for version in (1..=6).rev() {
        let message = announcement(&format!("models/wine/{version}/model.onnx"));
        trial.world.server.pubsub.publish(UPDATES, vec![message.clone(), message]).unwrap();
    }
    let heard = trial.world.server.history.wait_until(PATIENCE, |events| {
        let acked = |event: &&local_gcp::history::Event| matches!(&event.what, What::Acked(delivery) if delivery.subscription.ends_with("/model-updates"));
        events.iter().filter(acked).count() >= 24
    });
    assert!(heard.await, "the notifications were never taken");
    worker.until_serving("wine", "6").await;
    // A folder that is no version is named by the first look after all this.
    trial.world.upload("models/wine/latest/model.onnx", vec![]);
    worker.until_info("a last look", |_| worker.log().contains("wine/latest")).await;
    worker.until_serving("wine", "6").await;
    trial.serves(&worker, "6").await;
    for version in 1..=6 {
        let times = reads(&trial.world, &format!("models/wine/{version}/model.onnx")).len();
        assert!(times <= 1, "version {version} was read {times} times");
    }
    // Version 6 is shown by `/info`, counted, and then logged.
    worker.until_log("wine/6\",\"message\":\"version in service\"").await;
    let loads = worker.log().lines().filter(|line| line.contains("version in service")).count();
    let counted = worker.metric("predictd_reloads_total{model=\"wine\",outcome=\"serving\"}").await;
    assert_eq!(counted, Some(loads as f64));
    trial
        .judge(
            &worker,
            Allowed::default(),
            &format!("version 6 serves after {loads} loads, no model read twice"),
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_32_notification_lost() {
    let silent = "projects/demo/topics/silent";
    let world = World::start_with(|builder| {
        builder
            .subscription(
                "projects/demo/subscriptions/prediction-requests",
                crate::support::harness::REQUESTS,
            )
            .topic(silent)
            .subscription("projects/demo/subscriptions/silent", silent)
    })
    .await;
    let injected = "one of two replicas gets no notification";
    let mut trial = Trial::of(world, 32, injected, "all replicas converge by the poll");
    trial.world.upload_version("wine/1", "wine", "1");
    // The one hears of everything and would poll after an hour; the other's notifications are all lost.
    let told = trial.world.ready_worker(&[("PREDICTD_MODELS__POLL_INTERVAL", "1h")]).await;
    let untold = trial
        .world
        .ready_worker(&[("PREDICTD_MODELS__UPDATES", "silent"), ("PREDICTD_MODELS__POLL_INTERVAL", "500ms")])
        .await;
    let uploaded = Instant::now();
    trial.world.upload_version("wine/2", "wine", "2");
    told.until_serving("wine", "2").await;
    untold.until_serving("wine", "2").await;
    let took = uploaded.elapsed();
    for _ in 0..20 {
        trial.serves(&untold, "2").await;
    }
    told.until_metric("predictd_messages_in_hand", 0.0).await;
    trial.weigh(&told);
    trial
        .judge(
            &untold,
            Allowed::default(),
            &format!(
                "both on the new version {:.1} s after its upload, polling every 0.5 s",
                took.as_secs_f64()
            ),
        )
        .await;
}
