//! Every model of the zoo, as its framework exported it, side by side in one worker: each answer is what the
//! framework itself predicts, in every form that the request can take.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use local_gcp::pubsub::wire::PubsubMessage;
use serde_json::{Map, Value, json};

use crate::requests::tensor_types::bytes;
use crate::support::command::predictd;
use crate::support::harness::{Worker, World, http, outcome, repository, skip};

/// Models that must be refused, and what `/info` says of them.
const REFUSED: &[(&str, &str)] = &[
    ("optional-sequence-input", "only tensors, optional ones, sequences of tensors and maps can be sent"),
    ("sklearn-unloadable", "does not match expected type (tensor(double))"),
    ("torch-bfloat16", "Could not find an implementation for Gemm"),
];
/// Models that leave the length of a row open.
const OPEN_ROWS: &[&str] = &["free-image-size", "token-scores"];

/// A model that leaves open how many dimensions there are: neither bytes nor a table say it.
const OPEN_RANK: &str = "unknown-shape";

/// One request and what must come back.
struct Case {
    model: String,
    name: String,
    form: &'static str,
    body: Vec<u8>,
    attributes: Vec<(&'static str, String)>,
    /// By output name, as nested JSON; `None` when it must fail with INFERENCE_FAILED.
    expected: Option<Map<String, Value>>,
    tolerance: f64,
    message_id: String,
}

fn zoo() -> PathBuf {
    repository().join("tests/models/zoo")
}

fn models() -> Vec<String> {
    let folders = std::fs::read_dir(zoo()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = folders
        .filter(|path| path.join("model.onnx").exists())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// `models/NAME/1` for each, as a repository on disk.
fn lay_out(names: &[String]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in names {
        let folder = root.path().join(name).join("1");
        std::fs::create_dir_all(&folder).unwrap();
        for entry in std::fs::read_dir(zoo().join(name)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "expected.json" {
                std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
            }
        }
    }
    root
}

pub(crate) fn has_text_locale() -> bool {
    let own = std::env::var_os("LOCPATH").map(|folder| Path::new(&folder).join("en_US.UTF-8"));
    if own.is_some_and(|folder| folder.is_dir()) {
        return true;
    }
    let output = std::process::Command::new("locale").arg("-a").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).to_lowercase().contains("en_us.utf"))
}

fn cases_of(model: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(zoo().join(model).join("expected.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let mut cases = Vec::new();
    for case in all["cases"].as_array().unwrap() {
        let inputs = case["inputs"].as_object().unwrap();
        let is_known = |name: &str| name != "scale"; // default-input: an initializer is not sent
        if case.get("image").is_some() || case["rows"] == 0 || !inputs.keys().all(|name| is_known(name)) {
            continue;
        }
        let expected = case["expected"].as_object().map(|outputs| {
            outputs.iter().map(|(name, output)| (name.clone(), expected_value(output))).collect::<Map<_, _>>()
        });
        let mut send = |form, body, attributes| {
            cases.push(Case {
                model: model.to_owned(),
                name: case["name"].as_str().unwrap().to_owned(),
                form,
                body,
                attributes,
                expected: expected.clone(),
                // Responses write the shortest number that reads back at its own width; bfloat16 has eight
                // bits.
                tolerance: if model == "bfloat16" {
                    2.0_f64.powi(-8)
                } else {
                    all["tolerance"].as_f64().unwrap()
                },
                message_id: String::new(),
            });
        };
        let mut add = |form, body: Value| send(form, body.to_string().into_bytes(), Vec::new());
        let v2 = |(name, input): (&String, &Value)| {
            let mut tensor = input.clone();
            tensor["name"] = name.as_str().into();
            (!is_left_out(input)).then_some(tensor)
        };
        let tensors: Vec<Value> = inputs.iter().filter_map(v2).collect();
        // Without inputs v2 has nothing to say, and of what is no tensor it cannot speak.
        if !tensors.is_empty() && tensors.iter().all(|tensor| tensor.get("kind").is_none()) {
            add("v2", json!({ "inputs": tensors }));
        }
        let columns = |(name, input): (&String, &Value)| (name.clone(), plain(input));
        let all: Map<_, _> = inputs.iter().map(columns).collect();
        let mut given = all.clone();
        given.retain(|_, input| !input.is_null());
        if given != all {
            add("columns", json!({ "inputs": given }));
        }
        add("columns", json!({ "inputs": all }));
        if case["records"].is_array() {
            add("rows", json!({ "instances": case["records"] }));
        }
        if tensors.iter().all(has_bytes) && !tensors.is_empty() {
            let (json, data) = v2_binary(&tensors);
            let length = ("inference-header-content-length", json.len().to_string());
            send("v2", [json, data].concat(), vec![length]);
        }
        let [tensor] = &tensors[..] else { continue };
        let rank = tensor["shape"].as_array().map_or(0, Vec::len);
        if !case["records"].is_array() || rank == 0 || inputs.len() > 1 || model == OPEN_RANK {
            continue;
        }
        let content_type = |name: &str| vec![("content-type", name.to_owned())];
        // Rows of an open length have no bytes of a fixed number.
        if has_bytes(tensor) && tensor["datatype"] != "BYTES" && !OPEN_ROWS.contains(&model) {
            send("rows", bytes(tensor), content_type("application/octet-stream"));
        }
        if let Some(table) = csv(&case["records"]) {
            send("rows", table, content_type("text/csv; header=absent"));
        }
    }
    cases
}

/// True when [`bytes`] can write it: no scalar, and no value that JSON writes as a word.
fn has_bytes(tensor: &Value) -> bool {
    let (kind, is_text) = (tensor.get("kind"), tensor["datatype"] == "BYTES");
    let data = tensor["data"].as_array();
    tensor["datatype"] != "BF16"
        && kind.is_none()
        && data.is_some_and(|data| data.iter().all(|value| value.is_string() == is_text))
}

/// Tensors with their data behind the JSON.
fn v2_binary(tensors: &[Value]) -> (Vec<u8>, Vec<u8>) {
    let mut data = Vec::new();
    let described = tensors.iter().map(|tensor| {
        let bytes = bytes(tensor);
        let mut described = tensor.clone();
        described.as_object_mut().unwrap().remove("data");
        described["parameters"] = json!({ "binary_data_size": bytes.len() });
        data.extend(bytes);
        described
    });
    let json = json!({ "inputs": described.collect::<Vec<_>>() });
    (json.to_string().into_bytes(), data)
}

/// Rows of plain values as a table; `None` for other rows.
fn csv(records: &Value) -> Option<Vec<u8>> {
    let mut table = String::new();
    for record in records.as_array()? {
        let cells: Option<Vec<String>> = record.as_array()?.iter().map(cell).collect();
        table += &(cells?.join(",") + "\n");
    }
    Some(table.into_bytes())
}

fn cell(value: &Value) -> Option<String> {
    match value {
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::String(text) => Some(format!("\"{}\"", text.replace('"', "\"\""))),
        _ => None,
    }
}

/// An optional input that is not there.
fn is_left_out(input: &Value) -> bool {
    input["kind"] == "optional"
}

/// An input as JSON has it, `null` where it is left out.
fn plain(input: &Value) -> Value {
    match input["kind"].as_str() {
        None => nest(&input["data"], &input["shape"]),
        Some("sequence of tensors") => input["data"].as_array().unwrap().iter().map(plain).collect(),
        Some(_) => input["data"].clone(),
    }
}

/// Flat data as arrays of this shape.
fn nest(data: &Value, shape: &Value) -> Value {
    let shape: Vec<usize> =
        shape.as_array().unwrap().iter().map(|n| usize::try_from(n.as_u64().unwrap()).unwrap()).collect();
    fn nested(data: &mut std::slice::Iter<'_, Value>, shape: &[usize]) -> Value {
        match shape.split_first() {
            None => data.next().unwrap().clone(),
            Some((length, inner)) => (0..*length).map(|_| nested(data, inner)).collect(),
        }
    }
    let scalar = std::slice::from_ref(data);
    nested(&mut data.as_array().map_or(scalar, Vec::as_slice).iter(), &shape)
}

fn expected_value(output: &Value) -> Value {
    match output["kind"].as_str() {
        Some("sequence of tensors") => {
            output["data"].as_array().unwrap().iter().map(|part| part["data"].clone()).collect()
        }
        _ => output["data"].clone(),
    }
}

/// The outputs by name, whatever the form of the response; rows still one by one.
fn outputs(case: &Case, body: &Value) -> Map<String, Value> {
    let expected = case.expected.as_ref().unwrap();
    let named = |value: &Value| -> Map<String, Value> {
        match (expected.len(), value) {
            (1, value) => Map::from_iter([(expected.keys().next().unwrap().clone(), value.clone())]),
            (_, Value::Object(outputs)) => outputs.clone(),
            (_, other) => panic!("{}: expected an object, got {other}", case.model),
        }
    };
    match case.form {
        "columns" => named(&body["outputs"]),
        "rows" => {
            let rows: Vec<_> = body["predictions"].as_array().unwrap().iter().map(named).collect();
            let column = |name: &String| {
                let column: Vec<Value> = rows.iter().map(|row| row[name].clone()).collect();
                // An output that is missing as a whole is missing in every row.
                let is_missing = expected[name].is_null() && column.iter().all(Value::is_null);
                (name.clone(), if is_missing { Value::Null } else { column.into() })
            };
            expected.keys().map(column).collect()
        }
        _ => {
            let mut all: Map<String, Value> = Map::new();
            for output in body["outputs"].as_array().unwrap() {
                let mut value = nest(&output["data"], &output["shape"]);
                if let Some(labels) = output["parameters"]["labels"].as_array() {
                    let keyed = |row: &Value| -> Value {
                        let pairs = labels.iter().zip(row.as_array().unwrap());
                        pairs
                            .map(|(label, value)| (label.as_str().unwrap().to_owned(), value.clone()))
                            .collect()
                    };
                    value = value.as_array().unwrap().iter().map(keyed).collect();
                }
                let name = output["name"].as_str().unwrap();
                match name.rsplit_once('.').filter(|(sequence, _)| expected.contains_key(*sequence)) {
                    Some((sequence, _)) if !expected.contains_key(name) => {
                        let parts = all.entry(sequence).or_insert_with(|| json!([]));
                        parts.as_array_mut().unwrap().push(value);
                    }
                    _ => drop(all.insert(name.to_owned(), value)),
                }
            }
            for name in expected.keys() {
                all.entry(name.clone()).or_insert(Value::Null);
            }
            all
        }
    }
}

/// True when a response value is the expected one.
pub(crate) fn equal(got: &Value, expected: &Value, tolerance: f64) -> bool {
    match (got, expected) {
        (Value::Number(a), Value::Number(b)) => {
            if let (Some(a), Some(b)) = (a.as_i64(), b.as_i64()) {
                return a == b;
            }
            if let (Some(a), Some(b)) = (a.as_u64(), b.as_u64()) {
                return a == b;
            }
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= tolerance * b.abs().max(1.0)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b, tolerance))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b, tolerance)))
        }
        (a, b) => a == b,
    }
}

