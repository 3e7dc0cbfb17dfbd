//! The grants in terraform/README.md are enough and no wider, walked row by row against a server that
//! enforces them. `scripts/local-apply` compares the same table with what Terraform grants.

use std::collections::BTreeSet;

use local_gcp::Builder;
use local_gcp::faults::Fault;
use local_gcp::history::{Event, What};
use serde_json::json;

use crate::support::harness::{
    PATIENCE, REQUEST_SUBSCRIPTION, REQUESTS, RESPONSES, Worker, World, outcome, repository,
};
use crate::support::oracle::wine;

pub(super) const WORKER: &str = "serviceAccount:predictd@demo.iam.gserviceaccount.com";
const STORAGE_AGENT: &str = "serviceAccount:service-1@gs-project-accounts.iam.gserviceaccount.com";

/// One row of the table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) permission: String,
    pub(super) role: String,
    pub(super) resource: &'static str,
    /// Log line without the grant; none where everything works.
    log: Option<String>,
}

fn resource(on: &str) -> &'static str {
    match on {
        "request subscription" => REQUEST_SUBSCRIPTION,
        "notification subscription" => "projects/demo/subscriptions/model-updates",
        "response topic" => RESPONSES,
        "models' bucket" => "projects/_/buckets/models",
        "input bucket" => "projects/_/buckets/inputs",
        "results' bucket" => "projects/_/buckets/results",
        "batch subscription" => "projects/demo/subscriptions/batches",
        "batch topic" => "projects/demo/topics/batches",
        "batch input bucket" => "projects/_/buckets/tables",
        "batch output bucket" => "projects/_/buckets/predictions",
        other => panic!("terraform/README.md: no resource of this test is {other:?}"),
    }
}

fn rows() -> Vec<Row> {
    rows_of("| call | in |")
}

/// The rows of the table that begins like this.
pub(super) fn rows_of(head: &str) -> Vec<Row> {
    let readme = std::fs::read_to_string(repository().join("terraform/README.md")).unwrap();
    let table = readme.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = table.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [_, source, permission, role, on, ref without @ ..] = cells[..] else {
            panic!("five cells at least: {line}")
        };
        assert!(repository().join(source.trim_matches('`')).exists(), "{source} has moved");
        let log = without.first().and_then(|without| without.split_once("log: `"));
        let log = log.map(|(_, log)| log.trim_end_matches('`').to_owned());
        let plain = |cell: &str| cell.trim_matches('`').to_owned();
        Row { permission: plain(permission), role: plain(role), resource: resource(on), log }
    });
    rows.collect()
}

/// A world with all grants but one.
async fn world(rows: &[Row], without: Option<&Row>) -> World {
    world_with(rows, without, |builder| builder).await
}

pub(super) async fn world_with(
    rows: &[Row],
    without: Option<&Row>,
    more: impl FnOnce(Builder) -> Builder,
) -> World {
    let world = World::start_with(|builder| {
        more(builder)
            .enforce_iam()
            .calls_as(WORKER, None)
            .subscription(REQUEST_SUBSCRIPTION, REQUESTS)
            .bucket("inputs")
            .bucket("results")
    })
    .await;
    world
        .server
        .grant("roles/pubsub.publisher", "projects/demo/topics/model-updates", STORAGE_AGENT)
        .unwrap();
    for row in rows {
        let is_same = |other: &Row| (&other.role, other.resource) == (&row.role, row.resource);
        if !without.is_some_and(is_same) {
            world.server.grant(&row.role, row.resource, WORKER).unwrap();
        }
    }
    world.upload_version("wine/1", "wine", "1");
    world.server.storage.put("inputs", "request.json", wine().request(&[1])).unwrap();
    world
}

/// A worker that makes every kind of call; each result goes to the bucket.
fn worker(world: &World) -> Worker {
    let host = world.server.host_as(WORKER).unwrap();
    world.worker(&[
        ("PUBSUB_EMULATOR_HOST", &host),
        ("STORAGE_EMULATOR_HOST", &host),
        ("PREDICTD_REQUESTS__ALLOWED_BUCKETS", "inputs"),
        ("PREDICTD_RESPONSES__BUCKET", "gs://results/out"),
        ("PREDICTD_RESPONSES__INLINE_LIMIT", "0"),
        ("PREDICTD_MODELS__POLL_INTERVAL", "1h"),
    ])
}

fn reference() -> String {
    json!({ "dataref": "gs://inputs/request.json" }).to_string()
}

