//! Keeps lines that repeat from filling the log: beyond the first few of ten seconds they are counted instead.

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
    /// When the first of these ten seconds was written.
    at: Instant,
    written: u32,
    suppressed: u64,
}

impl Repeats {
    /// The number of lines left out before this one, which is to be written at `now`; `None` when it is left out itself.
    /// `most` lines of one `kind` are written in ten seconds.
    pub(super) fn admit(&self, kind: &str, most: u32, now: Instant) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        kind.hash(&mut hasher);
        let kind = hasher.finish();
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_mut(&kind) {
            Some(last) if now.saturating_duration_since(last.at) < QUIET => {
                let is_admitted = last.written < most;
                if is_admitted {
                    last.written += 1
                } else {
                    last.suppressed += 1
                }
                is_admitted.then_some(0)
            }
            Some(last) => {
                (last.at, last.written) = (now, 1);
                Some(std::mem::take(&mut last.suppressed))
            }
            None => {
                if said.len() >= LINES {
                    said.retain(|_, last| now.saturating_duration_since(last.at) < QUIET);
                }
                if said.len() < LINES {
                    said.insert(kind, Said { at: now, written: 1, suppressed: 0 });
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
        assert_eq!(repeats.admit("a", 1, at(0)), Some(0));
        assert_eq!(repeats.admit("b", 1, at(1)), Some(0));
        assert_eq!(repeats.admit("a", 1, at(2)), None);
        assert_eq!(repeats.admit("a", 1, at(9)), None);
        assert_eq!(repeats.admit("a", 1, at(10)), Some(2));
        assert_eq!(repeats.admit("a", 1, at(19)), None);
        assert_eq!(repeats.admit("a", 1, at(20)), Some(1));
        assert_eq!(repeats.admit("b", 1, at(21)), Some(0));
    }

    #[test]
    fn some_kinds_may_be_said_several_times() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let said: Vec<_> = (0..5).map(|second| repeats.admit("a", 3, at(second))).collect();
        assert_eq!(said, [Some(0), Some(0), Some(0), None, None]);
        assert_eq!([repeats.admit("a", 3, at(10)), repeats.admit("a", 3, at(11))], [Some(2), Some(0)]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_new_is_lost() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        for line in 0..2 * LINES {
            assert_eq!(repeats.admit(&line.to_string(), 1, start), Some(0));
        }
        assert_eq!(repeats.0.lock().unwrap().len(), LINES);
        assert_eq!(repeats.admit("later", 1, start + QUIET), Some(0));
        assert_eq!(repeats.0.lock().unwrap().len(), 1);
    }
}
