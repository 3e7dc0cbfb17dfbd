//! References: requests whose body is an object in a bucket. [`find`] recognizes them; for other requests
//! that costs a look at their attributes and one pass over a small body.
//!
//! | a reference | is in |
//! |---|---|
//! | `dataref` | an attribute; the body is then ignored |
//! | a CloudEvent's extension `dataref` | `ce-dataref`, or the event's member; only if the event has no data |
//! | a bucket's notification | `eventType`, `bucketId`, `objectId`, `objectGeneration` beside `payloadFormat` |
//! | `{"dataref": "gs://…", "id": …}` | a JSON body without the keys of a request |
//!
//! The address is a claim of the sender: the receiver decides if the bucket is allowed.

use std::collections::HashMap;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::envelope::ResponseFormat;
use super::error::{DecodeError, Decoded, Located, quoted, refuse};
use super::event::{self, Event};
use super::json::{PAYLOAD_KEYS, read_id};
use super::media::MediaType;
use super::request::Id;
use super::scanner::Scanner;
use crate::error::{Code, Rejection};
use crate::headers::{CONTENT_ENCODING, CONTENT_TYPE, DATAREF, Headers, OF_THE_BODY};

/// The longest body that is searched for a reference: an address has at most 1,250 bytes, and a CloudEvent
/// adds a few attributes.
const MAX_BODY_BYTES: usize = 8 << 10;
/// Cloud Storage's limit of an object's name.
const MAX_NAME_BYTES: usize = 1024;

/// An object of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub bucket: String,
    pub name: String,
    /// `None`: the live generation.
    pub generation: Option<i64>,
    /// The bucket announced it by a notification; no client asked for this object.
    pub is_announced: bool,
}

/// A request that refers to an object.
#[derive(Debug)]
pub struct Reference {
    /// # Errors
    /// `INVALID_INPUT`, or `INPUT_FORBIDDEN` for an address outside of Cloud Storage.
    pub object: Result<Object, Rejection>,
    pub response_format: ResponseFormat,
    /// The request's id, unless the object gives one.
    pub id: Option<Id>,
    /// Headers of the request that describe the object's bytes.
    body_headers: HashMap<String, String>,
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gs://{}/{}", self.bucket, self.name)
    }
}

/// The reference in a request; `None` if the request has its own body.
#[inline]
pub fn find(headers: Headers<'_>, body: &[u8]) -> Option<Box<Reference>> {
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"dataref\""));
    // Comparing keys, mostly by their lengths, is cheaper than three look-ups.
    let is_in_headers =
        headers.0.keys().any(|key| matches!(&**key, DATAREF | "payloadFormat" | "ce-dataref"));
    if is_in_headers && let Some(found) = find_in_headers(headers, body) {
        return Some(Box::new(found));
    }
    let is_small = body.len() <= MAX_BODY_BYTES;
    if is_small && KEY.find(body).is_some() { find_in_body(headers, body).map(Box::new) } else { None }
}

#[cold]
fn find_in_headers(headers: Headers<'_>, body: &[u8]) -> Option<Reference> {
    let mut response_format = ResponseFormat::of(headers);
    let event = Event::from_headers(headers);
    let object = if let Some(address) = headers.get(DATAREF) {
        parse_address(address)
    } else if headers.get("payloadFormat").is_some() {
        let notified =
            ["eventType", "bucketId", "objectId", "objectGeneration"].map(|name| headers.get(name));
        let [Some(kind), Some(bucket), Some(name), Some(generation)] = notified else { return None };
        announced_object(kind, bucket, name, generation)
    } else {
        // An event that has data is no reference.
        headers.get("ce-specversion").filter(|_| body.is_empty())?;
        parse_address(headers.get("ce-dataref")?)
    };
    let object = event.and_then(|event| {
        response_format.event = event.map(Box::new);
        object
    });
    let of_the_body = OF_THE_BODY.iter().filter_map(|name| Some((*name, headers.get(name)?)));
    let mut body_headers: HashMap<String, String> =
        of_the_body.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    if let Some(kind) = headers.get("ce-datacontenttype").filter(|_| response_format.event.is_some()) {
        body_headers.entry(CONTENT_TYPE.to_owned()).or_insert_with(|| kind.to_owned());
    }
    let object = object.map_err(|error| error.into_rejection());
    Some(Reference { object, response_format, id: None, body_headers })
}

