use serde_json::{Value, json};

use super::{instances, post, serve_wine, value};

/// Documented errors of TensorFlow Serving and of Triton, MLflow and predictd's own.
#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_status_and_the_form_of_their_protocol() {
    let worker = serve_wine(&[("PREDICTD_HTTP__MAX_BODY", "64KiB")]).await;
    let v2 = |shape: Value, data: Value| {
        json!({"inputs": [{"name": "input", "shape": shape, "datatype": "FP32", "data": data}]}).to_string()
    };
    let large = "x".repeat(70 << 10);
    let text = |body: &Value| body["error"].as_str().map(str::to_owned);
    let own = |body: &Value| {
        Some(format!("{}: {}", body["error"]["code"].as_str()?, body["error"]["message"].as_str()?))
    };
    let mlflow =
        |body: &Value| Some(format!("{}: {}", body["error_code"].as_str()?, body["message"].as_str()?));
    type Read<'a> = &'a dyn Fn(&Value) -> Option<String>;
    /// Path, headers and body; the status, how the message is read, and what it says.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], String, u16, Read<'a>, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("/v1/models/nope:predict", &[], instances(1), 404, &text, "the model \"nope\" is not served"),
        ("/v1/models/wine/versions/9:predict", &[], instances(1), 404, &text, "9"),
        ("/v1/models/wine:predict", &[], "{".into(), 400, &text, "the end of the body"),
        ("/v1/models/wine:predict", &[], "{}".into(), 400, &text, "instances"),
        (
            "/v1/models/wine:predict",
            &[],
            v2(json!([1, 13]), json!(vec![0; 13])),
            400,
            &text,
            "TensorFlow Serving",
        ),
        ("/v1/models/wine:guess", &[], instances(1), 404, &text, ":predict"),
        ("/v2/models/nope/infer", &[], v2(json!([1, 13]), json!([])), 404, &text, "not served"),
        ("/v2/models/wine/versions/9/infer", &[], v2(json!([1, 13]), json!([])), 404, &text, "9"),
        ("/v2/models/wine/infer", &[], v2(json!([1, 12]), json!(vec![0; 12])), 400, &text, "13"),
        ("/v2/models/wine/infer", &[], v2(json!([1, 13]), json!(vec![0; 12])), 400, &text, "13"),
        ("/v2/models/wine/infer", &[], instances(1), 400, &text, "Open Inference Protocol"),
        ("/v2/models/wine/infer", &[("content-encoding", "br")], "x".into(), 415, &text, "br"),
        (
            "/v2/models/wine/infer",
            &[("inference-header-content-length", "9")],
            "{}".into(),
            400,
            &text,
            "at most 2",
        ),
        ("/invocations", &[], "[]".into(), 400, &mlflow, "BAD_REQUEST: expected at least one row"),
        (
            "/invocations",
            &[("content-type", "text/html")],
            "x".into(),
            415,
            &mlflow,
            "BAD_REQUEST: content-type",
        ),
        ("/predict", &[("content-type", "text/html")], "x".into(), 415, &own, "INVALID_INPUT: content-type"),
        ("/predict?model=nope", &[], instances(1), 404, &own, "MODEL_NOT_FOUND: the model \"nope\""),
        ("/predict?modl=wine", &[], instances(1), 400, &own, "INVALID_INPUT: expected the parameters model"),
        ("/predict?version=9", &[], instances(1), 404, &own, "MODEL_NOT_FOUND"),
        (
            "/predict",
            &[],
            large,
            413,
            &own,
            "INPUT_TOO_LARGE: expected a body of at most 65536 bytes, got 71680",
        ),
        ("/predict", &[("deadline", "2026-01-31T12:00:00Z")], instances(1), 504, &own, "DEADLINE_EXCEEDED"),
        ("/predict", &[("deadline", "soon")], instances(1), 400, &own, "INVALID_INPUT: deadline"),
        (
            "/predict",
            &[("x-request-timeout-ms", "soon")],
            instances(1),
            400,
            &own,
            "INVALID_INPUT: x-request-timeout-ms",
        ),
        ("/predict", &[], json!({"dataref": "gs://other/object"}).to_string(), 403, &own, "INPUT_FORBIDDEN"),
    ];
    for (path, headers, body, status, read, says) in cases {
        let (got, all, answer) = post(&worker, path, headers, body).await;
        let answer = value(&answer);
        assert_eq!(got, status, "{path} {headers:?}: {answer}");
        assert_eq!(all["content-type"], "application/json");
        let message = read(&answer).unwrap_or_else(|| panic!("{path}: another form: {answer}"));
        assert!(message.contains(says), "{path} {headers:?}: {message}");
    }
    // Each was counted with its code.
    let not_found = "predictd_requests_total{model=\"\",version=\"\",status=\"MODEL_NOT_FOUND\"}";
    assert_eq!(worker.metric(not_found).await, Some(4.0));
    assert_eq!(worker.metric("predictd_http_responses_total{status=\"413\"}").await, Some(1.0));
}
