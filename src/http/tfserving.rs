//! TensorFlow Serving's REST API and KServe's first protocol, which share their paths below `/v1/models`.
//!
//! <https://www.tensorflow.org/tfx/serving/api_rest>,
//! <https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol>.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{self, Path};
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::examples::{self, Verb};
use super::respond::{ErrorForm, asked, json_response, not_allowed};
use super::route::{Reading, Route, Served};
use super::state::State;
use crate::error::{Code, Rejection};
use crate::model::Model;
use crate::names::quoted;
use crate::tensor::signature::TensorSpec;

/// The label of the version that is served.
const STABLE: &str = "stable";

/// The part of a path behind `/v1/models/`.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    model: &'a str,
    version: Option<&'a str>,
    action: Action<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum Action<'a> {
    Status,
    Metadata,
    Verb(&'a str),
}

/// `GET /v1/models`, as KServe has it.
pub(super) async fn list(extract::State(served): extract::State<Served>) -> Response {
    let names: Vec<String> = served.state.models.serving().keys().map(ToString::to_string).collect();
    json_response(StatusCode::OK, json!({"models": names}).to_string().into_bytes(), None)
}

/// Everything below `/v1/models/`.
pub(super) async fn model(
    extract::State(served): extract::State<Served>,
    Path(path): Path<String>,
    request: Request<Body>,
) -> Response {
    let asked = asked(request.headers(), ErrorForm::Text);
    let Target { model, version, action } = match parse(&path) {
        Ok(target) => target,
        Err(rejection) => return served.refuse(rejection, &asked),
    };
    let (allowed, is_allowed) = match action {
        Action::Verb(_) => ("POST", request.method() == Method::POST),
        _ => ("GET,HEAD", matches!(*request.method(), Method::GET | Method::HEAD)),
    };
    if !is_allowed {
        return not_allowed(allowed, request.method());
    }
    let answered = match action {
        Action::Status => status(&served.state, model, version),
        Action::Metadata => found(&served.state, model, version).map(|model| metadata(&model)),
        Action::Verb("predict") => {
            let (model, reading) = (Some(model), Reading::TfServing);
            return served.predict(request, Route { model, version, reading, errors: ErrorForm::Text }).await;
        }
        Action::Verb(verb) => match Verb::parse(verb) {
            Ok(verb) => return examples::answer(&served, request, verb, model, version).await,
            Err(rejection) => Err(rejection),
        },
    };
    match answered {
        Ok((status, body)) => json_response(status, body.to_string().into_bytes(), None),
        Err(rejection) => served.refuse(rejection, &asked),
    }
}

/// `M`, `M/versions/V`, `M/labels/L`, each with `/metadata` or `:VERB` behind it.
fn parse(path: &str) -> Result<Target<'_>, Rejection> {
    let (path, verb) = path.split_once(':').map_or((path, None), |(path, verb)| (path, Some(verb)));
    let mut parts: Vec<&str> = path.split('/').collect();
    let mut action = verb.map_or(Action::Status, Action::Verb);
    if verb.is_none() && parts.len() > 1 && parts.last() == Some(&"metadata") {
        parts.pop();
        action = Action::Metadata;
    }
    let (model, version) = match parts[..] {
        [model] => (model, None),
        [model, "versions", version] => (model, Some(version)),
        [model, "labels", STABLE] => (model, None),
        [_, "labels", label] => {
            let message =
                format!("expected the label {STABLE}, which is the version that is served, got {label:?}");
            return Err(Rejection::new(Code::ModelNotFound, message));
        }
        _ => {
            let message = "expected /v1/models/MODEL, with /versions/VERSION or /labels/stable, and /metadata or \
                           :predict behind it";
            return Err(Rejection::new(Code::ModelNotFound, message));
        }
    };
    Ok(Target { model, version, action })
}

type Answered = Result<(StatusCode, Value), Rejection>;

fn found(state: &State, model: &str, version: Option<&str>) -> Result<std::sync::Arc<Model>, Rejection> {
    let model = state.models.resolve(Some(model))?;
    model.check_version(version)?;
    Ok(model)
}

