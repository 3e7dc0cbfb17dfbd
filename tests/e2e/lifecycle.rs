//! Readiness tells the truth, the worker drains, and what it waits for comes back.

use std::time::{Duration, SystemTime};

use local_gcp::faults::Fault;
use local_gcp::history::What;
use local_gcp::pubsub::wire::{PubsubMessage, Subscription, Topic};

use crate::harness::{REQUESTS, RESPONSES, World};
use crate::oracle::{self, wine};

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
    for line in routes.lines() {
        let route = line.split_whitespace().next().unwrap();
        assert_eq!(worker.get(route).await.0, 200, "{route}");
    }
    assert_eq!(routes.lines().count(), 4, "{routes}");
    let (_, metrics) = worker.get("/metrics").await;
    for line in [
        "predictd_requests_total{model=\"wine\",version=\"1\",status=\"ok\"} 1",
        "predictd_rows_total{model=\"wine\",version=\"1\"} 1",
        "predictd_request_seconds_count{model=\"wine\",version=\"1\"} 1",
        "predictd_inference_seconds_count{model=\"wine\",version=\"1\"} 1",
        "predictd_queue_wait_seconds_count{model=\"wine\",version=\"1\"} 1",
        "predictd_batch_rows_count{model=\"wine\",version=\"1\"} 1",
        "predictd_reloads_total{model=\"wine\",outcome=\"serving\"} 1",
        "predictd_messages_in_hand 0",
        "predictd_bytes_in_hand 0",
        "predictd_models_serving 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line:?} is missing in\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_response_topic_is_waited_for() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let worker = world.worker(&[("PREDICTD_RESPONSES__TOPIC", "created-later")]);
    let not_there =
        "the response topic \"projects/demo/topics/created-later\" cannot be used: it does not exist";
    worker.until_not_ready(not_there).await;
    worker.until_log("\"receiving\"").await;
    let (status, said) = worker.get("/ready").await;
    assert!(status == 503 && said.contains(not_there), "before any response: {said}");
    let id = world.publish(wine().request(&[0]), &[]);
    worker.until_log("responses are not accepted, their requests will be redelivered").await;
    let later = "projects/demo/topics/created-later";
    world.server.pubsub.create_topic(Topic { name: later.to_owned(), ..Default::default() }).unwrap();
    worker.until_ready().await;
    world.settled().await;
    let answered = world.server.history.with(|events| {
        events.iter().any(|event| match &event.what {
            What::Published { topic, message: stored } => {
                **topic == *later && stored.message.attributes["request_message_id"] == id
            }
            _ => false,
        })
    });
    assert!(answered);
}

/// Nothing is published meanwhile: only the check can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_topic_that_comes_makes_it_ready() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let worker = world.worker(&[("PREDICTD_RESPONSES__TOPIC", "created-later")]);
    worker.until_not_ready("topics/created-later\" cannot be used: it does not exist").await;
    let later = "projects/demo/topics/created-later";
    world.server.pubsub.create_topic(Topic { name: later.to_owned(), ..Default::default() }).unwrap();
    worker.until_ready().await;
}

/// A Pub/Sub without TestIamPermissions is asked for the topic itself; one that says nothing is believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_cannot_be_asked_for_is_believed() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    world.server.faults.inject("TestIamPermissions", Fault::Fail("UNIMPLEMENTED".to_owned()), 1000);
    let missing = world.worker(&[("PREDICTD_RESPONSES__TOPIC", "created-later")]);
    missing.until_not_ready("topics/created-later\" cannot be used: it does not exist").await;
    world.server.faults.inject("GetTopic", Fault::Fail("PERMISSION_DENIED".to_owned()), 1000);
    world.ready_worker(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_rights_make_it_not_ready_until_they_are_back() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    world.server.faults.inject("StreamingPull", Fault::Fail("PERMISSION_DENIED".to_owned()), 4);
    let worker = world.worker(&[]);
    worker.until_not_ready("PERMISSION_DENIED").await;
    worker.until_ready().await;
    wine().check(&[0], &world.ask(wine().request(&[0]), &[]).await);
}

/// Publishing hangs, so nothing can be finished: at the end of the grace all of it goes back.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_finished_in_the_grace_goes_back() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let mut worker = world.ready_worker(&[("PREDICTD_SHUTDOWN__GRACE", "2s")]).await;
    world.server.faults.inject("Publish", Fault::Hang, 1000);
    let ids: Vec<String> = (0..20).map(|row| world.publish(wine().request(&[row]), &[])).collect();
    worker.until_metric("predictd_messages_in_hand", 20.0).await;
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());
    let nacked = world
        .server
        .history
        .with(|events| events.iter().filter(|event| matches!(event.what, What::Nacked(_))).count());
    assert!(nacked >= 20, "{nacked}");
    world.server.faults.clear();
    let _next = world.ready_worker(&[]).await;
    world.responses(&ids).await;
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ordering_key_stays() {
    let ordered = Subscription {
        name: "projects/demo/subscriptions/prediction-requests".to_owned(),
        topic: REQUESTS.to_owned(),
        enable_message_ordering: true,
        ..Subscription::default()
    };
    let world = World::start_with(|builder| builder.subscription_with(ordered)).await;
    world.upload_version("wine/1", "wine", "1");
    let _worker = world.ready_worker(&[]).await;
    let mut ids = Vec::new();
    for n in 0..40 {
        let message = PubsubMessage {
            data: wine().request(&[n]).into(),
            ordering_key: format!("key-{}", n % 4),
            ..Default::default()
        };
        ids.extend(world.server.pubsub.publish(REQUESTS, vec![message]).unwrap());
    }
    let responses = world.responses(&ids).await;
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(responses[id].ordering_key, format!("key-{}", n % 4));
        wine().check(&[n], &responses[id]);
    }
    // Within a key, responses come in the order of the requests.
    let order: Vec<(String, usize)> = world.server.history.with(|events| {
        let published = events.iter().filter_map(|event| match &event.what {
            What::Published { topic, message: stored } if **topic == *RESPONSES => {
                let message = &stored.message;
                let id = &message.attributes["request_message_id"];
                Some((message.ordering_key.clone(), ids.iter().position(|known| known == id).unwrap()))
            }
            _ => None,
        });
        published.collect()
    });
    for key in 0..4 {
        let of_key: Vec<usize> =
            order.iter().filter(|(k, _)| *k == format!("key-{key}")).map(|(_, n)| *n).collect();
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
}
