//! W3C Trace Context in attributes: `traceparent`, or `googclient_traceparent` as Google's clients write it.
//!
//! Our own reader: the propagator of OpenTelemetry's SDK clears the random-trace-id flag and accepts ids that
//! are too short and a trailing hyphen.

use std::collections::HashMap;
use std::str::FromStr as _;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

pub const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// Attributes with a context and with its vendors' state. The first valid context counts.
const PLACES: [(&str, &str); 2] =
    [(TRACEPARENT, TRACESTATE), ("googclient_traceparent", "googclient_tracestate")];
/// Flags of version 00: sampled, and the trace id is random (Trace Context level 2).
const KNOWN_FLAGS: u8 = 0b11;

/// The sender's span, and true when `traceparent` names it.
pub fn incoming(attributes: &HashMap<String, String>) -> Option<(SpanContext, bool)> {
    PLACES.into_iter().find_map(|(place, state)| {
        let context = parse(attributes.get(place)?)?;
        // A bad state must not lose the trace.
        let state = attributes.get(state).and_then(|state| TraceState::from_str(state).ok());
        let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
        let context = SpanContext::new(trace, span, flags, true, state.unwrap_or_default());
        Some((context, place == TRACEPARENT))
    })
}

/// Sets `traceparent` and `tracestate` to `context`, or removes them.
pub fn replace(attributes: &mut HashMap<String, String>, context: Option<&SpanContext>) {
    let state = context.map(|context| context.trace_state().header()).unwrap_or_default();
    for (key, value) in [(TRACEPARENT, context.map(format).unwrap_or_default()), (TRACESTATE, state)] {
        if value.is_empty() {
            attributes.remove(key);
        } else {
            attributes.insert(key.to_owned(), value);
        }
    }
}

/// Reads section 3.2 of the recommendation: version, trace id, parent id and flags, in lower case. Later
/// versions may have more.
pub fn parse(text: &str) -> Option<SpanContext> {
    let is_lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let shape_holds = text.bytes().take(55).enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => byte == b'-',
        _ => is_lower_hex(byte),
    });
    let next = text.as_bytes().get(55);
    let version = text.get(..2)?;
    let ends_well = next.is_none() || (version != "00" && next == Some(&b'-'));
    if !shape_holds || !ends_well || version == "ff" {
        return None;
    }
    let trace = TraceId::from_hex(text.get(3..35)?).ok()?;
    let span = SpanId::from_hex(text.get(36..52)?).ok()?;
    let flags = u8::from_str_radix(text.get(53..55)?, 16).ok()?;
    let flags = TraceFlags::new(flags & KNOWN_FLAGS);
    Some(SpanContext::new(trace, span, flags, true, TraceState::default())).filter(SpanContext::is_valid)
}

/// Writes version 00.
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
    fn valid_contexts_are_read_and_written_back_and_broken_ones_refused() {
        let later = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";
        for (text, written) in [
            (VALID, VALID),
            (OTHER, OTHER),
            (
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
            ),
            // The known part of a later version.
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", later),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-more-fields", later),
        ] {
            assert!(format(&parse(text).unwrap()).starts_with(written), "{text}");
        }
        assert!(parse(VALID).unwrap().is_sampled());
        assert!(!parse(OTHER).unwrap().is_sampled());
        for text in [
            "",
            "00-0-0-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-011",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
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
        let google = PLACES[1].0;
        let of = |pairs: &[(&str, &str)]| {
            incoming(&attributes(pairs)).map(|(context, is_traceparent)| (format(&context), is_traceparent))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(TRACEPARENT, VALID), (google, OTHER)]), Some((VALID.to_owned(), true)));
        assert_eq!(of(&[(TRACEPARENT, "broken"), (google, OTHER)]), Some((OTHER.to_owned(), false)));
        assert_eq!(of(&[(google, VALID)]), Some((VALID.to_owned(), false)));
        assert_eq!(of(&[(TRACEPARENT, "broken"), (google, "too")]), None);
    }

    #[test]
    fn a_trace_state_is_kept_and_a_bad_one_does_not_lose_the_trace() {
        let with = |state| incoming(&attributes(&[(TRACEPARENT, VALID), (TRACESTATE, state)])).unwrap().0;
        assert_eq!(with("vendor=1").trace_state().get("vendor"), Some("1"));
        assert_eq!(with("no pairs").trace_state().header(), "");
    }

    #[test]
    fn replace_leaves_one_context_or_none() {
        let (google, state) = PLACES[1];
        let mut all =
            attributes(&[(TRACEPARENT, "broken"), (TRACESTATE, "a=1"), (google, OTHER), (state, "b=2")]);
        let (context, _) = incoming(&all).unwrap();
        replace(&mut all, Some(&context));
        assert_eq!((all[TRACEPARENT].as_str(), all[TRACESTATE].as_str()), (OTHER, "b=2"));
        replace(&mut all, None);
        assert!(!all.contains_key(TRACEPARENT) && !all.contains_key(TRACESTATE));
    }
}
