//! Names of message attributes that predictd knows. They are matched without regard to case: an attribute that came in another
//! case is renamed once, on receipt, so that every later look-up and every list of names compares plain strings.

use std::collections::HashMap;

pub const CONTENT_TYPE: &str = "content-type";
pub const CONTENT_ENCODING: &str = "content-encoding";
pub const HEADER_LENGTH: &str = "inference-header-content-length";
pub const DATAREF: &str = "dataref";

/// Attributes that say how the bytes of a body are read.
pub const OF_THE_BODY: [&str; 3] = [CONTENT_TYPE, CONTENT_ENCODING, HEADER_LENGTH];

/// The other attributes of requests, and those that every response has.
const OTHERS: [&str; 11] = [
    DATAREF,
    "accept-encoding",
    "model",
    "model_version",
    "request_id",
    "deadline",
    "traceparent",
    "tracestate",
    "request_message_id",
    "status",
    "error_code",
];

/// CloudEvents' attributes, and those of Google's clients.
const PREFIXES: [&str; 2] = ["ce-", "goog"];

/// Renames known attributes to lower case. One that came in lower case as well keeps its value.
#[inline]
pub fn to_lower_case(attributes: &mut HashMap<String, String>) {
    // Nearly every message has none; looking at all bytes, without a branch each, costs less than one look-up.
    if attributes.keys().any(|name| has_upper_case(name)) {
        rename(attributes);
    }
}

#[cold]
fn rename(attributes: &mut HashMap<String, String>) {
    let mut names: Vec<String> = attributes.keys().filter(|name| is_misspelt(name)).cloned().collect();
    // The map has no order, and a redelivery must be answered as the first delivery was.
    names.sort_unstable();
    for name in names {
        if let Some(value) = attributes.remove(&name) {
            attributes.entry(name.to_ascii_lowercase()).or_insert(value);
        }
    }
}

#[inline]
fn has_upper_case(name: &str) -> bool {
    name.bytes().fold(false, |found, byte| found | byte.is_ascii_uppercase())
}

/// Whether it is a known name in another case.
fn is_misspelt(name: &str) -> bool {
    let begins_with =
        |prefix: &&str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    has_upper_case(name)
        && (OF_THE_BODY.iter().chain(&OTHERS).any(|known| name.eq_ignore_ascii_case(known))
            || PREFIXES.iter().any(begins_with))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_found_in_any_case_and_others_stay() {
        let renamed = |pairs: &[(&str, &str)]| {
            let mut all = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            to_lower_case(&mut all);
            let mut all: Vec<_> = all.into_iter().collect();
            all.sort();
            all
        };
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        for (given, expected) in [
            ("Content-Type", "content-type"),
            ("CONTENT-ENCODING", "content-encoding"),
            ("Accept-Encoding", "accept-encoding"),
            ("Inference-Header-Content-Length", "inference-header-content-length"),
            ("DataRef", "dataref"),
            ("Model", "model"),
            ("MODEL_VERSION", "model_version"),
            ("Request_Id", "request_id"),
            ("Deadline", "deadline"),
            ("Traceparent", "traceparent"),
            ("Ce-Specversion", "ce-specversion"),
            ("CE-myExtension", "ce-myextension"),
            ("GoogClient_traceparent", "googclient_traceparent"),
            ("Status", "status"),
            ("eventType", "eventType"),
            ("payloadFormat", "payloadFormat"),
            ("Tenant", "Tenant"),
            ("models", "models"),
            ("Ünknown", "Ünknown"),
        ] {
            assert_eq!(renamed(&[(given, "a")]), owned(&[(expected, "a")]), "{given}");
        }
        assert_eq!(
            renamed(&[("Content-Type", "b"), ("content-type", "a"), ("CONTENT-TYPE", "c")]),
            owned(&[("content-type", "a")])
        );
        assert_eq!(renamed(&[("Content-Type", "b"), ("CONTENT-TYPE", "c")]), owned(&[("content-type", "c")]));
    }
}