/// `error`: the code of an error response.
fn judge(case: &Case, body: &[u8], error: Option<&str>) -> Result<(), String> {
    let body: Value = serde_json::from_slice(body).map_err(|_| String::from_utf8_lossy(body).into_owned())?;
    let Some(expected) = &case.expected else {
        return (error == Some("INFERENCE_FAILED"))
            .then_some(())
            .ok_or_else(|| format!("expected a failure, got {body}"));
    };
    if error.is_some() {
        return Err(body.to_string());
    }
    let got = outputs(case, &body);
    for (name, expected) in expected {
        let value = got.get(name).unwrap_or(&Value::Null);
        if !equal(value, expected, case.tolerance) {
            return Err(format!("output {name:?}: expected {expected}, got {value}"));
        }
    }
    Ok(())
}

/// Models that count rows in their inputs only give other shapes row by row than for all rows together:
/// judged in whole form.
fn is_compared_by_rows(model: &str) -> bool {
    ![
        "sklearn-dict-vectorizer",
        "optional-sequence",
        "sequence-output",
        "sklearn-multi-output",
        "torch-lstm",
        "symbolic-dims",
    ]
    .contains(&model)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_model_answers_as_its_framework_does() {
    let world = World::start().await;
    let mut names = models();
    if !has_text_locale() {
        skip("the model sklearn-text: it needs the locale en_US.UTF-8, which this machine has not");
        names.retain(|name| name != "sklearn-text");
    }
    let root = lay_out(&names);
    let worker: Worker =
        world.ready_worker(&[("PREDICTD_MODELS__SOURCE", root.path().to_str().unwrap())]).await;
    // Ready before all of them are loaded, where that takes long.
    let is_judged = |info: &serde_json::Value, name: &str| {
        let model = &info["models"][name];
        model["serving"].is_object() || model["refused"][0].is_object()
    };
    let all = |info: &serde_json::Value| names.iter().all(|name| is_judged(info, name));
    let info = worker.until_info("every model", all).await;
    for (model, reason) in REFUSED {
        let refused = info["models"][model]["refused"][0]["reason"].as_str().unwrap_or_default();
        assert!(refused.contains(reason), "{model}: {reason:?} is missing in {refused:?}");
    }
    names.retain(|name| REFUSED.iter().all(|(model, _)| model != name));
    for name in &names {
        assert_eq!(info["models"][name]["serving"]["version"], "1", "{name}: {}", info["models"][name]);
    }

    let mut cases: Vec<Case> = names.iter().flat_map(|name| cases_of(name)).collect();
    cases.retain(|case| case.form != "rows" || is_compared_by_rows(&case.model));
    assert!(cases.len() > 300, "only {} cases", cases.len());
    for case in &mut cases {
        let attributes = case.attributes.iter().map(|(key, value)| (*key, value.as_str()));
        let attributes: Vec<_> = attributes.chain([("model", case.model.as_str())]).collect();
        case.message_id = world.publish(case.body.clone(), &attributes);
    }
    let ids: Vec<String> = cases.iter().map(|case| case.message_id.clone()).collect();
    let responses: HashMap<String, PubsubMessage> = world.responses(&ids).await;
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let PubsubMessage { data, attributes, .. } = &responses[&case.message_id];
            let error = attributes.get("error_code").map(String::as_str);
            judge(case, data, error).err().map(|problem| describe(case, &problem))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} answers are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    wrong_over_http(&worker, &cases).await;
}

