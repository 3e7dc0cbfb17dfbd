//! Faults 33 and 34: versions that must not be served.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn fault_33_bad_models() {
    let injected =
        "versions that are no model, truncated, of another signature, failing a sample, giving NaN";
    let mut trial = trial(33, injected, "refused and named, old serves, still ready").await;
    let worker = trial.world.ready_worker(&[]).await;
    let yaml =
        |expected: &str| format!("samples:\n  - request: {}\n{expected}", wine().request(&[0])).into_bytes();
    // The model that gives NaN: for the rows whose first elements are 0 and 0.
    let zeros = serde_json::json!({"instances": [vec![0; 13]]}).to_string();
    let no_nan = format!("samples:\n  - request: {zeros}\n").into_bytes();
    let bad = [
        ("2", vec![("model.onnx", b"no model at all".to_vec())], "no ONNX model"),
        ("3", vec![("model.onnx", model_file("types/float32/1", "model.onnx"))], "another signature"),
        (
            "4",
            vec![
                ("MLmodel", model_file("wine/2", "MLmodel")),
                ("model.yaml", yaml("    expected: [{label: 9, probabilities: [0, 0, 1]}]\n")),
                ("model.onnx", model_file("wine/2", "model.onnx")),
            ],
            "samples[0]: expected",
        ),
        (
            "5",
            vec![
                ("MLmodel", model_file("wine/2", "MLmodel")),
                ("model.yaml", no_nan),
                ("model.onnx", model_file("types/nan/1", "model.onnx")),
            ],
            "samples[0]: the model gives NaN at",
        ),
        (
            "6",
            vec![
                ("MLmodel", model_file("wine/2", "MLmodel")),
                ("model.onnx", model_file("wine/2", "model.onnx")[..50_000].to_vec()),
            ],
            "ONNX",
        ),
    ];
    for (version, files, words) in bad {
        for (file, data) in files {
            trial.world.upload(&format!("models/wine/{version}/{file}"), data);
        }
        let reason = refusal(&worker, version, words).await;
        assert!(!reason.starts_with("incomplete: "), "{reason}");
        trial.serves(&worker, "1").await;
    }
    // Judged once: other news do not make the worker read the bad ones again.
    let read = reads(&trial.world, "models/wine/6/model.onnx");
    assert_eq!(read.len(), 1);
    trial.world.upload("models/wine/latest/model.onnx", vec![]);
    worker.until_info("a last look", |_| worker.log().contains("wine/latest")).await;
    assert_eq!(reads(&trial.world, "models/wine/6/model.onnx"), read);
    // And again when it changed.
    trial.world.upload_version("wine/2", "wine", "6");
    worker.until_serving("wine", "6").await;
    trial.serves(&worker, "6").await;
    trial.judge(&worker, Allowed::default(), "each refused with its reason in `/info`, read once and again only when changed; ready and answering all the while").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_34_too_large_for_the_memory() {
    let injected = "a version with weights of 8 TiB";
    let promise = "refused before loading, old serves";
    let mut trial = Trial::of(World::start().await, 34, injected, promise);
    let root = tempfile::tempdir().unwrap();
    let put = |version: &str| {
        let folder = root.path().join("wine").join(version);
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["MLmodel", "model.onnx"] {
            std::fs::write(folder.join(file), model_file(&format!("wine/{version}"), file)).unwrap();
        }
        trial.world.contents.placed("wine", version, &model_file(&format!("wine/{version}"), "model.onnx"));
    };
    put("1");
    let worker = trial
        .world
        .ready_worker(&[
            ("PREDICTD_MODELS__SOURCE", root.path().to_str().unwrap()),
            ("PREDICTD_MODELS__POLL_INTERVAL", "100ms"),
        ])
        .await;
    // Larger than any machine's memory, without taking a block of the disk.
    let weights = root.path().join("wine/2/weights.bin");
    std::fs::create_dir_all(weights.parent().unwrap()).unwrap();
    std::fs::File::create(&weights).unwrap().set_len(8 << 40).unwrap();
    put("2");
    let reason = refusal(&worker, "2", "too large for the memory left").await;
    trial.serves(&worker, "1").await;
    std::fs::remove_file(weights).unwrap();
    worker.until_serving("wine", "2").await;
    trial.serves(&worker, "2").await;
    let log = worker.log();
    assert_eq!(log.matches("version refused").count(), 1, "said once: {log}");
    trial
        .judge(&worker, Allowed::default(), &format!("refused: \"{reason}\"; served once it was small"))
        .await;
}
