//! Answers of the engine as HTTP responses, in the form of their protocol.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::{Instant, SystemTime};

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;

use super::predictions::Answer;
use super::status::status;
use crate::decode::Id;
use crate::decode::envelope::{self, ResponseFormat};
use crate::encode;
use crate::encode::envelope::{ResponseMetadata, Wrapped, wrap};
use crate::engine::admit::may_block;
use crate::engine::budget::Memory;
use crate::error::{Code, Rejection};
use crate::model::Model;
use crate::ops::metrics::{Exemplar, Metrics};
use crate::ops::request_log::{self, Answered};

pub(super) const MODEL: HeaderName = HeaderName::from_static("x-predictd-model");
pub(super) const MODEL_VERSION: HeaderName = HeaderName::from_static("x-predictd-model-version");

/// Responses below this are not compressed, though the client accepts it: it would cost more than it saves.
const SMALL: usize = 1 << 10;
/// Characters that CloudEvents' HTTP binding encodes in headers, beside those beyond ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The form of an error's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorForm {
    /// `{"error": {"code", "message"}, "id"}`.
    Predictd,
    /// The same with `detail`, which FastAPI's clients read.
    Upload,
    /// `{"error": "…"}`: TensorFlow Serving and the Open Inference Protocol.
    Text,
    /// `{"error_code", "message"}`.
    Mlflow,
}

/// Facts about a request that its response needs.
pub(super) struct Asked {
    pub(super) received_at: Instant,
    pub(super) errors: ErrorForm,
    pub(super) request_id: Option<String>,
    /// `accept-encoding`.
    pub(super) codings: Option<String>,
}

/// A body that is counted until it is sent.
struct Counted {
    bytes: Vec<u8>,
    _memory: Memory,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The response to a request that the engine answered. Counts and logs it.
pub(super) fn respond(answer: Answer, asked: &Asked, metrics: &Metrics) -> Response {
    count(&answer, asked, metrics);
    let code = answer.code();
    let Answer { outcome, id, model, mut format, mut trace, mut memory, .. } = answer;
    let message_id = &*message_id(asked, &format);
    let body = outcome.unwrap_or_else(|rejection| error_body(&rejection, id.as_ref(), asked.errors).into());
    let can_be_compressed = body.bytes.len() >= SMALL;
    format.gzip &= can_be_compressed;
    let metadata = ResponseMetadata {
        model: model.as_deref().map(|model| &*model.name),
        message_id,
        is_ok: code.is_ok(),
        now: SystemTime::now(),
    };
    let length = body.bytes.len();
    let Wrapped { body: mut bytes, headers } = may_block(length, || wrap(body, &format, &metadata));
    let accepts_deflate =
        || asked.codings.as_deref().is_some_and(|codings| envelope::accepts(codings, "deflate"));
    let is_deflated = can_be_compressed && !format.gzip && accepts_deflate();
    if is_deflated {
        bytes = may_block(length, || deflate(&bytes));
    }
    memory.respond(bytes.len());
    let mut response = Response::new(Body::from(Bytes::from_owner(Counted { bytes, _memory: memory })));
    *response.status_mut() = code.map_or_else(status, |()| StatusCode::OK);
    trace.responded(response.status().as_u16(), code);
    let all = response.headers_mut();
    for (name, value) in headers {
        let value = match name.starts_with("ce-") {
            true => utf8_percent_encode(&value, ENCODED).to_string(),
            false => value.into_owned(),
        };
        if let Ok(value) = HeaderValue::try_from(value) {
            all.insert(HeaderName::from_static(name), value);
        }
    }
    if is_deflated {
        all.insert(CONTENT_ENCODING, HeaderValue::from_static("deflate"));
    }
    if let Some(model) = &model {
        for (name, value) in [(MODEL, &model.name), (MODEL_VERSION, &model.version)] {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                all.insert(name, value);
            }
        }
    }
    if let Err(code) = code {
        retry_after(&mut response, code);
    }
    response
}

/// Counts and logs an answer.
pub(super) fn count(answer: &Answer, asked: &Asked, metrics: &Metrics) {
    let outcome = answer.outcome.as_ref().map(|_| ());
    let log = Log { model: answer.model.as_deref(), rows: answer.rows, exemplar: answer.trace.exemplar() };
    log.write(asked, metrics, outcome);
}

/// Counts and logs the refusal of a request that reached no model.
pub(super) fn count_refused(rejection: &Rejection, asked: &Asked, metrics: &Metrics) {
    Log { model: None, rows: 0, exemplar: None }.write(asked, metrics, Err(rejection));
}

struct Log<'a> {
    model: Option<&'a Model>,
    rows: usize,
    exemplar: Option<Exemplar>,
}

impl Log<'_> {
    fn write(self, asked: &Asked, metrics: &Metrics, outcome: Result<(), &Rejection>) {
        let Self { model, rows, exemplar } = self;
        let code = outcome.map_err(|rejection| rejection.code);
        let counted = model.map_or(&metrics.unrouted, |model| &model.metrics);
        let elapsed = asked.received_at.elapsed();
        counted.answered(code, elapsed, exemplar);
        request_log::log(&Answered {
            model: model.map(|model| &*model.name),
            version: model.map(|model| &*model.version),
            message_id: asked.request_id.as_deref().unwrap_or_default(),
            code,
            reason: outcome.err().map(|rejection| &*rejection.message),
            rows,
            elapsed,
        });
    }
}

