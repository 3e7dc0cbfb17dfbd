//! The served version depends on the content of the source, not on what a worker has seen of it.

use std::collections::BTreeMap;

use local_gcp::faults::Fault;
use local_gcp::history::What;
use serde_json::{Value, json};

use crate::support::harness::{Worker, World};

/// Two signatures: `x` is float32 in the one and int64 in the other.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Signature {
    A,
    B,
}
use Signature::{A, B};

/// Signatures of one model's versions, and which of them declare a new one.
type Versions = BTreeMap<u32, (Signature, bool)>;

/// The rule: the newest version, unless it silently differs from the one that would be served without it.
fn expected(versions: &Versions) -> Option<u32> {
    let (&newest, &(signature, is_new)) = versions.last_key_value()?;
    let mut older = versions.clone();
    older.remove(&newest);
    match expected(&older) {
        Some(before) if !is_new && versions[&before].0 != signature => Some(before),
        _ => Some(newest),
    }
}

fn put(world: &World, model: &str, version: u32, (signature, is_new): (Signature, bool)) {
    if is_new {
        world.upload(&format!("models/{model}/{version}/model.yaml"), b"new_signature: true".to_vec());
    }
    let from = if signature == A { "types/float32/1" } else { "types/int64/1" };
    world.upload_version(from, model, &version.to_string());
}

fn remove(world: &World, model: &str, version: u32, (_, is_new): (Signature, bool)) {
    world.delete(&format!("models/{model}/{version}/model.onnx"));
    if is_new {
        world.delete(&format!("models/{model}/{version}/model.yaml"));
    }
}

fn served(info: &Value, model: &str) -> Option<u32> {
    info["models"][model]["serving"]["version"].as_str().map(|version| version.parse().unwrap())
}

fn refused(info: &Value, model: &str) -> Vec<u32> {
    let refused = info["models"][model]["refused"].as_array().into_iter().flatten();
    refused.map(|refusal| refusal["version"].as_str().unwrap().parse().unwrap()).collect()
}

/// Waits until the worker serves each model as the rule says, newer versions refused and nothing else.
async fn agrees(worker: &Worker, who: &str, source: &BTreeMap<String, Versions>) {
    let holds = |info: &Value| {
        source.iter().all(|(model, versions)| {
            let version = expected(versions);
            let newer = versions.keys().rev().copied().take_while(|newer| Some(*newer) != version);
            // A model without versions is one of a worker that served it, or of nobody.
            version.is_none()
                || served(info, model) == version
                    && refused(info, model) == newer.collect::<Vec<_>>()
                    && info["models"][model]["warning"].is_null()
        })
    };
    worker.until_info(&format!("{who} with {source:?}"), holds).await;
}

/// Uploads in every order, deletions and repeated uploads: a worker that saw all of it, one that starts
/// afterwards, and a second replica agree.
#[tokio::test(flavor = "multi_thread")]
async fn all_workers_agree_whatever_came_before() {
    let world = World::start().await;
    let mut source = BTreeMap::new();
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    // Versions that differ without a word, versions that say so, and a mistake that was corrected.
    let sets = [
        ("silent", [(A, false), (B, false), (B, false)]),
        ("declared", [(A, false), (B, true), (B, false)]),
        ("corrected", [(A, false), (B, false), (A, false)]),
    ];
    let names = || {
        let numbered = |(name, set)| orders.iter().enumerate().map(move |(at, order)| (name, set, at, order));
        sets.into_iter().flat_map(numbered).map(|(name, set, at, order)| (format!("{name}{at}"), set, order))
    };
    let variables = [("PREDICTD_MODELS__DEFAULT", "silent0"), ("PREDICTD_INFERENCE__THREADS", "1")];
    let worker = world.worker(&variables);
    for round in 0..3 {
        for (model, set, order) in names() {
            let version = order[round];
            let what = set[version as usize - 1];
            put(&world, &model, version, what);
            source.entry(model).or_insert_with(Versions::new).insert(version, what);
        }
        agrees(&worker, "the running worker", &source).await;
        agrees(&world.ready_worker(&variables).await, "a new worker", &source).await;
    }
    let ends: Vec<_> = ["silent0", "declared0", "corrected0"].map(|model| expected(&source[model])).to_vec();
    assert_eq!(ends, [Some(1), Some(3), Some(3)]);
    // The newest is deleted: back to the one before. Then the oldest is replaced by another signature.
    for (model, versions) in &mut source {
        remove(&world, model, 3, versions.remove(&3).unwrap());
    }
    agrees(&worker, "the running worker, the newest deleted", &source).await;
    for (model, versions) in &mut source {
        remove(&world, model, 1, versions.remove(&1).unwrap());
    }
    agrees(&worker, "the running worker, the oldest deleted", &source).await;
    for (model, versions) in &mut source {
        versions.insert(1, (B, false));
        put(&world, model, 1, (B, false));
    }
    agrees(&worker, "the running worker, the oldest uploaded again", &source).await;
    agrees(&world.ready_worker(&variables).await, "a new worker at the end", &source).await;
}

