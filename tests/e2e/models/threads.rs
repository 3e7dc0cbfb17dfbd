//! The sessions of a model and the threads of its calls, chosen when a version loads.

use serde_json::Value;

use crate::support::harness::World;

#[tokio::test(flavor = "multi_thread")]
async fn large_models_are_measured_and_small_or_declared_ones_are_not() {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    world.upload_version("faults/heavy/1", "heavy", "1");
    world.upload_declared("declared", "faults/heavy/1", "session: {intra_threads: 3}");
    let worker = world.ready_worker(&[("PREDICTD_INFERENCE__THREADS", "2")]).await;
    for (model, version) in [("wine", "2"), ("heavy", "1"), ("declared", "1")] {
        worker.until_serving(model, version).await;
    }
    let info: Value = serde_json::from_str(&worker.get("/info").await.1).unwrap();
    let sessions = |model: &str| info["models"][model]["serving"]["sessions"].as_str().unwrap();
    let small = "2 sessions, 1 thread a call: a call of one row takes ";
    assert!(sessions("wine").starts_with(small), "{}", sessions("wine"));
    let measured = ["a call of 8 rows takes ", " with one thread, ", " with 2"];
    assert!(measured.iter().all(|said| sessions("heavy").contains(said)), "{}", sessions("heavy"));
    let declared = "2 sessions, 3 threads a call: model.yaml declares session.intra_threads";
    assert_eq!(sessions("declared"), declared);
    for model in ["heavy", "declared"] {
        let ask = |number| world.publish(format!("{{\"instances\": [{number}]}}"), &[("model", model)]);
        let ids: Vec<String> = (0..20).map(ask).collect();
        let responses = world.responses(&ids).await;
        for (number, id) in ids.iter().enumerate() {
            let body: Value = serde_json::from_slice(&responses[id].data).unwrap();
            assert_eq!(body["predictions"], serde_json::json!([number]), "{body}");
        }
    }
}
