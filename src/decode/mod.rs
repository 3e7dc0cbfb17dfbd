//! Bytes to [`Request`]: pure functions. Numbers go straight into the typed buffers that the model takes.
//!
//! [`envelope::open`] takes a body out of its envelope and lets [`media`] decide its kind;
//! [`envelope::Content::decode`] reads it by the model's signature. There is one file for each form:
//! `rows`, `columns`, `pandas_split` and `v2` in JSON, `csv`, `raw`, and `whole_body` for
//! images and texts. All of them fill `inputs`. A request may also be a reference to an object that has it
//! ([`mod@reference`]).

mod binary;
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
pub mod limits;
pub mod media;
mod named_columns;
mod nested;
mod number;
mod pandas_split;
mod placement;
mod raw;
pub mod reference;
pub mod request;
mod rows;
mod scanner;
mod skip;
#[cfg(test)]
mod tests;
mod v2;
mod whole_body;

pub use limits::{Limits, MAX_ID_BYTES};
pub use request::{Failure, Id, Protocol, Request, RequestedOutput, ResponseSpec};

use std::ops::Range;

use crate::error::Rejection;
use crate::tensor::signature::Signature;

/// Decodes a JSON body (rows, columns, pandas or Open Inference Protocol v2) by the model's signature.
///
/// # Errors
/// `INVALID_INPUT`, or `INPUT_TOO_LARGE` beyond `limits`, with the place of the error.
pub fn decode(body: &[u8], signature: &Signature, limits: &Limits) -> Result<Request, Failure> {
    json::decode(body, None, signature, limits)
        .map_err(|error| Failure { rejection: error.into_rejection(), id: json::find_id(body) })
}

/// Decodes rows of a file: each of `lines`, which are parts of `text`, is one row as in `instances`. The response
/// has a line for each.
///
/// # Errors
/// Like [`decode`]; the place is that inside of the row.
pub fn decode_lines(
    text: &[u8],
    lines: &[Range<usize>],
    signature: &Signature,
    limits: &Limits,
) -> Result<Request, Rejection> {
    json::decode_lines(text, lines, signature, limits).map_err(|error| error.into_rejection())
}

/// Decodes rows of a table with a header in its first line. The response has a line for each.
///
/// # Errors
/// Like [`decode`].
pub fn decode_table(table: &[u8], signature: &Signature, limits: &Limits) -> Result<Request, Rejection> {
    let decoded =
        csv::decode(table, Some(true), signature, limits).map_err(|error| error.into_rejection())?;
    Ok(Request { response: ResponseSpec::lines(), ..decoded })
}

/// True if a line is the body of a whole request: an object with one of the keys that hold its tensors.
pub fn is_body(line: &[u8]) -> bool {
    json::is_body(line)
}
