//! What goes around an answer's body, as the request's own envelope was: a CloudEvent in its mode, gzip, and the attributes
//! that say how the body is read.

use std::borrow::Cow;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Body;
use super::value::push_text;
use crate::decode::MAX_ID_BYTES;
use crate::decode::envelope::ResponseFormat;
use crate::decode::event::{Event, Mode};

/// Whom an answer comes from and what it answers.
#[derive(Debug, Clone, Copy)]
pub struct ResponseMetadata<'a> {
    /// The model that answered, or refused; none when there is none.
    pub model: Option<&'a str>,
    /// The request's: every response_format of it has the same.
    pub message_id: &'a str,
    pub is_ok: bool,
    pub now: SystemTime,
}

/// An answer as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    pub body: Vec<u8>,
    /// `content-type` always, the others where they say something.
    pub attributes: Vec<(&'static str, Cow<'static, str>)>,
}

/// Puts around `body` what `response_format` asks for.
pub fn wrap(body: Body, response_format: &ResponseFormat, metadata: &ResponseMetadata<'_>) -> Wrapped {
    let Body { mut bytes, json_length } = body;
    let content_type = if json_length.is_some() { "application/octet-stream" } else { "application/json" };
    let mut attributes = vec![("content-type", Cow::Borrowed(content_type))];
    if let Some(length) = json_length {
        attributes.push(("inference-header-content-length", length.to_string().into()));
    }
    if let Some(event) = &response_format.event {
        let members = members(event, metadata);
        match event.mode {
            Mode::Binary => {
                let named =
                    members.into_iter().map(|(name, value)| (attribute(name), value.into_owned().into()));
                attributes.extend(named);
            }
            Mode::Structured => {
                bytes = structured(&bytes, content_type, &members);
                attributes[0].1 = Cow::Borrowed("application/cloudevents+json");
            }
        }
    }
    if response_format.gzip {
        bytes = pack(&bytes);
        attributes.push(("content-encoding", Cow::Borrowed("gzip")));
    }
    Wrapped { body: bytes, attributes }
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    // The fastest level: an answer is waited for, and JSON's digits pack to nearly the same at any.
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 2), flate2::Compression::fast());
    let packed = encoder.write_all(bytes).and_then(|()| encoder.finish());
    packed.expect("writing to memory does not fail")
}

/// The answer's own members, but for its data.
fn members<'a>(event: &'a Event, metadata: &ResponseMetadata<'_>) -> Vec<(&'static str, Cow<'a, str>)> {
    let kind = if metadata.is_ok { "dev.predictd.prediction.v1" } else { "dev.predictd.error.v1" };
    let mut members = vec![
        ("specversion", "1.0".into()),
        ("id", format!("prediction-{}", metadata.message_id).into()),
        ("source", source(metadata.model).into()),
        ("type", kind.into()),
        ("time", rfc3339(metadata.now).into()),
    ];
    let passed = [
        ("subject", event.subject.as_deref()),
        ("causationid", Some(&*event.id)),
        ("correlationid", event.correlation_id.as_deref()),
    ];
    members.extend(passed.into_iter().filter_map(|(name, value)| Some((name, value?.into()))));
    members
}

fn attribute(member: &str) -> &'static str {
    match member {
        "specversion" => "ce-specversion",
        "id" => "ce-id",
        "source" => "ce-source",
        "type" => "ce-type",
        "time" => "ce-time",
        "subject" => "ce-subject",
        "causationid" => "ce-causationid",
        "correlationid" => "ce-correlationid",
        other => unreachable!("{other} is no member of an answer"),
    }
}

/// `//predictd/<model>`, a URI-reference (RFC 3986): what is no unreserved character in the name is
/// percent-encoded. Unpad where Pub/Sub would not take it as an attribute.
fn source(model: Option<&str>) -> String {
    let mut source = "//predictd".to_owned();
    let Some(model) = model else { return source };
    source.push('/');
    for byte in model.bytes() {
        if source.len() + 3 > MAX_ID_BYTES {
            break;
        }
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            source.push(char::from(byte));
        } else {
            source.push_str(&format!("%{byte:02X}"));
        }
    }
    source
}

/// The event in JSON: `data` is the JSON that the body is, `data_base64` any other body.
fn structured(body: &[u8], content_type: &str, members: &[(&str, Cow<'_, str>)]) -> Vec<u8> {
    let size: usize = members.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let mut out = Vec::with_capacity(body.len() * 4 / 3 + size + 80);
    out.push(b'{');
    for (name, value) in
        members.iter().map(|(name, value)| (*name, &**value)).chain([("datacontenttype", content_type)])
    {
        push_text(&mut out, name);
        out.push(b':');
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

/// `2026-01-31T12:00:00.000Z`. The date by Hinnant's "chrono-Compatible Low-Level Date Algorithms" (2013): years that begin in
/// March, so that a leap day is a year's last.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Duration;

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
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_plain_answer_says_what_it_is() {
        let wrapped = wrap(body(b"{}", None), &ResponseFormat::default(), &metadata());
        assert_eq!(
            wrapped,
            Wrapped { body: b"{}".to_vec(), attributes: vec![("content-type", "application/json".into())] }
        );
        let wrapped = wrap(body(b"{}\x01", Some(2)), &ResponseFormat::default(), &metadata());
        let expected =
            [("content-type", "application/octet-stream"), ("inference-header-content-length", "2")];
        assert!(wrapped.attributes.iter().map(|(name, value)| (*name, &**value)).eq(expected));
    }

    #[test]
    fn gzip_goes_around_everything() {
        let response_format = ResponseFormat { gzip: true, ..event(Mode::Structured) };
        let wrapped = wrap(body(b"{\"a\":1}", None), &response_format, &metadata());
        assert_eq!(wrapped.attributes[0].1, "application/cloudevents+json");
        assert_eq!(wrapped.attributes[1], ("content-encoding", "gzip".into()));
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*wrapped.body).read_to_end(&mut unpacked).unwrap();
        let plain = wrap(body(b"{\"a\":1}", None), &event(Mode::Structured), &metadata());
        assert_eq!(unpacked, plain.body);
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
        assert!(wrapped.attributes.iter().map(|(name, value)| (*name, &**value)).eq(expected), "{wrapped:?}");

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
        assert_eq!(wrapped.attributes[1], ("inference-header-content-length", "2".into()));
    }
}
