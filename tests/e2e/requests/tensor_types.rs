//! Tensors as binary data behind a v2 request's JSON, and behind its response's.

use local_gcp::pubsub::wire::PubsubMessage;
use serde_json::{Value, json};

use crate::support::harness::{World, model_file};

/// An output's JSON and its binary data.
type Output = (Value, Option<Vec<u8>>);

/// Bytes of a tensor as `expected.json` has it.
pub(crate) fn bytes(tensor: &Value) -> Vec<u8> {
    let data = tensor["data"].as_array().unwrap().iter();
    let integer = |value: &Value| value.as_i64().unwrap_or_else(|| value.as_u64().unwrap() as i64);
    let float = |value: &Value| value.as_f64().unwrap();
    match tensor["datatype"].as_str().unwrap() {
        "BOOL" => data.map(|value| u8::from(value.as_bool().unwrap())).collect(),
        "UINT8" | "INT8" => data.map(|value| integer(value) as u8).collect(),
        "UINT16" | "INT16" => data.flat_map(|value| (integer(value) as u16).to_le_bytes()).collect(),
        "UINT32" | "INT32" => data.flat_map(|value| (integer(value) as u32).to_le_bytes()).collect(),
        "UINT64" | "INT64" => data.flat_map(|value| integer(value).to_le_bytes()).collect(),
        "FP16" => data.flat_map(|value| half::f16::from_f64(float(value)).to_le_bytes()).collect(),
        "FP32" => data.flat_map(|value| (float(value) as f32).to_le_bytes()).collect(),
        "FP64" => data.flat_map(|value| float(value).to_le_bytes()).collect(),
        "BYTES" => data
            .flat_map(|value| {
                let text = value.as_str().unwrap().as_bytes();
                [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text].concat()
            })
            .collect(),
        other => panic!("no bytes for {other}"),
    }
}

