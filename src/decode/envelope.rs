//! What is around a request: attributes, gzip, CloudEvents. [`open`] takes it off, and remembers how the answer must be sent.

use std::borrow::Cow;
use std::collections::HashMap;

use super::event::{self, Event};
use super::media::{self, BodyKind, MediaType};
use super::{Failure, Id, Limits, Request, gzip, json};
use crate::decode::error::{DecodeError, Decoded, quoted};
use crate::error::Rejection;
use crate::headers::{CONTENT_ENCODING, CONTENT_TYPE, HEADER_LENGTH};
use crate::tensor::signature::Signature;

/// The attributes that came with a body. Known names are in lower case: [`crate::headers::to_lower_case`] saw to that.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a>(pub &'a HashMap<String, String>);

impl<'a> Headers<'a> {
    pub(super) fn get(self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str)
    }
}

/// How the answer is sent, whatever it says: what of the request's own envelope it mirrors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseFormat {
    /// The request takes gzip (`accept-encoding`).
    pub gzip: bool,
    /// The request is a CloudEvent, and so is the answer.
    pub event: Option<Box<Event>>,
}

/// A body without what was around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<'a> {
    pub body: Cow<'a, [u8]>,
    pub kind: BodyKind,
}

#[derive(Debug)]
pub struct Envelope<'a> {
    pub response_format: ResponseFormat,
    /// # Errors
    /// `INVALID_INPUT`, `INPUT_TOO_LARGE`: what is wrong with the envelope itself.
    pub content: Result<Content<'a>, Rejection>,
}

/// Bytes that a message takes while it is in hand: its body, and beside it what a packed one says it unpacks to.
pub fn weight(headers: Headers<'_>, body: &[u8], limits: &Limits) -> usize {
    match headers.get(CONTENT_ENCODING).map(is_gzip) {
        Some(Ok(true)) => {
            body.len() + Some(gzip::claimed(body)).filter(|size| *size <= limits.max_body_bytes).unwrap_or(0)
        }
        _ => body.len(),
    }
}

/// Whether the body is packed by gzip.
pub fn is_packed(headers: Headers<'_>) -> bool {
    matches!(headers.get(CONTENT_ENCODING).map(is_gzip), Some(Ok(true)))
}

/// Takes off what is around the request: gzip first, then the CloudEvent.
pub fn open<'a>(headers: Headers<'_>, body: &'a [u8], limits: &Limits) -> Envelope<'a> {
    let mut response_format = response_format(headers);
    let content =
        content(headers, body, limits, &mut response_format.event).map_err(|error| error.into_rejection());
    Envelope { response_format, content }
}

/// How the answer is sent, as far as the attributes alone say.
pub(super) fn response_format(headers: Headers<'_>) -> ResponseFormat {
    ResponseFormat { gzip: headers.get("accept-encoding").is_some_and(accepts_gzip), event: None }
}

fn content<'a>(
    headers: Headers<'_>,
    body: &'a [u8],
    limits: &Limits,
    found: &mut Option<Box<Event>>,
) -> Decoded<Content<'a>> {
    // First, so that an error about anything else is answered as an event too.
    let media = headers.get(CONTENT_TYPE).map(MediaType::parse);
    let is_structured = media.as_ref().is_some_and(event::is_structured);
    if !is_structured && headers.get("ce-specversion").is_some() {
        *found = Some(Box::new(event::binary(headers)?));
    }
    if body.len() > limits.max_body_bytes {
        let (most, got) = (limits.max_body_bytes, body.len());
        return Err(DecodeError::too_large(format!("expected a body of at most {most} bytes, got {got}")));
    }
    let packed = headers.get(CONTENT_ENCODING).map(is_gzip).transpose()?.unwrap_or(false);
    let body =
        if packed { Cow::Owned(gzip::unpack(body, limits.max_body_bytes)?) } else { Cow::Borrowed(body) };
    let json_length = headers.get(HEADER_LENGTH);
    if let Some(media) = media.filter(|_| is_structured) {
        event::check_format(&media)?;
        let (body, data_type) = match body {
            Cow::Borrowed(body) => event::structured(body, found)?,
            // What is unpacked is this function's own: the data inside it is copied out once.
            Cow::Owned(body) => {
                let (data, data_type) = event::structured(&body, found)?;
                (Cow::Owned(data.into_owned()), data_type)
            }
        };
        let kind = media::kind(Some(&data_type), json_length, &body)?;
        return Ok(Content { body, kind });
    }
    let given = |name: &str| headers.get(name).filter(|value| !value.trim().is_empty());
    let content_type =
        given(CONTENT_TYPE).or_else(|| given("ce-datacontenttype").filter(|_| found.is_some()));
    let kind = media::kind(content_type, json_length, &body)?;
    Ok(Content { body, kind })
}

fn is_gzip(encoding: &str) -> Decoded<bool> {
    match &*encoding.trim().to_ascii_lowercase() {
        "" | "identity" => Ok(false),
        "gzip" | "x-gzip" => Ok(true),
        _ => Err(DecodeError::new(format!(
            "content-encoding {} is not supported; send the body packed by gzip, or as it is (identity)",
            quoted(encoding)
        ))),
    }
}

/// Whether `accept-encoding` names gzip, with a weight other than 0 (RFC 9110, section 12.5.3).
fn accepts_gzip(value: &str) -> bool {
    value.split(',').any(|one| {
        let (coding, weight) = one.split_once(';').unwrap_or((one, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        coding.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

impl Content<'_> {
    /// The body's `id`, without reading what stands around it; for the answer to a request that is refused unread.
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

    /// Reads the request against the model's signature.
    ///
    /// # Errors
    /// What is wrong with it and where: `INVALID_INPUT`, or `INPUT_TOO_LARGE` beyond `limits`.
    pub fn decode(&self, signature: &Signature, limits: &Limits) -> Result<Request, Failure> {
        let (body, json) = (&*self.body, self.json());
        let read = match self.kind {
            BodyKind::Json => json::decode(json, None, signature, limits),
            BodyKind::V2Binary { json_length } => {
                json::decode(json, Some(&body[json_length..]), signature, limits)
            }
            BodyKind::Csv { header } => super::csv::decode(body, header, signature, limits),
            BodyKind::Image => crate::decode::whole_body::decode_bytes(body, signature, limits),
            BodyKind::Text => crate::decode::whole_body::decode_text(body, signature, limits),
            BodyKind::Raw => super::raw::decode(body, signature, limits),
        };
        read.map_err(|error| Failure { rejection: error.into_rejection(), id: self.id() })
    }
}
