//! Routes for operators and probes: `/health`, `/ready`, `/info`, `/metrics`; `/` lists them.

mod connections;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::{Mutex, oneshot};

use self::connections::Connections;
use crate::hint::Hint as _;
use crate::lifecycle::source::Ignored;
use crate::model::{Model, Models, NotServed};
use crate::ops::health::Health;
use crate::ops::metrics::Metrics;
use crate::rfc3339;
use crate::tensor::signature::{TensorSpec, ValueKind};

/// The answer to `GET /`.
const ROUTES: &str = "\
/health   alive; 503 when a stage is stuck
/ready    503 and why while requests are not answered
/info     models, versions, signatures, and why versions are refused
/metrics  Prometheus
";

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const SHARED: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct State {
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
    pub models: Arc<Models>,
}

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    _stop: oneshot::Sender<Infallible>,
}

impl Server {
    /// Answers on a thread of its own: however long something in the worker computes, a probe is answered.
    ///
    /// # Errors
    /// The address is in use, or not this machine's.
    pub async fn start(listen: SocketAddr, state: State) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))
            .hint("choose another address with `http.listen`; port 0 takes any free one")?;
        let connections = Connections::new();
        tracing::info!(
            address = %listener.local_addr()?,
            connections = connections.most(),
            "http: /health /ready /info /metrics"
        );
        // To be registered with the runtime of the other thread.
        let listener = listener.into_std()?;
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            tokio::select! {
                served = connections.serve(listener, router(state)) => served,
                Err(_) = stopped => Ok(()),
            }
        };
        let run = || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            if let Err(error) = runtime.and_then(|runtime| runtime.block_on(serve)) {
                tracing::error!(%error, "http ended");
            }
        };
        std::thread::Builder::new().name("http".to_owned()).spawn(run).context("cannot start a thread")?;
        Ok(Self { _stop: stop })
    }
}

fn router(state: State) -> Router {
    Router::new()
        .route("/", get(|| async { ROUTES }))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/info", Text::route("application/json", info))
        .route("/metrics", Text::route(OPENMETRICS, |state| state.metrics.render()))
        .with_state(state)
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

/// A text that takes time to write and memory to send. Clients that wait for it get the same one, and so do clients that ask within
/// [`SHARED`] while it is still being sent: many that ask, or read slowly, cost no more than a few.
#[derive(Debug)]
struct Text {
    content_type: &'static str,
    render: fn(&State) -> String,
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl Text {
    fn route(content_type: &'static str, render: fn(&State) -> String) -> MethodRouter<State> {
        let text = Arc::new(Self { content_type, render, last: Mutex::default() });
        get(|extract::State(state)| async move { text.answer(state).await })
    }

    async fn answer(&self, state: State) -> Response {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        let is_fresh = |(at, body): &&(Instant, Bytes)| {
            *at >= asked || !body.is_unique() && asked.saturating_duration_since(*at) < SHARED
        };
        let body = match last.as_ref().filter(is_fresh) {
            Some((_, body)) => body.clone(),
            None => {
                let (render, now) = (self.render, Instant::now());
                // Beside this thread, which answers probes meanwhile.
                let text = match tokio::task::spawn_blocking(move || render(&state)).await {
                    Ok(text) => Bytes::from(text),
                    Err(error) => {
                        return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response();
                    }
                };
                last.insert((now, text)).1.clone()
            }
        };
        ([(header::CONTENT_TYPE, self.content_type)], body).into_response()
    }
}

#[derive(Serialize)]
struct Info {
    name: &'static str,
    version: &'static str,
    ready: bool,
    not_ready_because: Vec<String>,
    models: BTreeMap<String, ModelInfo>,
    /// Files and folders of the models' source that are no part of a version.
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
    /// Says if requests share calls, and why.
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
            loaded_at: rfc3339::format(model.loaded_at),
            inputs: tensors(&model.signature.inputs),
            outputs: tensors(&model.signature.outputs),
            columns: model.signature.columns.clone(),
            batching: model.executor.batching(),
            metadata: model.metadata.clone(),
        }
    }
}

impl TensorInfo {
    fn of(spec: &TensorSpec) -> Self {
        let length = |dim: &crate::tensor::signature::Dim| match dim {
            crate::tensor::signature::Dim::Fixed(n) => i64::try_from(*n).unwrap_or(i64::MAX),
            crate::tensor::signature::Dim::Any(_) => -1,
        };
        Self {
            name: spec.name.clone(),
            datatype: spec.kind.inner().unwrap_or(spec.element).datatype(),
            kind: (spec.kind != ValueKind::Tensor).then(|| spec.describe()),
            shape: spec.shape.iter().map(length).collect(),
        }
    }
}

fn info(state: &State) -> String {
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
    serde_json::to_string_pretty(&info).expect("plain data is always JSON") + "\n"
}
