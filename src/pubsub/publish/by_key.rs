//! Responses with an ordering key, in the order of their requests, whichever inference thread is done first.
//!
//! A response waits until no older request of its key is in flight and the one before it is settled. Other
//! keys never wait: a key is looked at when something of it happened, and those that wait for an interrupted
//! request have a share of what the worker may have in flight.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::pubsub::delivery::Reply;

#[derive(Debug, Default)]
pub(super) struct Keys {
    lanes: HashMap<Arc<str>, Lane>,
    /// Lanes to look at, each once.
    ready: VecDeque<Arc<str>>,
    /// Sum over the lanes that are blocked.
    blocked: Weight,
}

#[derive(Debug, Default)]
struct Lane {
    /// By the numbers of their turns.
    waiting: BTreeMap<u64, Reply>,
    weight: Weight,
    is_ready: bool,
    /// One of them is being published.
    is_sending: bool,
    /// They wait for an interrupted one.
    is_blocked: bool,
}

/// Messages in flight, and the bytes of their requests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Weight {
    fn of(reply: &Reply) -> Self {
        Self { messages: 1, bytes: reply.origin.memory.bytes() }
    }

    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    fn subtract(&mut self, other: Self) {
        self.messages -= other.messages;
        self.bytes -= other.bytes;
    }
}

impl Keys {
    pub(super) fn holds_any(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Takes in a response whose request has a turn.
    pub(super) fn hold(&mut self, mut reply: Reply) {
        let Some(turn) = &reply.origin.reply_to.turn else { return };
        // The response that it waits for may not be computed yet.
        reply.origin.memory.waits_to_be_sent(0);
        let (key, number) = (Arc::clone(&turn.key), turn.number);
        let weight = Weight::of(&reply);
        let lane = self.lanes.entry(Arc::clone(&key)).or_default();
        lane.waiting.insert(number, reply);
        lane.weight.add(weight);
        if lane.is_blocked {
            self.blocked.add(weight);
        }
        self.look_at(&key);
    }

    /// The response that was being published of a key is settled.
    pub(super) fn settled(&mut self, key: Option<Arc<str>>) {
        let Some(key) = key else { return };
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.is_sending = false;
        }
        self.look_at(&key);
    }

    /// Looks at every key: a request before the first may have been given up, or a pause may be over.
    pub(super) fn look_at_all(&mut self) {
        for key in self.lanes.keys().cloned().collect::<Vec<_>>() {
            self.look_at(&key);
        }
    }

    fn look_at(&mut self, key: &Arc<str>) {
        if let Some(lane) = self.lanes.get_mut(key)
            && !std::mem::replace(&mut lane.is_ready, true)
        {
            self.ready.push_back(Arc::clone(key));
        }
    }

    /// The next response that nothing older of its key stands before and that `next` lets go.
    pub(super) fn next(&mut self, mut next: impl FnMut(&Reply) -> Next) -> Option<Reply> {
        while let Some(key) = self.ready.pop_front() {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            lane.is_ready = false;
            while !lane.is_sending
                && let Some(first) = lane.waiting.first_entry()
                && first.get().origin.reply_to.turn.as_ref().is_none_or(|turn| turn.is_first())
            {
                let next = next(first.get());
                if lane.is_blocked != (next == Next::Wait) {
                    lane.is_blocked = !lane.is_blocked;
                    let change = if lane.is_blocked { Weight::add } else { Weight::subtract };
                    change(&mut self.blocked, lane.weight);
                }
                if next == Next::Wait {
                    break;
                }
                let mut reply = first.remove();
                lane.weight.subtract(Weight::of(&reply));
                reply.origin.memory.waits_to_be_sent(reply.body.len());
                match next {
                    Next::Leave => return Some(reply),
                    Next::Go => {
                        reply.origin.reply_to.turn = None;
                        lane.is_sending = true;
                        return Some(reply);
                    }
                    Next::Drop | Next::Wait => {}
                }
            }
            if lane.waiting.is_empty() && !lane.is_sending {
                self.lanes.remove(&key);
            }
        }
        None
    }

    /// The responses of the key with the most, in order, if more than `share` wait for interrupted ones.
    pub(super) fn beyond(&mut self, share: Weight) -> Option<(Arc<str>, Vec<Reply>)> {
        let by_bytes = self.blocked.bytes > share.bytes;
        if !by_bytes && self.blocked.messages <= share.messages {
            return None;
        }
        let of = |weight: &Weight| if by_bytes { weight.bytes } else { weight.messages };
        let blocked = self.lanes.iter().filter(|(_, lane)| lane.is_blocked);
        let (key, _) = blocked.max_by_key(|(_, lane)| of(&lane.weight))?;
        let key = Arc::clone(key);
        let lane = self.lanes.remove(&key)?;
        self.blocked.subtract(lane.weight);
        Some((key, lane.waiting.into_values().collect()))
    }
}

/// Fate of the oldest response of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is published, and its turn ends.
    Go,
    /// It goes and comes back; what follows it waits on.
    Leave,
    /// It waits for an interrupted one.
    Wait,
    /// Its request is redelivered.
    Drop,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::admit::Refusal;
    use crate::engine::budget::Memory;
    use crate::engine::job::Origin;
    use crate::error::Rejection;
    use crate::ops::metrics::Metrics;
    use crate::ops::traces::MessageTrace;
    use crate::pubsub::delivery::{Delivery, Requester};
    use crate::pubsub::ordering::Order;
    use crate::pubsub::ticket::Ticket;

    fn reply(order: &Arc<Order>, key: &str, id: &str) -> Reply {
        let metrics = Metrics::new();
        let delivery = Delivery {
            requester: Requester { message_id: id.to_owned(), ..Requester::default() },
            attempt: 0,
            turn: Some(order.take(key)),
            ticket: Ticket::new(None, Arc::clone(&metrics)),
            alone: None,
        };
        let origin = Origin::new(delivery, Memory::new(metrics), MessageTrace::default());
        Reply::refused(Refusal { rejection: Rejection::invalid("no"), id: None, model: None }, origin)
    }

    #[test]
    fn the_largest_key_starts_over_once_more_than_the_share_waits() {
        let (order, mut keys) = (Arc::<Order>::default(), Keys::default());
        let mut large = [1, 2, 3, 4].map(|n| reply(&order, "large", &n.to_string()));
        // Whichever inference thread is done first.
        large.reverse();
        large.into_iter().for_each(|reply| keys.hold(reply));
        (0..2).for_each(|_| keys.hold(reply(&order, "small", "0")));
        let share = |messages| Weight { messages, bytes: usize::MAX };
        assert!(keys.beyond(share(0)).is_none(), "nothing is known to wait yet");
        assert!(keys.next(|_| Next::Wait).is_none());
        assert!(keys.beyond(share(6)).is_none());
        let (key, given_up) = keys.beyond(share(5)).unwrap();
        let ids: Vec<_> = given_up.iter().map(|reply| &*reply.requester().message_id).collect();
        assert_eq!((&*key, ids), ("large", vec!["1", "2", "3", "4"]));
        assert!(keys.beyond(share(2)).is_none());
        // A key that continues does not count, and one response goes at a time.
        keys.look_at_all();
        assert!(keys.next(|_| Next::Go).is_some());
        assert!(keys.beyond(share(0)).is_none());
        keys.look_at_all();
        assert!(keys.next(|_| Next::Go).is_none());
        keys.settled(Some(Arc::from("small")));
        assert!(keys.next(|_| Next::Go).is_some());
        keys.settled(Some(Arc::from("small")));
        assert!(keys.next(|_| Next::Go).is_none() && !keys.holds_any());
    }
}
