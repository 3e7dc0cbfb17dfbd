//! Sizes and durations: `128MiB`, `1GB`, `1000`; `60s`, `0ms`, `1m30s`. Whole numbers only.
//!
//! Our own, since it is two loops: a crate would accept many more spellings than the documentation names.

use std::time::Duration;

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

/// Largest first: [`duration`] expects units in this order, each at most once.
const DURATIONS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a whole number without a sign.
pub(super) fn count(text: &str) -> Option<usize> {
    // `parse` alone would accept a leading plus.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Reads a size; a number without a unit counts bytes.
pub(crate) fn size(text: &str) -> Option<usize> {
    let (number, unit) = split_number(text);
    let unit = unit.trim_start();
    let factor = if unit.is_empty() { 1 } else { SIZES.iter().find(|(name, _)| *name == unit)?.1 };
    count(number)?.checked_mul(usize::try_from(factor).ok()?)
}

/// Reads a duration; only 0 needs no unit.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut units = DURATIONS.iter();
    let mut millis: u64 = 0;
    loop {
        let (number, tail) = split_number(rest);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (_, factor) = units.find(|(name, _)| *name == &tail[..end])?;
        millis = millis.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = &tail[end..];
        if rest.is_empty() {
            return Some(Duration::from_millis(millis));
        }
    }
}

fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Writes a size in the largest unit that divides it, powers of two first.
pub(super) fn show_size(bytes: usize) -> String {
    show(bytes as u64, &SIZES)
}

/// Writes a duration in the largest unit that divides it, down to milliseconds.
pub(super) fn show_duration(duration: Duration) -> String {
    show(duration.as_millis() as u64, &DURATIONS)
}

/// Writes a value in the first unit that divides it; 0 in the last one.
fn show(value: u64, units: &[(&str, u64)]) -> String {
    let divides = |(_, factor): &&(&str, u64)| value.is_multiple_of(*factor) && (value > 0 || *factor == 1);
    units.iter().find(divides).map_or_else(String::new, |(name, factor)| format!("{}{name}", value / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1000", Some(1000)),
            ("128MiB", Some(134_217_728)),
            ("128 MiB", Some(134_217_728)),
            ("1GB", Some(1_000_000_000)),
            ("7B", Some(7)),
            ("0", Some(0)),
            ("", None),
            ("MiB", None),
            ("1.5GiB", None),
            ("-1", None),
            ("+1", None),
            ("1mib", None),
            ("1M", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(size(text), expected, "{text:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("60s", Some(60_000)),
            ("0ms", Some(0)),
            ("0", Some(0)),
            ("1m30s", Some(90_000)),
            ("1h0m0s5ms", Some(3_600_005)),
            ("0s0ms", Some(0)),
            ("0m1s", Some(1000)),
            ("", None),
            ("60", None),
            ("s", None),
            ("1s1s", None),
            ("1s1m", None),
            ("1.5s", None),
            ("-1s", None),
            ("1 s", None),
            ("1d", None),
            ("99999999999999999999s", None),
            ("9999999999999999h", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn shown_values_read_back() {
        for bytes in [0, 1, 1000, 1024, 1 << 20, 1 << 40, 1_000_000, 1_000_001] {
            assert_eq!(size(&show_size(bytes)), Some(bytes));
        }
        for millis in [0, 1, 1000, 60_000, 90_000, 3_600_000, 86_400_000, 1001] {
            let value = Duration::from_millis(millis);
            assert_eq!(duration(&show_duration(value)), Some(value));
        }
        assert_eq!(show_size(1 << 40), "1TiB");
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
    }
}
