//! Every form of request and response through real Pub/Sub, and the same through `predictd predict`, byte for
//! byte.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::requests::tensor_types::open;
use crate::support::harness::{World, model_file};
use crate::support::oracle::{self, wine};

pub(super) const ROWS: [usize; 3] = [0, 77, 160];

type Attributes<'a> = Vec<(&'a str, &'a str)>;
/// Kind, body, attributes.
type Case = (&'static str, Vec<u8>, Attributes<'static>);

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn gunzip(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(data).read_to_end(&mut out).unwrap();
    out
}

/// The rows as a table, its columns in the order of `places`.
pub(super) fn csv(rows: &[usize], header: Option<&[String]>, places: &[usize], end: &str) -> String {
    let mut out = String::new();
    if let Some(names) = header {
        let names: Vec<String> = places.iter().map(|place| format!("\"{}\"", names[*place])).collect();
        out.push_str(&(names.join(",") + end));
    }
    for row in rows {
        let cells: Vec<String> = places.iter().map(|place| wine().rows[*row][*place].to_string()).collect();
        out.push_str(&(cells.join(",") + end));
    }
    out
}

fn floats(rows: &[usize]) -> Vec<u8> {
    let cells = rows.iter().flat_map(|row| wine().rows[*row].as_array().unwrap());
    cells.flat_map(|cell| (cell.as_f64().unwrap() as f32).to_le_bytes()).collect()
}

