//! Texts as requests: they become the tokens of the tokenizer of the bundle.

use serde_json::{Value, json};

use crate::support::harness::{World, model_file};

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
        // The output has a score for every token; none for padding, which stands on the declared side or the
        // tokenizer's own.
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
    // Ready with the first of them, where the others take long.
    for model in ["padded", "unused", "followed"] {
        worker.until_serving(model, "1").await;
    }
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
