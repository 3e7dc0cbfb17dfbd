//! The envelope of a request: headers, gzip, CloudEvents. [`open`] takes the body out of it and notes how the
//! response must be sent; [`Content::decode`] then reads the body.

use std::borrow::Cow;

use super::error::{DecodeError, Decoded, quoted};
use super::event::{self, Event};
use super::limits::Limits;
use super::media::{BodyKind, MediaType, body_kind};
use super::request::{Failure, Id, Request};
use super::{csv, gzip, json, raw, whole_body};
use crate::error::Rejection;
use crate::headers::{CONTENT_ENCODING, CONTENT_TYPE, HEADER_LENGTH, Headers};
use crate::tensor::signature::Signature;

/// The parts of a request's envelope that its response repeats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseFormat {
    /// The request accepts gzip (`accept-encoding`).
    pub gzip: bool,
    /// The request is a CloudEvent, so the response is one, too.
    pub event: Option<Box<Event>>,
}

impl ResponseFormat {
    /// The format that the headers alone ask for.
    pub(super) fn of(headers: Headers<'_>) -> Self {
        Self {
            gzip: headers.get("accept-encoding").is_some_and(|codings| accepts(codings, "gzip")),
            event: None,
        }
    }
}

/// A body without its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<'a> {
    pub body: Cow<'a, [u8]>,
    pub kind: BodyKind,
}

#[derive(Debug)]
pub struct Envelope<'a> {
    pub response_format: ResponseFormat,
    /// # Errors
    /// `INVALID_INPUT`, `INPUT_TOO_LARGE`: the envelope itself is wrong.
    pub content: Result<Content<'a>, Rejection>,
}

/// Bytes of memory that a request takes while it is in flight: its body, and the decompressed size that a
/// compressed body claims.
pub fn memory_bytes(headers: Headers<'_>, body: &[u8], limits: &Limits) -> usize {
    let claimed = if is_compressed(headers) { gzip::claimed_size(body) } else { 0 };
    // A larger claim is refused before memory is taken.
    body.len() + if claimed <= limits.max_body_bytes { claimed } else { 0 }
}

/// True if the body is compressed by gzip.
pub fn is_compressed(headers: Headers<'_>) -> bool {
    matches!(headers.get(CONTENT_ENCODING).map(is_gzip), Some(Ok(true)))
}

/// Takes the envelope off: gzip first, then the CloudEvent.
pub fn open<'a>(headers: Headers<'_>, body: &'a [u8], limits: &Limits) -> Envelope<'a> {
    let mut response_format = ResponseFormat::of(headers);
    let content =
        content(headers, body, limits, &mut response_format.event).map_err(|error| error.into_rejection());
    Envelope { response_format, content }
}

fn content<'a>(
    headers: Headers<'_>,
    body: &'a [u8],
    limits: &Limits,
    found: &mut Option<Box<Event>>,
) -> Decoded<Content<'a>> {
    // The event is found before anything else is checked, so that errors are answered by an event, too.
    let media = headers.get(CONTENT_TYPE).map(MediaType::parse);
    let is_structured = media.as_ref().is_some_and(event::is_structured);
    if !is_structured {
        *found = Event::from_headers(headers)?.map(Box::new);
    }
    if body.len() > limits.max_body_bytes {
        let (most, got) = (limits.max_body_bytes, body.len());
        return Err(DecodeError::too_large(format!("expected a body of at most {most} bytes, got {got}")));
    }
    let is_compressed = headers.get(CONTENT_ENCODING).map(is_gzip).transpose()?.unwrap_or(false);
    let body = if is_compressed {
        Cow::Owned(gzip::decompress(body, limits.max_body_bytes)?)
    } else {
        Cow::Borrowed(body)
    };
    let json_length = headers.get(HEADER_LENGTH);
    if let Some(media) = media.filter(|_| is_structured) {
        event::check_format(&media)?;
        let (body, data_type) = match body {
            Cow::Borrowed(body) => event::from_body(body, found)?,
            // The decompressed body ends with this function, so the data inside it is copied.
            Cow::Owned(body) => {
                let (data, data_type) = event::from_body(&body, found)?;
                (Cow::Owned(data.into_owned()), data_type)
            }
        };
        let kind = body_kind(Some(&data_type), json_length, &body)?;
        return Ok(Content { body, kind });
    }
    let given = |name: &str| headers.get(name).filter(|value| !value.trim().is_empty());
    let content_type =
        given(CONTENT_TYPE).or_else(|| given("ce-datacontenttype").filter(|_| found.is_some()));
    let kind = body_kind(content_type, json_length, &body)?;
    Ok(Content { body, kind })
}

fn is_gzip(encoding: &str) -> Decoded<bool> {
    match &*encoding.trim().to_ascii_lowercase() {
        "" | "identity" => Ok(false),
        "gzip" | "x-gzip" => Ok(true),
        _ => Err(DecodeError::unsupported_type(format!(
            "content-encoding {} is not supported; send the body compressed by gzip, or as it is (identity)",
            quoted(encoding)
        ))),
    }
}

/// True if `accept-encoding` names a coding with a weight other than 0 (RFC 9110, section 12.5.3).
pub fn accepts(codings: &str, wanted: &str) -> bool {
    codings.split(',').any(|one| {
        let (coding, weight) = one.split_once(';').unwrap_or((one, ""));
        let is_refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        coding.trim().eq_ignore_ascii_case(wanted) && !is_refused
    })
}

impl Content<'_> {
    /// The body's `id`, for the error response to a request that is refused before it is decoded.
    pub fn id(&self) -> Option<Id> {
        json::find_id(self.json())
    }

    /// The part of the body that is JSON.
    fn json(&self) -> &[u8] {
        match self.kind {
            BodyKind::Json => &self.body,
            BodyKind::V2Binary { json_length } => &self.body[..json_length],
            BodyKind::Csv { .. } | BodyKind::Image | BodyKind::Text | BodyKind::Raw => &[],
        }
    }

    /// Reads the request by the model's signature.
    ///
    /// # Errors
    /// `INVALID_INPUT`, or `INPUT_TOO_LARGE` beyond `limits`, with the place of the error.
    pub fn decode(&self, signature: &Signature, limits: &Limits) -> Result<Request, Failure> {
        let (body, json) = (&*self.body, self.json());
        let decoded = match self.kind {
            BodyKind::Json => json::decode(json, None, signature, limits),
            BodyKind::V2Binary { json_length } => {
                json::decode(json, Some(&body[json_length..]), signature, limits)
            }
            BodyKind::Csv { header } => csv::decode(body, header, signature, limits),
            BodyKind::Image => whole_body::decode_bytes(body, signature),
            BodyKind::Text => whole_body::decode_text(body, signature),
            BodyKind::Raw => raw::decode(body, signature, limits),
        };
        decoded.map_err(|error| Failure { rejection: error.into_rejection(), id: self.id() })
    }
}
