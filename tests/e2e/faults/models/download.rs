//! Faults 27 to 30: files that are missing, damaged, cut short, or another.

use std::path::PathBuf;
use std::time::Instant;

use local_gcp::faults::Fault;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn fault_27_weights_there_manifest_not() {
    let injected = "a version's weights without its model file, then with a manifest that names it";
    let promise = "old serves, no error reported";
    let mut trial = Trial::of(World::start().await, 27, injected, promise);
    let put = |world: &World, version: &str, file: &str| {
        let object = format!("models/wine/{version}/{file}");
        world.upload(&object, model_file("zoo/external-weights", file));
    };
    let answers = async |trial: &mut Trial, version: &str| {
        let end = End::Contains("26".to_owned());
        let response = trial.ask(r#"{"instances": [[1, 2, 3]]}"#, &[], end).await;
        let body: serde_json::Value = serde_json::from_slice(&response.data).unwrap();
        assert_eq!(response.attributes["model_version"], version);
        assert_eq!(body["predictions"], serde_json::json!([[16.0, 21.0, 26.0, 31.0]]));
    };
    put(&trial.world, "1", "weights.bin");
    put(&trial.world, "1", "model.onnx");
    let worker = trial.world.ready_worker(&[]).await;
    // The weights alone; then a manifest that names a model which is not there; then all of it.
    put(&trial.world, "2", "weights.bin");
    refusal(&worker, "2", "incomplete: waiting for \"model.onnx\"").await;
    answers(&mut trial, "1").await;
    let files: serde_json::Map<String, serde_json::Value> = ["weights.bin", "model.onnx"]
        .map(|file| {
            let data = model_file("zoo/external-weights", file);
            (file.to_owned(), serde_json::json!({"size": data.len(), "crc32c": crc(&data)}))
        })
        .into_iter()
        .collect();
    let manifest = serde_json::json!({ "files": files }).to_string();
    trial.world.upload("models/wine/2/manifest.json", manifest.into_bytes());
    worker.until_metric("predictd_models_serving", 1.0).await;
    answers(&mut trial, "1").await;
    put(&trial.world, "2", "model.onnx");
    worker.until_serving("wine", "2").await;
    answers(&mut trial, "2").await;
    assert!(!worker.log().contains("version refused"), "an upload under way is no error: {}", worker.log());
    trial
        .judge(
            &worker,
            Allowed::default(),
            "old served, `/info` said \"waiting for model.onnx\"; served once whole",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_28_wrong_checksum() {
    let injected = "a manifest with a wrong crc32c; then three downloads with a flipped bit";
    let mut trial = trial(28, injected, "refused by name, old serves; tried again").await;
    let worker = trial.world.ready_worker(&[]).await;
    let model = model_file("wine/2", "model.onnx");
    let manifest = |crc: &str| {
        let files = serde_json::json!({"model.onnx": {"size": model.len(), "crc32c": crc}});
        serde_json::json!({ "files": files }).to_string().into_bytes()
    };
    trial.world.upload("models/wine/2/MLmodel", model_file("wine/2", "MLmodel"));
    trial.world.upload("models/wine/2/manifest.json", manifest("AAAAAA=="));
    trial.world.upload("models/wine/2/model.onnx", model.clone());
    refusal(&worker, "2", "\"model.onnx\" has the crc32c").await;
    trial.serves(&worker, "1").await;
    // Damaged on the way: read again at once, until it is what the bucket holds.
    trial.world.server.faults.inject(MEDIA, Fault::Corrupt, 3);
    trial.world.upload("models/wine/2/manifest.json", manifest(&crc(&model)));
    worker.until_serving("wine", "2").await;
    assert_eq!(trial.world.server.faults.waiting(MEDIA), 0);
    trial.serves(&worker, "2").await;
    trial.judge(&worker, Allowed::default(), "refused naming the file and both checksums, old served; read again after each flipped bit, then served").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_29_breaks_stalls_and_503_at_half() {
    let injected =
        "a download of 4 MB reset at half, answered 503, then stalled; another answered 503 six times";
    let mut trial = trial(29, injected, "resumes the same generation or gives up, old serves").await;
    let cache = tempfile::tempdir().unwrap();
    let worker =
        trial.world.ready_worker(&[("PREDICTD_MODELS__CACHE", cache.path().to_str().unwrap())]).await;
    let half = 2 << 20;
    trial.world.server.faults.inject(MEDIA, Fault::ResetAfter(half), 1);
    trial.world.server.faults.inject(MEDIA, Fault::Fail("UNAVAILABLE".to_owned()), 1);
    trial.world.server.faults.inject(MEDIA, Fault::StallAfter(half / 2), 1);
    let assets: Vec<u8> = (0..2 * half).map(|at| (at % 251) as u8).collect();
    let started = Instant::now();
    trial.world.upload("models/wine/2/assets.bin", assets);
    faults_left(&trial.world, 0).await;
    trial.serves(&worker, "1").await;
    trial.world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    let took = started.elapsed();
    trial.serves(&worker, "2").await;
    let generations = reads(&trial.world, "models/wine/2/assets.bin");
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
    trial.world.server.faults.inject(MEDIA, Fault::Fail("UNAVAILABLE".to_owned()), 6);
    trial.world.upload("models/wine/3/MLmodel", model_file("wine/1", "MLmodel"));
    refusal(&worker, "3", "gave up after 6 attempts").await;
    assert_eq!(found(cache.path(), ".partial-"), Vec::<PathBuf>::new());
    trial.serves(&worker, "2").await;
    trial.world.server.faults.clear();
    refusal(&worker, "3", "incomplete: waiting for \"model.onnx\"").await;
    trial.judge(&worker, Allowed::default(), &format!(
            "resumed one generation from {received:?} bytes in {:.0} s; the other given up and tried again later",
            took.as_secs_f64()
        )).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_overwritten_while_downloading() {
    let injected = "files overwritten between two halves of their download";
    let mut trial = trial(30, injected, "never a mix").await;
    let worker = trial.world.ready_worker(&[]).await;
    // First the files of version 1 under the name of 2; its model file breaks at half and is overwritten
    // before the rest.
    let filler = vec![7; 3 << 20];
    trial.world.server.faults.inject(MEDIA, Fault::ResetAfter(1 << 20), 1);
    trial.world.server.faults.inject(MEDIA, Fault::DelayMs(1500), 1);
    trial.world.upload("models/wine/2/assets.bin", filler.clone());
    faults_left(&trial.world, 0).await;
    trial.world.upload("models/wine/2/assets.bin", vec![8; 3 << 20]);
    trial.world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    trial.serves(&worker, "2").await;
    let generations = reads(&trial.world, "models/wine/2/assets.bin");
    assert!(generations.len() >= 2 && generations.is_sorted(), "{generations:?}");
    assert_ne!(generations.first(), generations.last());

    // The model itself, between its half and its rest: what serves is one or the other, never a mix.
    let objects = ["models/wine/4/MLmodel", "models/wine/4/model.onnx"];
    trial.world.server.faults.inject(MEDIA, Fault::DelayMs(0), 1);
    trial.world.server.faults.inject(MEDIA, Fault::ResetAfter(400), 1);
    trial.world.server.faults.inject(MEDIA, Fault::DelayMs(1500), 1);
    // Both files are there before the worker hears of them.
    for (object, file) in objects.iter().zip(["MLmodel", "model.onnx"]) {
        trial.world.upload(object, model_file("wine/1", file));
    }
    faults_left(&trial.world, 0).await;
    for (object, file) in objects.iter().zip(["MLmodel", "model.onnx"]) {
        trial.world.upload(object, model_file("wine/2", file));
    }
    worker.until_serving("wine", "4").await;
    let end = Instant::now() + PATIENCE;
    // Whole versions only: the judge takes an answer for that of version 1's files or of version 2's, and for
    // nothing else.
    loop {
        let response = trial.ask(wine().request(&[3, 90]), &[], End::Wine(vec![3, 90])).await;
        if wine().is_of("2", &[3, 90], &response) {
            break;
        }
        assert!(Instant::now() < end, "the new files never served");
    }
    trial
        .judge(
            &worker,
            Allowed::default(),
            "the pinned generation was gone, so all was listed and read anew; only the new files served",
        )
        .await;
}