/// The served version, and those that are not served, with the reason. KServe's keys stand beside.
fn status(state: &State, name: &str, version: Option<&str>) -> Answered {
    let serving = state.models.serving().get(name).cloned();
    let not_served = state.not_served.by_model().remove(name).unwrap_or_default();
    let entry = |version: &str, state: &str, code: &str, message: &str| json!({"version": version, "state": state, "status": {"error_code": code, "error_message": message}});
    let mut all: Vec<Value> = Vec::new();
    if let Some(model) = &serving {
        all.push(entry(&model.version, "AVAILABLE", "OK", ""));
    }
    let refused = not_served.refused.iter();
    all.extend(refused.map(|refusal| entry(&refusal.version, "END", "FAILED_PRECONDITION", &refusal.reason)));
    if let Some(version) = version {
        all.retain(|entry| entry["version"] == version);
    }
    if all.is_empty() {
        if serving.is_none() && state.models.is_awaited(|| Some(name)) {
            let body = json!({"name": name, "ready": false, "model_version_status": []});
            return Ok((StatusCode::SERVICE_UNAVAILABLE, body));
        }
        found(state, name, version)?;
        let message = format!("the model {} has no version to show", quoted(name));
        return Err(Rejection::new(Code::ModelNotFound, message));
    }
    let status = if serving.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, json!({"name": name, "ready": serving.is_some(), "model_version_status": all})))
}

fn metadata(model: &Model) -> (StatusCode, Value) {
    let tensors = |specs: &[TensorSpec]| -> BTreeMap<String, Value> {
        specs.iter().map(|spec| (spec.name.clone(), tensor_info(spec))).collect()
    };
    let signature = json!({
        "inputs": tensors(&model.signature.inputs),
        "outputs": tensors(&model.signature.outputs),
        "method_name": "tensorflow/serving/predict",
    });
    let body = json!({
        "model_spec": {"name": &*model.name, "signature_name": "", "version": &*model.version},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    });
    (StatusCode::OK, body)
}

fn tensor_info(spec: &TensorSpec) -> Value {
    let dim = |length: i64| json!({"size": length.to_string(), "name": ""});
    let dims: Vec<Value> = spec.lengths().into_iter().map(dim).collect();
    json!({
        "dtype": data_type(spec.datatype()),
        "tensor_shape": {"dim": dims, "unknown_rank": false},
        "name": spec.name,
    })
}

/// TensorFlow's name of an Open Inference Protocol's datatype.
fn data_type(datatype: &str) -> &'static str {
    match datatype {
        "BOOL" => "DT_BOOL",
        "UINT8" => "DT_UINT8",
        "UINT16" => "DT_UINT16",
        "UINT32" => "DT_UINT32",
        "UINT64" => "DT_UINT64",
        "INT8" => "DT_INT8",
        "INT16" => "DT_INT16",
        "INT32" => "DT_INT32",
        "INT64" => "DT_INT64",
        "FP16" => "DT_HALF",
        "BF16" => "DT_BFLOAT16",
        "FP32" => "DT_FLOAT",
        "FP64" => "DT_DOUBLE",
        _ => "DT_STRING",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_model_a_version_and_an_action() {
        for (path, model, version, action) in [
            ("wine", "wine", None, Action::Status),
            ("wine/metadata", "wine", None, Action::Metadata),
            ("wine:predict", "wine", None, Action::Verb("predict")),
            ("wine/versions/2", "wine", Some("2"), Action::Status),
            ("wine/versions/2/metadata", "wine", Some("2"), Action::Metadata),
            ("wine/versions/2:classify", "wine", Some("2"), Action::Verb("classify")),
            ("wine/labels/stable:predict", "wine", None, Action::Verb("predict")),
            ("metadata", "metadata", None, Action::Status),
        ] {
            assert_eq!(parse(path), Ok(Target { model, version, action }), "{path}");
        }
        for path in ["wine/labels/canary", "wine/versions", "wine/versions/2/3", "wine/x/2:predict"] {
            assert_eq!(parse(path).unwrap_err().code, Code::ModelNotFound, "{path}");
        }
    }
}