/// `None` also for broken bodies: decoding them gives the better error.
#[cold]
fn find_in_body(headers: Headers<'_>, body: &[u8]) -> Option<Reference> {
    let mut response_format = ResponseFormat::of(headers);
    let media = headers.get(CONTENT_TYPE).map(MediaType::parse).filter(|media| !media.essence.is_empty());
    let mut body_headers = HashMap::new();
    let (event, address, id) = if media.as_ref().is_some_and(event::is_structured) {
        let (event, address, kind) = event::find_reference(body).ok()??;
        body_headers.extend(kind.map(|kind| (CONTENT_TYPE.to_owned(), kind)));
        (Some(event), Some(address), None)
    } else if media.is_some_and(|media| !media.is_json()) {
        return None;
    } else {
        let (address, id) = find_in_json(body).ok()??;
        (Event::from_headers(headers).ok()?, address, id)
    };
    response_format.event = event.map(Box::new);
    let object = match address {
        Some(address) => parse_address(&address),
        None => refuse("expected a string \"gs://bucket/object\"").within("dataref"),
    };
    let object = object.map_err(|error| error.into_rejection());
    Some(Reference { object, response_format, id, body_headers })
}

/// The address, `None` if it is no string, and the id.
type InJson = Option<(Option<String>, Option<Id>)>;

fn find_in_json(body: &[u8]) -> Decoded<InJson> {
    let mut scanner = Scanner::new(body)?;
    if !scanner.open(b'{')? {
        return Ok(None);
    }
    let (mut found, mut id) = (None, None);
    while let Some(key) = scanner.key()? {
        match &*key {
            "dataref" if scanner.peek() == Some(b'"') => found = Some(Some(scanner.string()?.into_owned())),
            "dataref" => {
                scanner.skip()?;
                found = Some(None);
            }
            "id" => id = id.or(read_id(&mut scanner)?),
            // `dataref` beside tensors is ignored.
            key if PAYLOAD_KEYS.contains(&key) => return Ok(None),
            _ => scanner.skip()?,
        }
    }
    scanner.end()?;
    Ok(found.map(|address| (address, id)))
}

/// `gs://bucket/object`.
fn parse_address(address: &str) -> Decoded<Object> {
    let path = address.strip_prefix("gs://");
    if path.is_none() && address.contains("://") {
        let got = quoted(address);
        return Err(DecodeError::forbidden(format!("expected a dataref that begins with gs://, got {got}")));
    }
    match path.and_then(|path| path.split_once('/')) {
        Some((bucket, name)) => object(bucket, name),
        None => refuse(format!("expected dataref as gs://bucket/object, got {}", quoted(address))),
    }
}

fn object(bucket: &str, name: &str) -> Decoded<Object> {
    if bucket.is_empty() || name.is_empty() || name.len() > MAX_NAME_BYTES {
        let length = name.len();
        return refuse(format!(
            "expected a bucket and an object's name of 1 to {MAX_NAME_BYTES} bytes, got bucket {} and \
             {length} bytes",
            quoted(bucket)
        ));
    }
    // Legal in names, but a proxy or a file system might take them for steps out of an allowed prefix.
    if name.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(DecodeError::forbidden(format!(
            "expected an object's name without `.` and `..` between slashes, got {}",
            quoted(name)
        )));
    }
    let (bucket, name) = (bucket.to_owned(), name.to_owned());
    Ok(Object { bucket, name, generation: None, is_announced: false })
}

fn announced_object(kind: &str, bucket: &str, name: &str, generation: &str) -> Decoded<Object> {
    if kind != "OBJECT_FINALIZE" {
        return refuse(format!(
            "expected a notification of OBJECT_FINALIZE, got {}; let the bucket notify of this event alone",
            quoted(kind)
        ));
    }
    let Some(generation) = generation.parse().ok().filter(|generation| *generation > 0) else {
        return refuse(format!(
            "expected objectGeneration as a whole number above 0, got {}",
            quoted(generation)
        ));
    };
    Ok(Object { generation: Some(generation), is_announced: true, ..object(bucket, name)? })
}

impl Reference {
    /// The headers of the object's bytes. The object's own metadata takes precedence, except
    /// `application/octet-stream`, which tools write if they do not know the type.
    pub fn attributes(&self, content_type: &str, content_encoding: &str) -> HashMap<String, String> {
        let mut attributes = self.body_headers.clone();
        let essence = MediaType::parse(content_type).essence;
        if !["", "application/octet-stream"].contains(&&*essence) {
            attributes.insert(CONTENT_TYPE.to_owned(), content_type.to_owned());
        }
        // Cloud Storage reports `identity` for objects without an encoding.
        if !["", "identity"].contains(&content_encoding) {
            attributes.insert(CONTENT_ENCODING.to_owned(), content_encoding.to_owned());
        }
        attributes
    }
}

impl Object {
    /// The refusal of an object outside of the allowed buckets.
    pub fn forbidden(&self) -> Rejection {
        let message = format!(
            "requests may not refer to {}; the allowed buckets are set in `requests.allowed_buckets`",
            quoted(&self.to_string())
        );
        Rejection::new(Code::InputForbidden, message)
    }

