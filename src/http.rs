//! What operators and probes ask over HTTP: `/health`, `/ready`, `/info`, `/metrics`; `/` lists them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use axum::Router;
use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::cli::report::Hint as _;
use crate::encode::envelope::rfc3339;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::model::source::Ignored;
use crate::model::{Model, Models, NotServed};
use crate::signature::{Kind, TensorSpec};

/// The answer to `GET /`.
const ROUTES: &str = "\
/health   alive; 503 when a stage is stuck
/ready    503 and why while requests are not answered
/info     models, versions, signatures, and why versions are refused
/metrics  Prometheus
";

#[derive(Debug, Clone)]
pub struct State {
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    pub models: Arc<Models>,
}

/// # Errors
/// The address is in use, or not this machine's.
pub async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))
        .hint("choose another address with `http.listen`; port 0 takes any free one")?;
    tracing::info!(address = %listener.local_addr()?, "http: /health /ready /info /metrics");
    Ok(listener)
}

/// Serves until its task is dropped.
pub async fn serve(listener: TcpListener, state: State) {
    let router = Router::new()
        .route("/", get(|| async { ROUTES }))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/info", get(info))
        .route("/metrics", get(metrics))
        .with_state(state);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "http ended");
    }
}

/// Alive, unless a stage is stuck for good: what only a restart can help.
async fn health(extract::State(state): extract::State<State>) -> Response {
    let stuck = state.health.stuck(Instant::now());
    if stuck.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("stuck: {}\n", stuck.join("; "))).into_response()
}

async fn ready(extract::State(state): extract::State<State>) -> Response {
    let troubles = state.health.troubles();
    if troubles.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", troubles.join("; "))).into_response()
}

async fn metrics(extract::State(state): extract::State<State>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], state.metrics.render()).into_response()
}

#[derive(Serialize)]
struct Info {
    name: &'static str,
    version: &'static str,
    ready: bool,
    not_ready_because: Vec<String>,
    models: BTreeMap<String, ModelInfo>,
    /// What lies in the models' source and is no part of a version.
    ignored: Vec<Ignored>,
}

#[derive(Serialize, Default)]
struct ModelInfo {
    serving: Option<VersionInfo>,
    #[serde(flatten)]
    not_served: NotServed,
}

/// One loaded version, as `/info` and `inspect --json` show it.
#[derive(Debug, Serialize)]
pub struct VersionInfo {
    version: String,
    from: String,
    /// RFC 3339, in UTC.
    loaded_at: String,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    columns: Option<Vec<String>>,
    /// Whether requests share calls, and why.
    batching: String,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct TensorInfo {
    name: String,
    datatype: &'static str,
    /// Free dimensions are -1, as in the Open Inference Protocol.
    shape: Vec<i64>,
    /// What it is where it is no plain tensor: `map(string, float32)`, whose values the datatype is of.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}

impl VersionInfo {
    pub fn of(model: &Model) -> Self {
        let tensors = |specs: &[TensorSpec]| specs.iter().map(TensorInfo::of).collect();
        Self {
            version: model.version.to_string(),
            from: model.from.clone(),
            loaded_at: rfc3339(model.loaded_at),
            inputs: tensors(&model.signature.inputs),
            outputs: tensors(&model.signature.outputs),
            columns: model.signature.columns.clone(),
            batching: model.engine.batching(),
            metadata: model.metadata.clone(),
        }
    }
}

impl TensorInfo {
    fn of(spec: &TensorSpec) -> Self {
        let length = |dim: &crate::signature::Dim| match dim {
            crate::signature::Dim::Fixed(n) => i64::try_from(*n).unwrap_or(i64::MAX),
            crate::signature::Dim::Any(_) => -1,
        };
        Self {
            name: spec.name.clone(),
            datatype: spec.kind.inner().unwrap_or(spec.element).datatype(),
            kind: (spec.kind != Kind::Tensor).then(|| spec.describe()),
            shape: spec.shape.iter().map(length).collect(),
        }
    }
}

async fn info(extract::State(state): extract::State<State>) -> Response {
    let mut models: BTreeMap<String, ModelInfo> = BTreeMap::new();
    for (name, model) in &*state.models.serving() {
        models.entry(name.to_string()).or_default().serving = Some(VersionInfo::of(model));
    }
    for (name, not_served) in state.models.not_served() {
        let info = models.entry(name).or_default();
        info.not_served = not_served;
        // Both were read one after the other: a version that took its place in between is no longer refused.
        if let Some(serving) = &info.serving {
            info.not_served.refused.retain(|refusal| refusal.version != serving.version);
        }
    }
    let troubles = state.health.troubles();
    let info = Info {
        name: "predictd",
        version: env!("CARGO_PKG_VERSION"),
        ready: troubles.is_empty(),
        not_ready_because: troubles,
        models,
        ignored: state.models.ignored(),
    };
    let body = serde_json::to_string_pretty(&info).expect("plain data is always JSON");
    ([(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
}
