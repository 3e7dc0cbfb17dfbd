//! The attribute `deadline`: until when an answer is wanted (RFC 3339, section 5.6).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Code, Rejection};

/// Reads the attribute.
///
/// # Errors
/// `INVALID_INPUT` when it is not a date-time as RFC 3339 writes it; one with an offset is one.
pub fn parse(text: &str) -> Result<SystemTime, Rejection> {
    read(text.as_bytes()).ok_or_else(|| {
        Rejection::invalid(format!(
            "attribute \"deadline\": expected a date and time as in RFC 3339, like 2026-01-31T12:00:00Z, not {text:.40?}"
        ))
    })
}

/// # Errors
/// `DEADLINE_EXCEEDED` when it has passed. The clock is only read when there is a deadline.
pub fn check(deadline: Option<SystemTime>) -> Result<(), Rejection> {
    let Some(deadline) = deadline else { return Ok(()) };
    let Ok(late) = SystemTime::now().duration_since(deadline) else { return Ok(()) };
    let message = format!("the deadline passed {:.3} seconds ago, nothing was computed", late.as_secs_f64());
    Err(Rejection::new(Code::DeadlineExceeded, message))
}

fn read(text: &[u8]) -> Option<SystemTime> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if !(marks.iter().all(|(at, mark)| date_time[*at] == *mark) && b"Tt ".contains(&date_time[10])) {
        return None;
    }
    let [year, month, day] = [&date_time[..4], &date_time[5..7], &date_time[8..10]].map(number);
    let [hour, minute, second] = [&date_time[11..13], &date_time[14..16], &date_time[17..19]].map(number);
    let (year, month, day) = (year?, month?, day?);
    let (hour, minute, second) = (hour?, minute?, second?);
    // A leap second is the first of the next minute: nobody waits for exactly that one.
    if day == 0 || day > days_of(year, month)? || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (nanos, zone) = fraction(rest)?;
    let seconds =
        days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?;
    let since = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) };
    time?.checked_add(Duration::from_nanos(nanos))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

/// Nanoseconds of `.123…`, if it is there, and what follows.
fn fraction(text: &[u8]) -> Option<(u64, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let nanos = (0..9).fold(0, |sum, at| sum * 10 + if at < count { u64::from(text[at] - b'0') } else { 0 });
    Some((nanos, &text[count..]))
}

/// Seconds east of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            let seconds = (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)?;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn days_of(year: i64, month: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => Some(if is_leap { 29 } else { 28 }),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

/// By Hinnant's "chrono-Compatible Low-Level Date Algorithms" (2013): years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_rfc_3339_allows() {
        for (text, seconds, nanos) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2026-02-28T23:59:59Z", 1_772_323_199, 0),
            ("2024-02-29T12:30:00.25+02:30", 1_709_200_800, 250_000_000),
            ("1996-12-19t16:39:57-08:00", 851_042_397, 0),
            ("1990-12-31T23:59:60Z", 662_688_000, 0),
            ("2026-02-28 23:59:59.1234567891z", 1_772_323_199, 123_456_789),
        ] {
            assert_eq!(parse(text), Ok(UNIX_EPOCH + Duration::new(seconds, nanos)), "{text}");
        }
        assert_eq!(parse("1969-12-31T23:59:59Z"), Ok(UNIX_EPOCH - Duration::from_secs(1)));
    }

    #[test]
    fn refuses_all_else() {
        for text in [
            "",
            "soon",
            "1772323199",
            "2026-02-28",
            "2026-02-28T23:59:59",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2026-02-28T24:00:00Z",
            "2026-02-28T23:59:59.Z",
            "2026-02-28T23:59:59+0100",
            "2026-02-28T23:59:59+24:00",
            "2026-02-28T23:59:59Zz",
            "２０２６-02-28T23:59:59Z",
        ] {
            assert_eq!(parse(text).map_err(|refused| refused.code), Err(Code::InvalidInput), "{text}");
        }
    }

    #[test]
    fn tells_before_from_after() {
        let hour = Duration::from_secs(3600);
        assert_eq!(check(None), Ok(()));
        assert_eq!(check(Some(SystemTime::now() + hour)), Ok(()));
        let refused = check(Some(SystemTime::now() - hour)).unwrap_err();
        assert_eq!(refused.code, Code::DeadlineExceeded);
        assert!(refused.message.starts_with("the deadline passed 3600."), "{refused}");
    }
}
