//! Dates and times by RFC 3339.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads a date-time with `T` or a space in the middle and any offset from UTC. `None` if it is not one.
pub fn parse(text: &str) -> Option<SystemTime> {
    // `time` accepts any separator, and leap seconds at the end of a month in UTC only.
    let (separator, second) = (text.as_bytes().get(10)?, text.get(17..19)?);
    if !b"Tt ".contains(separator) {
        return None;
    }
    let parse = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from);
    match second {
        // A leap second counts as the first second of the next minute.
        "60" => parse(&format!("{}59{}", &text[..17], &text[19..]))?.checked_add(Duration::from_secs(1)),
        _ => parse(text),
    }
}

/// `2026-01-31T12:00:00.000Z`, with milliseconds.
pub fn format(time: SystemTime) -> String {
    let utc = OffsetDateTime::from(time);
    let (year, month, day) = (utc.year(), u8::from(utc.month()), utc.day());
    let (hour, minute, second, millis) = (utc.hour(), utc.minute(), utc.second(), utc.millisecond());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

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
            assert_eq!(format(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn reads_what_rfc_3339_allows() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2026-02-28T23:59:59Z", 1_772_323_199, 0),
            ("2024-02-29T12:30:00.25+02:30", 1_709_200_800, 250_000_000),
            ("1996-12-19t16:39:57-08:00", 851_042_397, 0),
            ("1990-12-31T23:59:60Z", 662_688_000, 0),
            ("1990-12-31T15:59:60.5-08:00", 662_688_000, 500_000_000),
            ("2026-02-28T12:00:60Z", 1_772_280_060, 0),
            ("2026-02-28 23:59:59.1234567891z", 1_772_323_199, 123_456_789),
        ] {
            assert_eq!(parse(text), Some(UNIX_EPOCH + Duration::new(seconds, nanos)), "{text}");
        }
        assert_eq!(parse("1969-12-31T23:59:59Z"), Some(UNIX_EPOCH - Duration::from_secs(1)));
    }

    #[test]
    fn refuses_all_else() {
        for text in [
            "",
            "soon",
            "1772323199",
            "2026-02-28",
            "2026-02-28T23:59:59",
            "2026-02-28x23:59:59Z",
            "2026-02-28T23:59:61Z",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2026-02-28T24:00:00Z",
            "2026-02-28T23:59:59.Z",
            "2026-02-28T23:59:59+0100",
            "2026-02-28T23:59:59+24:00",
            "2026-02-28T23:59:59+00:60",
            "2026-02-28T23:59:59Zz",
            "２０２６-02-28T23:59:59Z",
            "2026-02-28T23:59:5９Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
