//! Refusals of requests, and the error codes that users see.

use std::borrow::Cow;

/// The error codes in `error_code` and in the body of an error response. HTTP has a status for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    InvalidInput,
    /// `INVALID_INPUT` for a content type or an encoding, which has a status of its own in HTTP.
    UnsupportedType,
    InputTooLarge,
    InputForbidden,
    ModelNotFound,
    DeadlineExceeded,
    ResponseTooLarge,
    InferenceFailed,
    /// The request would wait for longer than its sender does. Over HTTP alone: Pub/Sub keeps what waits.
    Overloaded,
    /// No model is served yet, or the worker stops. Over HTTP alone.
    Unavailable,
}

impl Code {
    pub const ALL: [Self; 10] = [
        Self::InvalidInput,
        Self::UnsupportedType,
        Self::InputTooLarge,
        Self::InputForbidden,
        Self::ModelNotFound,
        Self::DeadlineExceeded,
        Self::ResponseTooLarge,
        Self::InferenceFailed,
        Self::Overloaded,
        Self::Unavailable,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput | Self::UnsupportedType => "INVALID_INPUT",
            Self::InputTooLarge => "INPUT_TOO_LARGE",
            Self::InputForbidden => "INPUT_FORBIDDEN",
            Self::ModelNotFound => "MODEL_NOT_FOUND",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::ResponseTooLarge => "RESPONSE_TOO_LARGE",
            Self::InferenceFailed => "INFERENCE_FAILED",
            Self::Overloaded => "OVERLOADED",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// The reason for an error response. The message has the input, what was expected and what came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl Rejection {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidInput, message)
    }
}
