//! The cache of models: kept over restarts, and within its budget.

use std::collections::BTreeSet;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_used_again_after_a_restart() {
    let mut trial = trial(0, "", "").await;
    let cache = tempfile::tempdir().unwrap();
    let variables = [("PREDICTD_MODELS__CACHE", cache.path().to_str().unwrap())];
    for (restart, expected_reads) in [(0, 1), (1, 1), (2, 2)] {
        if restart == 2 {
            let model = found(cache.path(), "model.onnx").remove(0);
            let mut damaged = std::fs::read(&model).unwrap();
            damaged[100] ^= 1;
            std::fs::write(model, damaged).unwrap();
        }
        let mut worker = trial.world.ready_worker(&variables).await;
        trial.serves(&worker, "1").await;
        assert_eq!(reads(&trial.world, "models/wine/1/model.onnx").len(), expected_reads, "start {restart}");
        worker.signal("-TERM");
        assert!(worker.end().await.success());
    }
}

/// The versions that the cache holds, as `model-version`.
fn kept(cache: &Path) -> BTreeSet<String> {
    let folder = |description: &PathBuf| description.parent().unwrap().file_name().unwrap().to_owned();
    let name = |folder: std::ffi::OsString| folder.to_str().unwrap().rsplit_once('-').unwrap().0.to_owned();
    found(cache, "version.json").iter().map(folder).map(name).collect()
}

/// Its threads end with it, wherever they are in ONNX Runtime.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_while_it_loads_ends_well_and_keeps_the_version() {
    let trial = trial(0, "", "").await;
    let cache = tempfile::tempdir().unwrap();
    let variables =
        [("PREDICTD_MODELS__CACHE", cache.path().to_str().unwrap()), ("PREDICTD_MODELS__DEFAULT", "wine")];
    let mut worker = trial.world.ready_worker(&variables).await;
    // Its sample takes seconds.
    let samples = b"samples: [{request: {inputs: [30000]}}]";
    trial.world.upload("models/slow/1/model.yaml", samples.to_vec());
    trial.world.upload_version("faults/slow/1", "slow", "1");
    let is_kept = || async { kept(cache.path()).contains("slow-1").then_some(()) };
    worker.until("the version in the cache", is_kept).await;
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());
    let worker = trial.world.ready_worker(&variables).await;
    worker.until_serving("slow", "1").await;
    for model in ["wine", "slow"] {
        let object = format!("models/{model}/1/model.onnx");
        assert_eq!(reads(&trial.world, &object).len(), 1, "{object} was read again: {}", worker.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_version_is_evicted_and_what_serves_never() {
    let mut trial = Trial::of(World::start().await, 0, "", "");
    let upload = |world: &World, model: &str, version: &str| {
        world.upload(&format!("models/{model}/{version}/assets.bin"), vec![1; 300 << 10]);
        world.upload_version("wine/2", model, version);
    };
    let files = ["MLmodel", "model.onnx"].map(|file| model_file("wine/2", file).len());
    let size = (300 << 10) + files.iter().sum::<usize>();
    // Room for four: `still`, which was used before all others and serves all the while, and three of wine.
    let (budget, cache) = (format!("{}KiB", (4 * size + size / 2) >> 10), tempfile::tempdir().unwrap());
    let variables = [
        ("PREDICTD_MODELS__CACHE", cache.path().to_str().unwrap()),
        ("PREDICTD_MODELS__CACHE_SIZE", &*budget),
        ("PREDICTD_MODELS__DEFAULT", "wine"),
    ];
    upload(&trial.world, "still", "1");
    upload(&trial.world, "wine", "1");
    let mut worker = trial.world.ready_worker(&variables).await;
    let mut after = Vec::new();
    for version in 2..=5 {
        upload(&trial.world, "wine", &version.to_string());
        worker.until_serving("wine", &version.to_string()).await;
        after.push(kept(cache.path()));
    }
    let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let expected = [
        names(&["still-1", "wine-1", "wine-2"]),
        names(&["still-1", "wine-1", "wine-2", "wine-3"]),
        names(&["still-1", "wine-2", "wine-3", "wine-4"]),
        names(&["still-1", "wine-3", "wine-4", "wine-5"]),
    ];
    assert_eq!(after, expected);
    trial.serves(&worker, "5").await;
    // A version that can never fit is refused by name, and evicts nothing.
    trial.world.upload("models/wine/6/assets.bin", vec![1; 5 * size]);
    refusal(&worker, "6", "`models.cache_size`").await;
    assert_eq!(kept(cache.path()), expected[3]);
    let gone = ["5/MLmodel", "5/model.onnx", "5/assets.bin", "6/assets.bin"];
    for object in gone.map(|name| format!("models/wine/{name}")) {
        trial.world.delete(&object);
    }
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());
    // Version 4 is the newest now: it was kept, and so was `still`. Nothing is read again.
    let worker = trial.world.ready_worker(&variables).await;
    trial.serves(&worker, "4").await;
    for object in ["models/still/1/model.onnx", "models/wine/4/model.onnx"] {
        assert_eq!(reads(&trial.world, object).len(), 1, "{object} was read again");
    }
    trial.verdict(&worker, Allowed::default()).await;
}
