//! Images and texts as requests, prepared as the bundle's model.yaml declares it.

use std::collections::HashMap;

use base64::Engine as _;
use predictd::cli::predict::predict;
use predictd::lifecycle::load;
use predictd::model::Models;
use serde_json::{Value, json};

use crate::support::harness::{World, model_file, repository};
use crate::support::runtime::RUNTIME;

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Models that take the zoo's two images, with what each declares and what its framework predicts for them.
const IMAGES: &[(&str, &str)] = &[
    ("torch-conv", "image: {}"),
    ("torch-conv-batch1", "image: {}"),
    ("torch-conv-no-batch", "image: {layout: nchw}"),
    ("keras-conv", "image: {}"),
    ("prepost-image", "preprocess: preprocess.onnx\npostprocess: postprocess.onnx\nimage: {}"),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_a_request() {
    let world = World::start().await;
    for (model, declaration) in IMAGES {
        for entry in std::fs::read_dir(repository().join("tests/models/zoo").join(model)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.contains(".onnx") {
                let file = model_file(&format!("zoo/{model}"), &name);
                world.upload(&format!("models/{model}/1/{name}"), file);
            }
        }
        world.upload(&format!("models/{model}/1/model.yaml"), declaration.as_bytes().to_vec());
    }
    let worker = world.ready_worker(&[]).await;
    for (model, _) in IMAGES {
        let expected: Value =
            serde_json::from_slice(&model_file(&format!("zoo/{model}"), "expected.json")).unwrap();
        let mut images = 0;
        for case in expected["cases"].as_array().unwrap() {
            let Some(image) = case["image"].as_str() else { continue };
            images += 1;
            let bytes = model_file("zoo", image);
            let kind = if image.ends_with("png") { "image/png" } else { "image/jpeg" };
            let rows = json!({ "instances": [{ "b64": base64(&bytes) }] }).to_string();
            for (body, attributes) in [
                (bytes.clone(), vec![("model", *model), ("content-type", kind)]),
                (bytes.clone(), vec![("model", *model)]),
                (bytes.clone(), vec![("model", *model), ("content-type", "application/octet-stream")]),
                (rows.into_bytes(), vec![("model", *model)]),
            ] {
                let response = world.ask(body, &attributes).await;
                let body: Value = serde_json::from_slice(&response.data).unwrap();
                assert_eq!(response.attributes["status"], "ok", "{model}: {body}; {}", worker.log());
                let outputs = case["expected"].as_object().unwrap();
                let got = &body["predictions"][0];
                for (name, output) in outputs {
                    let got = if outputs.len() == 1 { got } else { &got[name] };
                    // Models without a batch dimension give the whole output, the others one row of it.
                    let expected =
                        if *model == "torch-conv-no-batch" { &output["data"] } else { &output["data"][0] };
                    assert!(close(got, expected), "{model}, {image}: expected {expected}, got {got}");
                }
            }
        }
        assert_eq!(images, 2, "{model}");
    }
}

/// JPEG decoders may differ by a level in 255, and so do the outputs, a little.
fn close(got: &Value, expected: &Value) -> bool {
    match (got, expected) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b)),
        (a, b) => (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 0.005,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_image_gets_its_error_and_its_neighbours_their_predictions() {
    let world = World::start().await;
    world.upload_declared("conv", "zoo/torch-conv", "image: {max_pixels: 2000}");
    // Published before the worker starts, so that they share a batch.
    let good = model_file("zoo", "image.png");
    let mut bomb = model_file("images", "rgb.png");
    bomb[16..24].copy_from_slice(&[0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50]); // 50,000 x 50,000 in the header
    bomb[29..33].copy_from_slice(&[0xc4, 0xcd, 0xaa, 0x9d]); // and its checksum
    let kinds: &[(&[u8], &str)] = &[
        (&good, "ok"),
        (&good[..good.len() / 2], "INVALID_INPUT"),
        (&bomb, "INPUT_TOO_LARGE"),
        (b"\xff\xd8\xff\xe0 no JPEG at all", "INVALID_INPUT"),
        (&good, "ok"),
    ];
    let ids: Vec<String> = kinds
        .iter()
        .map(|(body, _)| world.publish(body.to_vec(), &[("content-type", "image/png")]))
        .collect();
    let _worker = world.ready_worker(&[]).await;
    let responses = world.responses(&ids).await;
    for (id, (_, expected)) in ids.iter().zip(kinds) {
        let response = &responses[id];
        let got = response.attributes.get("error_code").unwrap_or(&response.attributes["status"]);
        assert_eq!(got, expected, "{}", String::from_utf8_lossy(&response.data));
    }
    let json = world.ask(r#"{"instances": [[1, 2]]}"#, &[]).await;
    assert_eq!(json.attributes["error_code"], "INVALID_INPUT");
}

/// A classifier gives the same five classes, in the same order, as for images that Pillow and numpy prepare
/// like torchvision.
#[test]
fn images_lead_to_the_top_5_that_torchvisions_preprocessing_leads_to() {
    let noted: Value = serde_json::from_slice(&model_file("", "top5.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.onnx"), model_file("zoo/torch-conv", "model.onnx")).unwrap();
    // JSON is YAML.
    let declared = json!({"image": noted["image"], "output": [{"from": "output", "top": 5}]});
    std::fs::write(folder.path().join("model.yaml"), declared.to_string()).unwrap();
    let model = load::load(&RUNTIME, folder.path(), "m", "1", String::new()).unwrap();
    let models = Models::of(model);
    let top = noted["top"].as_object().unwrap();
    assert!(top.len() > 25, "{top:?}");
    for (file, expected) in top {
        let answer = predict(&models, &model_file("images", file), HashMap::new());
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let best = body["predictions"][0].as_array().unwrap_or_else(|| panic!("{file}: {body}"));
        let best: Value = best.iter().map(|one| one["index"].clone()).collect();
        assert_eq!(best, *expected, "{file}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gray_image_is_a_request_of_a_model_without_channels() {
    let world = World::start().await;
    world.upload_declared("gray", "rows/gray/1", "image: {color: gray, resize: {width: 8, height: 8}}");
    let _worker = world.ready_worker(&[]).await;
    let image = model_file("images", "gray.png");
    let response = world.ask(image, &[("content-type", "image/png")]).await;
    let body: Value = serde_json::from_slice(&response.data).unwrap();
    let means = body["predictions"][0].as_array().unwrap_or_else(|| panic!("{body}"));
    assert_eq!(means.len(), 8);
    assert!(means.iter().all(|mean| (0.0..=1.0).contains(&mean.as_f64().unwrap())), "{body}");
}
