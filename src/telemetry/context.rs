//! W3C Trace Context in a message's attributes: `traceparent`, or `googclient_traceparent` as Google's clients write it.

use std::collections::HashMap;
use std::str::FromStr as _;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

pub const TRACEPARENT: &str = "traceparent";
const OF_GOOGLES_CLIENTS: &str = "googclient_traceparent";
const TRACESTATE: &str = "tracestate";
/// Sampled, and the trace id is random: what version 00 knows of (Trace Context level 2).
const KNOWN_FLAGS: u8 = 0b11;

/// Where a message's trace was until now: the first of the two attributes that is valid.
pub fn incoming(attributes: &HashMap<String, String>) -> Option<SpanContext> {
    let parsed = [TRACEPARENT, OF_GOOGLES_CLIENTS].into_iter().find_map(|key| parse(attributes.get(key)?))?;
    // What cannot be read of it must not cost the trace.
    let state = attributes.get(TRACESTATE).and_then(|state| TraceState::from_str(state).ok());
    let (trace, span, flags) = (parsed.trace_id(), parsed.span_id(), parsed.trace_flags());
    Some(SpanContext::new(trace, span, flags, true, state.unwrap_or_default()))
}

/// Makes `traceparent` say `context`, or nothing, whatever stood there.
pub fn replace(attributes: &mut HashMap<String, String>, context: Option<&SpanContext>) {
    match context {
        Some(context) => {
            attributes.insert(TRACEPARENT.to_owned(), format(context));
        }
        None => {
            attributes.remove(TRACEPARENT);
        }
    }
}

/// Section 3.2 of the recommendation: version, trace id, parent id, flags, all in lower case. A later version may go on.
pub fn parse(text: &str) -> Option<SpanContext> {
    let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let shape_holds = text.bytes().take(55).enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => byte == b'-',
        _ => is_lower_hex(byte),
    });
    let goes_on = text.as_bytes().get(55);
    let version = text.get(..2)?;
    let ends_well = goes_on.is_none() || (version != "00" && goes_on == Some(&b'-'));
    if !shape_holds || !ends_well || version == "ff" {
        return None;
    }
    let trace = TraceId::from_hex(text.get(3..35)?).ok()?;
    let span = SpanId::from_hex(text.get(36..52)?).ok()?;
    let flags = u8::from_str_radix(text.get(53..55)?, 16).ok()?;
    let flags = TraceFlags::new(flags & KNOWN_FLAGS);
    Some(SpanContext::new(trace, span, flags, true, TraceState::default())).filter(SpanContext::is_valid)
}

/// As version 00 writes it.
pub fn format(context: &SpanContext) -> String {
    let flags = context.trace_flags().to_u8() & KNOWN_FLAGS;
    format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-00";

    fn attributes(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_valid_is_read_and_written_back() {
        for text in [VALID, OTHER, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03"] {
            assert_eq!(format(&parse(text).unwrap()), text);
        }
        assert!(parse(VALID).unwrap().is_sampled());
        assert!(!parse(OTHER).unwrap().is_sampled());
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for text in [
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-what-comes",
        ] {
            assert!(
                format(&parse(text).unwrap()).starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_broken_is_none() {
        for text in [
            "",
            "00-0-0-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\u{e9}-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_first_valid_attribute_counts() {
        let of = |pairs: &[(&str, &str)]| incoming(&attributes(pairs)).map(|context| format(&context));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(TRACEPARENT, VALID), (OF_GOOGLES_CLIENTS, OTHER)]).unwrap(), VALID);
        assert_eq!(of(&[(TRACEPARENT, "broken"), (OF_GOOGLES_CLIENTS, OTHER)]).unwrap(), OTHER);
        assert_eq!(of(&[(OF_GOOGLES_CLIENTS, VALID)]).unwrap(), VALID);
        assert_eq!(of(&[(TRACEPARENT, "broken"), (OF_GOOGLES_CLIENTS, "too")]), None);
    }

    #[test]
    fn the_trace_state_comes_along_and_never_costs_the_trace() {
        let with = |state| incoming(&attributes(&[(TRACEPARENT, VALID), (TRACESTATE, state)])).unwrap();
        assert_eq!(with("vendor=1").trace_state().get("vendor"), Some("1"));
        assert_eq!(with("no pairs").trace_state().header(), "");
    }
}