/// The request's own id. A CloudEvent needs one that no other response has: where the request has none, it is made
/// of the event's id, which only its own source must not repeat, and the time.
fn message_id<'a>(asked: &'a Asked, format: &ResponseFormat) -> Cow<'a, str> {
    match (&asked.request_id, &format.event) {
        (Some(id), _) => id.into(),
        (None, Some(event)) => {
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            format!("{}-{}", event.id, now.as_nanos()).into()
        }
        (None, None) => "".into(),
    }
}

/// The response to a request that reached no model.
pub(super) fn refuse(rejection: Rejection, asked: &Asked, metrics: &Metrics) -> Response {
    count_refused(&rejection, asked, metrics);
    error_response(&rejection, asked.errors)
}

/// The response to a rejection that was counted.
pub(super) fn error_response(rejection: &Rejection, form: ErrorForm) -> Response {
    json_response(status(rejection.code), error_body(rejection, None, form), Some(rejection.code))
}

/// A response of JSON; `code`: that of an error.
pub(super) fn json_response(status: StatusCode, body: Vec<u8>, code: Option<Code>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(code) = code {
        retry_after(&mut response, code);
    }
    response
}

/// Says when to try again. Jittered, so that refused clients do not come back together.
fn retry_after(response: &mut Response, code: Code) {
    if matches!(code, Code::Overloaded | Code::Unavailable) {
        let jitter = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_micros() % 3);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(1 + jitter));
    }
}

fn error_body(rejection: &Rejection, id: Option<&Id>, form: ErrorForm) -> Vec<u8> {
    let Rejection { code, message } = rejection;
    let body = match form {
        ErrorForm::Predictd => return encode::error(rejection, id),
        ErrorForm::Upload => {
            json!({"error": {"code": code.as_str(), "message": message}, "detail": message})
        }
        ErrorForm::Text => json!({"error": message}),
        ErrorForm::Mlflow => json!({"error_code": mlflow_code(*code), "message": message}),
    };
    body.to_string().into_bytes()
}

/// The names of MLflow's `ErrorCode`.
fn mlflow_code(code: Code) -> &'static str {
    match code {
        Code::InvalidInput | Code::UnsupportedType | Code::InputTooLarge => "BAD_REQUEST",
        Code::InputForbidden => "PERMISSION_DENIED",
        Code::ModelNotFound => "RESOURCE_DOES_NOT_EXIST",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::ResponseTooLarge | Code::InferenceFailed => "INTERNAL_ERROR",
        Code::Overloaded => "REQUEST_LIMIT_EXCEEDED",
        Code::Unavailable => "TEMPORARILY_UNAVAILABLE",
    }
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let out = Vec::with_capacity(bytes.len() / 2);
    let mut encoder = flate2::write::ZlibEncoder::new(out, flate2::Compression::fast());
    let compressed = encoder.write_all(bytes).and_then(|()| encoder.finish());
    compressed.expect("writing to memory does not fail")
}

/// Headers of a request that its response needs, and the start of its time.
pub(super) fn asked(headers: &axum::http::HeaderMap, errors: ErrorForm) -> Asked {
    let text = |name: &str| Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned());
    Asked {
        received_at: Instant::now(),
        errors,
        request_id: text("x-request-id"),
        codings: text("accept-encoding"),
    }
}

/// The response to a path that does not exist.
pub(super) async fn not_found(uri: Uri) -> Response {
    let message = format!("expected one of the paths that GET / lists, got {:.200?}", uri.path());
    json_response(StatusCode::NOT_FOUND, json!({"error": message}).to_string().into_bytes(), None)
}

/// The response to a path that only knows the `allowed` methods.
pub(super) fn not_allowed(allowed: &'static str, method: &Method) -> Response {
    let mut response = wrong_method(method);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The same without the header that names them.
pub(super) fn wrong_method(method: &Method) -> Response {
    let message = format!("expected a method of the header allow, got {method}");
    json_response(StatusCode::METHOD_NOT_ALLOWED, json!({"error": message}).to_string().into_bytes(), None)
}

/// The response to a request that is known, and not answered.
pub(super) fn not_implemented(why: &str) -> Response {
    let body = json!({"error": why}).to_string();
    json_response(StatusCode::NOT_IMPLEMENTED, body.into_bytes(), None)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;
    use crate::decode::event::{Event, Mode};

    #[test]
    fn the_response_to_an_event_has_an_id_of_its_own() {
        let event = Event { mode: Mode::Binary, id: "7".to_owned(), subject: None, correlation_id: None };
        let format = ResponseFormat { gzip: false, event: Some(Box::new(event)) };
        let mut all = HeaderMap::new();
        let nameless = asked(&all, ErrorForm::Predictd);
        let (first, second) = (message_id(&nameless, &format), message_id(&nameless, &format));
        assert!(first.starts_with("7-") && first != second, "{first} {second}");
        assert_eq!(message_id(&nameless, &ResponseFormat::default()), "");
        all.insert("x-request-id", "abc".parse().unwrap());
        assert_eq!(message_id(&asked(&all, ErrorForm::Predictd), &format), "abc");
    }
}
