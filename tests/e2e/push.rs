//! `predictd push`: what the worker would refuse never reaches the bucket, what is there is never overwritten.

use std::path::PathBuf;

use crate::harness::{World, model_file, outcome, repository};
use crate::oracle::wine;

fn bundle(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

async fn push(world: &World, folder: PathBuf, address: &str) -> (i32, String, String) {
    let mut command = world.command();
    command.arg("push").arg(folder).arg(address);
    tokio::task::spawn_blocking(move || outcome(command, "")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_version_serves_and_is_never_overwritten() {
    let world = World::start().await;
    let folder = |version: &str| repository().join("tests/models/wine").join(version);
    let (code, stdout, stderr) = push(&world, folder("1"), "gs://models/models/wine/1").await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("gs://models/models/wine/1 is there and leads"), "{stdout}");

    let worker = world.ready_worker(&[]).await;
    let answer = world.ask(wine().request(&[0, 100]), &[]).await;
    assert_eq!(wine().check(&[0, 100], &answer), "1");

    let (code, _, stderr) = push(&world, folder("2"), "gs://models/models/wine/1").await;
    assert_eq!(code, 1);
    assert!(
        stderr.contains("is there already") && stderr.contains("hint: versions are never overwritten"),
        "{stderr}"
    );

    let (code, stdout, stderr) = push(&world, folder("2"), "gs://models/models/wine/2").await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("wine/2 is there and leads"), "{stdout}");
    worker.until_serving("wine", "2").await;

    let (code, stdout, _) = push(&world, folder("1"), "gs://models/models/wine/1.5.0").await;
    assert_eq!((code, stdout.contains("version 2 is higher and goes on leading")), (0, true), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_not_serve_is_not_uploaded() {
    let world = World::start().await;
    let model = || ("model.onnx", model_file("wine/2", "model.onnx"));
    let sample = |label: i64| {
        let request = wine().request(&[0]);
        let yaml =
            format!("output: [{{from: label}}]\nsamples:\n  - request: {request}\n    expected: [{label}]\n");
        ("model.yaml", yaml.into_bytes())
    };
    for (files, says) in [
        (vec![("model.onnx", b"no model".to_vec())], "would not serve"),
        (vec![("model.yaml", b"{}".to_vec())], "waiting for \"model.onnx\""),
        (vec![model(), sample(9)], "samples[0]: expected 9 at \"[0]\", got 0"),
        (vec![model(), ("model.yaml", b"outputs: []".to_vec())], "unknown field"),
        (
            vec![model(), ("model.yaml", b"output: [{from: scores}]\nbatching: {max_rows: 0}".to_vec())],
            "batching.max_rows: expected 1 or more, got 0; output[0]: from: expected one of the outputs [\"label\", \"probabilities\"], got \"scores\"",
        ),
    ] {
        let folder = bundle(&files);
        let (code, _, stderr) = push(&world, folder.path().to_owned(), "gs://models/models/wine/3").await;
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(says) && stderr.contains("hint: "), "{says:?} is missing in {stderr}");
    }
    let folder = bundle(&[model(), sample(0)]);
    let (code, stdout, stderr) = push(&world, folder.path().to_owned(), "gs://models/models/wine/3").await;
    assert_eq!((code, stdout.contains("leads")), (0, true), "{stderr}");
}
