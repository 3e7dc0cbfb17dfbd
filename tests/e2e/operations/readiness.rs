//! `/ready` fails until requests can be received and responses are accepted, and recovers by itself.

use local_gcp::faults::Fault;
use local_gcp::history::What;
use local_gcp::pubsub::wire::Topic;

use crate::support::harness::World;
use crate::support::oracle::wine;

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

/// No response is published meanwhile: only the check can notice the topic.
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