/// A start compares the newest version with the oldest and reads no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_reads_the_newest_version_and_the_oldest() {
    let world = World::start().await;
    for version in 1..=5 {
        put(&world, "numbers", version, (A, false));
    }
    let worker = world.ready_worker(&[]).await;
    assert_eq!(served(&worker.info().await, "numbers"), Some(5));
    let read: Vec<String> = world.server.history.with(|events| {
        let read = events.iter().filter_map(|event| match &event.what {
            What::Read(read) => Some(read.object.clone()),
            _ => None,
        });
        read.collect()
    });
    assert_eq!(read, ["models/numbers/1/model.onnx", "models/numbers/5/model.onnx"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_to_do_and_leaves_no_metrics() {
    let world = World::start().await;
    put(&world, "numbers", 1, (A, false));
    let worker = world.ready_worker(&[]).await;
    put(&world, "numbers", 2, (B, false));
    let has_reason = |info: &Value| info["models"]["numbers"]["refused"][0]["reason"].is_string();
    let info = worker.until_info("a refusal", has_reason).await;
    let reason = info["models"]["numbers"]["refused"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("version 1: input x int64[?, 3], expected x float32[?, 3]"), "{reason}");
    assert!(reason.contains("push --new-signature") && reason.contains("`new_signature: true`"), "{reason}");
    let (_, metrics) = worker.get("/metrics").await;
    assert!(metrics.contains("version=\"1\"") && !metrics.contains("version=\"2\""), "{metrics}");
    // By hand, beside the files that are there.
    world.upload("models/numbers/2/model.yaml", b"new_signature: true".to_vec());
    worker.until_serving("numbers", "2").await;
    let (_, metrics) = worker.get("/metrics").await;
    assert!(metrics.contains("version=\"2\""), "{metrics}");
}

/// Requests that wait at a change of the signature run on the version that they were decoded for.
#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_keep_their_signature() {
    let world = World::start().await;
    put(&world, "numbers", 1, (A, false));
    // Requests wait for a batch of five rows while the version changes.
    let variables = [("PREDICTD_BATCHING__MAX_WAIT", "60s"), ("PREDICTD_BATCHING__MAX_ROWS", "5")];
    let worker = world.ready_worker(&variables).await;
    worker.until_info("the model", |info| served(info, "numbers").is_some()).await;
    let floats = r#"{"instances": [[0.5, 1.5, 2.5]]}"#;
    let of_version = [("model_version", "1")];
    let wanted: [&[(&str, &str)]; 4] = [&[], &[], &of_version, &[]];
    let ids = wanted.map(|attributes| world.publish(floats, attributes));
    worker.until_metric("predictd_messages_in_hand", 4.0).await;
    put(&world, "numbers", 2, (B, true));
    worker.until_serving("numbers", "2").await;
    let is_waiting = world.server.history.with(|events| {
        let responses = crate::support::oracle::responses(events);
        ids.iter().all(|id| !responses.contains_key(&**id))
    });
    assert!(is_waiting, "the requests were answered before the change");
    let later: Vec<String> = (0..5).map(|_| world.publish(r#"{"instances": [[1, 2, 3]]}"#, &[])).collect();
    let responses = world.responses(&[&ids[..], &later].concat()).await;
    for id in &ids {
        let (response, body) =
            (&responses[id], serde_json::from_slice::<Value>(&responses[id].data).unwrap());
        assert_eq!(response.attributes["model_version"], "1", "{body}");
        assert_eq!(body["predictions"][0]["same"], json!([0.5, 1.5, 2.5]), "{body}");
    }
    for id in &later {
        assert_eq!(responses[id].attributes["model_version"], "2");
        assert_eq!(responses[id].attributes["status"], "ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_brings_no_older_version_back() {
    let world = World::start().await;
    put(&world, "numbers", 1, (A, false));
    put(&world, "numbers", 2, (A, false));
    let worker = world.ready_worker(&[("PREDICTD_MODELS__POLL_INTERVAL", "300ms")]).await;
    worker.until_serving("numbers", "2").await;
    world.server.faults.inject(
        "storage.objects.get.media",
        Fault::Fail("PERMISSION_DENIED".to_owned()),
        10_000,
    );
    put(&world, "numbers", 3, (A, false));
    worker.until_info("a refusal of 3", |info| refused(info, "numbers") == [3]).await;
    remove(&world, "numbers", 2, (A, false));
    let info = worker.until_info("a warning", |info| info["models"]["numbers"]["warning"].is_string()).await;
    let warning = info["models"]["numbers"]["warning"].as_str().unwrap();
    assert!(warning.contains("cannot be read") && warning.contains("version 2 stays"), "{warning}");
    assert_eq!(served(&info, "numbers"), Some(2));
    world.server.faults.clear();
    worker.until_serving("numbers", "3").await;
    let info = worker.until_info("no warning", |info| info["models"]["numbers"]["warning"].is_null()).await;
    assert!(refused(&info, "numbers").is_empty(), "{info}");
}

/// A model that goes from the source stays in service until a second listing has none of it, and `/info`
/// tells; one that is damaged there stays. No version is both served and refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_version_stays_whatever_becomes_of_it() {
    let world = World::start().await;
    put(&world, "numbers", 7, (A, false));
    let worker = world.ready_worker(&[]).await;
    let warning = |info: &Value| info["models"]["numbers"]["warning"].as_str().unwrap_or_default().to_owned();
    world.upload("models/numbers/7/model.onnx", b"no model".to_vec());
    let info = worker.until_info("a warning", |info| warning(info).contains("no ONNX model")).await;
    assert!(warning(&info).contains("no version in the source can be served: version 7 stays"), "{info}");
    assert_eq!((served(&info, "numbers"), refused(&info, "numbers")), (Some(7), vec![]));
    world.delete("models/numbers/7/model.onnx");
    worker.until_info("another", |info| warning(info).contains("no version of it is in the source")).await;
    let response = world.ask(r#"{"instances": [[0.5, 1.5, 2.5]]}"#, &[]).await;
    assert_eq!(response.attributes["status"], "ok", "{response:?}");
    put(&world, "numbers", 6, (B, false));
    worker.until_serving("numbers", "6").await;
    worker.until_info("no warning", |info| warning(info).is_empty()).await;
}
