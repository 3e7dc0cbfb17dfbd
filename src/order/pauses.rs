//! Keys that were interrupted: one of their requests got no answer and comes again, and the younger ones after it. Until it
//! does, none of them may overtake it. Other keys never wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::message::Origin;

/// The number of what was given up before it was published at all.
pub const UNPUBLISHED: u64 = u64::MAX;

/// How long requests may still arrive that Pub/Sub sent before it knew of the interruption: nacks go out every tenth of a second.
const UNDER_WAY: Duration = Duration::from_secs(1);

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
}

impl Pauses {
    /// Whether a request's response may be published now, as number `next`. If not, it must be dropped: it comes again, in order.
    pub fn admits(&self, origin: &Origin, next: u64, resume: impl FnOnce(&str)) -> bool {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pause) = pauses.get_mut(&origin.ordering_key) else { return true };
        let Some(first) = &pause.waits_for else { return true };
        // Another worker may have got the refused one: what comes after a while is in order again all the same.
        let is_in_order = pause.at < origin.received_at
            && (*first == origin.message_id || pause.at + UNDER_WAY < origin.received_at);
        if is_in_order {
            (pause.number, pause.waits_for) = (next, None);
            resume(&origin.ordering_key);
        }
        is_in_order
    }

    /// Publish `number`, of this key and request, was refused, or it was given up before.
    pub fn pause(&self, key: &str, message_id: String, number: u64) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pauses.len() >= MOST_PAUSES {
            pauses.retain(|_, pause| pause.at.elapsed() < UNDER_WAY);
        }
        let at = Instant::now();
        let pause = pauses.entry(key.to_owned()).or_insert(Pause { number, waits_for: None, at });
        // The client tells of the refused ones in any order.
        let is_new = if pause.waits_for.is_some() { number < pause.number } else { number >= pause.number };
        if is_new {
            if pause.waits_for.is_none() {
                pause.at = at;
            }
            (pause.number, pause.waits_for) = (number, Some(message_id));
        }
    }
}
