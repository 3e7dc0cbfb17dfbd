//! Error codes as HTTP statuses.

use axum::http::StatusCode;

use crate::error::Code;

/// A client that went away before it got its response: nginx's status, which only metrics see.
pub(super) const CLIENT_CLOSED: u16 = 499;

pub(super) fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidInput => StatusCode::BAD_REQUEST,
        Code::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::InputTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::InputForbidden => StatusCode::FORBIDDEN,
        Code::ModelNotFound => StatusCode::NOT_FOUND,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::ResponseTooLarge | Code::InferenceFailed => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}
