//! The transport HTTP: predictions on demand, and pages for operators and probes.
//!
//! `connections` accepts clients, `front` checks tokens, and a file for each protocol routes its paths to
//! `route`, which takes a request to the engine by `predictions` and `respond`s. `console` is the page
//! for browsers.

mod connections;
mod console;
mod examples;
mod front;
mod grpc;
pub mod info;
mod mlflow;
mod open_inference;
mod openapi;
mod page;
mod predict;
pub mod predictions;
mod request;
mod respond;
mod route;
mod state;
mod statistics;
mod status;
mod tfserving;
mod tokens;
mod upload;
mod vertex_ai;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Router, extract};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connections::Connections;
use self::front::Front;
use self::page::Page;
use self::predictions::Predictions;
use self::respond::{not_found, wrong_method};
use self::route::Served;
pub use self::state::State;
pub use self::tokens::Tokens;
use crate::hint::Hint as _;

/// The pages of operations, and the protocols of predictions. KServe's client asks whether `status` is
/// `alive`.
const ROUTES: &str = "{\"status\": \"alive\", \"operations\": [\"/health\", \"/ready\", \"/info\", \"/metrics\"], \
    \"predictions\": [\"/predict\", \"/v1/models\", \"/v2\", \"/invocations\", \"/openapi.json\"]}\n";

/// Time for clients to take the last responses.
const LAST_SENDING: Duration = Duration::from_secs(1);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The running server. Dropping it ends the server.
#[derive(Debug)]
pub struct Server {
    /// The address that it listens on.
    pub address: SocketAddr,
    before_stop: TaskTracker,
    _stop: oneshot::Sender<Infallible>,
}

/// Settings of the server.
pub struct Options {
    pub listen: SocketAddr,
    pub tokens: Option<Arc<Tokens>>,
    /// Browsers get the console at `/`.
    pub console: bool,
    /// Once it is cancelled, connections are closed after the response that is being sent.
    pub stop: CancellationToken,
}

impl Server {
    /// Starts to answer, on threads of its own: a probe is answered however long the worker computes.
    ///
    /// # Errors
    /// The address is in use, or is not this machine's.
    pub async fn start(
        options: Options,
        state: State,
        predictions: Option<Arc<Predictions>>,
    ) -> anyhow::Result<Self> {
        let Options { listen, tokens, console, stop } = options;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))
            .hint("choose another address with `http.listen`; port 0 takes any free one")?;
        let connections = Connections::new();
        let (address, before_stop) = (listener.local_addr()?, connections.before_stop.clone());
        tracing::info!(
            %address,
            connections = connections.most,
            predictions = predictions.is_some(),
            "http: /health /ready /info /metrics"
        );
        if console {
            let host = if address.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address.ip() };
            let url = format!("http://{}/", SocketAddr::new(host, address.port()));
            tracing::info!(url, "console: a page for browsers");
        }
        if tokens.is_none() && predictions.is_some() && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                hint = "set `http.tokens_file`, or let the platform authenticate",
                "predictions are answered to whoever reaches this address"
            );
        }
        // A listener belongs to the runtime that it is registered with, which is that of the other threads.
        let listener = listener.into_std()?;
        let (stop_serving, stopped) = oneshot::channel();
        let router = router(state, predictions, tokens.is_some(), console);
        let front = Front::new(router, tokens, console, stop);
        let serve = async move {
            tokio::select! {
                served = connections.serve(listener, front) => served,
                Err(_) = stopped => Ok(()),
            }
        };
        let run = || {
            let runtime = runtime::Builder::new_multi_thread().thread_name("http").enable_all().build();
            let served = runtime.and_then(|runtime| runtime.block_on(async { tokio::spawn(serve).await? }));
            if let Err(error) = served {
                tracing::error!(%error, "the HTTP server ended");
            }
        };
        std::thread::Builder::new().name("http".to_owned()).spawn(run).context("cannot start a thread")?;
        Ok(Self { address, before_stop, _stop: stop_serving })
    }

    /// Waits, once the worker stops, until the responses of connections from before are sent.
    pub fn sent(&self) -> impl Future<Output = ()> + use<> {
        self.before_stop.close();
        let before_stop = self.before_stop.clone();
        async move {
            let _ = tokio::time::timeout(LAST_SENDING, before_stop.wait()).await;
        }
    }
}

fn router(
    state: State,
    predictions: Option<Arc<Predictions>>,
    has_tokens: bool,
    has_console: bool,
) -> Router {
    let index = get(move |headers: HeaderMap| async move {
        match has_console && console::is_browser(&headers) {
            true => console::page(&headers),
            false => ([(CONTENT_TYPE, "application/json")], ROUTES).into_response(),
        }
    });
    let console = if has_console { console::routes(predictions.is_some()) } else { Router::new() };
    let operations = Router::new()
        .route("/", index)
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/info", Page::route("application/json", info::render))
        .route("/metrics", Page::route(OPENMETRICS, |state| state.metrics.render()))
        .merge(console)
        .with_state(state.clone());
    let Some(predictions) = predictions else { return operations };
    let served = Served { state, predictions };
    let protocols = Router::new()
        .route(
            "/openapi.json",
            get(move || async move { ([(CONTENT_TYPE, "application/json")], openapi::render(has_tokens)) }),
        )
        .route("/predict", post(predict::predict))
        .route("/invocations", post(mlflow::invocations))
        .route("/inference.GRPCInferenceService/{method}", post(grpc::inference))
        .route("/grpc.health.v1.Health/{method}", post(grpc::health))
        .route("/ping", get(mlflow::ping))
        .route("/version", get(mlflow::version))
        .route("/v1/models", get(tfserving::list))
        .route("/v1/models/{*path}", any(tfserving::model))
        .route("/v2", get(open_inference::server))
        .route("/v2/health/live", get(open_inference::live))
        .route("/v2/health/ready", get(open_inference::ready))
        .route("/v2/models/{*path}", any(open_inference::model))
        .route("/v2/repository/index", post(open_inference::index))
        .route("/v2/repository/models/{model}/load", post(open_inference::load_or_unload))
        .route("/v2/repository/models/{model}/unload", post(open_inference::load_or_unload));
    let all = operations.merge(protocols.with_state(served.clone()));
    vertex_ai::routes(all.fallback(not_found).method_not_allowed_fallback(method_not_allowed), served)
}

/// A path that only knows other methods; axum adds the header `allow`.
async fn method_not_allowed(method: Method) -> Response {
    wrong_method(&method)
}

/// Answers 503 when a stage is stuck, which only a restart can help.
async fn health(extract::State(state): extract::State<State>) -> Response {
    verdict("ok", "stuck", &state.health.stuck(Instant::now()))
}

async fn ready(extract::State(state): extract::State<State>) -> Response {
    verdict("ready", "not ready", &state.health.troubles())
}

fn verdict(good: &str, bad: &str, troubles: &[String]) -> Response {
    match troubles {
        [] => format!("{good}\n").into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, format!("{bad}: {}\n", troubles.join("; "))).into_response(),
    }
}
