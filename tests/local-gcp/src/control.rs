//! Faults and figures over HTTP, for tests and people outside of this process.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Json, State};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::Value;

use crate::faults::Fault;
use crate::pubsub::Broker;

/// `POST /control/faults`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inject {
    method: String,
    fault: Fault,
    #[serde(default = "once")]
    times: usize,
}

fn once() -> usize {
    1
}

pub fn router(broker: Arc<Broker>) -> Router {
    Router::new()
        .route("/control/ready", get(|| async { "ready\n" }))
        .route("/control/faults", post(inject).delete(clear))
        .route("/control/reset-streams", post(reset))
        .route("/control/stats", get(stats))
        .with_state(broker)
}

async fn inject(State(broker): State<Arc<Broker>>, Json(inject): Json<Inject>) {
    broker.faults.inject(&inject.method, inject.fault, inject.times);
}

async fn clear(State(broker): State<Arc<Broker>>) {
    broker.faults.clear();
}

async fn reset(State(broker): State<Arc<Broker>>) {
    broker.reset_streams();
}

async fn stats(State(broker): State<Arc<Broker>>) -> Json<Value> {
    Json(broker.stats())
}
