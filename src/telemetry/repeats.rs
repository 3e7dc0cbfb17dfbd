//! Keeps one line from filling the log: what is said again within ten seconds is counted instead.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const QUIET: Duration = Duration::from_secs(10);
/// Different lines remembered at most.
const LINES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<HashMap<u64, Said>>);

#[derive(Debug)]
struct Said {
    at: Instant,
    suppressed: u64,
}

impl Repeats {
    /// Whether `line` is to be written at `now`, and how often it was not since it last was.
    pub(super) fn admit(&self, line: &str, now: Instant) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        line.hash(&mut hasher);
        let line = hasher.finish();
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_mut(&line) {
            Some(last) if now.saturating_duration_since(last.at) < QUIET => {
                last.suppressed += 1;
                None
            }
            Some(last) => {
                last.at = now;
                Some(std::mem::take(&mut last.suppressed))
            }
            None => {
                if said.len() >= LINES {
                    said.retain(|_, last| now.saturating_duration_since(last.at) < QUIET);
                }
                if said.len() < LINES {
                    said.insert(line, Said { at: now, suppressed: 0 });
                }
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_once_in_ten_seconds_with_the_number_left_out() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(repeats.admit("a", at(0)), Some(0));
        assert_eq!(repeats.admit("b", at(1)), Some(0));
        assert_eq!(repeats.admit("a", at(2)), None);
        assert_eq!(repeats.admit("a", at(9)), None);
        assert_eq!(repeats.admit("a", at(10)), Some(2));
        assert_eq!(repeats.admit("a", at(19)), None);
        assert_eq!(repeats.admit("a", at(20)), Some(1));
        assert_eq!(repeats.admit("b", at(21)), Some(0));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_new_is_lost() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        for line in 0..2 * LINES {
            assert_eq!(repeats.admit(&line.to_string(), start), Some(0));
        }
        assert_eq!(repeats.0.lock().unwrap().len(), LINES);
        assert_eq!(repeats.admit("later", start + QUIET), Some(0));
        assert_eq!(repeats.0.lock().unwrap().len(), 1);
    }
}
