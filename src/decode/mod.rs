//! Bytes to [`Request`]: pure functions, one file a protocol. Numbers go straight into the typed buffer that the model takes.
//!
//! Time and memory are linear in the body: one pass, depth limited, and [`Limits`] are checked before anything is kept.
//!
//! `scanner` (bytes to tokens) and `number` know only JSON; `value` makes one element, `building` one tensor;
//! `rows`, `columns` and `v2` are the protocols, told apart by `body`.

mod body;
mod building;
mod columns;
mod number;
mod rows;
mod scanner;
mod v2;
mod value;

use crate::error::Rejection;
use crate::tensor::{Signature, Tensor};

/// A request as the engine knows it: what to compute, and how the answer must look.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// One tensor for each of the model's inputs, in the model's order.
    pub inputs: Vec<Tensor>,
    /// How many rows each input holds; 1 when the model has no batch dimension.
    pub rows: usize,
    pub answer: Answer,
}

/// The form of the response: the request's own protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub form: Form,
    /// The body's `id` as it was given: a JSON string (without its quotes) in every protocol.
    pub id: Option<String>,
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

/// How much one request may hold, whatever its body's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Elements in each input.
    pub max_elements: usize,
    pub max_rows: usize,
}

impl Default for Limits {
    /// A Pub/Sub message has at most 10 MB, so about five million one-digit numbers: 4 Mi elements (32 MiB as float64)
    /// refuse nothing real, and 64 Ki rows are hundreds of batches.
    fn default() -> Self {
        Self { max_elements: 4 << 20, max_rows: 64 << 10 }
    }
}

/// A body that is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rejection}")]
pub struct Failure {
    pub rejection: Rejection,
    /// The body's `id`, if it could be read, for the error response to echo.
    pub id: Option<String>,
}

/// Reads a JSON body for a model with this signature.
///
/// # Errors
///
/// `INVALID_INPUT` when the body is not JSON, has none of the known forms or does not fit the signature;
/// `INPUT_TOO_LARGE` when it exceeds `limits`.
pub fn decode(body: &[u8], signature: &Signature, limits: &Limits) -> Result<Request, Failure> {
    body::read(body, signature, limits).map_err(|rejection| Failure { rejection, id: body::find_id(body) })
}

/// Whether [`decode`] reads a body that is declared so; no `content_type` and `application/octet-stream` say nothing.
///
/// # Errors
///
/// `INVALID_INPUT`, naming what is supported.
pub fn supported(content_type: Option<&str>, content_encoding: Option<&str>) -> Result<(), Rejection> {
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let kind = essence(content_type.unwrap_or_default());
    let json = kind == "application/json" || kind == "text/json" || kind.ends_with("+json");
    if !(json || kind.is_empty() || kind == "application/octet-stream") {
        return Err(Rejection::invalid(format!(
            "content-type \"{}\" is not supported; send JSON as application/json",
            value::shorten(&kind)
        )));
    }
    let encoding = essence(content_encoding.unwrap_or_default());
    if !(encoding.is_empty() || encoding == "identity") {
        return Err(Rejection::invalid(format!(
            "content-encoding \"{}\" is not supported; send the body as it is (identity)",
            value::shorten(&encoding)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
