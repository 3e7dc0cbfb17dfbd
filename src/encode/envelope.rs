//! The envelope of a response, which mirrors the request's: a CloudEvent in the same mode, gzip, and headers
//! that describe the body.

use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::response::Body;
use super::value::{push_key, push_text};
use crate::decode::MAX_ID_BYTES;
use crate::decode::envelope::ResponseFormat;
use crate::decode::event::{Event, Mode, member_name};
use crate::headers::{CONTENT_ENCODING, CONTENT_TYPE, HEADER_LENGTH};
use crate::{gzip, rfc3339};

/// The facts about a response that its CloudEvent has.
#[derive(Debug, Clone, Copy)]
pub struct ResponseMetadata<'a> {
    /// The model that answered or refused; `None` if the request reached no model.
    pub model: Option<&'a str>,
    /// The request's id in its transport, the same for every delivery.
    pub message_id: &'a str,
    /// False for an error.
    pub is_ok: bool,
    pub now: SystemTime,
}

/// A response as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    pub body: Vec<u8>,
    /// `content-type` always, the others if they apply.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
}

/// Puts the envelope that `format` asks for around a body.
pub fn wrap(body: Body, format: &ResponseFormat, metadata: &ResponseMetadata<'_>) -> Wrapped {
    let Body { mut bytes, json_length } = body;
    let content_type = if json_length.is_some() { "application/octet-stream" } else { "application/json" };
    let mut headers = vec![(CONTENT_TYPE, Cow::Borrowed(content_type))];
    if let Some(length) = json_length {
        headers.push((HEADER_LENGTH, length.to_string().into()));
    }
    if let Some(event) = &format.event {
        let members = members(event, metadata);
        match event.mode {
            Mode::Binary => {
                headers.extend(members.into_iter().map(|(name, value)| (name, value.into_owned().into())));
            }
            Mode::Structured => {
                bytes = structured(&bytes, content_type, &members);
                headers[0].1 = Cow::Borrowed("application/cloudevents+json");
            }
        }
    }
    if format.gzip {
        bytes = gzip::compress(&bytes);
        headers.push((CONTENT_ENCODING, Cow::Borrowed("gzip")));
    }
    Wrapped { body: bytes, headers }
}

/// The members of the response's event without its data, by their headers in binary mode.
fn members<'a>(event: &'a Event, metadata: &ResponseMetadata<'_>) -> Vec<(&'static str, Cow<'a, str>)> {
    let kind = if metadata.is_ok { "dev.predictd.prediction.v1" } else { "dev.predictd.error.v1" };
    let mut members = vec![
        ("ce-specversion", "1.0".into()),
        ("ce-id", format!("prediction-{}", metadata.message_id).into()),
        ("ce-source", source(metadata.model).into()),
        ("ce-type", kind.into()),
        ("ce-time", rfc3339::format(metadata.now).into()),
    ];
    let repeated = [
        ("ce-subject", event.subject.as_deref()),
        ("ce-causationid", Some(&*event.id)),
        ("ce-correlationid", event.correlation_id.as_deref()),
    ];
    members.extend(repeated.into_iter().filter_map(|(name, value)| Some((name, value?.into()))));
    members
}

/// All characters but the unreserved ones of a URI (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `//predictd/<model>`, a URI-reference. Shortened to the longest value of a Pub/Sub attribute.
fn source(model: Option<&str>) -> String {
    let mut source = "//predictd".to_owned();
    let Some(model) = model else { return source };
    source.push('/');
    source.extend(utf8_percent_encode(model, RESERVED));
    if source.len() > MAX_ID_BYTES {
        let is_cut = |escape: &usize| escape + 3 > MAX_ID_BYTES;
        let end = source[..MAX_ID_BYTES].rfind('%').filter(is_cut).unwrap_or(MAX_ID_BYTES);
        source.truncate(end);
    }
    source
}

