//! Log lines about single requests, written once their responses are accepted.
//!
//! Payloads are never logged. The reason of an error is the message of its response, which quotes one value
//! at most.

use std::time::Duration;

use crate::error::Code;

/// Most characters of a reason. Those of ONNX Runtime may list much of a graph.
const LONGEST_REASON: usize = 500;

/// A request whose response was accepted.
#[derive(Debug)]
pub struct Answered<'a> {
    pub model: Option<&'a str>,
    pub version: Option<&'a str>,
    pub message_id: &'a str,
    pub code: Result<(), Code>,
    /// The message of the error response.
    pub reason: Option<&'a str>,
    pub rows: usize,
    /// Time since the request was received.
    pub elapsed: Duration,
}

/// Writes a warning for an error and, at DEBUG, a line for every request. A filtered level costs one
/// comparison.
pub fn log(answered: &Answered<'_>) {
    let Answered { model, version, message_id, code, reason, rows, elapsed } = answered;
    if let Err(code) = code {
        let reason = reason.map(cut);
        tracing::warn!(
            model,
            version,
            code = code.as_str(),
            message_id,
            reason,
            "a request was answered with an error"
        );
    }
    tracing::debug!(
        model,
        version,
        message_id,
        outcome = code.map_or_else(|code| code.as_str(), |()| "ok"),
        rows,
        milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        "answered"
    );
}

fn cut(reason: &str) -> &str {
    reason.char_indices().nth(LONGEST_REASON).map_or(reason, |(end, _)| &reason[..end])
}
