//! One worker's models and requests do not hold each other up.

use crate::support::harness::{Worker, World};
use crate::support::oracle::{self, wine};

const ONE_THREAD: (&str, &str) = ("PREDICTD_INFERENCE__THREADS", "1");

async fn until_slow_runs(worker: &Worker) {
    worker.until_metric("predictd_queue_wait_seconds_count{model=\"slow\",version=\"1\"}", 1.0).await;
}

fn is_answered(world: &World, id: &str) -> bool {
    world.server.history.with(|events| oracle::responses(events).contains_key(id))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_model_holds_up_no_other() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    world.upload_version("faults/slow/1", "slow", "1");
    let worker = world.ready_worker(&[ONE_THREAD, ("PREDICTD_MODELS__DEFAULT", "wine")]).await;
    worker.until_serving("slow", "1").await;
    // Each takes minutes.
    let ask_slow = |_| world.publish("{\"instances\": [9000000]}", &[("model", "slow")]);
    let mut slow = vec![ask_slow(0)];
    until_slow_runs(&worker).await;
    slow.extend((0..200).map(ask_slow));
    let quick: Vec<String> = (0..50).map(|row| world.publish(wine().request(&[row]), &[])).collect();
    let responses = world.responses(&quick).await;
    for (row, id) in quick.iter().enumerate() {
        wine().check(&[row], &responses[id]);
    }
    assert!(!slow.iter().any(|id| is_answered(&world, id)), "the slow requests are at work still");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_requests_pass_between_the_parts_of_a_large_one() {
    let world = World::start().await;
    world.upload_version("faults/slow/1", "slow", "1");
    let worker = world.ready_worker(&[ONE_THREAD]).await;
    // Calls of 128 rows, each of a quarter of a second or more.
    let rows = vec!["4000"; 2560].join(",");
    let large = world.publish(format!("{{\"instances\": [{rows}]}}"), &[]);
    until_slow_runs(&worker).await;
    let small: Vec<String> =
        (0..3).map(|number| world.publish(format!("{{\"instances\": [{number}]}}"), &[])).collect();
    let responses = world.responses(&small).await;
    assert!(!is_answered(&world, &large), "the large request is at work still");
    for (number, id) in small.iter().enumerate() {
        let body = String::from_utf8_lossy(&responses[id].data).into_owned();
        assert!(body.contains(&format!("[{number}]")), "{body}");
    }
    let response = &world.responses(std::slice::from_ref(&large)).await[&large];
    let body = String::from_utf8_lossy(&response.data).into_owned();
    assert_eq!((&*response.attributes["status"], body.matches("4000").count()), ("ok", 2560), "{body:.200}");
}