fn describe(case: &Case, problem: &str) -> String {
    let Case { model, name, form, attributes, body, .. } = case;
    let body = String::from_utf8_lossy(body);
    format!("{model} / {name} / {form} {attributes:?}: {problem:.300}\n  {body:.200}")
}

/// The same requests over HTTP, on the path of every body, and on those of the protocols.
async fn wrong_over_http(worker: &Worker, cases: &[Case]) {
    let (address, client) = (worker.address().await, http());
    let mut wrong = Vec::new();
    for case in cases {
        let Case { model, form, body, attributes, .. } = case;
        let own = match *form {
            "v2" => Some(format!("v2/models/{model}/infer")),
            "columns" => Some(format!("v1/models/{model}:predict")),
            _ if attributes.is_empty() => Some(format!("v1/models/{model}:predict")),
            _ => None,
        };
        for path in [Some(format!("predict?model={model}")), own].into_iter().flatten() {
            let mut request = client.post(format!("http://{address}/{path}")).body(body.clone());
            for (name, value) in attributes {
                request = request.header(*name, value);
            }
            let response = request.send().await.unwrap();
            let error = (response.status() == 500).then_some("INFERENCE_FAILED");
            let is_expected = response.status() == 200 || error.is_some();
            let body = response.bytes().await.unwrap();
            let judged = if is_expected { judge(case, &body, error) } else { Err(format!("{body:?}")) };
            wrong.extend(judged.err().map(|problem| format!("{path}: {}", describe(case, &problem))));
        }
    }
    assert!(wrong.is_empty(), "{} answers over HTTP are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Answer of `predictd predict` to a request, without the model's name.
fn predicted(model: &str, request: &Value) -> Value {
    let folder = zoo().join(model);
    let (code, body, stderr) =
        outcome(predictd(&["predict", "--model", folder.to_str().unwrap()]), &request.to_string());
    let mut answer: Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{code} {body} {stderr}"));
    answer.as_object_mut().unwrap().retain(|key, _| !key.starts_with("model"));
    answer
}

#[test]
fn rows_that_run_one_by_one_each_have_their_optional_outputs() {
    let columns = |a: f64, b: f64, c: f64| json!([[a], [b], [c]]);
    let missing = json!({ "columns": null, "sum": null });
    let first = json!({ "columns": columns(1.0, 2.0, 3.0), "sum": 6.0 });
    let last = json!({ "columns": columns(4.0, 0.5, 1.0), "sum": 5.5 });
    for (rows, expected) in [
        (json!([[1, 2, 3], [-1, 2, 3], [4, 0.5, 1]]), json!([first, missing, last])),
        (json!([[0, 2, 3], [4, 0.5, 1]]), json!([missing, last])),
        (json!([[0, 2, 3], [0, 0, 0]]), json!([missing, missing])),
    ] {
        let answer = predicted("optional-sequence", &json!({ "instances": rows }));
        assert_eq!(answer, json!({ "predictions": expected }));
    }
}

#[test]
fn instances_that_are_no_tensors_run_one_by_one() {
    for model in
        ["sklearn-dict-vectorizer", "sequence-input", "map-inputs", "map-inputs-other", "sequence-inputs"]
    {
        let text = std::fs::read_to_string(zoo().join(model).join("expected.json")).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        let cases = all["cases"].as_array().unwrap();
        let named = |key: &str, value: fn(&Value) -> Value, case: &Value| -> Value {
            let all = case[key].as_object().unwrap();
            let named: Map<String, Value> =
                all.iter().map(|(name, one)| (name.clone(), value(one))).collect();
            if named.len() == 1 { named.into_values().next().unwrap() } else { named.into() }
        };
        // Each twice, so that there are always several.
        let twice = || cases.iter().chain(cases);
        let instances: Vec<Value> = twice().map(|case| named("inputs", plain, case)).collect();
        let expected: Value = twice().map(|case| named("expected", expected_value, case)).collect();
        let answer = predicted(model, &json!({ "instances": instances }));
        assert!(equal(&answer["predictions"], &expected, 1e-6), "{model}: {answer}, expected {expected}");
    }
}
