//! What a row is where shapes leave it open, and that rows of strangers have nothing to do with each other.

use serde_json::{Value, json};

use crate::harness::{World, model_file};

fn upload(world: &World, name: &str, model: &str, declaration: &str) {
    if !declaration.is_empty() {
        world.upload(&format!("models/{name}/1/model.yaml"), declaration.as_bytes().to_vec());
    }
    world.upload(&format!("models/{name}/1/model.onnx"), model_file(&format!("{model}/1"), "model.onnx"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_value_a_row_may_be_a_class_but_no_scores() {
    let world = World::start().await;
    let labels = "labels: [cat, dog, cow]";
    let named = format!(
        "output: [{{from: class, {labels}}}, {{from: kept, {labels}}}, {{from: shifted, {labels}}}, \
         {{from: score, activation: sigmoid}}]"
    );
    upload(&world, "named", "rows/classes", &named);
    let several = "output: [{from: score, activation: softmax}, {from: score, name: b, top: 1}, \
                   {from: score, name: c, labels: [a]}, {from: class, name: d, threshold: 1}]";
    upload(&world, "several", "rows/classes", several);
    let rows = [json!([[0, 5, 1]]), json!([[0, 0, 300]]), json!([[0, 0, 9], [0, -1, -1]])];
    let ids: Vec<String> = rows
        .iter()
        .map(|rows| world.publish(json!({"instances": rows}).to_string(), &[("model", "named")]))
        .collect();
    let worker = world.ready_worker(&[]).await;
    let responses = world.responses(&ids).await;
    let bodies: Vec<Value> =
        ids.iter().map(|id| serde_json::from_slice(&responses[id].data).unwrap()).collect();
    assert_eq!(bodies[0]["predictions"][0]["class"], "dog", "{bodies:?}");
    assert_eq!(bodies[0]["predictions"][0]["kept"], json!(["dog"]));
    assert_eq!(bodies[1]["error"]["code"], "INFERENCE_FAILED", "{bodies:?}");
    let message = bodies[1]["error"]["message"].as_str().unwrap();
    assert!(message.contains("\"shifted\": expected a class from 0 to 2, got 5"), "{message}");
    assert_eq!(
        (&bodies[2]["predictions"][0]["class"], &bodies[2]["predictions"][1]["class"]),
        (&json!("cow"), &json!("cat"))
    );
    assert_eq!(bodies[2]["predictions"][1]["score"], 0.5);
    for (model, all) in [
        (
            "several",
            &[
                "a softmax needs several scores a row",
                "output[1]: top and threshold",
                "output[2]: labels",
                "output[3]: top and threshold",
            ][..],
        ),
    ] {
        let info = worker
            .until_info("the refusal", |info| info["models"][model]["refused"][0]["reason"].is_string())
            .await;
        let reason = info["models"][model]["refused"][0]["reason"].as_str().unwrap();
        for says in all {
            assert!(reason.contains(says), "{says:?} is missing in {reason:?}");
        }
    }
}
