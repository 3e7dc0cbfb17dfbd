//! Faults 50 to 52: models that would end the process, or never let it go on.

use std::os::unix::process::ExitStatusExt as _;

use super::*;
use crate::support::harness::outcome;
use crate::support::oracle;

/// Signal of a division by zero, or of the least whole number by -1.
pub(in crate::faults) const SIGFPE: i32 = 8;
const SIGKILL: i32 = 9;

#[tokio::test(flavor = "multi_thread")]
async fn fault_50_sizes_that_no_memory_holds() {
    let injected = "versions that declare inputs of 10^12 elements: in a row, in rows, in a sequence; and such a first model";
    let mut trial = trial(50, injected, "refused by name, the old version serves").await;
    let worker = trial.world.ready_worker(&[("PREDICTD_MODELS__DEFAULT", "wine")]).await;
    for (version, model, input) in [
        ("2", "huge", "\"x\" (float32[N, 1000000, 1000000])"),
        ("3", "huge-rows", "\"x\" (float32[1000000000000, 3])"),
        ("4", "huge-sequence", "\"x\" (sequence(float32[1000000, 1000000]))"),
    ] {
        trial.world.upload_version(&format!("faults/{model}/1"), "wine", version);
        let reason = refusal(&worker, version, input).await;
        assert!(reason.contains("may take 1024 MiB"), "{reason}");
        trial.serves(&worker, "1").await;
        let mut inspect = trial.world.command();
        inspect.args(["inspect", &format!("tests/models/faults/{model}/1")]).current_dir(repository());
        let (code, _, error) = tokio::task::spawn_blocking(|| outcome(inspect, "")).await.unwrap();
        assert!(code == 1 && error.contains(input), "{code} {error}");
    }
    trial.world.upload_version("faults/huge/1", "huge", "1");
    let first = |info: &serde_json::Value| info["models"]["huge"]["refused"][0]["reason"].is_string();
    worker.until_info("a refusal of the first version of a model", first).await;
    trial.serves(&worker, "1").await;
    let happened = "each refused with the input's name, by the worker and by `inspect`; ready and answering";
    trial.judge(&worker, Allowed::default(), happened).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_51_a_load_that_ends_the_process() {
    let injected = "a version that crashes ONNX Runtime as it loads, with a cache and without one; a kill in the middle of a load";
    let mut trial =
        trial(51, injected, "refused after two crashes, the old version serves; a kill refuses nothing")
            .await;
    let (cache, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let places = [
        [("PREDICTD_MODELS__CACHE", cache.path()), ("PREDICTD_MODELS__DEFAULT", Path::new("wine"))],
        [("TMPDIR", temporary.path()), ("PREDICTD_MODELS__DEFAULT", Path::new("wine"))],
    ];
    for (bad, good, place) in [("2", "3", places[0]), ("4", "5", places[1])] {
        let variables = place.map(|(name, value)| (name, value.to_str().unwrap()));
        let mut worker = trial.world.ready_worker(&variables).await;
        let before = if bad == "2" { "1" } else { "3" };
        trial.serves(&worker, before).await;
        // An answer whose acknowledgement is under way would come twice.
        trial.world.settled().await;
        trial.world.upload_version("faults/abort/1", "wine", bad);
        for crash in 1..=2 {
            let status = worker.end().await;
            assert_eq!(status.signal(), Some(SIGFPE), "crash {crash}: {}", worker.log());
            worker = trial.world.worker(&variables);
        }
        worker.until_ready().await;
        let reason = refusal(&worker, bad, "ended the process 2 times in a row").await;
        let record = found(place[0].1, "wine-").into_iter().find(|path| path.extension().is_some()).unwrap();
        assert!(reason.contains(record.to_str().unwrap()), "{reason}");
        trial.serves(&worker, before).await;
        trial.world.upload_version("wine/2", "wine", good);
        worker.until_serving("wine", good).await;
        // Its record goes with its files.
        trial.world.delete(&format!("models/wine/{bad}/model.onnx"));
        let is_forgotten = || async { (!record.exists()).then_some(()) };
        worker.until("the end of what was known", is_forgotten).await;
        trial.serves(&worker, good).await;
        worker.signal("-TERM");
        assert!(worker.end().await.success());
    }
    assert_eq!(found(temporary.path(), "predictd"), Vec::<PathBuf>::new());

    let variables = places[0].map(|(name, value)| (name, value.to_str().unwrap()));
    let mut worker = trial.world.ready_worker(&variables).await;
    // Its sample takes seconds.
    let samples = b"samples: [{request: {inputs: [30000]}}]";
    trial.world.upload("models/slow/1/model.yaml", samples.to_vec());
    trial.world.upload_version("faults/slow/1", "slow", "1");
    let is_loading = || async { (!found(cache.path(), "loading-").is_empty()).then_some(()) };
    worker.until("the load", is_loading).await;
    worker.signal("-KILL");
    assert_eq!(worker.end().await.signal(), Some(SIGKILL));
    let worker = trial.world.ready_worker(&variables).await;
    worker.until_serving("slow", "1").await;
    assert_eq!(found(cache.path(), "loads"), Vec::<PathBuf>::new(), "{}", worker.log());
    trial.serves(&worker, "5").await;
    let happened = "two crashes, then refused with what to do, in /info and the log; the old version and then a good one served; \
                    killed once in its load, a version is served after the restart";
    trial.judge(&worker, Allowed::default(), happened).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_52_a_model_that_never_ends() {
    let injected =
        "a model whose first call never ends, from the start and beside a model that gets a new version";
    let mut trial = trial(
        52,
        injected,
        "the other model serves and follows; the endless one is refused by its time limit",
    )
    .await;
    trial.world.upload_version("faults/endless/1", "endless", "1");
    let temporary = tempfile::tempdir().unwrap();
    let limit = ("PREDICTD_MODELS__LOAD_TIMEOUT", "10s");
    let own = [("PREDICTD_MODELS__DEFAULT", "wine"), ("TMPDIR", temporary.path().to_str().unwrap())];
    let mut worker = trial.world.worker(&[own[0], own[1], limit]);
    worker.until_serving("wine", "1").await;
    let is_loading = || async { (found(temporary.path(), "loading-").len() == 1).then_some(()) };
    worker.until("the endless load", is_loading).await;
    trial.world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    let reason_of = |info: &serde_json::Value| info["models"]["endless"]["refused"][0]["reason"].clone();
    assert!(reason_of(&worker.info().await).is_null(), "wine did not wait for it");
    let info = worker.until_info("a refusal", |info| reason_of(info).is_string()).await;
    let reason = reason_of(&info).as_str().unwrap().to_owned();
    assert!(reason.contains("did not end within `models.load_timeout` (10s); correct it"), "{reason}");
    assert!(!reason.contains("cannot be terminated"), "{reason}");
    trial.serves(&worker, "2").await;
    // Its thread is free again: the processor is idle.
    let before = worker.processor_time();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let took = worker.processor_time() - before;
    assert!(took < Duration::from_millis(250), "{took:?} of half a second");
    worker.signal("-TERM");
    assert!(worker.end().await.success());

    // The time of this load is not over before the worker is. Requests for its model are no errors.
    let mut worker = trial.world.worker(&own);
    worker.until_ready().await;
    let waiting =
        trial.request("{\"instances\": [1]}", &[("model", "endless")], End::Code("MODEL_NOT_FOUND"));
    trial.world.upload_version("wine/2", "wine", "3");
    worker.until_serving("wine", "3").await;
    trial.serves(&worker, "3").await;
    let is_answered =
        trial.world.server.history.with(|events| oracle::responses(events).contains_key(&*waiting));
    assert!(!is_answered, "it is not known yet whether the model serves");
    assert_eq!(found(temporary.path(), "loading-").len(), 1, "the endless one is still loading");
    // The same as a version of wine: its load ends with its files.
    trial.world.upload_version("faults/endless/1", "wine", "4");
    let are_loading = || async { (found(temporary.path(), "loading-").len() == 2).then_some(()) };
    worker.until("the load of wine 4", are_loading).await;
    trial.world.delete("models/wine/4/model.onnx");
    trial.world.upload_version("wine/2", "wine", "5");
    worker.until_serving("wine", "5").await;
    trial.serves(&worker, "5").await;
    assert!(!worker.log().contains("version refused"), "an upload under way is no error: {}", worker.log());
    assert_eq!(worker.get("/health").await.0, 200);
    trial.weigh(&worker);
    let stopped = Instant::now();
    worker.signal("-TERM");
    assert!(worker.end().await.success());
    assert!(stopped.elapsed() < Duration::from_secs(8), "{:?}", stopped.elapsed());
    assert_eq!(found(temporary.path(), "predictd"), Vec::<PathBuf>::new());
    let worker = trial.world.ready_worker(&[own[0], own[1], limit]).await;
    worker.until_info("a refusal", |info| reason_of(info).is_string()).await;
    let happened = format!("wine served at once and got its new version; {reason:?}");
    trial.judge(&worker, Allowed::default(), &happened).await;
}

/// ONNX Runtime computes constants while it reads a graph, and nothing ends that.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_cannot_be_ended_is_abandoned_by_name() {
    let mut trial = trial(0, "", "").await;
    trial.world.upload_version("faults/folding/1", "folding", "1");
    let temporary = tempfile::tempdir().unwrap();
    let variables = [
        ("PREDICTD_MODELS__DEFAULT", "wine"),
        ("PREDICTD_MODELS__LOAD_TIMEOUT", "3s"),
        ("TMPDIR", temporary.path().to_str().unwrap()),
    ];
    let mut worker = trial.world.worker(&variables);
    let reason = |info: &serde_json::Value| info["models"]["folding"]["refused"][0]["reason"].to_string();
    let says = "it cannot be terminated: its thread goes on until the worker restarts";
    worker.until_info("a refusal", |info| reason(info).contains(says)).await;
    worker.until_log("a load cannot be terminated and is abandoned").await;
    assert!(worker.log().contains("gs://models/models/folding/1"), "{}", worker.log());
    worker.until_serving("wine", "1").await;
    trial.world.upload_version("wine/2", "wine", "2");
    worker.until_serving("wine", "2").await;
    trial.serves(&worker, "2").await;
    assert_eq!(worker.get("/health").await.0, 200);
    trial.verdict(&worker, Allowed::default()).await;
    worker.signal("-TERM");
    assert!(worker.end().await.success());
    assert_eq!(found(temporary.path(), "predictd"), Vec::<PathBuf>::new());
}
