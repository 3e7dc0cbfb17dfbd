//! Bytes to [`Request`]: pure functions, one file a protocol. Numbers go straight into the typed buffer that the model takes.

mod columns;
mod element;
mod fault;
mod frame;
mod inputs;
mod json;
mod number;
mod rows;
mod scanner;
#[cfg(test)]
mod tests;
mod v2;

use crate::error::Rejection;
use crate::tensor::{Signature, Tensor};

/// A request as the engine knows it: what to compute, and how the answer must look.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// One tensor for each of the model's inputs, in the model's order.
    pub inputs: Vec<Tensor>,
    /// How many rows each input holds, never 0. Where rows run one by one: how many times its shape's elements.
    pub rows: usize,
    pub answer: Answer,
}

/// The form of the response: the request's own protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub form: Form,
    pub id: Option<Id>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// `{"predictions": […]}`: one entry a row.
    Rows,
    /// `{"outputs": …}`.
    Columns,
    /// Open Inference Protocol v2; the outputs asked for, all when empty.
    V2 { outputs: Vec<String> },
}

/// The body's `id`, kept as it was given so that the response echoes the same JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    Text(String),
    /// A JSON number, in the request's own spelling.
    Number(String),
}

impl Id {
    /// The id as an attribute shows it, without quotes.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
        }
    }
}

/// What one request may ask for; more is answered with `INPUT_TOO_LARGE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Elements in all inputs together.
    pub max_elements: usize,
    pub max_rows: usize,
}

impl Limits {
    /// 8 Mi elements (64 MiB of float64) and 100,000 rows: more than a Pub/Sub message of 10 MB usually carries.
    pub const DEFAULT: Self = Self { max_elements: 8 << 20, max_rows: 100_000 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a body is no request, and its `id` where one was found, so that the error response can echo it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub rejection: Rejection,
    pub id: Option<Id>,
}

/// Reads a JSON body (rows, columns, pandas or Open Inference Protocol v2) against the model's signature.
pub fn decode(body: &[u8], signature: &Signature, limits: &Limits) -> Result<Request, Failure> {
    json::decode(body, signature, limits)
        .map_err(|fault| Failure { rejection: fault.into_rejection(), id: json::find_id(body) })
}

/// Whether [`decode`] reads a body that is declared so; no `content_type` and `application/octet-stream` say nothing.
///
/// # Errors
/// `INVALID_INPUT`, naming what is supported.
pub fn supported(content_type: Option<&str>, content_encoding: Option<&str>) -> Result<(), Rejection> {
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let kind = essence(content_type.unwrap_or_default());
    if !["", "application/json", "text/json", "application/octet-stream"].contains(&kind.as_str()) {
        let message = format!("content-type {kind:.100?} is not supported; send JSON as application/json");
        return Err(Rejection::invalid(message));
    }
    let encoding = essence(content_encoding.unwrap_or_default());
    if !["", "identity"].contains(&encoding.as_str()) {
        let message =
            format!("content-encoding {encoding:.100?} is not supported; send the body as it is (identity)");
        return Err(Rejection::invalid(message));
    }
    Ok(())
}
