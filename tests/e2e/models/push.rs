//! `predictd push`: what the worker would refuse never reaches the bucket, what is there is never
//! overwritten.

use std::path::PathBuf;
use std::time::Duration;

use local_gcp::faults::Fault;

use crate::support::clock::Clock;
use crate::support::harness::{Worker, World, model_file, outcome, repository};
use crate::support::oracle::wine;

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
    assert!(
        stdout.contains(
            "gs://models/models/wine/1 uploaded; it is now the newest version under gs://models/models/wine\n"
        ),
        "{stdout}"
    );

    let worker = world.ready_worker(&[]).await;
    let answer = world.ask(wine().request(&[0, 100]), &[]).await;
    assert_eq!(wine().check(&[0, 100], &answer), "1");

    let (code, _, stderr) = push(&world, folder("2"), "gs://models/models/wine/1").await;
    assert_eq!(code, 1);
    assert!(
        stderr.contains("exists already") && stderr.contains("hint: versions are never overwritten"),
        "{stderr}"
    );

    let (code, stdout, stderr) = push(&world, folder("2"), "gs://models/models/wine/2").await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("wine/2 uploaded; it is now the newest"), "{stdout}");
    worker.until_serving("wine", "2").await;

    // A model beside the first one makes requests ambiguous that name none; later ones change nothing.
    let warning = "warning: there are two models now, \"wine\" and \"other\"";
    let (code, _, stderr) = push(&world, folder("1"), "gs://models/models/other/1").await;
    assert!(code == 0 && stderr.contains(warning) && stderr.contains("`models.default`"), "{stderr}");
    for address in ["gs://models/models/other/2", "gs://models/models/third/1"] {
        let (code, _, stderr) = push(&world, folder("2"), address).await;
        assert_eq!((code, &*stderr), (0, ""));
    }

    let (code, stdout, stderr) = push(&world, folder("1"), "gs://models/models/wine/1.5.0").await;
    assert_eq!((code, &*stdout), (0, "gs://models/models/wine/1.5.0 uploaded\n"));
    assert!(stderr.contains("warning: version 2 under gs://models/models/wine is newer"), "{stderr}");
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
        (vec![("model.onnx", b"no model".to_vec())], "workers would refuse "),
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
    assert_eq!((code, stdout.contains("newest")), (0, true), "{stderr}");
}

/// A push compares with the version that workers compare with.
#[tokio::test(flavor = "multi_thread")]
async fn another_signature_is_uploaded_only_where_it_is_meant() {
    let world = World::start().await;
    let folder = |name: &str| repository().join("tests/models/types").join(name).join("1");
    let address = |version: u32| format!("gs://models/models/numbers/{version}");
    assert_eq!(push(&world, folder("float32"), &address(1)).await.0, 0);
    let (code, _, stderr) = push(&world, folder("int64"), &address(2)).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("version 1: input x int64[?, 3], expected x float32[?, 3]"), "{stderr}");
    assert!(stderr.contains("hint: ") && stderr.contains("--new-signature"), "{stderr}");
    // A version that workers refuse, uploaded by hand, is no measure.
    world.upload_version("types/int64/1", "numbers", "2");
    assert_eq!(push(&world, folder("int64"), &address(3)).await.0, 1);
    let worker = world.ready_worker(&[]).await;
    worker.until_serving("numbers", "1").await;

    let mut command = world.command();
    command.arg("push").arg(folder("int64")).arg(address(3)).arg("--new-signature");
    let (code, _, stderr) = tokio::task::spawn_blocking(move || outcome(command, "")).await.unwrap();
    assert_eq!(code, 0, "{stderr}");
    worker.until_serving("numbers", "3").await;
    assert_eq!(push(&world, folder("float32"), &address(4)).await.0, 1);
    let (code, _, stderr) = push(&world, folder("int64"), &address(4)).await;
    assert_eq!(code, 0, "{stderr}");
    worker.until_serving("numbers", "4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_take_one_request_each() {
    let world = World::start().await;
    let method = "storage.objects.insert";
    world.server.faults.inject(method, Fault::DelayMs(0), 100);
    let folder = repository().join("tests/models/wine/2");
    let (code, _, stderr) = push(&world, folder.clone(), "gs://models/models/wine/2").await;
    assert_eq!(code, 0, "{stderr}");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(100 - world.server.faults.waiting(method), files + 1, "and the manifest");
}

/// The minute passes by the clock of the command alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_without_progress_is_given_up() {
    let world = World::start().await;
    let method = "storage.objects.insert";
    world.server.faults.inject(method, Fault::Hang, 100);
    let mut clock = Clock::new();
    let mut command = world.command();
    command.envs(clock.variables()).arg("push").arg(repository().join("tests/models/wine/2"));
    let mut push = Worker::spawn({
        command.arg("gs://models/models/wine/2");
        command
    });
    push.until("an upload", async || (world.server.faults.waiting(method) < 100).then_some(())).await;
    assert!(push.is_alive());
    // Again and again: what was read of the file before may be seen only after a minute has passed.
    for _ in 0..200 {
        if !push.is_alive() {
            break;
        }
        clock.put_forward(Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert_eq!(push.end().await.code(), Some(1));
    push.until_log("hint: check the network").await;
    assert!(push.log().contains("the upload made no progress for 60 seconds"), "{}", push.log());
}
