//! The one way of every protocol from an HTTP request to its response: admission, body, decoding, answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use axum::response::Response;
use bytes::Bytes;

use super::predictions::{Answer, Call, Predictions};
use super::respond::{Asked, ErrorForm, asked, refuse, respond};
use super::state::State;
use super::status::CLIENT_CLOSED;
use crate::decode::Protocol;
use crate::engine::budget::Room;
use crate::error::Rejection;
use crate::headers::{CONTENT_TYPE, HEADER_LENGTH};
use crate::ops::metrics::Metrics;

/// State that all routes of predictions share.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) state: State,
    pub(super) predictions: Arc<Predictions>,
}

/// The rules of a route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) version: Option<&'a str>,
    pub(super) reading: Reading,
    pub(super) errors: ErrorForm,
}

/// The way in which a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// By its content type, else by its first bytes.
    ByType,
    /// JSON of TensorFlow Serving, whatever the content type is.
    TfServing,
    /// The Open Inference Protocol, with binary data where the header says so, whatever the content type is.
    OpenInference,
    /// By its content type; columns are answered as MLflow does.
    Mlflow,
}

/// An admitted request with its whole body.
pub(super) struct Received {
    /// Headers that the engine knows, by their names in Pub/Sub.
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Bytes,
    pub(super) room: Room,
    /// The time until which it is to be answered.
    pub(super) until: Instant,
}

impl Served {
    /// Answers a request for a prediction.
    pub(super) async fn predict(&self, request: Request<Body>, route: Route<'_>) -> Response {
        let (parts, body) = request.into_parts();
        let asked = asked(&parts.headers, route.errors);
        let metrics = &self.state.metrics;
        let unanswered = Unanswered(metrics);
        // Boxed, since every layer of the router would move it.
        let response = match Box::pin(self.answer(&parts.headers, body, route)).await {
            Ok(answer) => respond(answer, &asked, metrics),
            Err(rejection) => refuse(rejection, &asked, metrics),
        };
        unanswered.answered(&response);
        response
    }

    async fn answer(&self, all: &HeaderMap, body: Body, route: Route<'_>) -> Result<Answer, Rejection> {
        let Route { model, version, reading, .. } = route;
        let Received { mut headers, body, room, until } = self.receive(all, body, model).await?;
        match reading {
            Reading::TfServing => {
                headers.remove(HEADER_LENGTH);
                headers.insert(CONTENT_TYPE.to_owned(), "application/json".to_owned());
            }
            // With the header of its length, JSON of any type has binary data behind it.
            Reading::OpenInference => {
                headers.insert(CONTENT_TYPE.to_owned(), "application/json".to_owned());
            }
            Reading::ByType | Reading::Mlflow => {
                let is_form =
                    |kind: &String| kind.trim_start().starts_with("application/x-www-form-urlencoded");
                if headers.get(CONTENT_TYPE).is_some_and(is_form) {
                    headers.remove(CONTENT_TYPE);
                }
            }
        }
        let route = match reading {
            Reading::ByType => "/predict",
            Reading::TfServing => "/v1/models/{model}:predict",
            Reading::OpenInference => "/v2/models/{model}/infer",
            Reading::Mlflow => "/invocations",
        };
        let call = Call { model, version, headers: &mut headers, body, until, route };
        Ok(self
            .predictions
            .answer(call, room, |request| check(&mut request.response.protocol, reading))
            .await)
    }

    /// Admits a request, and reads its body.
    ///
    /// # Errors
    /// The errors of [`Predictions::deadline`], [`Predictions::admit`] and [`Predictions::body`].
    pub(super) async fn receive(
        &self,
        all: &HeaderMap,
        body: Body,
        model: Option<&str>,
    ) -> Result<Received, Rejection> {
        let until = self.predictions.deadline(all)?;
        self.predictions.admit(model, until)?;
        let mut headers = super::request::headers(all);
        let (body, room) = self.predictions.body(all, &mut headers, body, until).await?;
        Ok(Received { headers, body, room, until })
    }

    /// Counts the responses of a request that is answered by other means.
    pub(super) fn unanswered(&self) -> Unanswered<'_> {
        Unanswered(&self.state.metrics)
    }

    /// The response to a rejection.
    pub(super) fn refuse(&self, rejection: Rejection, asked: &Asked) -> Response {
        refuse(rejection, asked, &self.state.metrics)
    }
}

/// Judges a decoded request by its route, and sets the form of its response.
fn check(protocol: &mut Protocol, reading: Reading) -> Result<(), Rejection> {
    let is_v2 = matches!(protocol, Protocol::V2 { .. });
    match reading {
        Reading::TfServing if is_v2 => Err(Rejection::invalid(
            "expected {\"instances\": […]} or {\"inputs\": {…}}, as TensorFlow Serving has it, got an Open \
             Inference Protocol request; send it to /v2/models/MODEL/infer",
        )),
        Reading::OpenInference if !is_v2 => Err(Rejection::invalid(
            "expected an Open Inference Protocol request, {\"inputs\": [{\"name\", \"shape\", \"datatype\", \
             \"data\"}]}, got another form; send it to /predict",
        )),
        Reading::Mlflow if *protocol == Protocol::Columns => {
            *protocol = Protocol::ColumnsAsPredictions;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Counts a request whose client goes away: its future is dropped, and this with it.
pub(super) struct Unanswered<'a>(&'a Metrics);

impl Unanswered<'_> {
    pub(super) fn answered(self, response: &Response) {
        self.answered_with(response.status().as_u16());
    }

    pub(super) fn answered_with(self, status: u16) {
        self.0.http_responded(status);
        std::mem::forget(self);
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.http_responded(CLIENT_CLOSED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// Every request moves its future a few times: rare paths with large ones must be boxed.
    #[test]
    fn the_future_of_a_request_is_small() {
        let (reading, errors) = (Reading::ByType, ErrorForm::Predictd);
        let route = Route { model: None, version: None, reading, errors };
        let answer = size(|(served, headers, body): (&'static Served, &'static HeaderMap, Body)| {
            served.answer(headers, body, route)
        });
        assert!(answer < 3000, "{answer} bytes");
        let handler = size(|(served, request)| super::super::predict::predict(served, request));
        assert!(handler < 3000, "{handler} bytes");
    }
}
