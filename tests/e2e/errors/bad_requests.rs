//! Bad input of each kind gets its error, is acknowledged, and affects no other request.

use crate::support::command::predictd;
use crate::support::harness::{World, outcome};
use crate::support::oracle::{self, wine};

/// Kind, body, attributes, code, what the message says.
type Case = (&'static str, String, Vec<(&'static str, &'static str)>, &'static str, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_bad_input_gets_its_error() {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    let _worker = world.ready_worker(&[]).await;
    let good = wine().request(&[0]);
    let deep = "[".repeat(1000);
    let cases: Vec<Case> = vec![
        ("no JSON", "{\"instances\": [[1,".into(), vec![], "INVALID_INPUT", ""),
        ("an empty body", String::new(), vec![("x", "y")], "INVALID_INPUT", "empty"),
        ("a wrong shape", r#"{"instances": [[1, 2]]}"#.into(), vec![], "INVALID_INPUT", "13"),
        (
            "a wrong type",
            r#"{"instances": [["red",1,1,1,1,1,1,1,1,1,1,1,1]]}"#.into(),
            vec![],
            "INVALID_INPUT",
            "instances[0][0]",
        ),
        ("a missing input", r#"{"inputs": {"other": [[1]]}}"#.into(), vec![], "INVALID_INPUT", "input"),
        ("no known form", r#"{"data": 1}"#.into(), vec![], "INVALID_INPUT", "instances"),
        ("too deep", format!("{{\"instances\": {deep}"), vec![], "INVALID_INPUT", ""),
        ("NaN", r#"{"instances": [[NaN,1,1,1,1,1,1,1,1,1,1,1,1]]}"#.into(), vec![], "INVALID_INPUT", ""),
        ("an unknown model", good.clone(), vec![("model", "beer")], "MODEL_NOT_FOUND", "\"beer\""),
        ("an unknown version", good.clone(), vec![("model_version", "9")], "MODEL_NOT_FOUND", "\"9\""),
        (
            "another content type",
            good.clone(),
            vec![("content-type", "application/xml")],
            "INVALID_INPUT",
            "application/xml",
        ),
        ("neither JSON nor declared", "1,2,3".into(), vec![], "INVALID_INPUT", "set content-type to one of"),
        (
            "another content encoding",
            good.clone(),
            vec![("content-encoding", "br")],
            "INVALID_INPUT",
            "content-encoding \"br\"",
        ),
    ];
    let ids: Vec<String> =
        cases.iter().map(|(_, body, attributes, _, _)| world.publish(body.clone(), attributes)).collect();
    let fine = world.publish(good, &[]);
    let responses = world.responses(&[ids.clone(), vec![fine.clone()]].concat()).await;
    for ((kind, _, _, code, says), id) in cases.iter().zip(&ids) {
        let response = &responses[id];
        let body: serde_json::Value = serde_json::from_slice(&response.data).unwrap();
        assert_eq!(response.attributes["status"], "error", "{kind}: {body}");
        assert_eq!(response.attributes["error_code"], *code, "{kind}: {body}");
        assert_eq!(body["error"]["code"], *code, "{kind}: {body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(says), "{kind}: {body}");
    }
    wine().check(&[0], &responses[&fine]);
    world.settled().await;
    world.server.history.with(oracle::nothing_was_lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passed_costs_nothing() {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    let worker = world.ready_worker(&[]).await;
    for (deadline, code) in [
        ("2001-01-31T12:00:00Z", Some("DEADLINE_EXCEEDED")),
        ("2001-01-31T12:00:00.5+02:00", Some("DEADLINE_EXCEEDED")),
        ("tomorrow", Some("INVALID_INPUT")),
    ] {
        let response = world.ask(wine().request(&[0]), &[("deadline", deadline)]).await;
        assert_eq!(response.attributes.get("error_code").map(String::as_str), code, "{deadline}");
    }
    let inferences = "predictd_inference_seconds_count{model=\"wine\"";
    assert_eq!(worker.metric(inferences).await.unwrap_or(0.0), 0.0);
    let response = world.ask(wine().request(&[0]), &[("deadline", "2999-12-31T23:59:59Z")]).await;
    assert_eq!(wine().check(&[0], &response), "2");
    worker.until_metric(inferences, 1.0).await;
}

/// ONNX Runtime says only that an encoder of the model refused a value; the error names it, and others get
/// their predictions.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_models_encoder_does_not_know_is_named() {
    let world = World::start().await;
    world.upload_version("gallery/passengers", "passengers", "1");
    world.upload_version("rows/categories/1", "numbers", "1");
    world.upload("models/named/1/model.yaml", b"columns: [size, price, kind]\n".to_vec());
    world.upload_version("rows/categories/1", "named", "1");
    let _worker = world.ready_worker(&[]).await;
    let row = |sex: &str| format!(r#"{{"sex": "{sex}", "age": 30, "fare": 8}}"#);
    let passengers = |rows: &str| format!("{{\"instances\": [{rows}]}}");
    let of = |model| vec![("model", model)];
    let named = [("content-type", "text/csv"), ("model", "named")].to_vec();
    let cases = [
        (
            passengers(&[row("male"), row("Male")].join(", ")),
            of("passengers"),
            r#"[1]["sex"]: expected one of ["female", "male"], got "Male""#,
        ),
        ("[[1, 9, 3], [3, 9, 4]]".to_owned(), of("numbers"), r#"[1]["x"][0]: expected one of [1, 2], got 3"#),
        ("[[1, 9, 5]]".to_owned(), of("numbers"), r#"[0]["x"][2]: expected one of [3, 4], got 5"#),
        (
            "size,kind,price\n2,7,1\n".to_owned(),
            named.clone(),
            r#"[0]["kind"]: expected one of [3, 4], got 7"#,
        ),
    ];
    let good = [
        world.publish(passengers(&row("female")), &of("passengers")),
        world.publish("[[2, 0, 4]]", &of("numbers")),
        world.publish("size,kind,price\n2,4,1\n", &named),
    ];
    let bad: Vec<String> =
        cases.iter().map(|(body, attributes, _)| world.publish(body.clone(), attributes)).collect();
    let responses = world.responses(&[&good[..], &bad].concat()).await;
    for id in &good {
        assert_eq!(responses[id].attributes["status"], "ok", "{:?}", responses[id]);
    }
    for ((_, _, says), id) in cases.iter().zip(&bad) {
        let body: serde_json::Value = serde_json::from_slice(&responses[id].data).unwrap();
        assert_eq!(body["error"]["code"], "INVALID_INPUT", "{body}");
        assert_eq!(body["error"]["message"], *says);
    }
}

/// The library would write coloured text of its own, one line a failed request; what stands in the request is
/// for `debug` alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_onnx_runtime_says_is_a_line_of_the_log() {
    let world = World::start().await;
    for model in ["poison-row", "free-image-size"] {
        world.upload_version(&format!("zoo/{model}"), model, "1");
    }
    for filter in ["info", "info,onnxruntime=debug"] {
        let worker = world.ready_worker(&[("PREDICTD_LOG", filter)]).await;
        let response = world.ask(r#"{"instances": [4711]}"#, &[("model", "poison-row")]).await;
        assert_eq!(response.attributes["error_code"], "INFERENCE_FAILED");
        worker.until_log("a request was answered with an error").await;
        let log = worker.log();
        let lines: Vec<serde_json::Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
        let of_the_library: Vec<_> = lines.iter().filter(|line| line["target"] == "onnxruntime").collect();
        assert_eq!(of_the_library.is_empty(), filter == "info", "{log}");
        assert!(of_the_library.iter().all(|line| line["severity"] == "DEBUG"), "{log}");
        let quoting = lines.iter().filter(|line| line.to_string().contains("4711")).count();
        assert_eq!(quoting, if filter == "info" { 1 } else { 2 }, "one of them is the warning\n{log}");
    }
    let arguments = ["predict", "--model", "tests/models/zoo/poison-row"];
    let predicted =
        tokio::task::spawn_blocking(move || outcome(predictd(&arguments), "[4711]")).await.unwrap();
    assert_eq!((predicted.0, predicted.2.as_str()), (1, ""), "{}", predicted.1);
}
