//! gRPC's codes as Google's JSON errors and the control endpoint name them, with the HTTP status that stands
//! for each.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tonic::{Code, Status};

const CODES: &[(Code, &str, u16)] = &[
    (Code::Cancelled, "CANCELLED", 499),
    (Code::Unknown, "UNKNOWN", 500),
    (Code::InvalidArgument, "INVALID_ARGUMENT", 400),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 504),
    (Code::NotFound, "NOT_FOUND", 404),
    (Code::AlreadyExists, "ALREADY_EXISTS", 409),
    (Code::PermissionDenied, "PERMISSION_DENIED", 403),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED", 429),
    (Code::FailedPrecondition, "FAILED_PRECONDITION", 400),
    (Code::Aborted, "ABORTED", 409),
    (Code::OutOfRange, "OUT_OF_RANGE", 400),
    (Code::Unimplemented, "UNIMPLEMENTED", 501),
    (Code::Internal, "INTERNAL", 500),
    (Code::Unavailable, "UNAVAILABLE", 503),
    (Code::DataLoss, "DATA_LOSS", 500),
    (Code::Unauthenticated, "UNAUTHENTICATED", 401),
];

/// The code named `UNAVAILABLE` and so on; None for a text that names none.
pub(crate) fn named(name: &str) -> Option<Code> {
    CODES.iter().find(|(_, known, _)| *known == name).map(|(code, ..)| *code)
}

/// The code that a fault names; Unknown for a text that names none.
pub(crate) fn named_or_unknown(name: &str) -> Code {
    named(name).unwrap_or(Code::Unknown)
}

/// Name and HTTP status of a code.
fn name_and_http(code: Code) -> (&'static str, u16) {
    CODES.iter().find(|(known, ..)| *known == code).map_or(("OK", 200), |(_, name, http)| (*name, *http))
}

/// The error of a REST call in the form that most of Google's services share.
pub(crate) fn error_response(status: &Status) -> Response {
    let (name, http) = name_and_http(status.code());
    let body = json!({ "error": { "code": http, "message": status.message(), "status": name } });
    (StatusCode::from_u16(http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(body)).into_response()
}
