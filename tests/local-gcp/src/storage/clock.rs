//! Times of the server: microseconds since 1970, strictly growing, so that each is also a generation.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// Hands out strictly growing microseconds since 1970.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: i64,
}

impl Clock {
    pub(crate) fn tick(&mut self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
        self.last = now.max(self.last + 1);
        self.last
    }
}

pub(crate) fn timestamp(micros: i64) -> Timestamp {
    let nanos = micros.rem_euclid(1_000_000) as i32 * 1000;
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// RFC 3339 in UTC with microseconds, as Cloud Storage writes `eventTime`.
pub(crate) fn rfc3339(micros: i64) -> String {
    timestamp(micros).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_grow_and_read_as_rfc3339() {
        let mut clock = Clock::default();
        let (first, second) = (clock.tick(), clock.tick());
        assert!(second > first);
        assert_eq!(rfc3339(1_700_000_000_123_456), "2023-11-14T22:13:20.123456Z");
    }
}
