//! Sizes and durations as people write them.

use std::time::Duration;

/// `128MiB`, `1GB`, `1000`: bytes.
pub(super) fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let factor: usize = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

/// `60s`, `0ms`, `1m30s`, `2h`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, behind) = split(rest)?;
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(end);
        let number: u64 = number.parse().ok()?;
        total = total.checked_add(match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        })?;
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        assert_eq!(bytes("128MiB"), Some(128 << 20));
        assert_eq!(bytes("1000"), Some(1000));
        assert_eq!(bytes("5 apples"), None);
        assert_eq!(bytes("99999999999999999999"), None);
        assert_eq!(duration("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("0ms"), Some(Duration::ZERO));
        for bad in ["", "60", "s", "1d", "-1s", "1.5s"] {
            assert_eq!(duration(bad), None, "{bad:?}");
        }
    }
}
