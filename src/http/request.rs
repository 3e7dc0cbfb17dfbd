//! The parts of an HTTP request that the engine reads: headers by their names in Pub/Sub, the deadline, and
//! the body within its limits.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use percent_encoding::percent_decode_str;

use crate::decode::Limits;
use crate::engine::budget::{Budget, Room};
use crate::engine::deadline;
use crate::error::{Code, Rejection};
use crate::headers::{OF_THE_BODY, describes_body};

/// Time between two parts of a body: a client that sends nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(10);

/// Headers that the engine knows, by their names in Pub/Sub. CloudEvents' are percent-encoded in HTTP (its
/// HTTP binding, section 3.1.3.2).
pub(super) fn headers(all: &HeaderMap) -> HashMap<String, String> {
    let mut known = HashMap::with_capacity(4);
    for (name, value) in all {
        let name = name.as_str();
        if !(describes_body(name)
            || matches!(name, "accept-encoding" | "dataref" | "traceparent" | "tracestate"))
        {
            continue;
        }
        let text = String::from_utf8_lossy(value.as_bytes());
        let text = match OF_THE_BODY.contains(&name) || !describes_body(name) {
            true => text.into_owned(),
            false => percent_decode_str(&text).decode_utf8_lossy().into_owned(),
        };
        known.entry(name.to_owned()).or_insert(text);
    }
    known
}

/// The time until which the client waits: the earliest of its own and the configured limit.
///
/// # Errors
/// `INVALID_INPUT` for a limit that cannot be read; `DEADLINE_EXCEEDED` for one that has passed.
pub(super) fn deadline(headers: &HeaderMap, limit: Duration) -> Result<Instant, Rejection> {
    let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let mut limit = limit;
    for name in ["x-request-timeout-ms", "x-envoy-expected-rq-timeout-ms"] {
        let Some(text) = text(name) else { continue };
        let milliseconds: u64 = text.trim().parse().map_err(|_| {
            Rejection::invalid(format!("{name}: expected milliseconds, a whole number, got {text:.40?}"))
        })?;
        limit = limit.min(Duration::from_millis(milliseconds));
    }
    if let Some(text) = text("grpc-timeout") {
        limit = limit.min(grpc_timeout(&text).ok_or_else(|| {
            Rejection::invalid(format!(
                "grpc-timeout: expected up to 8 digits and a unit of H, M, S, m, u or n, got {text:.40?}"
            ))
        })?);
    }
    if let Some(text) = text("deadline") {
        let until = deadline::parse(&text)?;
        deadline::check(Some(until))?;
        limit = limit.min(until.duration_since(std::time::SystemTime::now()).unwrap_or_default());
    }
    Ok(Instant::now() + limit)
}

fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Reads a body.
///
/// # Errors
/// `INPUT_TOO_LARGE` beyond `most` bytes, `OVERLOADED` without room in the budget, `DEADLINE_EXCEEDED` when the
/// client sends too slowly, `INVALID_INPUT` when it stops in the middle.
pub(super) async fn body(
    headers: &HeaderMap,
    body: Body,
    most: usize,
    budget: &Budget,
    until: Instant,
) -> Result<(Bytes, Room), Rejection> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if let Some(length) = declared.filter(|length| *length > most) {
        return Err(too_large(most, Some(length)));
    }
    let mut room = budget.try_take(declared.unwrap_or(1)).ok_or_else(no_room)?;
    let mut parts = body.into_data_stream();
    let first = next(&mut parts, until).await?;
    // Nearly every body comes in one part, which is not copied.
    let Some(second) = next(&mut parts, until).await? else {
        let first = first.unwrap_or_default();
        if first.len() > most {
            return Err(too_large(most, None));
        }
        if declared.is_none() && !budget.try_grow(&mut room, first.len()) {
            return Err(no_room());
        }
        return Ok((first, room));
    };
    let mut all = BytesMut::with_capacity(declared.unwrap_or(0).min(most));
    all.extend_from_slice(&first.unwrap_or_default());
    let mut part = Some(second);
    while let Some(bytes) = part {
        let length = all.len() + bytes.len();
        if length > most {
            return Err(too_large(most, None));
        }
        if declared.is_none() && !budget.try_grow(&mut room, length) {
            return Err(no_room());
        }
        all.extend_from_slice(&bytes);
        part = next(&mut parts, until).await?;
    }
    Ok((all.freeze(), room))
}

