//! Responses with an ordering key, in the order of their requests, whichever inference thread is done first.
//!
//! A response waits until no older request of its key is in hand. When one is refused, its request comes again, and the later
//! ones of its key after it: until it does, none of them may overtake it. Other keys never wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::message::Reply;

/// How long requests may still arrive that Pub/Sub sent before it knew of the refusal: nacks go out every tenth of a second.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// Beyond so many, keys that did not come back are forgotten: their next response is refused once more, and then resumed.
const MOST_PAUSES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Keys {
    held: Mutex<HashMap<Arc<str>, Vec<Reply>>>,
    count: AtomicUsize,
    pauses: Mutex<HashMap<String, Pause>>,
}

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

impl Keys {
    pub(super) fn holds_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Takes in a response whose request has a turn.
    pub(super) fn hold(&self, reply: Reply) {
        let Some(turn) = &reply.origin.turn else { return };
        let key = Arc::clone(&turn.key);
        lock(&self.held).entry(key).or_default().push(reply);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything that nothing older of its key stands before, each key's in order. Ends their turns.
    pub(super) fn due(&self) -> Vec<Reply> {
        let mut due = Vec::new();
        if !self.holds_any() {
            return due;
        }
        let mut held = lock(&self.held);
        held.retain(|_, replies| {
            let is_first = |reply: &Reply| reply.origin.turn.as_ref().is_none_or(|turn| turn.is_first());
            while let Some(index) = replies.iter().position(is_first) {
                let mut reply = replies.swap_remove(index);
                reply.origin.turn = None;
                due.push(reply);
            }
            !replies.is_empty()
        });
        self.count.fetch_sub(due.len(), Ordering::Relaxed);
        due
    }

    /// Whether the response may be published now, as number `next`. If not, it must be dropped: its request comes again, in order.
    pub(super) fn admits(&self, reply: &Reply, next: u64, resume: impl FnOnce(&str)) -> bool {
        let mut pauses = lock(&self.pauses);
        let origin = &reply.origin;
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

    /// Publish `number`, of this key and request, was refused: the client sends no more of the key until it is told to resume.
    pub(super) fn pause(&self, key: String, message_id: String, number: u64) {
        let mut pauses = lock(&self.pauses);
        if pauses.len() >= MOST_PAUSES {
            pauses.retain(|_, pause| pause.at.elapsed() < UNDER_WAY);
        }
        let at = Instant::now();
        let pause = pauses.entry(key).or_insert(Pause { number, waits_for: None, at });
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
