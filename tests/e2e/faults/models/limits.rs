//! Faults 35, 36 and 39: memory over many reloads, a full disk, an end in the middle.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use local_gcp::faults::Fault;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn fault_35_reloads_under_load() {
    const RELOADS: usize = 500;
    let injected = "500 reloads, two kinds of model in turn, under load";
    let promise = "memory level, no failed request, each response names one version";
    let mut trial = Trial::of(World::start().await, 35, injected, promise);
    let world = &trial.world;
    let upload = |version: usize| {
        let files = 2 - version % 2;
        world.upload_version(&format!("wine/{files}"), "wine", &version.to_string());
    };
    upload(1);
    let worker = world.ready_worker(&[]).await;
    let (done, serving) = (AtomicBool::new(false), AtomicUsize::new(1));
    let load = async {
        let mut asked = Vec::new();
        while !done.load(Ordering::Relaxed) {
            for row in 0..10 {
                let rows = vec![row, 170 - row];
                let since = serving.load(Ordering::Relaxed);
                asked.push((world.publish(wine().request(&rows), &[]), rows, since));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        asked
    };
    let started = Instant::now();
    let reload = async {
        let mut memory = Vec::new();
        for version in 2..=RELOADS + 1 {
            upload(version);
            worker.until_serving("wine", &version.to_string()).await;
            serving.store(version, Ordering::Relaxed);
            // The history is the server's memory, the bucket's old versions are the listing's length.
            world.delete(&format!("models/wine/{}/model.onnx", version - 1));
            world.delete(&format!("models/wine/{}/MLmodel", version - 1));
            if version % 50 == 0 {
                memory.push(worker.resident_kib());
            }
        }
        done.store(true, Ordering::Relaxed);
        memory
    };
    let (asked, memory) = tokio::join!(load, reload);
    let took = started.elapsed();
    let ids: Vec<String> = asked.iter().map(|(id, ..)| id.clone()).collect();
    let responses = world.responses(&ids).await;
    let mut versions = std::collections::BTreeSet::new();
    for (id, rows, since) in asked {
        // The judge checks the values. Here: no version answers that had been replaced before it was asked.
        let version: usize = responses[&id].attributes["model_version"].parse().unwrap();
        assert!(version >= since, "{id} was answered by version {version} when {since} served already");
        versions.insert(version);
        trial.ends.insert(id, End::Wine(rows));
    }
    // Counted after the swap, which `/info` shows.
    let loads = "predictd_reloads_total{model=\"wine\",outcome=\"serving\"}";
    worker.until_metric(loads, RELOADS as f64 + 1.0).await;
    // Level: what the second hundred needed is enough for all that follow, but for the allocator's unrest.
    let (early, last) = (memory[1..4].iter().max().unwrap(), memory.last().unwrap());
    assert!(*last <= early + early / 10, "the memory grows: {memory:?} KiB");
    // Nor do the numbers of versions long gone pile up.
    let (_, metrics) = worker.get("/metrics").await;
    let shown = metrics.lines().filter(|line| line.starts_with("predictd_rows_total{model=\"wine\"")).count();
    assert!(shown <= 10, "{shown} versions are shown in /metrics");
    let happened = format!(
        "in {:.0} s, by {} versions; memory {} MiB after 100 reloads, {} MiB at the end",
        took.as_secs_f64(),
        versions.len(),
        memory[1] / 1024,
        last / 1024
    );
    trial.judge(&worker, Allowed::default(), &happened).await;
    trial.each_was_delivered_once();
    assert_eq!(worker.metric("predictd_nacks_total").await, Some(0.0));
}

/// A worker with a cache of its own small file system, which nobody else sees; `None` where this may not be
/// made.
fn worker_with_small_disk(world: &World, cache: &Path) -> Option<Worker> {
    let may = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs"])
        .arg(cache)
        .status();
    if !may.is_ok_and(|status| status.success()) {
        skip("fault 36: this system does not let a test mount a small file system");
        return None;
    }
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(r#"mount -t tmpfs -o size=400k tmpfs "$0" && exec "$@""#)
        .arg(cache)
        .args([env!("CARGO_BIN_EXE_predictd"), "run", "--config"])
        .arg(repository().join("config/local.yaml"))
        .env("ORT_DYLIB_PATH", crate::support::harness::onnxruntime())
        .env("PUBSUB_EMULATOR_HOST", world.server.host())
        .env("STORAGE_EMULATOR_HOST", world.server.host())
        .env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0")
        .env("PREDICTD_MODELS__CACHE", cache);
    Some(Worker::spawn(command))
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_36_cache_disk_full() {
    let injected = "a version of 1 MB and one of 200 small files for a cache on a file system of 400 kB";
    let mut trial = trial(36, injected, "old serves, no half files").await;
    let cache = tempfile::tempdir().unwrap();
    let Some(worker) = worker_with_small_disk(&trial.world, cache.path()) else { return };
    worker.until_ready().await;
    // Its mounts are its own; through /proc they are seen.
    let inside = PathBuf::from(format!("/proc/{}/root{}", worker.process(), cache.path().display()));
    assert_eq!(found(&inside, "version.json").len(), 1);
    // A version that is known not to fit is not even fetched. Many small files take more than their bytes,
    // and the disk is full.
    trial.world.upload("models/wine/2/assets.bin", vec![1; 1 << 20]);
    refusal(&worker, "2", "do not fit on the disk").await;
    assert_eq!(reads(&trial.world, "models/wine/2/assets.bin"), Vec::<i64>::new());
    let last = "models/wine/3/z/999";
    for file in 800..=999 {
        trial.world.upload(&format!("models/wine/3/z/{file}"), b"x".to_vec());
    }
    refusal(&worker, "3", "No space left on device").await;
    assert_eq!(reads(&trial.world, last), Vec::<i64>::new());
    trial.serves(&worker, "1").await;
    // The disk is as free as before: what fits is taken.
    trial.world.upload_version("wine/2", "wine", "4");
    worker.until_serving("wine", "4").await;
    trial.serves(&worker, "4").await;
    assert_eq!(found(&inside, ".partial-"), Vec::<PathBuf>::new());
    assert_eq!(found(&inside, "z").len() + found(&inside, "assets.bin").len(), 0);
    assert_eq!(found(&inside, "version.json").len(), 2);
    trial.judge(&worker, Allowed::default(), "the one refused before its download, the other with \"No space left on device\"; old served, nothing of them left; a smaller version served after them").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_39_sigterm_while_loading() {
    let injected =
        "SIGTERM while a download hangs, at the start and under way, and while a model is loaded and checked";
    let mut trial = trial(39, injected, "clean exit, nothing lost").await;
    let (cache, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lasting = [("PREDICTD_MODELS__CACHE", cache.path().to_str().unwrap())];
    let mut took = Vec::new();
    // While the very first version is loaded, with and without a cache; then while a second one is.
    for (fault, variables, serving) in [
        (Fault::Hang, &lasting[..], false),
        (Fault::StallAfter(300), &[("TMPDIR", temporary.path().to_str().unwrap())][..], false),
        (Fault::StallAfter(1 << 20), &lasting[..], true),
    ] {
        let mut worker = if serving {
            let worker = trial.world.ready_worker(variables).await;
            trial.serves(&worker, "1").await;
            trial.inject(MEDIA, fault, 1);
            trial.world.upload("models/wine/2/assets.bin", vec![1; 3 << 20]);
            worker
        } else {
            trial.inject(MEDIA, fault, 1);
            trial.world.worker(variables)
        };
        faults_left(&trial.world, 0).await;
        let ids = trial.wines(50);
        let stopped = Instant::now();
        worker.signal("-TERM");
        assert!(worker.end().await.success(), "{}", worker.log());
        took.push(stopped.elapsed());
        assert!(took.last().unwrap() < &Duration::from_secs(5), "{took:?}");
        assert_eq!(found(cache.path(), ".partial-"), Vec::<PathBuf>::new());
        assert_eq!(found(temporary.path(), "predictd"), Vec::<PathBuf>::new());
        // The next worker answers the rest.
        trial.world.server.faults.clear();
        let mut next = trial.world.ready_worker(&[]).await;
        trial.world.responses(&ids).await;
        next.signal("-TERM");
        assert!(next.end().await.success());
    }

    // While ONNX Runtime is at it, for so many threads that it takes seconds.
    trial.world.upload_version("wine/2", "wine", "3");
    let mut worker = trial
        .world
        .worker(&[("TMPDIR", temporary.path().to_str().unwrap()), ("PREDICTD_INFERENCE__THREADS", "400")]);
    while found(temporary.path(), "version.json").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stopped = Instant::now();
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());
    took.push(stopped.elapsed());
    assert!(took.last().unwrap() < &Duration::from_secs(5), "{took:?}");
    assert!(
        !worker.log().contains("version in service"),
        "it was loaded before the signal: {}",
        worker.log()
    );
    assert_eq!(found(temporary.path(), "predictd"), Vec::<PathBuf>::new());
    let next = trial.world.ready_worker(&lasting).await;
    next.until_serving("wine", "3").await;
    let slowest = took.iter().max().unwrap().as_millis();
    let happened =
        format!("exit code 0 after {slowest} ms at most, no half files, answered by the next worker");
    trial.judge(&next, Allowed::default(), &happened).await;
}
