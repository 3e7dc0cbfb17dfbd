//! Leases messages: as many as a stream may have, shared evenly, each key's in their order.

use std::sync::Arc;
use std::time::Instant;

use super::{Entry, Item, Leased, Outgoing, Queue};
use crate::history::What;

/// The real service sends no more than this in one response, however large the backlog.
const MAX_BATCH: usize = 1000;
/// A response stays under the 4 MB that gRPC clients accept by default, unless one message alone is larger.
const MAX_BATCH_BYTES: usize = 3_500_000;

impl Queue {
    /// The next messages for a stream, leased from now on; when there are none the stream is told by its
    /// `notify`.
    pub(crate) fn take(&mut self, stream: u64, most: usize, now: Instant) -> Vec<Outgoing> {
        let share = self.share(stream);
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut from_ready = 0;
        while batch.len() < most.min(MAX_BATCH) && bytes < MAX_BATCH_BYTES {
            let Some(state) = self.streams.get_mut(&stream) else { return batch };
            if !state.has_credit() {
                break;
            }
            let item = match state.keys.pop_front() {
                Some(key) => Item::Key(key),
                None if from_ready == share => break,
                None => match self.ready.pop_front() {
                    Some(item) => {
                        from_ready += 1;
                        item
                    }
                    None => break,
                },
            };
            let entry = match item {
                Item::Message(entry) => Some(entry),
                Item::Key(name) => self.next_of_key(&name, stream, now),
            };
            if let Some(outgoing) = entry.and_then(|entry| self.lease(entry, stream, now)) {
                bytes += outgoing.stored.size;
                batch.push(outgoing);
            }
        }
        if let Some(state) = self.streams.get_mut(&stream) {
            state.waiting = batch.is_empty();
        }
        self.make_idle(stream);
        if !self.ready.is_empty() {
            self.wake();
        }
        batch
    }

    // Number of messages that a stream may take at once: as many as bring it level with the others that have
    // credit. One that already has more than they still gets a part, or messages would wait for a stream that
    // does not come for them.
    fn share(&self, id: u64) -> usize {
        let sharers = self.streams.values().filter(|stream| stream.has_credit());
        let (count, held) = sharers.fold((0, 0), |(count, held), stream| (count + 1, held + stream.messages));
        let own = self.streams.get(&id).map_or(0, |stream| stream.messages);
        let count = usize::max(count, 1);
        let level = (self.ready.len() + held).div_ceil(count).saturating_sub(own);
        level.max(self.ready.len() / (4 * count)).clamp(1, MAX_BATCH)
    }

    // A key's next message, with the token put back for the one after it.
    fn next_of_key(&mut self, name: &Arc<str>, stream: u64, now: Instant) -> Option<Entry> {
        let key = self.keys.get_mut(name)?;
        key.queued = false;
        if let Some(until) = key.not_before.filter(|until| *until > now) {
            key.queued = true;
            self.delayed.insert((until, self.next_seq), Item::Key(name.clone()));
            self.next_seq += 1;
            return None;
        }
        key.not_before = None;
        if key.holder.is_some_and(|holder| holder != stream) {
            self.queue_key(name);
            return None;
        }
        let entry = key.waiting.pop_front()?;
        key.holder = Some(stream);
        key.leased.push_back(entry.seq);
        self.queue_key(name);
        Some(entry)
    }

    // None when the message is not wanted any more: acknowledged late, or past its retention.
    fn lease(&mut self, mut entry: Entry, stream: u64, now: Instant) -> Option<Outgoing> {
        self.counts.undelivered -= 1;
        let acked_late = entry.leases > 0 && !self.returned.remove(&entry.seq);
        let too_old = now.saturating_duration_since(entry.stored.published) > self.config.retention;
        if acked_late || too_old {
            self.forget_of_key(&entry);
            return None;
        }
        entry.leases += 1;
        let state = self.streams.get_mut(&stream)?;
        state.messages += 1;
        state.bytes += entry.stored.size;
        let deadline = now + state.ack_deadline.unwrap_or(self.config.ack_deadline);
        self.earliest_expiry = Some(self.earliest_expiry.map_or(deadline, |earliest| earliest.min(deadline)));
        self.counts.outstanding += 1;
        self.counts.delivered += 1;
        self.record(&entry, What::Delivered);
        let attempt = if self.config.max_attempts.is_some() { entry.failures + 1 } else { 0 };
        let outgoing = Outgoing { stored: entry.stored.clone(), ack_id: self.ack_id(&entry), attempt };
        self.leased.insert(entry.seq, Leased { entry, deadline, stream, acked: false });
        Some(outgoing)
    }
}
