//! Keys that were interrupted: one of their requests got no answer and comes again, and the younger ones after it. Until it
//! does, none of them may overtake it. Other keys never wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The number of what was given up before it was published at all.
pub const UNPUBLISHED: u64 = u64::MAX;

/// When the interrupted request has come again to some worker, at the latest: its nack may be lost, and then its lease of 20
/// seconds must end. What is in hand of its key after that is in order.
const COMES_AGAIN: Duration = Duration::from_secs(25);

/// Beyond so many, keys that did not come back are forgotten: their next response is refused once more, and then resumed.
const MOST_PAUSES: usize = 10_000;

#[derive(Debug, Default)]
pub struct Pauses(Mutex<HashMap<String, Pause>>);

/// How a key was interrupted.
#[derive(Debug)]
struct Pause {
    /// Publishes are numbered in their order. Until the key is resumed, the number of its first refused one; then the first
    /// number after that: what was refused before it says nothing new.
    number: u64,
    /// The request of the first refused one, or `None` once the key is resumed.
    waits_for: Option<String>,
    at: Instant,
    /// When the request that is waited for was received again.
    back: Option<Instant>,
}

/// What may become of a response, the oldest of its key in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may be published.
    Now,
    /// The key's first is to come again.
    Later,
    /// It comes again itself, after the key's first.
    Never,
}

impl Pauses {
    /// A response has come to be published: perhaps the one that its key waits for.
    pub fn came(&self, key: &str, message_id: &str, received_at: Instant) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pause) = pauses.get_mut(key)
            && pause.waits_for.as_deref() == Some(message_id)
            && pause.at < received_at
        {
            pause.back = Some(received_at);
        }
    }

    /// Whether a request's response may be published now, as number `next` or a later one.
    pub fn admits(
        &self,
        key: &str,
        message_id: &str,
        received_at: Instant,
        next: u64,
        resume: impl FnOnce(&str),
    ) -> Admission {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pause) = pauses.get_mut(key) else { return Admission::Now };
        let Some(first) = &pause.waits_for else { return Admission::Now };
        if received_at <= pause.at || pause.back.is_some_and(|back| received_at < back) {
            return Admission::Never;
        }
        if first != message_id && pause.at.elapsed() < COMES_AGAIN {
            return Admission::Later;
        }
        (pause.number, pause.waits_for) = (next, None);
        resume(key);
        Admission::Now
    }

    /// Publish `number`, of this key and request, was refused, or it was given up before.
    pub fn pause(&self, key: &str, message_id: String, number: u64) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pauses.len() >= MOST_PAUSES {
            pauses.retain(|_, pause| pause.at.elapsed() < COMES_AGAIN);
        }
        let at = Instant::now();
        let pause = pauses.entry(key.to_owned()).or_insert(Pause { number, waits_for: None, at, back: None });
        // The client tells of the refused ones in any order.
        let is_new = if pause.waits_for.is_some() { number < pause.number } else { number >= pause.number };
        if is_new {
            if pause.waits_for.is_none() {
                pause.at = at;
            }
            (pause.number, pause.waits_for, pause.back) = (number, Some(message_id), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overtakes_the_first_that_was_refused() {
        let (pauses, before) = (Pauses::default(), Instant::now());
        let admits = |id: &str, received_at, next| pauses.admits("k", id, received_at, next, |_| ());
        assert_eq!(admits("0", before, 1), Admission::Now);
        pauses.pause("k", "2".to_owned(), 2);
        pauses.pause("k", "1".to_owned(), 1);
        // In hand already, or on its way while the first is not back.
        assert_eq!(admits("3", before, 3), Admission::Never);
        let early = Instant::now();
        assert_eq!(admits("3", early, 3), Admission::Later);
        let back = early + Duration::from_millis(1);
        pauses.came("k", "1", back);
        assert_eq!(admits("3", early, 3), Admission::Never);
        assert_eq!(admits("1", back, 3), Admission::Now);
        assert_eq!(admits("3", back + Duration::from_millis(1), 4), Admission::Now);
        // What was sent before it was resumed says nothing new.
        pauses.pause("k", "2".to_owned(), 2);
        assert_eq!(admits("4", back, 5), Admission::Now);
        assert_eq!(pauses.admits("other", "9", before, 5, |_| ()), Admission::Now);
    }
}