fn columns() -> Vec<String> {
    let expected: Value = serde_json::from_slice(&model_file("wine", "expected.json")).unwrap();
    expected["columns"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// The name of the wine model's one input.
fn input(info: &Value) -> String {
    info["models"]["wine"]["serving"]["inputs"][0]["name"].as_str().unwrap().to_owned()
}

pub(super) async fn wine_world() -> (World, crate::support::harness::Worker) {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    let worker = world.ready_worker(&[]).await;
    (world, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_rows_gets_scikit_learns_answer() {
    let (world, _worker) = wine_world().await;
    let in_order: Vec<usize> = (0..13).collect();
    let reversed: Vec<usize> = (0..13).rev().collect();
    let names = columns();
    let json = wine().request(&ROWS).into_bytes();
    let rows: Vec<&Value> = ROWS.iter().map(|row| &wine().rows[*row]).collect();
    let record = |row: &&Value| -> Value {
        let cells = names.iter().cloned().zip(row.as_array().unwrap().iter().cloned());
        Value::Object(cells.rev().collect())
    };
    let records: Vec<Value> = rows.iter().map(record).collect();
    let event = json!({
        "specversion": "1.0", "id": "e", "source": "//test", "type": "t", "datacontenttype": "text/csv",
        "data": csv(&ROWS, None, &in_order, "\n"),
    });
    let cases: Vec<Case> = vec![
        (
            "a table without a header",
            csv(&ROWS, None, &in_order, "\n").into(),
            vec![("content-type", "text/csv")],
        ),
        (
            "a table with a header in another order",
            csv(&ROWS, Some(&names), &reversed, "\r\n").into(),
            vec![("content-type", "text/csv; charset=utf-8")],
        ),
        (
            "a declared header",
            csv(&ROWS, Some(&names), &in_order, "\n").into(),
            vec![("content-type", "text/csv;header=present")],
        ),
        ("raw rows", floats(&ROWS), vec![("content-type", "application/octet-stream")]),
        ("gzip", gzip(&json), vec![("content-encoding", "gzip")]),
        (
            "raw rows in gzip",
            gzip(&floats(&ROWS)),
            vec![("content-type", "application/octet-stream"), ("content-encoding", "gzip")],
        ),
        (
            "pandas, split",
            json!({"dataframe_split": {"columns": names, "index": [7, 8, 9], "data": rows}})
                .to_string()
                .into(),
            vec![],
        ),
        ("pandas, records", json!({"dataframe_records": records}).to_string().into(), vec![]),
        ("a bare list of objects", Value::from(records.clone()).to_string().into(), vec![]),
        (
            "Vertex AI's parameters",
            json!({"instances": rows, "parameters": {"anything": [1]}}).to_string().into(),
            vec![],
        ),
        ("JSON, declared", json.clone(), vec![("content-type", "Application/JSON; charset=UTF-8")]),
    ];
    let ids: Vec<String> =
        cases.iter().map(|(_, body, attributes)| world.publish(body.clone(), attributes)).collect();
    let responses = world.responses(&ids).await;
    for ((kind, _, _), id) in cases.iter().zip(&ids) {
        let response = &responses[id];
        assert_eq!(response.attributes["content-type"], "application/json", "{kind}");
        assert_eq!(response.attributes.get("content-encoding"), None, "{kind}");
        wine().check(&ROWS, response);
    }
    // The answer is compressed where that is asked for; so is an error.
    let mut response = world.ask(json, &[("accept-encoding", "gzip")]).await;
    assert_eq!(response.attributes["content-encoding"], "gzip");
    response.data = gunzip(&response.data).into();
    wine().check(&ROWS, &response);
    let response = world.ask("{}", &[("accept-encoding", "gzip")]).await;
    assert_eq!(response.attributes["content-encoding"], "gzip");
    let body: Value = serde_json::from_slice(&gunzip(&response.data)).unwrap();
    assert_eq!(body["error"]["code"], "INVALID_INPUT");
    // A table inside an event.
    let attributes = [("content-type", "application/cloudevents+json")];
    let mut response = world.ask(event.to_string(), &attributes).await;
    let answer: Value = serde_json::from_slice(&response.data).unwrap();
    response.data = answer["data"].to_string().into();
    wine().check(&ROWS, &response);
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_json_form_of_one_model_says_the_same() {
    let world = World::start().await;
    world.upload_version("types/strings/1", "strings", "1");
    let expected: Value = serde_json::from_slice(&model_file("types", "expected.json")).unwrap();
    let worker = world.ready_worker(&[]).await;
    let info = worker.info().await;
    let inputs = info["models"]["strings"]["serving"]["inputs"].as_array().unwrap();
    assert_eq!(inputs.len(), 1, "{inputs:?}");
    let name = inputs[0]["name"].as_str().unwrap();
    let tensor = &expected["strings"]["inputs"][name];
    let width = tensor["shape"][1].as_u64().unwrap() as usize;
    let flat = tensor["data"].as_array().unwrap();
    let plain: Vec<Value> = flat.chunks(width).map(|row| row.to_vec().into()).collect();
    let encoded: Vec<Value> = plain
        .iter()
        .map(|row| {
            row.as_array()
                .unwrap()
                .iter()
                .map(|cell| json!({"b64": base64(cell.as_str().unwrap())}))
                .collect()
        })
        .collect();
    let v2 = |data: Value| json!({"inputs": [{"name": name, "shape": tensor["shape"], "datatype": "BYTES", "data": data}]});
    let columns = world.ask(json!({"inputs": {name: plain}}).to_string(), &[]).await;
    let columns: Value = serde_json::from_slice(&columns.data).unwrap();
    assert_eq!(columns["outputs"]["same"], Value::from(plain.clone()), "{columns}");
    for rows in [&plain, &encoded] {
        let by_name: Vec<Value> = rows.iter().map(|row| json!({name: row})).collect();
        for body in [json!({"inputs": {name: rows}}), json!({"inputs": rows})] {
            let response = world.ask(body.to_string(), &[]).await;
            let got: Value = serde_json::from_slice(&response.data).unwrap();
            assert_eq!(got, columns, "{body}");
        }
        for body in [json!({"instances": rows}), json!({"instances": by_name}), Value::from(by_name.clone())]
        {
            let response = world.ask(body.to_string(), &[]).await;
            let got: Value = serde_json::from_slice(&response.data).unwrap();
            for (row, prediction) in plain.iter().zip(got["predictions"].as_array().unwrap()) {
                let same = if prediction.is_object() { &prediction["same"] } else { prediction };
                assert_eq!(same, row, "{body}");
            }
        }
        let nested = v2(Value::from(rows.clone()));
        let flat = v2(rows.iter().flat_map(|row| row.as_array().unwrap().clone()).collect());
        for body in [nested, flat] {
            let (_, outputs) = open(&world.ask(body.to_string(), &[]).await);
            let same = outputs.iter().find(|(output, _)| output["name"] == "same").unwrap();
            assert_eq!(same.0["data"], tensor["data"], "{body}");
        }
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A small message that decompresses to more than may be in flight takes no memory; others are answered.
#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_and_their_neighbours_answered() {
    let (world, _worker) = wine_world().await;
    let packed = [("content-encoding", "gzip")];
    let bomb = gzip(&vec![b' '; 100 << 20]);
    assert!(bomb.len() < 200_000);
    let mut liar = bomb.clone();
    let at = liar.len() - 4;
    liar[at..].copy_from_slice(&1000_u32.to_le_bytes());
    let ids: Vec<String> = [bomb, liar, b"no gzip".to_vec()]
        .into_iter()
        .flat_map(|body| [world.publish(body, &packed), world.publish(wine().request(&[1]), &[])])
        .collect();
    let responses = world.responses(&ids).await;
    let code = |index: usize| &*responses[&ids[index]].attributes["error_code"];
    assert_eq!([code(0), code(2), code(4)], ["INPUT_TOO_LARGE", "INVALID_INPUT", "INVALID_INPUT"]);
    for index in [1, 3, 5] {
        wine().check(&[1], &responses[&ids[index]]);
    }
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}

/// Attributes that only Pub/Sub or the clock gives.
const OWN: [&str; 3] = ["ce-id", "ce-time", "request_message_id"];

/// Without the id and the time of an event, which are the message's own, and how late a request is.
fn comparable(body: &[u8]) -> Vec<u8> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(mut event)) if event.contains_key("specversion") => {
            assert!(event.remove("id").is_some() && event.remove("time").is_some());
            Value::Object(event).to_string().into_bytes()
        }
        Ok(mut error) if error["error"]["code"] == "DEADLINE_EXCEEDED" => {
            let message = error["error"]["message"].take();
            let (before, after) = message.as_str().unwrap().split_once("passed ").unwrap();
            error["error"]["message"] = [before, after.split_once(' ').unwrap().1].concat().into();
            error.to_string().into_bytes()
        }
        _ => body.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_takes_and_prints_what_the_worker_does() {
    let (world, worker) = wine_world().await;
    let name = input(&worker.info().await);
    let in_order: Vec<usize> = (0..13).collect();
    let tensor =
        json!({"name": name, "shape": [3, 13], "datatype": "FP32", "parameters": {"binary_data_size": 156}});
    let header = json!({"inputs": [tensor], "parameters": {"binary_data_output": true}}).to_string();
    let length = header.len().to_string();
    let event = json!({
        "specversion": "1.0", "id": "e", "source": "//s", "type": "t", "data": {"instances": [wine().rows[3]]},
    });
    let event_attributes =
        [("ce-specversion", "1.0"), ("ce-id", "e"), ("ce-source", "//s"), ("ce-type", "t")];
    let with_event = |more: Attributes<'static>| [&event_attributes[..], &more].concat();
    let row = || wine().request(&[1]).into_bytes();
    let (binary, packed, v2_binary) = (
        ("content-type", "application/octet-stream"),
        ("content-encoding", "gzip"),
        "inference-header-content-length",
    );
    let notification = vec![
        ("eventType", "OBJECT_FINALIZE"),
        ("payloadFormat", "JSON_API_V1"),
        ("bucketId", "images"),
        ("objectId", "a.jpg"),
        ("objectGeneration", "17"),
    ];
    // Body, attributes, the code of the error that is expected.
    let cases: Vec<(Vec<u8>, Attributes<'_>, Option<&str>)> = vec![
        (csv(&ROWS, None, &in_order, "\n").into(), vec![("content-type", "text/csv")], None),
        (b"1,2\n".to_vec(), vec![("content-type", "text/csv")], Some("INVALID_INPUT")),
        (floats(&ROWS), vec![binary, ("accept-encoding", "gzip")], None),
        ([header.as_bytes(), &floats(&ROWS)].concat(), vec![binary, (v2_binary, &length)], None),
        (gzip(wine().request(&ROWS).as_bytes()), vec![packed], None),
        (event.to_string().into(), vec![("content-type", "application/cloudevents+json")], None),
        (row(), with_event(vec![("ce-subject", "cellar"), ("ce-correlationid", "c")]), None),
        (b"[]".to_vec(), with_event(vec![]), Some("INVALID_INPUT")),
        (
            row(),
            vec![("request_id", "mine"), ("tenant", "t"), ("model", "wine"), ("model_version", "2")],
            None,
        ),
        (row(), vec![("deadline", "2999-01-01T00:00:00Z")], None),
        (row(), vec![("deadline", "2020-01-01T00:00:00Z")], Some("DEADLINE_EXCEEDED")),
        (row(), vec![("deadline", "soon")], Some("INVALID_INPUT")),
        (row(), vec![("model", "beer")], Some("MODEL_NOT_FOUND")),
        (row(), vec![("model_version", "9")], Some("MODEL_NOT_FOUND")),
        (br#"{"dataref": "gs://images/a.jpg", "id": "i"}"#.to_vec(), vec![], Some("INPUT_FORBIDDEN")),
        (br#"{"dataref": "gs://images"}"#.to_vec(), vec![], Some("INVALID_INPUT")),
        (
            vec![],
            vec![("dataref", "gs://images/a.jpg"), ("accept-encoding", "gzip")],
            Some("INPUT_FORBIDDEN"),
        ),
        (vec![], with_event(vec![("ce-dataref", "gs://images/a.jpg")]), Some("INPUT_FORBIDDEN")),
        (b"{}".to_vec(), notification, Some("INPUT_FORBIDDEN")),
    ];
    for (body, attributes, code) in cases {
        // Pub/Sub takes no message without data and attributes; what has attributes may be empty.
        let id = world.publish(body.clone(), &attributes);
        let published = world.responses(std::slice::from_ref(&id)).await.remove(&id).unwrap();
        assert_eq!(published.attributes.get("error_code").map(String::as_str), code, "{attributes:?}");
        let mut command = world.command();
        command.args(["predict", "--print-attributes", "--model", "gs://models/models/wine"]);
        for (key, value) in &attributes {
            match *key {
                "content-type" => command.args(["--content-type", value]),
                _ => command.args(["--attribute", &format!("{key}={value}")]),
            };
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(&body).unwrap();
            child.wait_with_output().unwrap()
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), code.is_none(), "{stderr}");
        assert_eq!(comparable(&output.stdout), comparable(&published.data), "{attributes:?}: {stderr}");
        let printed: BTreeMap<String, String> = stderr
            .lines()
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no attribute: {line}")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let mut expected: BTreeMap<String, String> = published.attributes.clone().into_iter().collect();
        // The message's id stands for a request's that has none.
        if expected["request_id"] == id {
            expected.insert("request_id".to_owned(), "local".to_owned());
        }
        assert!(printed.keys().eq(expected.keys()), "{attributes:?}: {printed:?} {expected:?}");
        for (key, value) in expected.iter().filter(|(key, _)| !OWN.contains(&key.as_str())) {
            assert_eq!(printed[key], *value, "{attributes:?}: {key}");
        }
        assert_eq!(printed["request_message_id"], "local");
    }
}
