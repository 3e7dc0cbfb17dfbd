//! Requests share a call only where the model is known to treat rows independently: no answer is computed
//! from another's data.

use std::collections::HashMap;

use base64::Engine as _;
use local_gcp::pubsub::wire::PubsubMessage;
use predictd::lifecycle::load;
use predictd::model::batch_mode::BatchMode;
use serde_json::{Value, json};

use crate::support::runtime::RUNTIME;

use crate::support::harness::{REQUESTS, Worker, World, repository};

fn batching(info: &Value, model: &str) -> String {
    info["models"][model]["serving"]["batching"].as_str().unwrap_or_default().to_owned()
}

/// Publishes all at once and waits for the responses' bodies, in the same order.
async fn ask_together(world: &World, requests: &[(&str, Value)]) -> Vec<Value> {
    let message = |(model, body): &(&str, Value)| PubsubMessage {
        data: body.to_string().into(),
        attributes: HashMap::from([("model".to_owned(), (*model).to_owned())]),
        ..Default::default()
    };
    let ids = world.server.pubsub.publish(REQUESTS, requests.iter().map(message).collect()).unwrap();
    let responses = world.responses(&ids).await;
    ids.iter().map(|id| serde_json::from_slice(&responses[id].data).unwrap()).collect()
}

/// Two senders, 40 requests each, in turns in one publish; each gets its own answer.
async fn two_senders(world: &World, worker: &Worker, model: &str, cases: [(Value, Value); 2]) {
    for round in 0..3 {
        let requests: Vec<(&str, Value)> =
            (0..80).map(|number: usize| (model, cases[number % 2].0.clone())).collect();
        for (number, body) in ask_together(world, &requests).await.iter().enumerate() {
            let expected = &cases[number % 2].1;
            let got = body.get("predictions").or(body.get("outputs"));
            assert_eq!(got, Some(expected), "{model}, round {round}, {number}: {body} {}", worker.log());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_rows_are_never_mixed() {
    let world = World::start().await;
    for model in ["detections", "centred", "dropping", "renamed"] {
        world.upload_declared(model, &format!("rows/{model}/1"), "");
    }
    let worker = world.ready_worker(&[("PREDICTD_INFERENCE__THREADS", "1")]).await;
    // A prediction for each instance, always as deep as a list of detections.
    let detections = [
        (json!({"instances": [[0.9, 0.8, 0.1], [0.1, 0.2, 0.3]]}), json!([[[0, 0], [0, 1]], []])),
        (json!({"instances": [[0.1, 0.9, 0.1]]}), json!([[[0, 1]]])),
    ];
    two_senders(&world, &worker, "detections", detections).await;
    let whole = [
        (json!({"inputs": [[0.9, 0.8, 0.1], [0.1, 0.2, 0.9]]}), json!([[0, 0], [0, 1], [1, 2]])),
        (json!({"instances": [[0.0, 0.0, 0.0]]}), json!([[]])),
    ];
    two_senders(&world, &worker, "detections", whole).await;
    let centred = [
        (json!({"instances": [[0, 0], [2, 2]]}), json!([[-1.0, -1.0], [1.0, 1.0]])),
        (json!({"inputs": [[10, 10], [20, 20]]}), json!([[-5.0, -5.0], [5.0, 5.0]])),
    ];
    two_senders(&world, &worker, "centred", centred).await;
    let renamed = [
        (json!({"instances": [[1, 2]]}), json!([[2.0, 4.0]])),
        (json!({"inputs": [[5, 5]]}), json!([[10.0, 10.0]])),
    ];
    two_senders(&world, &worker, "renamed", renamed).await;
    // No trial shows that some rows are dropped: from the first such output on, each request runs alone.
    let dropping = [
        (json!({"instances": [[7777, 1], [2, 2]]}), json!([[], [[2.0, 2.0]]])),
        (json!({"inputs": [[3, 3], [7777, 0], [4, 4]]}), json!([[3.0, 3.0], [4.0, 4.0]])),
    ];
    two_senders(&world, &worker, "dropping", dropping).await;
    worker.until_log("each request runs alone\"").await;
    assert_eq!(worker.log().matches("each request runs alone\"").count(), 1, "{}", worker.log());
    let info = worker.info().await;
    for (model, says) in [
        ("detections", "the output \"dets\" has the shape [0, 2] for inputs of 1 row(s)"),
        (
            "centred",
            "each request runs alone: the output \"y\" of a row changes with the other rows of its call",
        ),
        ("renamed", "the first dimension of the input \"x\" is called \"N\", that of the output \"y\" \"M\""),
        ("dropping", "each request runs alone: an output had another number of rows than the inputs"),
    ] {
        assert!(batching(&info, model).contains(says), "{model}: {}", batching(&info, model));
    }
    let warned = |model: &str| {
        let is_warning = |line: &&str| line.contains("requests do not share calls") && line.contains(model);
        worker.log().lines().filter(is_warning).any(|line| line.contains("batching: {dimension: rows}"))
    };
    assert!(warned("renamed") && !warned("detections"), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn declarations_and_samples_allow_sharing() {
    let world = World::start().await;
    world.upload_declared("declared", "rows/renamed/1", "batching: {dimension: rows}");
    world.upload_declared("unknown", "rows/lookup/1", "");
    let samples = "samples: [{request: {instances: [100, 102]}, expected: [7, 9]}]";
    world.upload_declared("shown", "rows/lookup/1", samples);
    let one = "samples: [{request: {instances: [101]}, expected: [8]}]";
    world.upload_declared("one-row", "rows/lookup/1", one);
    let worker = world.ready_worker(&[]).await;
    let models = ["declared", "unknown", "shown", "one-row"];
    let all = |info: &Value| models.iter().all(|model| info["models"][model]["serving"].is_object());
    let info = worker.until_info("every model", all).await;
    for (model, says) in [
        ("declared", "share a call: model.yaml declares batching.dimension: rows"),
        ("unknown", "each request runs alone: it could not be tried with made-up rows"),
        ("shown", "share a call: the 2 rows of its samples gave the same alone and together"),
        ("one-row", "each request runs alone: it could not be tried"),
    ] {
        assert!(batching(&info, model).contains(says), "{model}: {}", batching(&info, model));
    }
    for model in ["unknown", "shown"] {
        let body = ask_together(&world, &[(model, json!({"instances": [101, 100]}))]).await.remove(0);
        assert_eq!(body["predictions"], json!([8.0, 7.0]), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_without_rows_answer_each_instance_as_a_whole() {
    let world = World::start().await;
    let image = "image: {}";
    world.upload_declared("boxes", "rows/boxes/1", image);
    world.upload_declared("boxes-batch", "rows/boxes-batch/1", image);
    world.upload_declared("boxes-none", "rows/boxes-batch/1", "image: {}\nbatching: {dimension: none}");
    world.upload_declared("boxes-one-none", "rows/boxes/1", "image: {}\nbatching: {dimension: none}");
    world.upload_declared("lines", "rows/time-first/1", "");
    world.upload_declared("lines-rows", "rows/time-first/1", "batching: {dimension: rows}");
    world.upload_declared("zipmap-1", "rows/zipmap-1/1", "");
    world.upload_declared("zipmap-3", "rows/zipmap-3/1", "");
    let worker = world.ready_worker(&[]).await;
    let images = [pixels(&[]), pixels(&[(1, 2)]), pixels(&[(0, 0), (7, 7)])];
    let boxes = |count: usize| [0, 3, 6][count];
    for model in ["boxes", "boxes-batch", "boxes-none", "boxes-one-none"] {
        let instances: Vec<Value> = images.iter().map(|image| json!({ "b64": image })).collect();
        let requests: Vec<(&str, Value)> = (0..24)
            .map(|number: usize| (model, json!({ "instances": [instances[number % 3]] })))
            .chain([(model, json!({ "instances": instances }))])
            .collect();
        let bodies = ask_together(&world, &requests).await;
        for (number, body) in bodies.iter().enumerate() {
            let predictions = body["predictions"].as_array().unwrap_or_else(|| panic!("{model}: {body}"));
            let expected: Vec<usize> = if number < 24 { vec![number % 3] } else { vec![0, 1, 2] };
            let found = |prediction: &Value| prediction.as_array().unwrap().len();
            let counts: Vec<usize> = predictions.iter().map(found).collect();
            // Three channels of each white pixel; a detection is [batch, channel, y, x].
            assert_eq!(
                counts,
                expected.iter().map(|count| boxes(*count)).collect::<Vec<_>>(),
                "{model}: {body}"
            );
            let is_position = |detection: &Value| detection.as_array().is_some_and(|at| at.len() == 4);
            assert!(predictions.iter().all(|all| all.as_array().unwrap().iter().all(is_position)), "{body}");
        }
    }
    for model in ["lines", "lines-rows"] {
        let column = json!([[1.5, 1.5, 1.5, 1.5]]);
        for width in [1, 3, 2] {
            let line = json!([vec![vec![1.5; width]; 4]]);
            let body = ask_together(&world, &[(model, json!({ "instances": [line, line] }))]).await.remove(0);
            let columns = vec![&column; width];
            assert_eq!(body["predictions"], json!([columns, columns]), "{model}: {body}");
        }
    }
    for model in ["zipmap-1", "zipmap-3"] {
        let rows = json!({"instances": [[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 1], [1, 0, 0]]});
        let body = ask_together(&world, &[(model, rows)]).await.remove(0);
        let labels: Vec<&Value> =
            body["predictions"].as_array().unwrap().iter().map(|row| &row["label"]).collect();
        assert_eq!(labels, [&json!(0), &json!(1), &json!(2), &json!(0)], "{model}: {body}");
        assert_eq!(body["predictions"][0]["scores"], json!({"cat": 0.5, "cow": 0.25, "dog": 0.25}));
        let table = world.ask("0,0,1\n0,1,0\n", &[("model", model), ("content-type", "text/csv")]).await;
        let body: Value = serde_json::from_slice(&table.data).unwrap();
        assert_eq!(body["predictions"][1]["label"], 1, "{model}: {body} {}", worker.log());
    }
}

/// A black PNG of 8 x 8 pixels with white ones, in base64.
fn pixels(white: &[(usize, usize)]) -> String {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 8, 8);
    encoder.set_color(png::ColorType::Grayscale);
    let mut data = vec![0; 64];
    white.iter().for_each(|(x, y)| data[y * 8 + x] = 255);
    encoder.write_header().unwrap().write_image_data(&data).unwrap();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_one_row_runs_each_row_alone() {
    let world = World::start().await;
    world.upload_declared("together", "zoo/torch-int8", "");
    world.upload_declared("alone", "zoo/torch-int8", "batching: {max_rows: 1}");
    let worker = world.ready_worker(&[]).await;
    let small = json!([0.01, -0.02, 0.03, 0.01]);
    let rows = json!({"instances": [small, [9, -8, 7, 6], [5, 5, -5, 5]]});
    let only = json!({ "instances": [small] });
    let requests = [("alone", only), ("alone", rows.clone()), ("together", rows)];
    let bodies = ask_together(&world, &requests).await;
    let first = |body: &Value| body["predictions"][0].clone();
    assert_eq!(first(&bodies[0]), first(&bodies[1]), "{bodies:?}");
    assert_ne!(first(&bodies[0]), first(&bodies[2]), "the model quantizes no longer: {bodies:?}");
    let info = worker.info().await;
    assert!(batching(&info, "together").contains("batching.max_rows: 1 in model.yaml"), "{info}");
}

/// Models of the zoo whose requests share calls.
const SHARING: &[&str] = &[
    "bfloat16",
    "bool",
    "default-input",
    "external-weights",
    "float16",
    "free-image-size",
    "int64-extremes",
    "keras-conv",
    "keras-dense",
    "keras-functional",
    "lightgbm-binary",
    "lightgbm-multiclass",
    "lightgbm-regressor",
    "map-integers",
    "map-strings",
    "nan-output",
    "optional-external",
    "optional-output",
    "optional-weights",
    "poison-row",
    "prepost-image",
    "prepost-text",
    "sklearn-columns",
    "sklearn-doubles",
    "sklearn-isolation-forest",
    "sklearn-kmeans",
    "sklearn-mlflow",
    "sklearn-regressor",
    "sklearn-text-cased",
    "sklearn-zipmap-columns",
    "sklearn-zipmap-integers",
    "sklearn-zipmap-off",
    "sklearn-zipmap-strings",
    "string-identity",
    "tensorflow-function",
    "token-scores",
    "torch-conv",
    "torch-dynamo",
    "torch-float16",
    "torch-int8",
    "torch-legacy",
    "torch-multi",
    "torch-transformer",
    "uint64-max",
    "unknown-shape-chain",
    "weights-as-inputs",
    "xgboost-binary",
    "xgboost-multiclass",
    "xgboost-regressor",
    "zero-size",
];

#[test]
fn the_zoo_goes_on_sharing_calls() {
    let zoo = repository().join("tests/models/zoo");
    let mut shares = Vec::new();
    for entry in std::fs::read_dir(zoo).unwrap() {
        let folder = entry.unwrap().path();
        // Refused for a reason of their own, which other tests know.
        let loaded = load::load(&RUNTIME, &folder, "m", "1", String::new());
        let Ok(model) = loaded else { continue };
        if model.executor.shares_calls() && model.executor.batch_mode == BatchMode::Any {
            shares.push(folder.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    shares.sort();
    let optional = ["sklearn-text", "torch-bfloat16"];
    shares.retain(|name| !optional.contains(&name.as_str()));
    assert_eq!(shares, SHARING);
}
