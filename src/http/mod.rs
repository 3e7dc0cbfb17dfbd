//! Pages for operators and probes: `/health`, `/ready`, `/info`, `/metrics`; `/` lists them.

mod connections;
pub mod info;
mod page;
mod state;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context as _;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, extract};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::oneshot;

use self::connections::Connections;
use self::page::Page;
pub use self::state::State;
use crate::hint::Hint as _;

/// The answer to `GET /`.
const ROUTES: &str = "\
/health   alive; 503 when a stage is stuck
/ready    503 and why while requests are not answered
/info     models, versions, signatures, and why versions are refused
/metrics  Prometheus
";

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The running server. Dropping it ends the server.
#[derive(Debug)]
pub struct Server {
    _stop: oneshot::Sender<Infallible>,
}

impl Server {
    /// Starts to answer, on a thread of its own: a probe is answered however long the worker computes.
    ///
    /// # Errors
    /// The address is in use, or is not this machine's.
    pub async fn start(listen: SocketAddr, state: State) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))
            .hint("choose another address with `http.listen`; port 0 takes any free one")?;
        let connections = Connections::new();
        tracing::info!(
            address = %listener.local_addr()?,
            connections = connections.most,
            "http: /health /ready /info /metrics"
        );
        // A listener belongs to the runtime that it is registered with, which is that of the other thread.
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
                tracing::error!(%error, "the HTTP server ended");
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
        .route("/info", Page::route("application/json", info::render))
        .route("/metrics", Page::route(OPENMETRICS, |state| state.metrics.render()))
        .with_state(state)
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
