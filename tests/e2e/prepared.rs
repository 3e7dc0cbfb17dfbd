//! Images and texts as requests, prepared as the bundle's model.yaml declares it.

use std::collections::HashMap;

use base64::Engine as _;
use predictd::cli::predict::predict;
use predictd::lifecycle::load;
use predictd::model::Models;
use serde_json::{Value, json};

use crate::declarations::RUNTIME;
use crate::harness::{World, model_file, repository};

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
    world.upload("models/conv/1/model.yaml", b"image: {max_pixels: 2000}".to_vec());
    world.upload("models/conv/1/model.onnx", model_file("zoo/torch-conv", "model.onnx"));
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

fn file_of(case: &Value) -> &str {
    case["file"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_becomes_the_tokens_of_its_tokenizer() {
    let world = World::start().await;
    let cases: Value = serde_json::from_slice(&model_file("text", "cases.json")).unwrap();
    let cases: Vec<&Value> =
        cases.as_array().unwrap().iter().filter(|case| case["texts"].as_array().unwrap().len() > 1).collect();
    for (number, case) in cases.iter().enumerate() {
        let mut text = case["text"].clone();
        text["tokenizer"] = case["file"].clone();
        let declaration = json!({ "text": text }).to_string();
        let file = file_of(case);
        let folder = format!("models/case-{number}/1");
        world.upload(&format!("{folder}/model.yaml"), declaration.into_bytes());
        world.upload(&format!("{folder}/{file}"), model_file("text", file));
        world.upload(&format!("{folder}/model.onnx"), model_file("text", "model.onnx"));
    }
    assert!(cases.len() >= 10);
    let worker = world.ready_worker(&[]).await;
    for (number, case) in cases.iter().enumerate() {
        let model = format!("case-{number}");
        let instances = match case["seconds"].as_array() {
            None => case["texts"].clone(),
            Some(seconds) => {
                let pairs = case["texts"].as_array().unwrap().iter().zip(seconds);
                pairs.map(|(text, second)| json!({ "passage": second, "question": text })).collect()
            }
        };
        let response = world.ask(json!({ "instances": instances }).to_string(), &[("model", &model)]).await;
        let body: Value = serde_json::from_slice(&response.data).unwrap();
        assert_eq!(response.attributes["status"], "ok", "{case}: {body}; {}", worker.log());
        let column = |name: &str| -> Value {
            body["predictions"].as_array().unwrap().iter().map(|row| row[name].clone()).collect()
        };
        // The output has a score for every token; none for padding, which stands on the declared side or the tokenizer's own.
        let side = case["text"]["padding"]["side"].as_str();
        let is_left = side.map_or(file_of(case) == "byte-level.json", |side| side == "left");
        let rows = case["input_ids"].as_array().unwrap().iter().zip(case["tokens"].as_array().unwrap());
        let own = rows.map(|(row, tokens)| {
            let (row, tokens) = (row.as_array().unwrap(), usize::try_from(tokens.as_u64().unwrap()).unwrap());
            json!(if is_left { &row[row.len() - tokens..] } else { &row[..tokens] })
        });
        assert_eq!(column("ids"), own.collect::<Value>(), "{case}");
        assert_eq!(column("count"), case["tokens"], "{case}");
    }
    let paired = cases.iter().position(|case| case["seconds"].is_array()).unwrap();
    let model = format!("case-{paired}");
    let table = "passage,question\nThe lazy worker,Who is lazy?\n";
    let table = world.ask(table, &[("model", &model), ("content-type", "text/csv; header=present")]).await;
    let rows = r#"{"instances": [{"question": "Who is lazy?", "passage": "The lazy worker"}]}"#;
    let rows = world.ask(rows, &[("model", &model)]).await;
    assert_eq!(rows.attributes["status"], "ok", "{}", String::from_utf8_lossy(&rows.data));
    assert_eq!(table.data, rows.data);
    let half = world.ask(r#"[{"question": "Who?"}]"#, &[("model", &model)]).await;
    assert!(String::from_utf8_lossy(&half.data).contains("got none for \\\"passage\\\""), "{half:?}");

    let model = "case-0";
    let plain = world.ask("The lazy worker", &[("model", model), ("content-type", "text/plain")]).await;
    let rows = world.ask(r#"{"instances": ["The lazy worker"]}"#, &[("model", model)]).await;
    assert_eq!(plain.attributes["status"], "ok");
    assert_eq!(plain.data, rows.data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tokenizers_file_that_is_not_followed_is_told_once_the_version_loads() {
    let world = World::start().await;
    let mut padded: Value = serde_json::from_slice(&model_file("text", "wordpiece.json")).unwrap();
    padded["padding"] = json!({
        "strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"
    });
    for (model, declaration, tokenizer) in [
        ("padded", "text: {}", padded.to_string().into_bytes()),
        ("unused", "batching: {}", model_file("text", "wordpiece.json")),
        ("followed", "text: {}", model_file("text", "wordpiece.json")),
    ] {
        world.upload(&format!("models/{model}/1/model.yaml"), declaration.into());
        world.upload(&format!("models/{model}/1/tokenizer.json"), tokenizer);
        world.upload(&format!("models/{model}/1/model.onnx"), model_file("text", "model.onnx"));
    }
    let worker = world.ready_worker(&[]).await;
    let log = worker.log();
    let of = |model: &str| -> Vec<Value> {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["severity"] == "WARNING" && line["model"] == model).collect()
    };
    for (model, says) in [
        ("padded", "pads every text to 128 tokens"),
        ("unused", "\"tokenizer.json\" is there, but \"model.yaml\" has no text part"),
    ] {
        let [warning] = &of(model)[..] else { panic!("expected one warning of {model}: {log}") };
        assert!(warning["reason"].as_str().unwrap().contains(says), "{warning}");
    }
    assert_eq!(of("followed"), [Value::Null; 0], "{log}");
    let text = world.ask(r#"{"instances": ["dog"]}"#, &[("model", "padded")]).await;
    let plain = world.ask(r#"{"instances": ["dog"]}"#, &[("model", "followed")]).await;
    let predictions = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["predictions"].clone();
    assert_eq!(predictions(&text.data), predictions(&plain.data));
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_columns_make_up_the_models_input() {
    let world = World::start().await;
    let model = || model_file("zoo/torch-legacy", "model.onnx");
    let declaration = "columns:\n  - name: size\n  - name: city\n    categories: [Berlin, Paris]\n    missing: Paris\n  - name: age\n    missing: 0.5\n  - name: kind\n    categories: [a, b, c]\n    unknown: -1\n";
    world.upload("models/plain/1/model.onnx", model());
    world.upload("models/named/1/model.yaml", declaration.as_bytes().to_vec());
    world.upload("models/named/1/model.onnx", model());
    let worker = world.ready_worker(&[]).await;
    let ask = async |model: &str, body: &str, kind: &str| {
        let response = world.ask(body.to_owned(), &[("model", model), ("content-type", kind)]).await;
        let body: Value = serde_json::from_slice(&response.data).unwrap();
        (response.attributes["status"].clone(), body)
    };
    let json = "application/json";
    let rows = r#"{"instances": [[1.5, 0, 3, 2], [2, 1, 0.5, -1], [-1, 1, 2, 0]]}"#;
    let (status, expected) = ask("plain", rows, json).await;
    assert_eq!(status, "ok", "{}", worker.log());
    for (body, kind) in [
        (
            r#"[{"size": 1.5, "city": "Berlin", "age": 3, "kind": "c"}, {"kind": "z", "size": 2, "age": null}, {"size": -1, "city": null, "age": 2, "kind": "a"}]"#,
            json,
        ),
        (
            r#"{"dataframe_split": {"columns": ["city", "size", "age", "kind"], "data": [["Berlin", 1.5, 3, "c"], ["Paris", 2, null, "?"], [null, -1, 2, "a"]]}}"#,
            json,
        ),
        ("size,city,age,kind\n1.5,Berlin,3,c\n2,,,zzz\n-1,Paris,2,a\n", "text/csv;header=present"),
    ] {
        let (status, body_got) = ask("named", body, kind).await;
        assert_eq!(status, "ok", "{body_got}");
        assert_eq!(body_got["predictions"], expected["predictions"], "{body}");
    }
    for (body, says) in [
        (
            r#"[{"size": 1, "city": "Rome", "kind": "a"}]"#,
            r#"[0]["city"]: expected one of ["Berlin", "Paris"], got "Rome""#,
        ),
        (r#"[{"city": "Paris", "kind": "a"}]"#, "got none for \"size\""),
        (r#"[{"size": null, "kind": "a"}]"#, "expected a number, got `null`"),
    ] {
        let (status, body) = ask("named", body, json).await;
        assert_eq!(status, "error");
        assert!(body["error"]["message"].as_str().unwrap().contains(says), "{body}");
    }
    world.upload(
        "models/wrong/1/model.yaml",
        b"columns: [{name: a}, {name: a, missing: x}, {name: b, input: y}, {name: c, categories: []},
            {name: d, categories: [r, s, r], missing: t}, {name: e}]
output: [{from: output, labels: [a, b, a]}]"
            .to_vec(),
    );
    world.upload("models/wrong/1/model.onnx", model());
    let info = worker
        .until_info("the refusal", |info| info["models"]["wrong"]["refused"][0]["reason"].is_string())
        .await;
    let reason = info["models"]["wrong"]["refused"][0]["reason"].as_str().unwrap();
    for says in [
        "columns[1]: name: expected each column once",
        "missing: expected a float32, got \"x\"",
        "columns[3]: categories: expected at least one, got none",
        "columns[4]: categories: expected each once, got \"r\" twice",
        "columns[4]: missing: expected one of the categories, got \"t\"",
        "output[0]: labels: expected each once, since they are the keys of an object, got \"a\" twice",
        "columns[2]: input: expected one of [\"input\"], got Some(\"y\")",
        "expected as many as the input \"input\" takes (float32[batch_size, 4]), got 5",
    ] {
        assert!(reason.contains(says), "{says:?} is missing in {reason:?}");
    }
}

/// An MLmodel whose signature has these columns: their types, names and whether a row must have them.
fn mlmodel(columns: &[(&str, &str, bool)]) -> Vec<u8> {
    let column = |(kind, name, required): &(&str, &str, bool)| json!({"type": kind, "name": name, "required": required});
    let inputs: Vec<Value> = columns.iter().map(column).collect();
    format!("flavors:\n  onnx: {{data: model.onnx}}\nsignature:\n  inputs: '{}'\n", json!(inputs))
        .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn mlflows_signature_says_which_columns_in_which_order_and_what_they_take() {
    let world = World::start().await;
    world.upload("models/plain/1/model.onnx", model_file("zoo/torch-legacy", "model.onnx"));
    let typed = [("double", "a", true), ("long", "n", true), ("boolean", "is", true), ("float", "z", false)];
    world.upload("models/typed/1/MLmodel", mlmodel(&typed));
    world.upload("models/typed/1/model.onnx", model_file("zoo/torch-legacy", "model.onnx"));
    let turned = [
        ("long", "siblings", true),
        ("double", "fare", true),
        ("string", "sex", true),
        ("string", "embarked", true),
        ("double", "age", false),
    ];
    world.upload("models/turned/1/MLmodel", mlmodel(&turned));
    world.upload("models/turned/1/model.onnx", model_file("zoo/sklearn-columns", "model.onnx"));
    let strings = [("string", "a", true), ("long", "n", true), ("long", "m", true), ("long", "k", false)];
    world.upload("models/wrong/1/MLmodel", mlmodel(&strings));
    world.upload("models/wrong/1/model.onnx", model_file("zoo/torch-legacy", "model.onnx"));
    let worker = world.ready_worker(&[]).await;
    let ask = async |model: &str, body: &str, kind: &str| {
        let response = world.ask(body.to_owned(), &[("model", model), ("content-type", kind)]).await;
        let body: Value = serde_json::from_slice(&response.data).unwrap();
        (response.attributes["status"].clone(), body)
    };
    let (json, csv) = ("application/json", "text/csv");
    let answer = async |model: &str, body: &str, kind: &str| {
        let (status, got) = ask(model, body, kind).await;
        assert_eq!(status, "ok", "{model} {body}: {got}");
        got.get("predictions").or_else(|| got.get("outputs")).unwrap().clone()
    };

    let expected = answer("plain", "[[1.5, 3, 1, 0.5], [2, -4, 0, 7]]", json).await;
    for (body, kind) in [
        (r#"[{"a": 1.5, "n": 3, "is": true, "z": 0.5}, {"z": 7, "is": false, "n": -4, "a": 2}]"#, json),
        (r#"{"inputs": {"n": [3, -4], "a": [1.5, 2], "is": [true, false], "z": [0.5, 7]}}"#, json),
        ("is,a,n,z\nTrue,1.5,3,.5\nFalse,2,-4,7\n", csv),
        ("1.5,3,true,.5\n2,-4,false,7\n", csv),
    ] {
        assert_eq!(answer("typed", body, kind).await, expected, "{body}");
    }
    let gap = answer("plain", r#"[[1.5, 3, 1, "NaN"]]"#, json).await;
    for (model, body, kind) in [
        ("plain", "[[1.5, 3, 1, null]]", json),
        ("typed", r#"[{"a": 1.5, "n": 3, "is": true}]"#, json),
        ("typed", r#"{"dataframe_split": {"columns": ["is", "n", "a"], "data": [[true, 3, 1.5]]}}"#, json),
        ("typed", "a,n,is\n1.5,3,true\n", csv),
    ] {
        assert_eq!(answer(model, body, kind).await, gap, "{body}");
    }
    let (status, refused) = ask("typed", r#"[{"a": 1, "n": 2.5, "is": true}]"#, json).await;
    assert_eq!(status, "error");
    let says = "[0][\"n\"]: expected a whole number, as the signature's type long says, got 2.5";
    assert_eq!(refused["error"]["message"], says);

    let row = r#"[{"sex": "male", "embarked": "S", "age": 46, "fare": 83.83, "siblings": 0}]"#;
    let expected = answer("turned", row, json).await;
    assert_eq!(answer("turned", r#"{"instances": [[0, 83.83, "male", "S", 46]]}"#, json).await, expected);
    assert_eq!(answer("turned", "0,83.83,male,S,46\n", csv).await, expected);
    let gap = answer("turned", &row.replace("46", "\"NaN\""), json).await;
    assert_eq!(answer("turned", &row.replace("\"age\": 46, ", ""), json).await, gap);
    assert_eq!(answer("turned", &row.replace("46", "null"), json).await, gap);

    let info = worker
        .until_info("the refusal", |info| info["models"]["wrong"]["refused"][0]["reason"].is_string())
        .await;
    let reason = info["models"]["wrong"]["refused"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("column \"a\": expected a type for the input \"input\""), "{reason}");
}

/// token-scores: two scores a token, and which tokens of the row are the same. Its inputs are filled up to multiples of four.
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

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_has_a_default_may_be_left_out() {
    let world = World::start().await;
    world.upload("models/scaled/1/model.onnx", model_file("zoo/default-input", "model.onnx"));
    let _worker = world.ready_worker(&[]).await;
    let left_out = [
        (json!({"instances": [[1, 2, 3]]}), "/predictions/0", json!([2.0, 4.0, 6.0])),
        (json!({"instances": [{"x": [1, 2, 3]}]}), "/predictions/0", json!([2.0, 4.0, 6.0])),
        (json!({"inputs": {"x": [[1, 2, 3]]}}), "/outputs/0", json!([2.0, 4.0, 6.0])),
        (
            json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}),
            "/outputs/0/data",
            json!([2.0, 4.0, 6.0]),
        ),
    ];
    for (request, place, expected) in left_out {
        let response = world.ask(request.to_string(), &[]).await;
        let body: Value = serde_json::from_slice(&response.data).unwrap();
        assert_eq!(body.pointer(place), Some(&expected), "{request}: {body}");
    }
    for given in [
        json!({"instances": [{"x": [1, 2, 3], "scale": [10]}]}),
        json!({"inputs": {"x": [[1, 2, 3]], "scale": [10]}}),
        json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]},
                          {"name": "scale", "datatype": "FP32", "shape": [1], "data": [10]}]}),
    ] {
        let response = world.ask(given.to_string(), &[]).await;
        let body: Value = serde_json::from_slice(&response.data).unwrap();
        assert_eq!(response.attributes["error_code"], "INVALID_INPUT", "{given}: {body}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("input \"scale\" has a value of its own in the model"), "{message}");
    }
}

/// What Pillow and numpy prepare as torchvision does leads a classifier to the same five classes, in the same order.
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
