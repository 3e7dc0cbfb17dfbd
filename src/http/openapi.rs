//! `GET /openapi.json`: the description of every route, for people and for tools that make clients of it.

use serde_json::{Map, Value, json};

use super::status::status;
use crate::error::Code;

/// A route: its path, method, summary and kind.
type Entry = (&'static str, &'static str, &'static str, Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A page for people or probes.
    Page,
    /// The same, which says by 503 that something does not work.
    Probe,
    /// Facts about a model.
    About,
    /// A prediction; every body.
    Predict,
    /// A prediction in JSON alone.
    Json,
    /// Never answered.
    Unsupported,
}

const ENTRIES: &[Entry] = &[
    ("/", "get", "The routes; for a browser the console", Kind::Page),
    ("/health", "get", "Alive; 503 when a stage is stuck", Kind::Probe),
    ("/ready", "get", "Ready; 503 and why while requests are not answered", Kind::Probe),
    ("/info", "get", "Models, versions, signatures, and why versions are refused", Kind::Page),
    ("/metrics", "get", "Metrics for Prometheus", Kind::Page),
    ("/openapi.json", "get", "This description", Kind::Page),
    ("/predict", "post", "A prediction from any body, or from uploaded files", Kind::Predict),
    ("/v1/models", "get", "KServe: names of the served models", Kind::Page),
    ("/v1/models/{model}", "get", "TensorFlow Serving and KServe: status of a model", Kind::About),
    ("/v1/models/{model}/metadata", "get", "TensorFlow Serving: signature of a model", Kind::About),
    ("/v1/models/{model}/versions/{version}", "get", "TensorFlow Serving: status of a version", Kind::About),
    ("/v1/models/{model}:predict", "post", "TensorFlow Serving and KServe: predictions", Kind::Json),
    ("/v1/models/{model}:classify", "post", "TensorFlow Serving: labels and scores", Kind::Json),
    ("/v1/models/{model}:regress", "post", "TensorFlow Serving: one number an example", Kind::Json),
    ("/v1/models/{model}/versions/{version}:predict", "post", "TensorFlow Serving: predictions", Kind::Json),
    ("/v2", "get", "Open Inference Protocol: the server", Kind::Page),
    ("/v2/health/live", "get", "Open Inference Protocol: alive", Kind::Page),
    ("/v2/health/ready", "get", "Open Inference Protocol: ready", Kind::Probe),
    ("/v2/models/stats", "get", "Triton: statistics of all models", Kind::Page),
    ("/v2/models/{model}", "get", "Open Inference Protocol: inputs and outputs of a model", Kind::About),
    ("/v2/models/{model}/ready", "get", "Open Inference Protocol: a model is served", Kind::About),
    ("/v2/models/{model}/config", "get", "Triton: configuration of a model", Kind::About),
    ("/v2/models/{model}/stats", "get", "Triton: statistics of a model", Kind::About),
    ("/v2/models/{model}/infer", "post", "Open Inference Protocol: an inference", Kind::Json),
    ("/v2/models/{model}/versions/{version}", "get", "Open Inference Protocol: a version", Kind::About),
    (
        "/v2/models/{model}/versions/{version}/ready",
        "get",
        "Open Inference Protocol: a version is served",
        Kind::About,
    ),
    (
        "/v2/models/{model}/versions/{version}/config",
        "get",
        "Triton: configuration of a version",
        Kind::About,
    ),
    ("/v2/models/{model}/versions/{version}/stats", "get", "Triton: statistics of a version", Kind::About),
    (
        "/v2/models/{model}/versions/{version}/infer",
        "post",
        "Open Inference Protocol: an inference",
        Kind::Json,
    ),
    ("/v2/repository/index", "post", "Triton: all versions and their state", Kind::Page),
    ("/v2/repository/models/{model}/load", "post", "Triton: not supported", Kind::Unsupported),
    ("/v2/repository/models/{model}/unload", "post", "Triton: not supported", Kind::Unsupported),
    ("/invocations", "post", "MLflow and SageMaker: predictions", Kind::Predict),
    ("/ping", "get", "MLflow and SageMaker: 200 once a model is served, else 404", Kind::Page),
    ("/version", "get", "MLflow: version of the server", Kind::Page),
];

/// Content types of a prediction's body.
const BODIES: [&str; 8] = [
    "application/json",
    "application/cloudevents+json",
    "application/octet-stream",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/csv",
    "text/plain",
];