pub(super) fn is_refusal_of(event: &Event, permission: &str, resource: &str) -> bool {
    let What::Refused { code, message, .. } = &event.what else { return false };
    // The code's type is no dependency here.
    format!("{code:?}") == "PermissionDenied" && message.contains(permission) && message.contains(resource)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grants_are_enough_and_all_of_their_permissions_are_needed() {
    let rows = rows();
    let world = world(&rows, None).await;
    let worker = worker(&world);
    worker.until_ready().await;
    // The first request is delivered twice: its second result is written over the first one.
    world.server.faults.inject("StreamingPull", Fault::DeliverTwice, 4); // The stream of model updates meets some.
    world.server.reset_streams();
    let inline = world.ask(wine().request(&[1]), &[]).await;
    let referred = world.ask(reference(), &[]).await;
    for response in [inline, referred] {
        assert_eq!(response.attributes["status"], "ok");
        assert!(response.attributes["dataref"].starts_with("gs://results/out/"));
    }
    world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    world.settled().await;
    worker.until_metric("predictd_messages_in_hand", 0.0).await;
    world.server.history.with(|events| {
        let denied = |event: &&Event| is_refusal_of(event, "", "");
        let refused: Vec<_> = events.iter().filter(denied).collect();
        assert!(refused.is_empty(), "{refused:?}");
    });
    let asked = world.server.iam.asked(WORKER);
    let asked: BTreeSet<(&str, &str)> = asked.iter().map(|it| (it.permission, &*it.resource)).collect();
    let table: BTreeSet<(&str, &str)> = rows.iter().map(|row| (&*row.permission, row.resource)).collect();
    assert_eq!(asked, table, "terraform/README.md must list exactly what the worker asks for");
}

/// `check --connect` with these grants, of which it needs no other; what it printed.
async fn check(world: &World) -> (i32, String) {
    let host = world.server.host_as(WORKER).unwrap();
    let mut command = world.command();
    command.args(["check", "--connect", "--config", "config/local.yaml"]).current_dir(repository());
    command.env("PUBSUB_EMULATOR_HOST", &host).env("STORAGE_EMULATOR_HOST", &host);
    command.env("PREDICTD_REQUESTS__ALLOWED_BUCKETS", "inputs");
    command.env("PREDICTD_RESPONSES__BUCKET", "gs://results");
    let (code, _, stderr) = tokio::task::spawn_blocking(|| outcome(command, "")).await.unwrap();
    (code, stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_checks_need_no_grant_of_their_own_and_name_each_that_is_missing() {
    let rows = rows();
    let (code, said) = check(&world(&rows, None).await).await;
    assert!(code == 0 && said.lines().all(|line| line.starts_with("ok ")), "{said}");
    for row in &rows {
        // To look at the subscription is no right that the worker depends on.
        if row.permission == "pubsub.subscriptions.get" {
            continue;
        }
        let (code, said) = check(&world(&rows, Some(row)).await).await;
        assert_eq!(code, 1, "{row:?}: {said}");
        let problems: Vec<&str> = said.lines().filter(|line| line.starts_with("problem ")).collect();
        let [problem] = problems[..] else { panic!("{row:?}: {said}") };
        // A grant on a part of the models' bucket cannot be asked for, but its listing is tried.
        let is_models = row.resource.ends_with("/models");
        let permission = if is_models { "storage.objects.list" } else { &row.permission };
        assert!(problem.contains(row.resource) && problem.contains(permission), "{problem}");
        assert!(is_models || problem.contains("it does not exist, or the right "), "{problem}");
        assert!(said.contains(&row.role), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_may_not_publish_says_so_before_it_must() {
    let rows = rows();
    let publish = rows.iter().find(|row| row.permission == "pubsub.topics.publish").unwrap();
    let world = world(&rows, Some(publish)).await;
    let worker = worker(&world);
    worker.until_not_ready("the right pubsub.topics.publish is missing").await;
    world.server.grant(&publish.role, publish.resource, WORKER).unwrap();
    worker.until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_one_grant_something_is_missed() {
    let rows = rows();
    let mut grants: Vec<&Row> = Vec::new();
    for row in &rows {
        if !grants.iter().any(|known| (&known.role, known.resource) == (&row.role, row.resource)) {
            grants.push(row);
        }
    }
    assert_eq!(grants.len(), 7);
    futures::future::join_all(grants.into_iter().map(|missing| missed(&rows, missing))).await;
}

async fn missed(rows: &[Row], missing: &Row) {
    let world = world(rows, Some(missing)).await;
    let requests = [world.publish(wine().request(&[1]), &[]), world.publish(reference(), &[])];
    let worker = worker(&world);
    let permissions: Vec<&str> = rows
        .iter()
        .filter(|row| (&row.role, row.resource) == (&missing.role, missing.resource))
        .map(|row| &*row.permission)
        .collect();
    let refused = world.server.history.wait_until(PATIENCE, |events| {
        let refused = |event: &Event| {
            permissions.iter().any(|permission| is_refusal_of(event, permission, missing.resource))
        };
        events.iter().any(refused)
    });
    assert!(refused.await, "{missing:?} is not needed; the log:\n{}", worker.log());
    match &missing.log {
        Some(log) => worker.until_log(log).await,
        None => drop(world.responses(&requests).await),
    }
}
