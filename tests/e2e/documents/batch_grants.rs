//! The grants for batches in terraform/README.md are enough and no wider, walked row by row against a server
//! that enforces them.

use std::collections::BTreeSet;
use std::time::Instant;

use local_gcp::pubsub::wire::{DeadLetterPolicy, PubsubMessage, Subscription};
use local_gcp::storage::{Conditions, Target};
use serde_json::{Value, json};

use super::grants::{Row, WORKER, is_refusal_of, rows_of, world_with};
use crate::support::harness::{PATIENCE, Worker, World};
use crate::support::oracle::wine;

const BATCHES: &str = "projects/demo/topics/batches";
const SUBSCRIPTION: &str = "projects/demo/subscriptions/batches";
const DEAD_LETTERS: &str = "projects/demo/topics/dead-letters";

fn rows() -> Vec<Row> {
    rows_of("| call for batches | in |")
}

/// A world with all grants, those of requests too, but one of batches.
async fn world(rows: &[Row], without: Option<&Row>) -> World {
    let subscription = Subscription {
        name: SUBSCRIPTION.to_owned(),
        topic: BATCHES.to_owned(),
        // Deliveries are counted, so that a worker marks those of a shard.
        dead_letter_policy: Some(DeadLetterPolicy {
            dead_letter_topic: DEAD_LETTERS.to_owned(),
            max_delivery_attempts: 5,
        }),
        ..Subscription::default()
    };
    let world = world_with(&rows_of("| call | in |"), None, |builder| {
        let builder = builder.topic(BATCHES).topic(DEAD_LETTERS).subscription_with(subscription);
        builder.bucket("tables").bucket("predictions")
    })
    .await;
    for row in rows {
        if without.is_none_or(|other| (&other.role, other.resource) != (&row.role, row.resource)) {
            world.server.grant(&row.role, row.resource, WORKER).unwrap();
        }
    }
    let request: Value = serde_json::from_str(&wine().request(&[1])).unwrap();
    world.server.storage.put("tables", "in/a.jsonl", request["instances"][0].to_string()).unwrap();
    world
}

fn worker(world: &World) -> Worker {
    let host = world.server.host_as(WORKER).unwrap();
    world.worker(&[
        ("PUBSUB_EMULATOR_HOST", &host),
        ("STORAGE_EMULATOR_HOST", &host),
        ("PREDICTD_FILES__SUBSCRIPTION", "batches"),
        ("PREDICTD_FILES__ALLOWED_BUCKETS", "tables,predictions"),
    ])
}

fn publish(world: &World, message: &Value) {
    let message = PubsubMessage { data: message.to_string().into(), ..Default::default() };
    world.server.pubsub.publish(BATCHES, vec![message]).unwrap();
}

fn job() -> Value {
    json!({ "model": "wine", "input": "gs://tables/in/*", "output": "gs://predictions/out" })
}

fn output(name: &str) -> Target {
    let (bucket, name) = ("predictions".to_owned(), format!("out/{name}"));
    Target { bucket, name, generation: None, conditions: Conditions::default() }
}

/// Waits until the job is finished and no message is left.
async fn finished(world: &World, worker: &Worker) {
    let end = Instant::now() + PATIENCE;
    loop {
        let counts = world.server.pubsub.counts(SUBSCRIPTION).unwrap();
        let is_there = world.server.storage.get_object(&output("_SUCCESS")).is_ok();
        if is_there && counts.undelivered == 0 && counts.outstanding == 0 {
            return;
        }
        assert!(Instant::now() < end, "not finished, {counts:?}; the log:\n{}", worker.log());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Takes the message that waits. The server may give it to the stream of the worker that has just ended first.
async fn pulled(world: &World) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        world.server.reset_streams();
        if let Some(delivered) = world.server.pubsub.pull(SUBSCRIPTION, 1, true).await.unwrap().pop() {
            return delivered.ack_id;
        }
        assert!(Instant::now() < end, "the shard never came");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grants_for_batches_are_enough_and_all_of_their_permissions_are_needed() {
    let rows = rows();
    let world = world(&rows, None).await;
    let mut first = worker(&world);
    publish(&world, &job());
    finished(&world, &first).await;
    first.signal("-TERM");
    first.end().await;

    // The shard is redelivered and computed again: the worker marks its second delivery, and forgets it.
    for name in ["prediction.results-00000-of-00001", "summary.json", "_SUCCESS"] {
        world.server.storage.delete_object(&output(name)).unwrap();
    }
    publish(&world, &json!({ "job": "gs://predictions/out", "shard": 0 }));
    let delivered = pulled(&world).await;
    world.server.pubsub.modify_ack_deadline(SUBSCRIPTION, &[delivered], 0).unwrap();
    let second = worker(&world);
    finished(&world, &second).await;

    world.server.history.with(|events| {
        let refused: Vec<_> = events.iter().filter(|event| is_refusal_of(event, "", "")).collect();
        assert!(refused.is_empty(), "{refused:?}");
    });
    let resources: BTreeSet<&str> = rows.iter().map(|row| row.resource).collect();
    let asked = world.server.iam.asked(WORKER);
    let asked = asked.iter().map(|it| (it.permission, &*it.resource));
    let asked: BTreeSet<(&str, &str)> = asked.filter(|(_, on)| resources.contains(on)).collect();
    let table: BTreeSet<(&str, &str)> = rows.iter().map(|row| (&*row.permission, row.resource)).collect();
    assert_eq!(asked, table, "terraform/README.md must list exactly what the worker asks for");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_one_grant_a_batch_is_refused_something() {
    let rows = rows();
    let mut grants: Vec<&Row> = Vec::new();
    for row in &rows {
        if !grants.iter().any(|known| (&known.role, known.resource) == (&row.role, row.resource)) {
            grants.push(row);
        }
    }
    assert_eq!(grants.len(), 5);
    futures::future::join_all(grants.into_iter().map(|missing| refused(&rows, missing))).await;
}

async fn refused(rows: &[Row], missing: &Row) {
    let world = world(rows, Some(missing)).await;
    publish(&world, &job());
    let worker = worker(&world);
    let is_same = |row: &&Row| (&row.role, row.resource) == (&missing.role, missing.resource);
    let permissions: Vec<&str> = rows.iter().filter(is_same).map(|row| &*row.permission).collect();
    let refused = world.server.history.wait_until(PATIENCE, |events| {
        events.iter().any(|event| permissions.iter().any(|it| is_refusal_of(event, it, missing.resource)))
    });
    assert!(refused.await, "{missing:?} is not needed; the log:\n{}", worker.log());
    assert!(world.server.storage.get_object(&output("_SUCCESS")).is_err(), "{missing:?}");
}
