//! Bytes to [`Request`]: pure functions, one file a protocol. Numbers go straight into the typed buffer that the model takes.
//!
//! [`envelope::open`] takes off what is around a body and lets [`media`] say what it is; [`envelope::Content::decode`] reads it.

mod binary;
mod cell;
mod columns;
mod composite;
mod csv;
mod element;
pub mod envelope;
mod error;
pub mod event;
mod example;
mod fast_numbers;
mod gzip;
mod inputs;
mod json;
pub mod media;
mod missing;
mod nested;
mod number;
mod padding;
mod pandas_split;
mod raw;
pub mod reference;
mod rows;
mod rules;
mod scanner;
mod table;
#[cfg(test)]
mod tests;
mod v2;
mod whole_body;

use crate::error::Rejection;
use crate::tensor::signature::Signature;
use crate::tensor::{ElementType, Tensor};

/// A request as the engine knows it: what to compute, and how the answer must look.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// One tensor for each of the model's inputs, in the model's order.
    pub inputs: Vec<Tensor>,
    /// How many rows each input holds, never 0. Where rows run one by one: how many times its shape's elements.
    pub rows: usize,
    /// For each padded dimension, in the signature's order, how long it is in each row; empty where no output is cut.
    pub lengths: Vec<Vec<usize>>,
    pub response: ResponseSpec,
}

impl Request {
    /// Bytes of memory that its inputs take.
    pub fn bytes(&self) -> usize {
        self.inputs.iter().map(|tensor| tensor.elements.bytes()).sum()
    }
}

/// The form of the response: the request's own protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseSpec {
    pub protocol: Protocol,
    pub id: Option<Id>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Protocol {
    /// `{"predictions": […]}`: one entry a row.
    Rows,
    /// `{"outputs": …}`.
    Columns,
    /// Open Inference Protocol v2; the outputs asked for, all when empty.
    V2 {
        outputs: Vec<RequestedOutput>,
        /// Outputs come as binary data, but for those that say otherwise.
        binary: bool,
    },
}

/// An output that a v2 request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedOutput {
    pub name: String,
    /// As binary data or not, where the request says.
    pub binary: Option<bool>,
}

/// The body's `id`, kept as it was given so that the response echoes the same JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    String(String),
    /// A JSON number, in the request's own spelling.
    Number(String),
}

impl Id {
    /// The id as an attribute shows it, without quotes.
    pub fn as_str(&self) -> &str {
        match self {
            Self::String(text) | Self::Number(text) => text,
        }
    }
}

/// What one request may ask for; more is answered with `INPUT_TOO_LARGE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Elements in all inputs together; what takes more memory than a number counts for several (`weight`).
    pub max_elements: usize,
    pub max_rows: usize,
    /// Bytes of a body, after unpacking.
    pub max_body_bytes: usize,
    /// Cells in a line of a table.
    pub max_fields: usize,
}

/// The longest id that a request may have, in bytes: what Pub/Sub takes as an attribute's value.
pub const MAX_ID_BYTES: usize = 1024;

/// Numbers of 8 bytes that an element takes the memory of, beside the bytes of the body that it holds: a
/// string is 24 bytes and an allocation of 32 or more, a map two lists.
pub(crate) fn weight(element: ElementType) -> usize {
    match element {
        ElementType::String | ElementType::Bytes | ElementType::Composite => 8,
        _ => 1,
    }
}

impl Limits {
    /// 8 Mi elements (64 MiB of float64), 100,000 rows and 64 MiB: more than a Pub/Sub message of 10 MB usually carries, packed
    /// or not. 65,536 cells in a line: the columns of the widest tables.
    pub const DEFAULT: Self =
        Self { max_elements: 8 << 20, max_rows: 100_000, max_body_bytes: 64 << 20, max_fields: 1 << 16 };
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
    json::decode(body, None, signature, limits)
        .map_err(|error| Failure { rejection: error.into_rejection(), id: json::find_id(body) })
}
