//! Errors of Cloud Storage: one value, written as Google's error JSON and as a gRPC status.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;
use tonic::Code;

/// Travels with an answer over HTTP that is a refusal, for the history.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Invalid,
    Required,
    Forbidden,
    NotFound,
    Gone,
    AlreadyExists,
    NotEmpty,
    Precondition,
    NotModified,
    Range,
    Unsupported,
}

/// A refusal. The message is Google's own wording where clients are known to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    pub(crate) fn no_bucket() -> Self {
        Self::new(Kind::NotFound, "The specified bucket does not exist.")
    }

    pub(crate) fn no_object(bucket: &str, object: &str) -> Self {
        Self::new(Kind::NotFound, format!("No such object: {bucket}/{object}"))
    }

    pub(crate) fn precondition() -> Self {
        Self::new(Kind::Precondition, "At least one of the pre-conditions you specified did not hold.")
    }

    /// The HTTP status and the `reason` of the error JSON.
    pub fn http(&self) -> (StatusCode, &'static str) {
        match self.kind {
            Kind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
            Kind::Required => (StatusCode::BAD_REQUEST, "required"),
            Kind::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Kind::NotFound => (StatusCode::NOT_FOUND, "notFound"),
            Kind::Gone => (StatusCode::GONE, "uploadBrokenConnection"),
            Kind::AlreadyExists | Kind::NotEmpty => (StatusCode::CONFLICT, "conflict"),
            Kind::Precondition => (StatusCode::PRECONDITION_FAILED, "conditionNotMet"),
            Kind::NotModified => (StatusCode::NOT_MODIFIED, "notModified"),
            Kind::Range => (StatusCode::RANGE_NOT_SATISFIABLE, "requestedRangeNotSatisfiable"),
            Kind::Unsupported => (StatusCode::NOT_IMPLEMENTED, "notImplemented"),
        }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        match self.kind {
            Kind::Invalid | Kind::Required => Code::InvalidArgument,
            Kind::Forbidden => Code::PermissionDenied,
            Kind::NotFound | Kind::Gone => Code::NotFound,
            Kind::AlreadyExists => Code::AlreadyExists,
            Kind::NotEmpty | Kind::Precondition => Code::FailedPrecondition,
            Kind::NotModified => Code::Aborted,
            Kind::Range => Code::OutOfRange,
            Kind::Unsupported => Code::Unimplemented,
        }
    }

    /// The answer to a request for media: Google sends the bare message there, not JSON.
    pub(crate) fn into_media_response(self) -> Response {
        let (status, _) = self.http();
        if status == StatusCode::NOT_MODIFIED {
            return status.into_response();
        }
        let refusal = Refusal { code: self.code(), message: self.message.clone() };
        let kind = [(header::CONTENT_TYPE, "text/html; charset=UTF-8")];
        (status, kind, Extension(refusal), self.message).into_response()
    }
}

/// Google's error JSON for any status.
pub(crate) fn error_response(status: StatusCode, code: Code, reason: &str, message: &str) -> Response {
    let mut detail = json!({ "message": message, "domain": "global", "reason": reason });
    if status == StatusCode::PRECONDITION_FAILED {
        detail["locationType"] = json!("header");
        detail["location"] = json!("If-Match");
    }
    let body = json!({ "error": { "code": status.as_u16(), "message": message, "errors": [detail] } });
    let refusal = Refusal { code, message: message.to_owned() };
    (status, Extension(refusal), Json(body)).into_response()
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, reason) = self.http();
        if status == StatusCode::NOT_MODIFIED {
            return status.into_response(); // a 304 has no body
        }
        error_response(status, self.code(), reason, &self.message)
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.message)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