/// The event in JSON: `data` if the body is JSON, else `data_base64`.
fn structured(body: &[u8], content_type: &str, members: &[(&str, Cow<'_, str>)]) -> Vec<u8> {
    let size: usize = members.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let mut out = Vec::with_capacity(body.len() * 4 / 3 + size + 80);
    out.push(b'{');
    let all = members.iter().map(|(name, value)| (member_name(name), &**value));
    for (name, value) in all.chain([("datacontenttype", content_type)]) {
        push_key(&mut out, name);
        push_text(&mut out, value);
        out.push(b',');
    }
    if content_type == "application/json" {
        out.extend_from_slice(b"\"data\":");
        out.extend_from_slice(body);
    } else {
        out.extend_from_slice(b"\"data_base64\":\"");
        out.extend_from_slice(STANDARD.encode(body).as_bytes());
        out.push(b'"');
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn event(mode: Mode) -> ResponseFormat {
        let event = Event {
            mode,
            id: "a\"1".to_owned(),
            subject: Some("cellar/7".to_owned()),
            correlation_id: Some("c".to_owned()),
        };
        ResponseFormat { gzip: false, event: Some(Box::new(event)) }
    }

    fn metadata() -> ResponseMetadata<'static> {
        let now = UNIX_EPOCH + Duration::from_millis(1_772_323_199_007);
        ResponseMetadata { model: Some("my wine"), message_id: "42", is_ok: true, now }
    }

    fn body(bytes: &[u8], json_length: Option<usize>) -> Body {
        Body { bytes: bytes.to_vec(), json_length }
    }

    #[test]
    fn a_plain_response_says_what_it_is() {
        let wrapped = wrap(body(b"{}", None), &ResponseFormat::default(), &metadata());
        assert_eq!(
            wrapped,
            Wrapped { body: b"{}".to_vec(), headers: vec![("content-type", "application/json".into())] }
        );
        let wrapped = wrap(body(b"{}\x01", Some(2)), &ResponseFormat::default(), &metadata());
        let expected =
            [("content-type", "application/octet-stream"), ("inference-header-content-length", "2")];
        assert!(wrapped.headers.iter().map(|(name, value)| (*name, &**value)).eq(expected));
    }

    #[test]
    fn gzip_goes_around_everything() {
        let response_format = ResponseFormat { gzip: true, ..event(Mode::Structured) };
        let wrapped = wrap(body(b"{\"a\":1}", None), &response_format, &metadata());
        assert_eq!(wrapped.headers[0].1, "application/cloudevents+json");
        assert_eq!(wrapped.headers[1], ("content-encoding", "gzip".into()));
        let mut decompressed = Vec::new();
        flate2::read::GzDecoder::new(&*wrapped.body).read_to_end(&mut decompressed).unwrap();
        let plain = wrap(body(b"{\"a\":1}", None), &event(Mode::Structured), &metadata());
        assert_eq!(decompressed, plain.body);
    }

    #[test]
    fn events_are_answered_by_events_in_their_mode() {
        let wrapped = wrap(body(b"{\"a\":1}", None), &event(Mode::Binary), &metadata());
        assert_eq!(wrapped.body, b"{\"a\":1}");
        let expected = [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "prediction-42"),
            ("ce-source", "//predictd/my%20wine"),
            ("ce-type", "dev.predictd.prediction.v1"),
            ("ce-time", "2026-02-28T23:59:59.007Z"),
            ("ce-subject", "cellar/7"),
            ("ce-causationid", "a\"1"),
            ("ce-correlationid", "c"),
        ];
        assert!(wrapped.headers.iter().map(|(name, value)| (*name, &**value)).eq(expected), "{wrapped:?}");

        let wrapped = wrap(body(b"{\"a\":1}", None), &event(Mode::Structured), &metadata());
        let expected = "{\"specversion\":\"1.0\",\"id\":\"prediction-42\",\"source\":\"//predictd/my%20wine\",\
            \"type\":\"dev.predictd.prediction.v1\",\"time\":\"2026-02-28T23:59:59.007Z\",\"subject\":\"cellar/7\",\
            \"causationid\":\"a\\\"1\",\"correlationid\":\"c\",\"datacontenttype\":\"application/json\",\"data\":{\"a\":1}}";
        assert_eq!(String::from_utf8(wrapped.body).unwrap(), expected);

        let failed = ResponseMetadata { model: None, is_ok: false, ..metadata() };
        let wrapped = wrap(body(b"{}\x01", Some(2)), &event(Mode::Structured), &failed);
        let json: serde_json::Value = serde_json::from_slice(&wrapped.body).unwrap();
        assert_eq!(json["type"], "dev.predictd.error.v1");
        assert_eq!(json["source"], "//predictd");
        assert_eq!(
            (&json["datacontenttype"], &json["data_base64"]),
            (&"application/octet-stream".into(), &"e30B".into())
        );
        assert_eq!(wrapped.headers[1], ("inference-header-content-length", "2".into()));
    }

    #[test]
    fn a_long_source_is_cut_between_escapes() {
        for (name, length) in [("a".repeat(2000), 1024), (" ".repeat(2000), 1022), ("é".repeat(2000), 1022)]
        {
            let source = source(Some(&name));
            assert_eq!(source.len(), length, "{source}");
        }
        assert_eq!(source(Some("a b/é.~_-1")), "//predictd/a%20b%2F%C3%A9.~_-1");
    }
}
