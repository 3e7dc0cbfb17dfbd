//! Faults 50 to 52: models that would end the process, or never let it go on.

use super::*;
use crate::harness::outcome;

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
