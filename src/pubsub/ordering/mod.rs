//! The order of requests with an ordering key: which of a key's requests is the oldest in flight.
//!
//! Receive takes a [`Turn`] for each in the order of delivery; publish sends a key's responses in the order
//! of turns. A turn that is dropped gives its place up; one that is [given up](Turn::give_up) has the younger
//! ones redelivered after it. Requests without a key never come here.

mod paused_keys;

use crate::lock::lock;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub use crate::pubsub::ordering::paused_keys::{Admission, Pauses};

/// The keys in flight, each with the numbers of its turns, oldest first.
#[derive(Debug, Default)]
pub struct Order {
    keys: Mutex<HashMap<Arc<str>, Queue>>,
    pub pauses: Pauses,
}

#[derive(Debug, Default)]
struct Queue {
    /// Numbers count up within a key, as long as it is in flight.
    next: u64,
    waiting: VecDeque<u64>,
}

/// One request's place in its key's order.
#[derive(Debug)]
pub struct Turn {
    pub key: Arc<str>,
    /// Grows within a key, as long as that is in flight.
    pub number: u64,
    order: Arc<Order>,
}

impl Order {
    /// The last place of `key`.
    pub fn take(self: &Arc<Self>, key: &str) -> Turn {
        let mut keys = self.keys();
        let key = match keys.get_key_value(key) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(key),
        };
        let queue = keys.entry(Arc::clone(&key)).or_default();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back(number);
        Turn { key, number, order: Arc::clone(self) }
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<Arc<str>, Queue>> {
        lock(&self.keys)
    }
}

impl Turn {
    /// True when no older request of its key is in flight.
    pub fn is_first(&self) -> bool {
        self.order.keys().get(&self.key).and_then(|queue| queue.waiting.front().copied()) == Some(self.number)
    }

    /// Has the request of this turn redelivered: it gets no response for now.
    pub fn give_up(self, message_id: String) {
        self.order.pauses.pause(&self.key, message_id, false, Duration::ZERO);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut keys = self.order.keys();
        let Some(queue) = keys.get_mut(&self.key) else { return };
        queue.waiting.retain(|number| *number != self.number);
        if queue.waiting.is_empty() {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_a_key_is_first_and_keys_are_forgotten() {
        let order = Arc::new(Order::default());
        let [a, b, other] = [order.take("k"), order.take("k"), order.take("l")];
        assert!(a.is_first() && !b.is_first() && other.is_first());
        drop(a);
        assert!(b.is_first());
        let c = order.take("k");
        assert!(!c.is_first());
        drop(b);
        assert!(c.is_first());
        drop((c, other));
        assert!(order.keys().is_empty());
    }
}