pub(super) fn render(has_tokens: bool) -> String {
    let mut paths = Map::new();
    for (path, method, summary, kind) in ENTRIES {
        let operation = operation(path, summary, *kind, has_tokens);
        let of_path = paths.entry(*path).or_insert_with(|| json!({}));
        of_path[*method] = operation;
    }
    let mut all = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "predictd",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Predictions of ONNX models on demand, in the protocols of TensorFlow Serving, KServe, Triton, \
                            MLflow, SageMaker and Vertex AI",
        },
        "paths": paths,
        "components": {"schemas": schemas()},
    });
    if has_tokens {
        all["components"]["securitySchemes"] = json!({"token": {"type": "http", "scheme": "bearer"}});
    }
    all.to_string() + "\n"
}

fn operation(path: &str, summary: &str, kind: Kind, has_tokens: bool) -> Value {
    let mut operation = json!({"summary": summary, "responses": responses(path, kind, has_tokens)});
    let string = json!({"type": "string"});
    let named = ["model", "version"].into_iter().filter(|name| path.contains(&format!("{{{name}}}")));
    let mut parameters: Vec<Value> =
        named.map(|name| json!({"name": name, "in": "path", "required": true, "schema": string})).collect();
    if path == "/predict" {
        parameters
            .extend(["model", "version"].map(|name| json!({"name": name, "in": "query", "schema": string})));
    }
    if matches!(kind, Kind::Predict | Kind::Json) {
        let milliseconds = json!({"type": "integer", "minimum": 0});
        let header = |name: &str, schema: &Value| json!({"name": name, "in": "header", "schema": schema});
        parameters.push(header("x-request-timeout-ms", &milliseconds));
        operation["requestBody"] = body(path, kind);
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if has_tokens && !super::front::OPEN.contains(&path) {
        operation["security"] = json!([{"token": []}]);
    }
    operation
}

fn body(path: &str, kind: Kind) -> Value {
    let schema = match path {
        _ if path.contains(":classify") || path.contains(":regress") => "Examples",
        _ if path.starts_with("/v2/") => "OpenInferenceRequest",
        _ => "Request",
    };
    let json = json!({"schema": {"$ref": format!("#/components/schemas/{schema}")}});
    let mut content = Map::from_iter([("application/json".to_owned(), json)]);
    if kind == Kind::Predict {
        for kind in &BODIES[1..] {
            content.insert((*kind).to_owned(), json!({}));
        }
    }
    if path == "/predict" {
        let files = json!({"type": "array", "items": {"type": "string", "format": "binary"}});
        let schema = json!({"type": "object", "properties": {"file": files}, "required": ["file"]});
        content.insert("multipart/form-data".to_owned(), json!({"schema": schema}));
    }
    json!({"required": true, "content": content})
}

/// Statuses that a route may have.
fn responses(path: &str, kind: Kind, has_tokens: bool) -> Value {
    let mut all = Map::new();
    let mut add = |status: u16, description: &str| {
        all.entry(status.to_string()).or_insert_with(|| json!({"description": description}));
    };
    match kind {
        Kind::Unsupported => add(501, "Not supported"),
        _ => add(200, "OK"),
    }
    match kind {
        Kind::Probe => add(503, "Not ready, and why"),
        Kind::About => {
            add(404, "The model or the version is not served");
            add(503, "No model is served yet");
        }
        Kind::Predict | Kind::Json => {
            for code in Code::ALL {
                add(status(code).as_u16(), code.as_str());
            }
            if path.contains(":classify") || path.contains(":regress") {
                add(501, "Not supported for the outputs of this model");
            }
        }
        Kind::Page | Kind::Unsupported => {}
    }
    if path == "/ping" {
        add(404, "No model is served yet");
    }
    if has_tokens && !super::front::OPEN.contains(&path) {
        add(401, "No token that the server knows");
    }
    all.into()
}

fn schemas() -> Value {
    let rows =
        json!({"type": "array", "minItems": 1, "description": "Rows: lists of values, or objects by name"});
    let tensor = json!({
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"enum": ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
                                  "FP16", "BF16", "FP32", "FP64", "BYTES"]},
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
    });
    let inputs = json!({"type": "array", "items": tensor});
    json!({
        "Request": {
            "oneOf": [
                {"type": "object", "required": ["instances"], "properties": {"instances": rows}},
                {"type": "object", "required": ["inputs"], "properties": {"inputs": {}}},
                {"type": "object", "required": ["dataframe_split"], "properties": {"dataframe_split": {"type": "object"}}},
                {"type": "object", "required": ["dataframe_records"], "properties": {"dataframe_records": rows}},
            ],
        },
        "OpenInferenceRequest": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "inputs": inputs,
                "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
                "parameters": {"type": "object"},
            },
        },
        "Examples": {
            "type": "object",
            "required": ["examples"],
            "properties": {
                "examples": {"type": "array", "items": {"type": "object"}},
                "context": {"type": "object"},
            },
        },
    })
}
