//! The Open Inference Protocol over REST, with Triton's extensions that its clients ask for.
//!
//! <https://github.com/kserve/open-inference-protocol>,
//! <https://github.com/triton-inference-server/server/tree/main/docs/protocol>.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{self, Path};
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::respond::{ErrorForm, asked, json_response, not_allowed, not_found, not_implemented};
use super::route::{Reading, Route, Served};
use super::statistics;
use crate::error::Rejection;
use crate::model::Model;
use crate::tensor::signature::TensorSpec;

/// The platform of every model, by Triton's name.
pub(super) const PLATFORM: &str = "onnxruntime_onnx";
/// Supported extensions.
pub(super) const EXTENSIONS: [&str; 3] = ["binary_tensor_data", "model_configuration", "statistics"];

type State = extract::State<Served>;

pub(super) async fn server() -> Response {
    ok(&json!({"name": "predictd", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS}))
}

pub(super) async fn live() -> Response {
    ok(&json!({"live": true}))
}

pub(super) async fn ready(extract::State(served): State) -> Response {
    let is_ready = served.state.health.troubles().is_empty();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_response(status, json!({"ready": is_ready}).to_string().into_bytes(), None)
}

/// Everything below `/v2/models/`: a model, perhaps `/versions/` and a version, and an action.
pub(super) async fn model(
    extract::State(served): State,
    Path(path): Path<String>,
    request: Request<Body>,
) -> Response {
    let parts: Vec<&str> = path.split('/').collect();
    let (model, version, action) = match parts[..] {
        ["stats"] => return all_stats(&served),
        [model] => (model, None, ""),
        [model, "versions", version] => (model, Some(version), ""),
        [model, "versions", version, action] => (model, Some(version), action),
        [model, action] => (model, None, action),
        _ => return not_found(request.uri().clone()).await,
    };
    let is_post = request.method() == Method::POST;
    match action {
        "infer" if is_post => {
            let (model, reading) = (Some(model), Reading::OpenInference);
            served.predict(request, Route { model, version, reading, errors: ErrorForm::Text }).await
        }
        "infer" => not_allowed("POST", request.method()),
        "" | "ready" | "config" | "stats" if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            not_allowed("GET,HEAD", request.method())
        }
        "" | "ready" | "config" | "stats" => match found(&served, model, version) {
            Ok(model) => ok(&match action {
                "ready" => json!({"name": &*model.name, "ready": true}),
                "config" => configuration(&model),
                "stats" => statistics::of(&served.state.metrics, &[model]),
                _ => describe(&model),
            }),
            Err(rejection) => served.refuse(rejection, &asked(request.headers(), ErrorForm::Text)),
        },
        _ => not_found(request.uri().clone()).await,
    }
}

fn all_stats(served: &Served) -> Response {
    let models: Vec<Arc<Model>> = served.state.models.serving().values().cloned().collect();
    ok(&statistics::of(&served.state.metrics, &models))
}

/// Every version of the source that is served or was refused.
pub(super) async fn index(extract::State(served): State) -> Response {
    let mut all: Vec<Value> = Vec::new();
    for model in served.state.models.serving().values() {
        all.push(json!({"name": &*model.name, "version": &*model.version, "state": "READY", "reason": ""}));
    }
    for (name, not_served) in served.state.not_served.by_model() {
        all.extend(not_served.refused.iter().map(|refusal| {
            json!({
                "name": name,
                "version": refusal.version,
                "state": "UNAVAILABLE",
                "reason": refusal.reason,
            })
        }));
    }
    ok(&Value::from(all))
}

pub(super) async fn load_or_unload() -> Response {
    not_implemented(
        "models are loaded and unloaded as they come and go in the models' source; upload or delete a version",
    )
}

fn found(served: &Served, model: &str, version: Option<&str>) -> Result<Arc<Model>, Rejection> {
    served.predictions.available(Some(model))?;
    let model = served.state.models.resolve(Some(model))?;
    model.check_version(version)?;
    Ok(model)
}

fn ok(body: &Value) -> Response {
    json_response(StatusCode::OK, body.to_string().into_bytes(), None)
}

fn describe(model: &Model) -> Value {
    let tensors = |specs: &[TensorSpec]| -> Vec<Value> {
        specs
            .iter()
            .map(|spec| json!({"name": spec.name, "datatype": spec.datatype(), "shape": spec.lengths()}))
            .collect()
    };
    json!({
        "name": &*model.name,
        "versions": [&*model.version],
        "platform": PLATFORM,
        "inputs": tensors(&model.signature.inputs),
        "outputs": tensors(&model.signature.outputs),
    })
}

/// Triton's model configuration: the first dimension, which counts rows, stands apart as `max_batch_size`.
fn configuration(model: &Model) -> Value {
    let max_batch_size = if model.executor.takes_rows() { model.executor.max_rows.unwrap_or(128) } else { 0 };
    let tensors = |specs: &[TensorSpec]| -> Vec<Value> {
        specs
            .iter()
            .map(|spec| {
                let lengths = spec.lengths();
                let dims = if max_batch_size > 0 { lengths.get(1..).unwrap_or_default() } else { &lengths };
                let data_type = match spec.datatype() {
                    "BYTES" => "STRING",
                    other => other,
                };
                json!({"name": spec.name, "data_type": format!("TYPE_{data_type}"), "dims": dims})
            })
            .collect()
    };
    json!({
        "name": &*model.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": max_batch_size,
        "input": tensors(&model.signature.inputs),
        "output": tensors(&model.signature.outputs),
    })
}
