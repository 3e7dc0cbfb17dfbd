//! Models come, go wrong, and are replaced; what serves goes on serving.

use local_gcp::faults::Fault;

use crate::support::harness::{Worker, World, crc, model_file};
use crate::support::oracle::wine;

async fn answers_with(world: &World, version: &str) {
    let response = world.ask(wine().request(&[3]), &[]).await;
    assert_eq!(wine().check(&[3], &response), version);
}

/// The reason that `/info` gives for not serving `version`, once it gives one.
async fn refusal(worker: &Worker, version: &str) -> String {
    let find = |info: &serde_json::Value| {
        let refused = info["models"]["wine"]["refused"].as_array()?;
        let found = refused.iter().find(|refusal| refusal["version"] == version)?;
        Some(found["reason"].as_str().unwrap().to_owned())
    };
    find(&worker.until_info(&format!("a refusal of {version}"), |info| find(info).is_some()).await).unwrap()
}

async fn one_version(world: &World) -> Worker {
    world.upload_version("wine/1", "wine", "1");
    world.ready_worker(&[]).await
}

/// The crate `tokenizers` panics on this file: that is its version's fault, and no error to be reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_library_panics_on_refuses_its_version_alone() {
    let world = World::start().await;
    let worker = one_version(&world).await;
    world.upload("models/wine/2/tokenizer.json", br#"{"decoder": 1e999}"#.to_vec());
    world.upload("models/wine/2/model.yaml", b"text: {}".to_vec());
    world.upload("models/wine/2/model.onnx", model_file("zoo/torch-transformer", "model.onnx"));
    // Incomplete before that.
    let says = "\"tokenizer.json\" is no tokenizer: the tokenizer library failed on it";
    worker
        .until_info(says, |info| {
            info["models"]["wine"]["refused"][0]["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains(says))
        })
        .await;
    assert!(!worker.log().contains("panic"), "{}", worker.log());
    answers_with(&world, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_version_never_serves_and_a_later_good_one_does() {
    let world = World::start().await;
    let worker = one_version(&world).await;
    world.upload("models/wine/2/model.onnx", b"not a model".to_vec());
    assert!(refusal(&worker, "2").await.contains("model"), "{}", worker.info().await);
    answers_with(&world, "1").await;
    world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    answers_with(&world, "2").await;
    // Cleared after the swap.
    worker.until_info("no refusal", |info| info["models"]["wine"]["refused"] == serde_json::json!([])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_signature_never_serves() {
    let world = World::start().await;
    let worker = one_version(&world).await;
    world.upload_version("types/float32/1", "wine", "2");
    let reason = refusal(&worker, "2").await;
    assert!(reason.contains("another signature") && reason.contains("float32[?, 13]"), "{reason}");
    answers_with(&world, "1").await;
    assert_eq!(worker.get("/ready").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_upload_never_serves_until_it_is_whole() {
    let world = World::start().await;
    let worker = one_version(&world).await;
    let model = model_file("wine/2", "model.onnx");
    let crc = crc(&model);
    let manifest =
        format!(r#"{{"files": {{"model.onnx": {{"size": {}, "crc32c": "{crc}"}}}}}}"#, model.len());
    world.upload("models/wine/2/MLmodel", model_file("wine/2", "MLmodel"));
    world.upload("models/wine/2/manifest.json", manifest.into_bytes());
    assert_eq!(refusal(&worker, "2").await, "incomplete: waiting for \"model.onnx\"");
    world.upload("models/wine/2/model.onnx", model[..1000].to_vec());
    let reason = worker
        .until_info("the size", |info| {
            info["models"]["wine"]["refused"][0]["reason"].as_str().is_some_and(|r| r.contains("1000 bytes"))
        })
        .await;
    assert!(reason.to_string().contains("manifest.json"), "{reason}");
    answers_with(&world, "1").await;
    world.upload("models/wine/2/model.onnx", model);
    worker.until_serving("wine", "2").await;
    answers_with(&world, "2").await;
}

/// Weights of an `If`'s branches lie in a file that is named with `./`; another tensor has data of its own
/// beside a location.
#[tokio::test(flavor = "multi_thread")]
async fn weights_of_subgraphs_are_waited_for_and_stale_locations_are_not() {
    let world = World::start().await;
    let worker = one_version(&world).await;
    let file = |name: &str| model_file("faults/external-subgraph/1", name);
    world.upload("models/add/1/model.onnx", file("model.onnx"));
    let reason = |info: &serde_json::Value| info["models"]["add"]["refused"][0]["reason"].clone();
    let info = worker.until_info("a reason", |info| reason(info).is_string()).await;
    assert_eq!(reason(&info), "incomplete: waiting for \"./branches.bin\", which \"model.onnx\" names");
    world.upload("models/add/1/branches.bin", file("branches.bin"));
    worker.until_serving("add", "1").await;
    let response = world.ask(r#"{"instances": [1, -7]}"#, &[("model", "add")]).await;
    let body: serde_json::Value = serde_json::from_slice(&response.data).unwrap();
    assert_eq!(body["predictions"], serde_json::json!([8, 0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_downloads_are_tried_again() {
    let world = World::start().await;
    let worker = one_version(&world).await;
    world.server.faults.inject("storage.objects.get.media", Fault::Corrupt, 2);
    world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    answers_with(&world, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_poll_finds_what_no_notification_told() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let worker = world
        .ready_worker(&[("PREDICTD_MODELS__UPDATES", ""), ("PREDICTD_MODELS__POLL_INTERVAL", "200ms")])
        .await;
    world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    answers_with(&world, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_version_wins_whatever_comes_last() {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    let worker = world.ready_worker(&[]).await;
    world.upload_version("wine/1", "wine", "1");
    world.upload("models/wine/latest/model.onnx", vec![]);
    answers_with(&world, "2").await;
    // The folder that is no version was seen, so the older one was too.
    worker.until_info("anything", |_| worker.log().contains("wine/latest")).await;
    worker.until_serving("wine", "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_version_is_named_with_what_was_expected() {
    let world = World::start().await;
    for object in ["fraud/model.onnx", "fraud/v.1/model.onnx", "fraud/1/model.pkl", "model.pkl"] {
        world.upload(&format!("models/{object}"), b"any".to_vec());
    }
    let worker = world.worker(&[]);
    let ignored = |info: &serde_json::Value| info["ignored"].as_array().cloned().unwrap_or_default();
    let info = worker.until_info("four warnings", |info| ignored(info).len() == 4).await;
    for (entry, (path, words)) in ignored(&info).iter().zip([
        ("gs://models/models/fraud/1/model.pkl", "ONNX format"),
        ("gs://models/models/fraud/model.onnx", "such as fraud/1/model.onnx"),
        ("gs://models/models/fraud/v.1", "a semantic version"),
        ("gs://models/models/model.pkl", "MODEL/VERSION/model.onnx"),
    ]) {
        assert_eq!(entry["path"], path);
        assert!(entry["expected"].as_str().unwrap().contains(words), "{entry}");
    }
    world.upload_version("wine/1", "wine", "1");
    worker.until_serving("wine", "1").await;
    let log = worker.log();
    let line = |path: &str| log.lines().filter(|line| line.contains(&format!("\"path\":\"{path}\""))).count();
    for entry in ignored(&info) {
        assert_eq!(line(entry["path"].as_str().unwrap()), 1, "said once: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_models_side_by_side() {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    world.upload_version("types/int64/1", "numbers", "7");
    let _worker = world.ready_worker(&[("PREDICTD_MODELS__DEFAULT", "wine")]).await;
    let response =
        world.ask(r#"{"instances": [[1, 2, 3]]}"#, &[("model", "numbers"), ("model_version", "7")]).await;
    assert_eq!(response.attributes["status"], "ok", "{response:?}");
    assert_eq!(
        (response.attributes["model"].as_str(), response.attributes["model_version"].as_str()),
        ("numbers", "7")
    );
    let body: serde_json::Value = serde_json::from_slice(&response.data).unwrap();
    assert_eq!(body["predictions"], serde_json::json!([{"same": [1, 2, 3], "changed": [-2, -3, -4]}]));
    answers_with(&world, "2").await;
    let other =
        world.ask(r#"{"instances": [[1, 2, 3]]}"#, &[("model", "numbers"), ("model_version", "8")]).await;
    assert_eq!(other.attributes["error_code"], "MODEL_NOT_FOUND");
    // A request for another version is not validated against one that cannot answer it.
    let other_shape = r#"{"id": "a", "instances": [["red"]]}"#;
    let other = world.ask(other_shape, &[("model", "numbers"), ("model_version", "8")]).await;
    let body: serde_json::Value = serde_json::from_slice(&other.data).unwrap();
    assert_eq!((&body["error"]["code"], &body["id"]), (&"MODEL_NOT_FOUND".into(), &"a".into()), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_model_without_a_default_is_warned_about() {
    let world = World::start().await;
    let worker = one_version(&world).await;
    let warned = || worker.log().matches("requests that name none are refused with MODEL_NOT_FOUND").count();
    assert_eq!(warned(), 0);
    world.upload_version("types/int64/1", "numbers", "1");
    worker.until_log("requests that name none are refused").await;
    assert!(worker.log().contains("\"models\":\"numbers, wine\""), "{}", worker.log());
    world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    let response = world.ask(wine().request(&[3]), &[]).await;
    assert_eq!(response.attributes["error_code"], "MODEL_NOT_FOUND");
    assert_eq!(warned(), 1, "said once");
    let other = world.ready_worker(&[("PREDICTD_MODELS__DEFAULT", "wine")]).await;
    other.until_serving("numbers", "1").await;
    assert!(!other.log().contains("requests that name none"), "{}", other.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_serves_as_a_bucket_does() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let put = |version: &str| {
        let target = folder.path().join("wine").join(version);
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(target.join("model.onnx"), model_file(&format!("wine/{version}"), "model.onnx"))
            .unwrap();
    };
    put("1");
    let source = folder.path().to_str().unwrap();
    let worker = world
        .ready_worker(&[("PREDICTD_MODELS__SOURCE", source), ("PREDICTD_MODELS__POLL_INTERVAL", "100ms")])
        .await;
    answers_with(&world, "1").await;
    put("2");
    worker.until_serving("wine", "2").await;
    answers_with(&world, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_model_waits_for_one() {
    let world = World::start().await;
    let worker = world.worker(&[]);
    worker.until_not_ready("no model is serving yet").await;
    world.upload_version("wine/1", "wine", "1");
    worker.until_ready().await;
    answers_with(&world, "1").await;
}