/// A response's JSON, with each output's binary data beside it.
pub(crate) fn open(response: &PubsubMessage) -> (Value, Vec<Output>) {
    let length = response.attributes.get("inference-header-content-length");
    let json_length = length.map_or(response.data.len(), |length| length.parse().unwrap());
    let json: Value = serde_json::from_slice(&response.data[..json_length]).unwrap();
    let mut rest = &response.data[json_length..];
    let outputs = json["outputs"].as_array().unwrap_or_else(|| panic!("{json}")).iter().map(|output| {
        let size = output["parameters"]["binary_data_size"].as_u64()?;
        let (own, left) = rest.split_at(usize::try_from(size).unwrap());
        rest = left;
        Some(own.to_vec())
    });
    let binary: Vec<_> = outputs.collect();
    assert!(rest.is_empty());
    let outputs = json["outputs"].as_array().unwrap().clone();
    (json, outputs.into_iter().zip(binary).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_travels_as_binary_data() {
    let world = World::start().await;
    let expected: Value = serde_json::from_slice(&model_file("types", "expected.json")).unwrap();
    let models: Vec<&String> = expected
        .as_object()
        .unwrap()
        .iter()
        .filter(|(model, case)| {
            let finite =
                |side: &str| case[side].as_object().unwrap().values().all(|t| t["datatype"] != "BF16");
            *model != "nan" && *model != "bfloat16" && finite("inputs") && finite("outputs")
        })
        .map(|(model, _)| model)
        .collect();
    assert!(models.len() >= 15, "{models:?}");
    for model in &models {
        world.upload_version(&format!("types/{model}/1"), model, "1");
    }
    let _worker = world.ready_worker(&[]).await;
    for model in models {
        let case = &expected[model];
        let mut binary = Vec::new();
        let inputs: Vec<Value> = case["inputs"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, tensor)| {
                let own = bytes(tensor);
                binary.extend_from_slice(&own);
                json!({
                    "name": name, "shape": tensor["shape"], "datatype": tensor["datatype"],
                    "parameters": {"binary_data_size": own.len()},
                })
            })
            .collect();
        let json =
            json!({"id": "b", "inputs": inputs, "parameters": {"binary_data_output": true}}).to_string();
        let body = [json.as_bytes(), &binary].concat();
        let length = json.len().to_string();
        let attributes = [
            ("model", model.as_str()),
            ("content-type", "application/octet-stream"),
            ("inference-header-content-length", &length),
        ];
        let response = world.ask(body, &attributes).await;
        assert_eq!(
            response.attributes["status"],
            "ok",
            "{model}: {}",
            String::from_utf8_lossy(&response.data)
        );
        assert_eq!(response.attributes["content-type"], "application/octet-stream");
        let (json, outputs) = open(&response);
        assert_eq!(json["id"], "b");
        for (output, binary) in outputs {
            let wanted = &case["outputs"][output["name"].as_str().unwrap()];
            assert_eq!(
                (&output["datatype"], &output["shape"]),
                (&wanted["datatype"], &wanted["shape"]),
                "{model}"
            );
            assert_eq!(output.get("data"), None);
            assert_eq!(binary.unwrap(), bytes(wanted), "{model}: {output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_binary_or_json_as_each_asks() {
    let world = World::start().await;
    world.upload_version("types/int64/1", "numbers", "1");
    let _worker = world.ready_worker(&[]).await;
    let tensor = json!({"name": "x", "shape": [1, 3], "datatype": "INT64", "data": [1, 2, 3]});
    let request = json!({
        "inputs": [tensor], "parameters": {"binary_data_output": true},
        "outputs": [{"name": "changed", "parameters": {"binary_data": false}}, {"name": "same"}],
    });
    let (_, outputs) = open(&world.ask(request.to_string(), &[]).await);
    assert_eq!(outputs[0].0["data"], json!([-2, -3, -4]));
    let same: Vec<u8> = [1_i64, 2, 3].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!((&outputs[1].0["name"], outputs[1].1.as_ref()), (&json!("same"), Some(&same)));
    // A response without binary outputs is plain JSON, whatever the request was.
    let plain =
        json!({"inputs": [tensor], "outputs": [{"name": "same", "parameters": {"binary_data": false}}]});
    let response = world.ask(plain.to_string(), &[]).await;
    assert_eq!(response.attributes["content-type"], "application/json");
    assert!(!response.attributes.contains_key("inference-header-content-length"));
    let short = world.ask("{}", &[("inference-header-content-length", "3")]).await;
    assert_eq!(short.attributes["error_code"], "INVALID_INPUT");
    assert_eq!(short.attributes["content-type"], "application/json");
    assert!(!short.attributes.contains_key("inference-header-content-length"));
}

/// Every numeric and boolean type, named multiple inputs and outputs: as onnxruntime's own Python interface
/// answers.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_in_v2_as_onnxruntime_says() {
    let world = World::start().await;
    let expected: serde_json::Value = serde_json::from_slice(&model_file("types", "expected.json")).unwrap();
    let skipped = ["bfloat16", "nan"];
    let models: Vec<&String> =
        expected.as_object().unwrap().keys().filter(|model| !skipped.contains(&model.as_str())).collect();
    for model in &models {
        world.upload_version(&format!("types/{model}/1"), model, "1");
    }
    let _worker = world.ready_worker(&[]).await;
    for model in models {
        let case = &expected[model];
        let tensors = |side: &str| -> Vec<serde_json::Value> {
            let named = case[side].as_object().unwrap().iter();
            named
                .map(|(name, tensor)| {
                    let mut tensor = tensor.clone();
                    tensor["name"] = name.as_str().into();
                    tensor
                })
                .collect()
        };
        let request = serde_json::json!({"id": "i", "inputs": tensors("inputs")}).to_string();
        let response = world.ask(request, &[("model", model)]).await;
        let body: serde_json::Value = serde_json::from_slice(&response.data).unwrap();
        assert_eq!(response.attributes["status"], "ok", "{model}: {body}");
        assert_eq!(body["id"], "i");
        for wanted in tensors("outputs") {
            let outputs = body["outputs"].as_array().unwrap();
            let got = outputs.iter().find(|output| output["name"] == wanted["name"]).unwrap();
            assert_eq!((&got["datatype"], &got["shape"]), (&wanted["datatype"], &wanted["shape"]), "{model}");
            // The shortest decimal that is the same float16 is up to half a step away from it.
            let tolerance = if got["datatype"] == "FP16" { 5e-4 } else { 1e-6 };
            let (got, wanted) = (got["data"].as_array().unwrap(), wanted["data"].as_array().unwrap());
            assert_eq!(got.len(), wanted.len(), "{model}");
            for (got, wanted) in got.iter().zip(wanted) {
                let same = got == wanted
                    || got
                        .as_f64()
                        .zip(wanted.as_f64())
                        .is_some_and(|(a, b)| (a - b).abs() <= tolerance * b.abs().max(1.0));
                assert!(same, "{model}: {got}, expected {wanted}");
            }
        }
    }
}
