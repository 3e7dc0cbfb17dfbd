//! The Open Inference Protocol over REST, with Triton's extensions that its clients ask for.
//!
//! <https://github.com/kserve/open-inference-protocol>,
//! <https://github.com/triton-inference-server/server/tree/main/docs/protocol>.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{self, Path};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::respond::{ErrorForm, asked, json_response, not_implemented};
use super::route::{Reading, Route, Served};
use super::statistics;
use crate::error::Rejection;
use crate::model::Model;
use crate::tensor::signature::{Dim, TensorSpec};

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

pub(super) async fn metadata(served: State, Path(model): Path<String>, request: Request<Body>) -> Response {
    about(&served, (&model, None), &request, |model| describe(model))
}

pub(super) async fn metadata_of(
    served: State,
    Path((model, version)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    about(&served, (&model, Some(&version)), &request, |model| describe(model))
}

pub(super) async fn model_ready(
    served: State,
    Path(model): Path<String>,
    request: Request<Body>,
) -> Response {
    about(&served, (&model, None), &request, |model| json!({"name": &*model.name, "ready": true}))
}

pub(super) async fn model_ready_of(
    served: State,
    Path((model, version)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    about(&served, (&model, Some(&version)), &request, |model| json!({"name": &*model.name, "ready": true}))
}

pub(super) async fn config(served: State, Path(model): Path<String>, request: Request<Body>) -> Response {
    about(&served, (&model, None), &request, |model| configuration(model))
}

pub(super) async fn config_of(
    served: State,
    Path((model, version)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    about(&served, (&model, Some(&version)), &request, |model| configuration(model))
}

pub(super) async fn stats(served: State, Path(model): Path<String>, request: Request<Body>) -> Response {
    let metrics = &served.state.metrics;
    about(&served, (&model, None), &request, |model| statistics::of(metrics, &[Arc::clone(model)]))
}

pub(super) async fn stats_of(
    served: State,
    Path((model, version)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    let metrics = &served.state.metrics;
    about(&served, (&model, Some(&version)), &request, |model| statistics::of(metrics, &[Arc::clone(model)]))
}

pub(super) async fn all_stats(extract::State(served): State) -> Response {
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

pub(super) async fn infer(
    extract::State(served): State,
    Path(model): Path<String>,
    request: Request<Body>,
) -> Response {
    served.predict(request, route(&model, None)).await
}

pub(super) async fn infer_of(
    extract::State(served): State,
    Path((model, version)): Path<(String, String)>,
    request: Request<Body>,
) -> Response {
    served.predict(request, route(&model, Some(&version))).await
}

fn route<'a>(model: &'a str, version: Option<&'a str>) -> Route<'a> {
    Route { model: Some(model), version, reading: Reading::OpenInference, errors: ErrorForm::Text }
}

/// Answers a question about a model that is served.
fn about(
    served: &Served,
    (model, version): (&str, Option<&str>),
    request: &Request<Body>,
    describe: impl FnOnce(&Arc<Model>) -> Value,
) -> Response {
    match found(served, model, version) {
        Ok(model) => ok(&describe(&model)),
        Err(rejection) => served.refuse(rejection, &asked(request.headers(), ErrorForm::Text)),
    }
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
            .map(|spec| json!({"name": spec.name, "datatype": datatype(spec), "shape": shape(&spec.shape)}))
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
                let dims =
                    if max_batch_size > 0 { spec.shape.get(1..).unwrap_or_default() } else { &spec.shape };
                let data_type = match datatype(spec) {
                    "BYTES" => "STRING",
                    other => other,
                };
                json!({"name": spec.name, "data_type": format!("TYPE_{data_type}"), "dims": shape(dims)})
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

pub(super) fn datatype(spec: &TensorSpec) -> &'static str {
    spec.kind.inner().unwrap_or(spec.element).datatype()
}

/// Lengths; free dimensions are -1.
pub(super) fn shape(dims: &[Dim]) -> Vec<i64> {
    let length = |dim: &Dim| match dim {
        Dim::Fixed(length) => i64::try_from(*length).unwrap_or(i64::MAX),
        Dim::Any(_) => -1,
    };
    dims.iter().map(length).collect()
}