async fn next(parts: &mut BodyDataStream, until: Instant) -> Result<Option<Bytes>, Rejection> {
    let until = until.min(Instant::now() + SILENCE);
    match tokio::time::timeout_at(until.into(), parts.next()).await {
        Ok(part) => part.transpose().map_err(|error| {
            Rejection::invalid(format!("the body ended before its declared length: {error}"))
        }),
        Err(_) => Err(Rejection::new(Code::DeadlineExceeded, "the body did not arrive in time")),
    }
}

fn too_large(most: usize, got: Option<usize>) -> Rejection {
    let got = got.map_or(Cow::Borrowed("more"), |got| Cow::Owned(got.to_string()));
    let message = format!("expected a body of at most {most} bytes, got {got}; send several requests");
    Rejection::new(Code::InputTooLarge, message)
}

pub(super) fn no_room() -> Rejection {
    Rejection::new(Code::Overloaded, "too many bytes of requests are in flight; try again later")
}

/// True for `content-encoding: deflate`, which is zlib (RFC 9110, section 8.4.1.2). Bodies of gzip are left to
/// the decoder.
pub(super) fn is_deflated(headers: &HashMap<String, String>) -> bool {
    headers.get(CONTENT_ENCODING.as_str()).is_some_and(|coding| coding.trim().eq_ignore_ascii_case("deflate"))
}

/// Decompresses a body of so many `compressed` bytes. Each part takes room before it is kept.
///
/// # Errors
/// `INVALID_INPUT` for what cannot be decompressed, `INPUT_TOO_LARGE`, `OVERLOADED` without room in the budget.
pub(super) fn decompress(
    mut body: impl Read,
    compressed: usize,
    budget: &Budget,
    room: &mut Room,
) -> Result<Bytes, Rejection> {
    let most = Limits::DEFAULT.max_body_bytes;
    let (mut out, mut block) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = body.read(&mut block).map_err(|error| {
            Rejection::invalid(format!(
                "expected a body compressed as its header says, got an error: {error}"
            ))
        })?;
        if read == 0 {
            return Ok(out.into());
        }
        if out.len() + read > most {
            let message =
                format!("expected at most {most} bytes after decompression, got more; send several requests");
            return Err(Rejection::new(Code::InputTooLarge, message));
        }
        if !budget.try_grow(room, compressed + out.len() + read) {
            return Err(no_room());
        }
        out.extend_from_slice(&block[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_of_all_deadlines_counts() {
        let limit = |pairs: &[(&'static str, &str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let until = deadline(&headers.collect(), Duration::from_secs(30))?;
            Ok::<_, Rejection>(until.saturating_duration_since(Instant::now()).as_secs_f64().round())
        };
        assert_eq!(limit(&[]), Ok(30.0));
        assert_eq!(limit(&[("x-request-timeout-ms", "5000"), ("grpc-timeout", "7S")]), Ok(5.0));
        assert_eq!(limit(&[("x-envoy-expected-rq-timeout-ms", "99000"), ("grpc-timeout", "1M")]), Ok(30.0));
        assert_eq!(limit(&[("grpc-timeout", "3000000u")]), Ok(3.0));
        for (name, value) in [
            ("grpc-timeout", "5"),
            ("grpc-timeout", "123456789S"),
            ("x-request-timeout-ms", "1.5"),
            ("deadline", "x"),
        ] {
            let refused = limit(&[(name, value)]).unwrap_err();
            assert!(refused.code == Code::InvalidInput && refused.message.starts_with(name), "{refused}");
        }
        let passed = limit(&[("deadline", "2026-01-31T12:00:00Z")]).unwrap_err();
        assert_eq!(passed.code, Code::DeadlineExceeded);
    }
}
