//! Rows where shapes leave them open, and rows of different senders, which do not change each other's
//! answers.

use serde_json::{Value, json};

use crate::support::harness::{World, model_file};

fn softmax(scores: &[f64]) -> Vec<f64> {
    let sum: f64 = scores.iter().map(|score| score.exp()).sum();
    scores.iter().map(|score| score.exp() / sum).collect()
}

fn assert_close(got: &Value, expected: &Value, about: &str) {
    match (got, expected) {
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).for_each(|(a, b)| assert_close(a, b, about));
        }
        (a, b) => {
            let is_close = a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| (a - b).abs() < 1e-6);
            assert!(is_close, "{about}: expected {b}, got {a}");
        }
    }
}

/// A model, its request, and what comes under `outputs` or `predictions`; `None`: INVALID_INPUT.
fn cases() -> Vec<(&'static str, Value, Option<Value>)> {
    let column = softmax(&[1.0, 3.0, 5.0]);
    let matrix = json!([[column[0], column[0]], [column[1], column[1]], [column[2], column[2]]]);
    let ones = json!([[1, 1], [1, 1], [1, 1]]);
    vec![
        ("length", json!({"inputs": [1, 2]}), Some(json!(softmax(&[1.0, 2.0])))),
        ("length", json!({"inputs": [3]}), Some(json!([1.0]))),
        ("length", json!({"inputs": [0, 0, 1]}), Some(json!(softmax(&[0.0, 0.0, 1.0])))),
        ("length", json!({"instances": [[1, 2], [4, 4]]}), Some(json!([softmax(&[1.0, 2.0]), [0.5, 0.5]]))),
        ("refusing", json!({"inputs": [0]}), Some(json!([1.0]))),
        ("refusing", json!({"inputs": [0, 0]}), Some(json!([0.5, 0.5]))),
        ("refusing", json!({"inputs": [0]}), Some(json!([1.0]))),
        ("vector", json!({"inputs": [1, 2, 3, 4]}), Some(json!(softmax(&[1.0, 2.0, 3.0, 4.0])))),
        ("vector", json!({"instances": [[0, 0, 0, 0]]}), Some(json!([[0.25, 0.25, 0.25, 0.25]]))),
        ("vector", json!({"inputs": [1, 2]}), None),
        (
            "vector",
            json!({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}),
            None,
        ),
        ("matrix", json!({"inputs": [[1, 2], [3, 4], [5, 6]]}), Some(matrix)),
        ("matrix", json!({"inputs": [[1, 2]]}), None),
        ("weighted", json!({"inputs": ones}), Some(json!([[1, 1], [2, 2], [3, 3]]))),
        ("weighted", json!({"inputs": [[1, 1]]}), None),
        ("twice", json!({"instances": [1, 2.5]}), Some(json!([2, 5]))),
        ("twice", json!({"inputs": [7]}), Some(json!([14]))),
        ("declared", json!({"inputs": [[1, 1]]}), Some(json!([[1, 1]]))),
        ("open", json!({"inputs": 3}), Some(json!(6))),
        ("open", json!({"inputs": [[1, 2]]}), Some(json!([[2, 4]]))),
        ("open", json!({"instances": [[1, 2], [3, 4]]}), Some(json!([[2, 4], [6, 8]]))),
        ("open", json!({"instances": [[1, 2], [3]]}), None),
        ("open-rows", json!({"instances": [[1, 2], [3, 4]]}), Some(json!([[2, 4], [6, 8]]))),
        ("open-rows", json!({"instances": [[[1]], [[2]]]}), Some(json!([[[2]], [[4]]]))),
        ("open-rows", json!({"instances": [5]}), Some(json!([10]))),
        ("open-rows", json!({"inputs": [[1, 2]]}), Some(json!([[2, 4]]))),
        ("open-rows", json!({"inputs": 5}), None),
        ("fixed-batch", json!({"instances": [[0, 1, 2]]}), Some(json!([3]))),
        (
            "fixed-batch",
            json!({"inputs": [[1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 4], [5, 5, 5]]}),
            Some(json!([3, 6, 9, 12, 15])),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_changes_the_answer_of_another() {
    let world = World::start().await;
    for model in ["length", "refusing", "vector", "matrix", "weighted", "twice"] {
        world.upload_declared(model, &format!("rows/{model}/1"), "");
    }
    world.upload_declared("declared", "rows/weighted/1", "batching: {dimension: rows}");
    world.upload_declared("fixed-batch", "types/fixed-batch/1", "");
    for model in ["open", "open-rows"] {
        world.upload(&format!("models/{model}/1/model.onnx"), model_file("zoo/unknown-shape", "model.onnx"));
    }
    world.upload("models/open-rows/1/model.yaml", b"batching: {dimension: rows}".to_vec());
    let cases = cases();
    // Published before the worker starts, so that what may share a call does.
    let ids: Vec<String> =
        cases.iter().map(|(model, body, _)| world.publish(body.to_string(), &[("model", *model)])).collect();
    let worker = world.ready_worker(&[("PREDICTD_INFERENCE__THREADS", "1")]).await;
    let responses = world.responses(&ids).await;
    for ((model, request, expected), id) in cases.iter().zip(&ids) {
        let about = format!("{model}, {request}");
        let body: Value = serde_json::from_slice(&responses[id].data).unwrap();
        match expected {
            None => assert_eq!(body["error"]["code"], "INVALID_INPUT", "{about}: {body}"),
            Some(expected) => {
                let got = body.get("predictions").or(body.get("outputs"));
                let Some(got) = got else { panic!("{about}: {body} {}", worker.log()) };
                assert_close(got, expected, &about);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_value_a_row_may_be_a_class_but_no_scores() {
    let world = World::start().await;
    let labels = "labels: [cat, dog, cow]";
    let named = format!(
        "output: [{{from: class, {labels}}}, {{from: kept, {labels}}}, {{from: shifted, {labels}}}, \
         {{from: score, activation: sigmoid}}]"
    );
    world.upload_declared("named", "rows/classes/1", &named);
    let several = "output: [{from: score, activation: softmax}, {from: score, name: b, top: 1}, \
                   {from: score, name: c, labels: [a]}, {from: class, name: d, threshold: 1}]";
    world.upload_declared("several", "rows/classes/1", several);
    world.upload_declared("idle", "rows/classes/1", "session: {intra_threads: 0}");
    world.upload_declared("busy", "rows/classes/1", "session: {intra_threads: 1000000000}");
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
        ("idle", &["session.intra_threads: expected 1 to 256, got 0"]),
        ("busy", &["session.intra_threads: expected 1 to 256, got 1000000000"]),
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

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_row_changes_no_other_answer() {
    let world = World::start().await;
    world.upload_version("types/fragile/1", "fragile", "1");
    let worker = world
        .ready_worker(&[("PREDICTD_BATCHING__MAX_WAIT", "200ms"), ("PREDICTD_LOG", "info,onnxruntime=debug")])
        .await;
    let ids: Vec<String> = (0..64)
        .map(|n| world.publish(format!("{{\"instances\": [{}]}}", if n == 37 { 99 } else { n % 4 }), &[]))
        .collect();
    let responses = world.responses(&ids).await;
    for (n, id) in ids.iter().enumerate() {
        let body = String::from_utf8_lossy(&responses[id].data).into_owned();
        if n == 37 {
            assert_eq!(responses[id].attributes["error_code"], "INFERENCE_FAILED", "{body}");
        } else {
            assert_eq!(responses[id].attributes["status"], "ok", "request {n}: {body}");
        }
    }
    // ONNX Runtime logs each call that fails; halving 64 requests finds the bad one in seven. The row of the
    // warm-up is another, and the warning about the request repeats ONNX Runtime's words under another
    // target.
    worker.until_log("a request was answered with an error").await;
    let log = worker.log();
    let failed = log
        .lines()
        .filter(|line| line.contains("\"target\":\"onnxruntime\"") && line.contains("idx=99"))
        .count();
    assert!((1..=7).contains(&failed), "{failed} calls failed");
    let ran = worker.metric("predictd_inference_seconds_count").await.unwrap();
    assert!(ran + failed as f64 <= 128.0, "{ran} calls ran for 64 requests");
}
