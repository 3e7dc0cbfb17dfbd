//! Headers of requests and responses: Pub/Sub's attributes, HTTP's headers.
//!
//! Names are matched without regard to case: [`to_lower_case`] renames known ones once, on receipt, so that
//! all later code compares plain strings.

use std::collections::HashMap;

pub const CONTENT_TYPE: &str = "content-type";
pub const CONTENT_ENCODING: &str = "content-encoding";
pub const HEADER_LENGTH: &str = "inference-header-content-length";
pub const DATAREF: &str = "dataref";

/// Headers that say how the bytes of a body are read.
pub const OF_THE_BODY: [&str; 3] = [CONTENT_TYPE, CONTENT_ENCODING, HEADER_LENGTH];

/// The prefix of CloudEvents' headers.
const CLOUD_EVENT: &str = "ce-";

/// The prefix of headers that Google's clients set for themselves.
const GOOGLE: &str = "goog";

/// Other known headers of requests, and those that every response has.
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

/// The headers of a body, after [`to_lower_case`].
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a>(pub &'a HashMap<String, String>);

impl<'a> Headers<'a> {
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str)
    }
}

/// True for headers without which a body cannot be read, CloudEvents' included.
pub fn describes_body(name: &str) -> bool {
    OF_THE_BODY.contains(&name) || name.starts_with(CLOUD_EVENT)
}

/// True for the headers of a request that its response repeats: all but those about the request's body and
/// its transport.
pub fn is_repeated(name: &str) -> bool {
    !(describes_body(name) || matches!(name, DATAREF | "payloadFormat") || name.starts_with(GOOGLE))
}

/// Renames known headers to lower case. If a request has one in several cases, the one in lower case is kept.
#[inline]
pub fn to_lower_case(headers: &mut HashMap<String, String>) {
    // Nearly every request has no upper case. A look at all bytes, without a branch each, costs less than one
    // look-up.
    if headers.keys().any(|name| has_upper_case(name)) {
        rename(headers);
    }
}

#[cold]
fn rename(headers: &mut HashMap<String, String>) {
    let mut names: Vec<String> =
        headers.keys().filter(|name| is_known_in_other_case(name)).cloned().collect();
    // The map has no order, but a redelivered request must get the same response.
    names.sort_unstable();
    for name in names {
        if let Some(value) = headers.remove(&name) {
            headers.entry(name.to_ascii_lowercase()).or_insert(value);
        }
    }
}

#[inline]
fn has_upper_case(name: &str) -> bool {
    name.bytes().fold(false, |found, byte| found | byte.is_ascii_uppercase())
}

fn is_known_in_other_case(name: &str) -> bool {
    let begins_with =
        |prefix: &&str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    has_upper_case(name)
        && (OF_THE_BODY.iter().chain(&OTHERS).any(|known| name.eq_ignore_ascii_case(known))
            || [CLOUD_EVENT, GOOGLE].iter().any(begins_with))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_renamed_from_any_case_and_others_stay() {
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
