//! MLflow's scoring server, and SageMaker's container routes, which are the same.

use axum::body::Body;
use axum::extract;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::respond::ErrorForm;
use super::route::{Reading, Route, Served};

/// `POST /invocations`.
pub(super) async fn invocations(
    extract::State(served): extract::State<Served>,
    request: Request<Body>,
) -> Response {
    let route = Route { model: None, version: None, reading: Reading::Mlflow, errors: ErrorForm::Mlflow };
    served.predict(request, route).await
}

/// `GET /ping`: 200 once a model is served.
pub(super) async fn ping(extract::State(served): extract::State<Served>) -> Response {
    let status =
        if served.state.health.troubles().is_empty() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    (status, "\n").into_response()
}

/// `GET /version`.
pub(super) async fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
