//! Limits of the log, so that trouble that lasts or repeats does not fill it.
//!
//! `Repeats` counts equal lines instead of writing them, for every warning and error. [`Throttle`] is for
//! lines that differ each time although their cause is one, and for reminders.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::lock::lock;

/// Window in which equal lines are counted.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Pause between two reminders of the same trouble. Alerts that rest on the log would otherwise close while
/// the trouble lasts.
pub const REMINDER: Duration = Duration::from_secs(300);
/// Most kinds of lines remembered.
const MOST_KINDS: usize = 512;

/// Admits a line once, and again after each pause.
#[derive(Debug)]
pub struct Throttle {
    pause: Duration,
    last: Mutex<Option<Instant>>,
}

impl Throttle {
    pub fn every(pause: Duration) -> Self {
        Self { pause, last: Mutex::default() }
    }

    pub fn admit(&self) -> bool {
        let mut last = lock(&self.last);
        let is_due = last.is_none_or(|at| at.elapsed() >= self.pause);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// Equal lines, counted per kind.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<HashMap<u64, CountedLine>>);

#[derive(Debug)]
struct CountedLine {
    /// Start of the current window: the time of its first line.
    start: Instant,
    written: u32,
    suppressed: u64,
}

impl Repeats {
    /// Admits up to `most` lines of one `kind` in a window. Returns how many were suppressed before this
    /// line, or `None` to suppress it too.
    pub(super) fn admit(&self, kind: &str, most: u32, now: Instant) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        kind.hash(&mut hasher);
        let kind = hasher.finish();
        let mut kinds = lock(&self.0);
        let is_over = |kind: &CountedLine| now.saturating_duration_since(kind.start) >= WINDOW;
        match kinds.get_mut(&kind) {
            Some(known) if is_over(known) => {
                (known.start, known.written) = (now, 1);
                Some(std::mem::take(&mut known.suppressed))
            }
            Some(known) if known.written < most => {
                known.written += 1;
                Some(0)
            }
            Some(known) => {
                known.suppressed += 1;
                None
            }
            None => {
                if kinds.len() >= MOST_KINDS {
                    kinds.retain(|_, known| !is_over(known));
                }
                if kinds.len() < MOST_KINDS {
                    kinds.insert(kind, CountedLine { start: now, written: 1, suppressed: 0 });
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
    fn a_line_is_written_once_a_window_with_the_number_suppressed() {
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
    fn some_kinds_are_written_several_times_a_window() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let admitted: Vec<_> = (0..5).map(|second| repeats.admit("a", 3, at(second))).collect();
        assert_eq!(admitted, [Some(0), Some(0), Some(0), None, None]);
        assert_eq!([repeats.admit("a", 3, at(10)), repeats.admit("a", 3, at(11))], [Some(2), Some(0)]);
    }

    #[test]
    fn memory_is_bounded_and_no_new_kind_is_lost() {
        let (repeats, start) = (Repeats::default(), Instant::now());
        for line in 0..2 * MOST_KINDS {
            assert_eq!(repeats.admit(&line.to_string(), 1, start), Some(0));
        }
        assert_eq!(repeats.0.lock().unwrap().len(), MOST_KINDS);
        assert_eq!(repeats.admit("later", 1, start + WINDOW), Some(0));
        assert_eq!(repeats.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_throttle_admits_the_first_line_and_one_after_each_pause() {
        let throttle = Throttle::every(Duration::from_secs(60));
        assert!(throttle.admit() && !throttle.admit());
        let throttle = Throttle::every(Duration::ZERO);
        assert!(throttle.admit() && throttle.admit());
    }
}
