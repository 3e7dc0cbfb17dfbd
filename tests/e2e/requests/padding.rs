//! Rows of different lengths: padded for the model, and answered at their own length.

use serde_json::{Value, json};

use crate::support::harness::{World, model_file};

/// token-scores: two scores a token, and which tokens of the row are the same. Its inputs are filled up to
/// multiples of four.
fn scores_of(ids: &[i64]) -> Value {
    const TABLE: [[f64; 2]; 4] = [[0.0, 0.0], [1.0, -1.0], [0.5, 8.0], [-2.0, 3.0]];
    ids.iter().map(|id| json!(TABLE[usize::try_from(*id).unwrap()])).collect()
}

fn same_of(ids: &[i64]) -> Value {
    ids.iter().map(|a| ids.iter().map(|b| json!(a == b)).collect::<Value>()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn padded_rows_give_outputs_of_their_own_length() {
    let world = World::start().await;
    for file in ["model.yaml", "model.onnx"] {
        world.upload(&format!("models/tokens/1/{file}"), model_file("zoo/token-scores", file));
    }
    let rows: [&[i64]; 3] = [&[1, 2, 3, 1, 2], &[], &[3, 3]];
    let short: [&[i64]; 2] = [&[2, 1, 3], &[3, 1, 1]];
    // Published before the worker starts, so that they share calls where their padded lengths are the same.
    let ids: Vec<String> = [
        json!({ "instances": rows }),
        json!({ "instances": [{"ids": short[0]}] }),
        json!({ "inputs": {"ids": rows} }),
        json!({ "inputs": [{"name": "ids", "datatype": "INT64", "shape": [2, 3], "data": short.concat()}] }),
        json!({ "inputs": [{"name": "ids", "datatype": "INT64", "shape": [1, 3], "data": short[0]}],
                "outputs": [{"name": "same", "parameters": {"binary_data": true}}] }),
    ]
    .iter()
    .map(|body| world.publish(body.to_string(), &[]))
    .collect();
    let _worker = world.ready_worker(&[]).await;
    let responses = world.responses(&ids).await;
    let body = |number: usize| -> Value {
        let response = &responses[&ids[number]];
        let length = response.attributes.get("inference-header-content-length");
        let end = length.map_or(response.data.len(), |length| length.parse().unwrap());
        serde_json::from_slice(&response.data[..end]).unwrap()
    };
    let prediction = |body: &Value, row: usize, ids: &[i64]| {
        let got = &body["predictions"][row];
        assert_eq!((&got["scores"], &got["same"]), (&scores_of(ids), &same_of(ids)), "{ids:?}: {body}");
    };
    let ragged = body(0);
    assert_eq!(ragged["predictions"].as_array().unwrap().len(), 3);
    rows.iter().enumerate().for_each(|(row, ids)| prediction(&ragged, row, ids));
    prediction(&body(1), 0, short[0]);

    // A tensor is as long as its longest row; the padding is 0.
    let longest: Vec<Vec<i64>> = rows.iter().map(|row| [*row, &[0; 5]].concat()[..5].to_vec()).collect();
    let expected: Value = longest.iter().map(|ids| scores_of(ids)).collect();
    assert_eq!(body(2)["outputs"]["scores"], expected);
    let expected: Value = longest.iter().map(|ids| same_of(ids)).collect();
    assert_eq!(body(2)["outputs"]["same"], expected);

    let v2 = body(3);
    let shapes: Vec<_> =
        v2["outputs"].as_array().unwrap().iter().map(|output| output["shape"].clone()).collect();
    assert_eq!(shapes, [json!([2, 3, 2]), json!([2, 3, 3]), json!([2, 2])]);
    let flat = |rows: &[&[i64]]| -> Vec<Value> {
        let nested = rows.iter().flat_map(|ids| scores_of(ids).as_array().unwrap().clone());
        nested.flat_map(|pair| pair.as_array().unwrap().clone()).collect()
    };
    assert_eq!(v2["outputs"][0]["data"], Value::from(flat(&short)));
    let binary = &responses[&ids[4]];
    assert_eq!(body(4)["outputs"][0]["shape"], json!([1, 3, 3]));
    assert_eq!(&binary.data[binary.data.len() - 9..], &[1, 0, 0, 0, 1, 0, 0, 0, 1]);
}
