//! Faults, resets and numbers over HTTP, for the demo and for tests that run the binary.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::faults::{Fault, Faults};
use crate::pubsub::PubSub;
use crate::storage::Storage;

#[derive(Clone)]
struct Control {
    pubsub: Arc<PubSub>,
    storage: Arc<Storage>,
    faults: Arc<Faults>,
}

/// One injection: `{"method": "Publish", "fault": {"fail": "UNAVAILABLE"}, "times": 3}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Injection {
    method: String,
    fault: Fault,
    #[serde(default = "once")]
    times: usize,
}

fn once() -> usize {
    1
}

/// The routes under `/control/`.
pub(crate) fn router(pubsub: Arc<PubSub>, storage: Arc<Storage>, faults: Arc<Faults>) -> Router {
    Router::new()
        .route("/control/ready", get(async || "ready\n"))
        .route("/control/faults", post(inject).delete(clear))
        .route("/control/reset-streams", post(reset_streams))
        .route("/control/stats", get(stats))
        .with_state(Control { pubsub, storage, faults })
}

async fn inject(
    State(control): State<Control>,
    Json(injection): Json<Injection>,
) -> Result<Json<Value>, (StatusCode, String)> {
    if let Fault::Fail(code) = &injection.fault
        && crate::codes::named(code).is_none()
    {
        let problem = format!("unknown code {code:?}: expected a gRPC code's name such as \"UNAVAILABLE\"\n");
        return Err((StatusCode::BAD_REQUEST, problem));
    }
    control.faults.inject(&injection.method, injection.fault, injection.times);
    Ok(Json(json!({ "waiting": control.faults.waiting(&injection.method) })))
}

async fn clear(State(control): State<Control>) -> Json<Value> {
    control.faults.clear();
    Json(json!({}))
}

async fn reset_streams(State(control): State<Control>) -> Json<Value> {
    control.pubsub.reset_streams();
    Json(json!({}))
}

async fn stats(State(control): State<Control>) -> Json<Value> {
    Json(json!({
        "topics": control.pubsub.published(),
        "subscriptions": control.pubsub.all_counts(),
        "buckets": control.storage.object_counts(),
    }))
}
