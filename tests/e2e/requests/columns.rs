//! Rows of named columns, which model.yaml or the signature of MLflow declares, and inputs with a default.

use serde_json::{Value, json};

use crate::support::harness::{World, model_file};

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
