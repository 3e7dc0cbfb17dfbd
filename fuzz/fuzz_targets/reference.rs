//! Any headers with any body give a reference, an event or neither, never a panic; each can be answered.
#![no_main]

use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use libfuzzer_sys::fuzz_target;
use predictd::decode::Limits;
use predictd::decode::envelope::open;
use predictd::decode::reference::find;
use predictd::encode::envelope::{ResponseMetadata, wrap};
use predictd::encode::error;
use predictd::error::Rejection;
use predictd::headers::Headers;

const KEYS: [&str; 20] = [
    "dataref",
    "payloadFormat",
    "eventType",
    "bucketId",
    "objectId",
    "objectGeneration",
    "content-type",
    "content-encoding",
    "accept-encoding",
    "inference-header-content-length",
    "ce-specversion",
    "ce-id",
    "ce-source",
    "ce-type",
    "ce-time",
    "ce-subject",
    "ce-correlationid",
    "ce-datacontenttype",
    "ce-dataref",
    "ce-data",
];

/// Each line is a letter for the header and its value. The body follows an empty line.
fn message(data: &[u8]) -> (HashMap<String, String>, &[u8]) {
    let mut attributes = HashMap::new();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let Some((key, value)) = line.split_first() else { break };
        let key = KEYS[usize::from(key.wrapping_sub(b'a')) % KEYS.len()];
        attributes.insert(key.to_owned(), String::from_utf8_lossy(value).into_owned());
    }
    (attributes, rest)
}

fuzz_target!(|data: &[u8]| {
    let (attributes, body) = message(data);
    let limits = Limits { max_body_bytes: 1 << 20, ..Limits::default() };
    let response_format = match find(Headers(&attributes), body) {
        Some(reference) => {
            let said = reference.attributes("application/octet-stream", "identity");
            let _ = open(Headers(&said), body, &limits);
            if let Ok(object) = &reference.object {
                assert!(!object.bucket.is_empty() && !object.name.is_empty());
                assert!(!object.name.split('/').any(|part| part == ".."));
            }
            reference.response_format
        }
        None => open(Headers(&attributes), body, &limits).response_format,
    };
    let metadata =
        ResponseMetadata { model: Some("a model"), message_id: "1", is_ok: false, now: UNIX_EPOCH };
    let wrapped = wrap(error(&Rejection::invalid("no"), None).into(), &response_format, &metadata);
    assert!(!wrapped.body.is_empty());
});
