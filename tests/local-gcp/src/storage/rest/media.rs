//! The bytes of an object over HTTP: ranges and Cloud Storage's headers.

use axum::body::{Body, Bytes};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures::stream;

use super::super::error::Kind;
use super::super::{Error, Result, Version};

/// Bytes are handed over in slices of this size: none is copied, and a fault can break between two.
const CHUNK: usize = 256 * 1024;

/// The whole object (200) or the range asked for (206).
pub(super) fn response(version: &Version, request: &HeaderMap) -> Result<Response> {
    let size = version.body.len();
    let wanted = match request.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        Some(range) => parse_range(range, size)?,
        None => None,
    };
    let (status, body) = match &wanted {
        Some((start, end)) => (StatusCode::PARTIAL_CONTENT, version.body.slice(*start..*end)),
        None => (StatusCode::OK, version.body.clone()),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name: &str, value: &str| {
        // A client's metadata may hold what no header can; then the header is left out.
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.insert(name, value);
        }
    };
    let attributes = &version.attributes;
    set("content-length", &body.len().to_string());
    set("accept-ranges", "bytes");
    set("etag", &version.etag());
    set("x-goog-generation", &version.generation.to_string());
    set("x-goog-metageneration", &version.metageneration.to_string());
    set("x-goog-hash", &version.hash_header());
    set("x-goog-stored-content-length", &size.to_string());
    set("x-goog-stored-content-encoding", attributes.content_encoding.as_deref().unwrap_or("identity"));
    set("x-goog-storage-class", attributes.storage_class.as_deref().unwrap_or("STANDARD"));
    let optional = [
        ("content-type", &attributes.content_type),
        ("content-encoding", &attributes.content_encoding),
        ("content-disposition", &attributes.content_disposition),
        ("content-language", &attributes.content_language),
        ("cache-control", &attributes.cache_control),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            set(name, value);
        }
    }
    for (key, value) in &attributes.metadata {
        set(&format!("x-goog-meta-{key}"), value);
    }
    if let Some((start, end)) = wanted {
        set("content-range", &format!("bytes {start}-{}/{size}", end - 1));
    }
    *response.body_mut() = Body::from_stream(stream::iter(chunks(body)));
    Ok(response)
}

fn chunks(body: Bytes) -> impl Iterator<Item = std::result::Result<Bytes, std::convert::Infallible>> {
    let starts = (0..body.len()).step_by(CHUNK);
    starts.map(move |start| Ok(body.slice(start..body.len().min(start + CHUNK))))
}

/// The bounds of a `Range` header, end exclusive. What is not understood is ignored, as RFC 9110 (14.2) asks.
fn parse_range(header: &str, size: usize) -> Result<Option<(usize, usize)>> {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let (start, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(start), Ok(last)) if last < start => return Ok(None),
        (Ok(start), Ok(last)) => (start, last.saturating_add(1).min(size)),
        (Ok(start), Err(_)) if last.is_empty() => (start, size),
        (Err(_), Ok(length)) if first.is_empty() => (size.saturating_sub(length), size),
        _ => return Ok(None),
    };
    if start >= end {
        return Err(Error::new(Kind::Range, "The requested range cannot be satisfied."));
    }
    Ok(Some((start, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clamped_ignored_or_refused() {
        assert_eq!(parse_range("bytes=2-4", 10), Ok(Some((2, 5))));
        assert_eq!(parse_range("bytes=2-", 10), Ok(Some((2, 10))));
        assert_eq!(parse_range("bytes=-3", 10), Ok(Some((7, 10))));
        assert_eq!(parse_range("bytes=-30", 10), Ok(Some((0, 10))));
        assert_eq!(parse_range("bytes=5-400", 10), Ok(Some((5, 10))));
        assert_eq!(parse_range("bytes=5-2", 10), Ok(None));
        assert_eq!(parse_range("rows=1-2", 10), Ok(None));
        assert!(parse_range("bytes=10-", 10).is_err());
    }
}