    /// The refusal of an object that does not exist.
    pub fn missing(&self) -> Rejection {
        let which = self.generation.map(|number| format!("generation {number} of ")).unwrap_or_default();
        let hint = if which.is_empty() { "" } else { ", it was replaced or deleted" };
        Rejection::invalid(format!("expected {which}{self}, which does not exist{hint}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy as _;

    use super::*;

    type Attributes<'a> = &'a [(&'a str, &'a str)];

    fn found(attributes: Attributes<'_>, body: &str) -> Option<Box<Reference>> {
        let map = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        find(Headers(&map), body.as_bytes())
    }

    const EVENT: Attributes<'_> =
        &[("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "//s"), ("ce-type", "t")];
    const NOTIFIED: Attributes<'_> = &[
        ("eventType", "OBJECT_FINALIZE"),
        ("payloadFormat", "JSON_API_V1"),
        ("bucketId", "images"),
        ("objectId", "in/a.jpg"),
        ("objectGeneration", "17"),
    ];

    #[test]
    fn references_are_found_in_every_place() {
        let structured = r#"{"specversion":"1.0","id":"7","source":"//s","type":"t","datacontenttype":"text/csv",
            "dataref":"gs://images/in/a.jpg"}"#;
        let with_dataref = [EVENT, &[("ce-dataref", "gs://images/in/a.jpg")]].concat();
        let cases: [(Attributes<'_>, &str, Option<i64>); 8] = [
            (&[], r#"{"dataref": "gs://images/in/a.jpg"}"#, None),
            (&[], r#" {"id": 3, "more": {}, "dataref": "gs:\/\/images\/in\/a.jpg"}"#, None),
            (&[("content-type", "application/json")], r#"{"dataref": "gs://images/in/a.jpg"}"#, None),
            (&[("dataref", "gs://images/in/a.jpg")], "", None),
            (&[("dataref", "gs://images/in/a.jpg")], "whatever", None),
            (&with_dataref, "", None),
            (&[("content-type", "application/cloudevents+json")], structured, None),
            (NOTIFIED, "{}", Some(17)),
        ];
        for (attributes, body, generation) in cases {
            let reference = found(attributes, body).unwrap_or_else(|| panic!("{attributes:?} {body}"));
            let object = reference.object.unwrap();
            assert_eq!((&*object.bucket, &*object.name), ("images", "in/a.jpg"), "{attributes:?} {body}");
            assert_eq!(object.generation, generation);
            assert_eq!(object.is_announced, generation.is_some());
        }
        let id = found(&[], r#"{"dataref": "gs://b/o", "id": 3}"#).unwrap().id;
        assert_eq!(id, Some(Id::Number("3".to_owned())));
        let event = found(&with_dataref, "").unwrap().response_format.event.unwrap();
        assert_eq!((event.mode, &*event.id), (event::Mode::Binary, "7"));
        let media = [("content-type", "application/cloudevents+json")];
        let reference = found(&media, structured).unwrap();
        assert_eq!(reference.response_format.event.as_ref().unwrap().mode, event::Mode::Structured);
        assert_eq!(reference.attributes("", "")["content-type"], "text/csv");
    }

    #[test]
    fn other_requests_are_not_references() {
        let data =
            r#"{"specversion":"1.0","id":"7","source":"//s","type":"t","data":{},"dataref":"gs://b/o"}"#;
        let event = [EVENT, &[("ce-dataref", "gs://b/o")]].concat();
        let cases: [(Attributes<'_>, &str); 9] = [
            (&[], ""),
            (&[], r#"{"instances": [["dataref"]]}"#),
            (&[], r#"{"instances": [[1]], "dataref": "gs://b/o"}"#),
            (&[], r#"{"inputs": {"dataref": "gs://b/o"}}"#),
            (&[], r#"[{"dataref": "gs://b/o"}]"#),
            (&[], r#"{"dataref": "gs://b/o""#),
            (&[("content-type", "text/plain")], r#"{"dataref": "gs://b/o"}"#),
            (&[("content-type", "application/cloudevents+json")], data),
            (&event, "data"),
        ];
        for (attributes, body) in cases {
            assert!(found(attributes, body).is_none(), "{attributes:?} {body}");
        }
        assert!(found(&[("eventType", "mine"), ("payloadFormat", "mine")], "{}").is_none());
        let long = format!(r#"{{"x": "{}", "dataref": "gs://b/o"}}"#, "x".repeat(MAX_BODY_BYTES));
        assert!(found(&[], &long).is_none());
    }

    #[test]
    fn what_names_no_object_is_refused() {
        let notified = |name: &'static str, value: &'static str| -> Vec<(&str, &str)> {
            let replace =
                |(key, old): &(&'static str, &'static str)| (*key, if *key == name { value } else { *old });
            NOTIFIED.iter().map(replace).collect()
        };
        let by_address = |address: &'static str| vec![("dataref", address)];
        for (attributes, code, says) in [
            (by_address(""), Code::InvalidInput, "gs://bucket/object"),
            (by_address("b/o"), Code::InvalidInput, "got \"b/o\""),
            (by_address("gs://b"), Code::InvalidInput, "gs://bucket/object"),
            (by_address("gs://b/"), Code::InvalidInput, "1 to 1024"),
            (by_address("gs:///o"), Code::InvalidInput, "a bucket"),
            (by_address("https://example.com/o"), Code::InputForbidden, "gs://"),
            (by_address("file:///etc/passwd"), Code::InputForbidden, "gs://"),
            (by_address("gs://b/in/../secret"), Code::InputForbidden, "`..`"),
            (notified("eventType", "OBJECT_DELETE"), Code::InvalidInput, "OBJECT_DELETE"),
            (notified("objectGeneration", "new"), Code::InvalidInput, "objectGeneration"),
            (notified("objectGeneration", "0"), Code::InvalidInput, "objectGeneration"),
            (notified("objectId", ".."), Code::InputForbidden, "`..`"),
        ] {
            let rejection = found(&attributes, "{}").unwrap().object.unwrap_err();
            assert_eq!(rejection.code, code, "{attributes:?}: {rejection}");
            assert!(rejection.message.contains(says), "{attributes:?}: {rejection}");
        }
        let number = found(&[], r#"{"dataref": 7}"#).unwrap().object.unwrap_err();
        assert_eq!(number.message, "dataref: expected a string \"gs://bucket/object\"");
    }

    proptest::proptest! {
        /// Any attributes give an object whose name stays inside its prefix, or an error.
        #[test]
        fn any_attributes_are_answered(
            given in proptest::collection::vec((proptest::sample::select(vec![
                "dataref", "payloadFormat", "eventType", "bucketId", "objectId", "objectGeneration", "content-type",
                "content-encoding", "accept-encoding", "inference-header-content-length", "ce-specversion", "ce-id",
                "ce-source", "ce-type", "ce-time", "ce-subject", "ce-datacontenttype", "ce-dataref",
            ]), proptest::prop_oneof![
                proptest::sample::select(vec![
                    "gs://b/o", "gs://b/../o", "gs:///", "file:///o", "1.0", "7", "-1", "OBJECT_FINALIZE", "gzip",
                    "application/cloudevents+json", "text/csv", "2026-01-31T12:00:00Z", "%25%zz", "",
                ]).prop_map(str::to_owned),
                ".{0,20}",
            ]), 0..9),
            body in proptest::sample::select(vec!["", "{}", "{\"dataref\": \"gs://b/o\"}", "1,2", "{\"specversion\": \"1.0\"}"]),
        ) {
            let attributes: HashMap<String, String> =
                given.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            let _ = crate::decode::envelope::open(Headers(&attributes), body.as_bytes(), &crate::decode::Limits::DEFAULT);
            let Some(reference) = find(Headers(&attributes), body.as_bytes()) else { return Ok(()) };
            let said = reference.attributes("", "identity");
            let _ = crate::decode::envelope::open(Headers(&said), body.as_bytes(), &crate::decode::Limits::DEFAULT);
            if let Ok(object) = reference.object {
                proptest::prop_assert!(!object.bucket.is_empty() && !object.name.is_empty());
                proptest::prop_assert!(!object.name.split('/').any(|part| matches!(part, "." | "..")), "{object}");
            }
        }
    }

    #[test]
    fn an_objects_own_metadata_comes_first() {
        let said = [("dataref", "gs://b/o"), ("content-type", "text/csv"), ("content-encoding", "gzip")];
        let reference = found(&said, "").unwrap();
        for (stored, expected) in [
            ("image/png", "image/png"),
            ("", "text/csv"),
            ("application/octet-stream", "text/csv"),
            ("Application/Octet-Stream; x=y", "text/csv"),
            ("binary/octet-stream", "text/csv"),
        ] {
            assert_eq!(reference.attributes(stored, "")["content-type"], expected, "{stored}");
        }
        assert_eq!(reference.attributes("", "")["content-encoding"], "gzip");
        assert_eq!(reference.attributes("", "identity")["content-encoding"], "gzip");
        assert_eq!(reference.attributes("", "br")["content-encoding"], "br");
        // Headers of a JSON body describe the reference, not the object.
        let body = found(&[("content-type", "application/json")], r#"{"dataref": "gs://b/o"}"#).unwrap();
        assert!(!body.attributes("application/octet-stream", "").contains_key("content-type"));
    }
}
