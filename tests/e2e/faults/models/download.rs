//! Faults 27 to 30: files that are missing, damaged, cut short, or another.

use std::path::PathBuf;
use std::time::Instant;

use local_gcp::faults::Fault;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn fault_27_weights_there_manifest_not() {
    let world = World::start().await;
    let put = |version: &str, file: &str| {
        let object = format!("models/wine/{version}/{file}");
        world.upload(&object, model_file("zoo/external-weights", file));
    };
    let answers = async |version: &str| {
        let response = world.ask(r#"{"instances": [[1, 2, 3]]}"#, &[]).await;
        let body: serde_json::Value = serde_json::from_slice(&response.data).unwrap();
        assert_eq!(response.attributes["model_version"], version);
        assert_eq!(body["predictions"], serde_json::json!([[16.0, 21.0, 26.0, 31.0]]));
    };
    put("1", "weights.bin");
    put("1", "model.onnx");
    let worker = world.ready_worker(&[]).await;
    // The weights alone; then a manifest that names a model which is not there; then all of it.
    put("2", "weights.bin");
    refusal(&worker, "2", "incomplete: waiting for \"model.onnx\"").await;
    answers("1").await;
    let files: serde_json::Map<String, serde_json::Value> = ["weights.bin", "model.onnx"]
        .map(|file| {
            let data = model_file("zoo/external-weights", file);
            (file.to_owned(), serde_json::json!({"size": data.len(), "crc32c": crc(&data)}))
        })
        .into_iter()
        .collect();
    let manifest = serde_json::json!({ "files": files }).to_string();
    world.upload("models/wine/2/manifest.json", manifest.into_bytes());
    worker.until_metric("predictd_models_serving", 1.0).await;
    answers("1").await;
    put("2", "model.onnx");
    worker.until_serving("wine", "2").await;
    answers("2").await;
    assert!(!worker.log().contains("version refused"), "an upload under way is no error: {}", worker.log());
    nothing_was_lost(&world).await;
    row(
        27,
        "a version's weights without its model file, then with a manifest that names it",
        "old serves, no error reported",
        "old served, `/info` said \"waiting for model.onnx\"; served once whole",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_28_wrong_checksum() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let worker = world.ready_worker(&[]).await;
    let model = model_file("wine/2", "model.onnx");
    let manifest = |crc: &str| {
        let files = serde_json::json!({"model.onnx": {"size": model.len(), "crc32c": crc}});
        serde_json::json!({ "files": files }).to_string().into_bytes()
    };
    world.upload("models/wine/2/MLmodel", model_file("wine/2", "MLmodel"));
    world.upload("models/wine/2/manifest.json", manifest("AAAAAA=="));
    world.upload("models/wine/2/model.onnx", model.clone());
    refusal(&worker, "2", "\"model.onnx\" has the crc32c").await;
    serves(&world, &worker, "1").await;
    // Damaged on the way: read again at once, until it is what the bucket holds.
    world.server.faults.inject(MEDIA, Fault::Corrupt, 3);
    world.upload("models/wine/2/manifest.json", manifest(&crc(&model)));
    worker.until_serving("wine", "2").await;
    assert_eq!(world.server.faults.waiting(MEDIA), 0);
    serves(&world, &worker, "2").await;
    nothing_was_lost(&world).await;
    row(
        28,
        "a manifest with a wrong crc32c; then three downloads with a flipped bit",
        "refused by name, old serves; tried again",
        "refused naming the file and both checksums, old served; read again after each flipped bit, then served",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_29_breaks_stalls_and_503_at_half() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let cache = tempfile::tempdir().unwrap();
    let worker = world.ready_worker(&[("PREDICTD_MODELS__CACHE", cache.path().to_str().unwrap())]).await;
    let half = 2 << 20;
    world.server.faults.inject(MEDIA, Fault::ResetAfter(half), 1);
    world.server.faults.inject(MEDIA, Fault::Fail("UNAVAILABLE".to_owned()), 1);
    world.server.faults.inject(MEDIA, Fault::StallAfter(half / 2), 1);
    let assets: Vec<u8> = (0..2 * half).map(|at| (at % 251) as u8).collect();
    let started = Instant::now();
    world.upload("models/wine/2/assets.bin", assets);
    faults_left(&world, 0).await;
    serves(&world, &worker, "1").await;
    world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    let took = started.elapsed();
    serves(&world, &worker, "2").await;
    let generations = reads(&world, "models/wine/2/assets.bin");
    assert!(generations.windows(2).all(|pair| pair[0] == pair[1]), "{generations:?}");
    // Each break and how far the file had come by then: it never began anew.
    let log = worker.log();
    let mut received: Vec<u64> = Vec::new();
    for line in log.lines().filter(|line| line.contains("a download broke")) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        received.push(line["received"].as_u64().unwrap());
    }
    assert!(received.is_sorted() && received.len() == 3 && received[1] > 0, "{received:?}");
    assert!(received[2] > received[1], "the stalled read did not go on from the break: {received:?}");

    // It never gets better: given up, the old one serves, and later it is tried again.
    world.server.faults.inject(MEDIA, Fault::Fail("UNAVAILABLE".to_owned()), 6);
    world.upload("models/wine/3/MLmodel", model_file("wine/1", "MLmodel"));
    refusal(&worker, "3", "given up after 6 attempts").await;
    assert_eq!(found(cache.path(), ".partial-"), Vec::<PathBuf>::new());
    serves(&world, &worker, "2").await;
    world.server.faults.clear();
    refusal(&worker, "3", "incomplete: waiting for \"model.onnx\"").await;
    nothing_was_lost(&world).await;
    row(
        29,
        "a download of 4 MB reset at half, answered 503, then stalled; another answered 503 six times",
        "resumes the same generation or gives up, old serves",
        &format!(
            "resumed one generation from {received:?} bytes in {:.0} s; the other given up and tried again later",
            took.as_secs_f64()
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_overwritten_while_downloading() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let worker = world.ready_worker(&[]).await;
    // First the files of version 1 under the name of 2; its model file breaks at half and is overwritten before the rest.
    let filler = vec![7; 3 << 20];
    world.server.faults.inject(MEDIA, Fault::ResetAfter(1 << 20), 1);
    world.server.faults.inject(MEDIA, Fault::DelayMs(1500), 1);
    world.upload("models/wine/2/assets.bin", filler.clone());
    faults_left(&world, 0).await;
    world.upload("models/wine/2/assets.bin", vec![8; 3 << 20]);
    world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    serves(&world, &worker, "2").await;
    let generations = reads(&world, "models/wine/2/assets.bin");
    assert!(generations.len() >= 2 && generations.is_sorted(), "{generations:?}");
    assert_ne!(generations.first(), generations.last());

    // The model itself, between its half and its rest: what serves is one or the other, never a mix.
    let objects = ["models/wine/4/MLmodel", "models/wine/4/model.onnx"];
    world.server.faults.inject(MEDIA, Fault::DelayMs(0), 1);
    world.server.faults.inject(MEDIA, Fault::ResetAfter(400), 1);
    world.server.faults.inject(MEDIA, Fault::DelayMs(1500), 1);
    // Both files are there before the worker hears of them.
    for (object, file) in objects.iter().zip(["MLmodel", "model.onnx"]) {
        world.upload(object, model_file("wine/1", file));
    }
    faults_left(&world, 0).await;
    for (object, file) in objects.iter().zip(["MLmodel", "model.onnx"]) {
        world.upload(object, model_file("wine/2", file));
    }
    worker.until_serving("wine", "4").await;
    let end = Instant::now() + PATIENCE;
    loop {
        let response = world.ask(wine().request(&[3, 90]), &[]).await;
        // Whole versions only: an answer is that of version 1's files or that of version 2's.
        let is = |files: &'static str| {
            std::panic::catch_unwind(|| wine().check_as(&[3, 90], &response, |_| files.to_owned())).is_ok()
        };
        if is("2") {
            break;
        }
        assert!(is("1") && Instant::now() < end, "a mix: {response:?}");
    }
    nothing_was_lost(&world).await;
    row(
        30,
        "files overwritten between two halves of their download",
        "never a mix",
        "the pinned generation was gone, so all was listed and read anew; only the new files served",
    );
}
