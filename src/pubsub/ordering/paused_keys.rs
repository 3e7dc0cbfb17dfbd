//! Keys that were interrupted: one of their requests got no response and is redelivered, and the younger ones
//! after it. Until it does, none of them may overtake it. Other keys never wait.

use crate::lock::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Longest time until the interrupted request is redelivered to some worker: its nack may be lost, and then
/// its lease of 20 seconds must end. Requests of its key that are in flight after that are in order.
const REDELIVERED_WITHIN: Duration = Duration::from_secs(25);

/// Beyond so many, keys that did not come back are forgotten.
const MOST_PAUSES: usize = 10_000;

#[derive(Debug, Default)]
pub struct Pauses(Mutex<HashMap<String, Pause>>);

/// The interruption of a key.
#[derive(Debug)]
struct Pause {
    /// The request that the key waits for, its oldest without an answer.
    waits_for: String,
    at: Instant,
    /// Nothing of the key is published before.
    until: Instant,
    /// When the request that is waited for was received again.
    back: Option<Instant>,
}

/// Decision about a response, the oldest of its key in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may be published.
    Now,
    /// The key's first is to be redelivered.
    Later,
    /// Its own request is redelivered, after the key's first.
    Never,
}

impl Pauses {
    /// A response has come to be published: perhaps the one that its key waits for.
    pub fn came(&self, key: &str, message_id: &str, received_at: Instant) {
        let mut pauses = lock(&self.0);
        if let Some(pause) = pauses.get_mut(key)
            && pause.waits_for == message_id
            && pause.at < received_at
        {
            pause.back = Some(received_at);
        }
    }

    /// Decides if a request's response may be published now.
    pub fn admits(&self, key: &str, message_id: &str, received_at: Instant) -> Admission {
        let mut pauses = lock(&self.0);
        let Some(pause) = pauses.get(key) else { return Admission::Now };
        if received_at <= pause.at || pause.back.is_some_and(|back| received_at < back) {
            return Admission::Never;
        }
        let is_awaited = pause.waits_for != message_id && pause.at.elapsed() < REDELIVERED_WITHIN;
        if is_awaited || Instant::now() < pause.until {
            return Admission::Later;
        }
        pauses.remove(key);
        Admission::Now
    }

    /// A request of `key` got no answer: its response was refused, or there was none (`was_published`). The
    /// key goes on with it, after `wait`.
    pub fn pause(&self, key: &str, message_id: String, was_published: bool, wait: Duration) {
        let mut pauses = lock(&self.0);
        if pauses.len() >= MOST_PAUSES {
            pauses.retain(|_, pause| pause.at.elapsed() < REDELIVERED_WITHIN);
        }
        // A published request is older than all that were not.
        if was_published || !pauses.contains_key(key) {
            let at = Instant::now();
            let pause = Pause { waits_for: message_id, at, until: at + wait, back: None };
            pauses.insert(key.to_owned(), pause);
        }
    }

    /// Everything of a paused key that was received until now is redelivered, the request that it waits for
    /// first.
    pub fn start_over(&self, key: &str) {
        let mut pauses = lock(&self.0);
        if let Some(pause) = pauses.get_mut(key) {
            (pause.at, pause.back) = (Instant::now(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overtakes_the_first_that_was_refused() {
        let (pauses, before) = (Pauses::default(), Instant::now());
        let admits = |id: &str, received_at| pauses.admits("k", id, received_at);
        assert_eq!(admits("0", before), Admission::Now);
        // One that was never published, then an older one whose response was refused.
        pauses.pause("k", "2".to_owned(), false, Duration::ZERO);
        pauses.pause("k", "1".to_owned(), true, Duration::ZERO);
        pauses.pause("k", "3".to_owned(), false, Duration::ZERO);
        // In flight already, or on its way while the first is not back.
        assert_eq!(admits("4", before), Admission::Never);
        let early = Instant::now();
        assert_eq!(admits("4", early), Admission::Later);
        let back = early + Duration::from_millis(1);
        pauses.came("k", "1", back);
        assert_eq!(admits("4", early), Admission::Never);
        assert_eq!(admits("1", back), Admission::Now);
        assert_eq!(admits("4", back + Duration::from_millis(1)), Admission::Now);
        assert_eq!(pauses.admits("other", "9", before), Admission::Now);
    }

    #[test]
    fn a_refused_key_waits_before_it_is_tried_again_even_if_all_of_it_was_given_up() {
        let pauses = Pauses::default();
        pauses.pause("k", "1".to_owned(), true, Duration::from_secs(60));
        let back = Instant::now() + Duration::from_millis(1);
        pauses.came("k", "1", back);
        assert_eq!(pauses.admits("k", "1", back), Admission::Later);
        std::thread::sleep(Duration::from_millis(2));
        pauses.start_over("k");
        assert_eq!(pauses.admits("k", "1", back), Admission::Never);
        let again = Instant::now() + Duration::from_millis(1);
        pauses.came("k", "1", again);
        assert_eq!(pauses.admits("k", "1", again), Admission::Later);
        pauses.pause("k", "1".to_owned(), true, Duration::ZERO);
        assert_eq!(pauses.admits("k", "1", again + Duration::from_millis(1)), Admission::Now);
    }
}
