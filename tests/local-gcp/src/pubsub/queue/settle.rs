//! Ends leases, by an ack, a nack or the deadline, and extends them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Entry, Item, Leased, Queue};
use crate::history::What;
use crate::pubsub::ack_id::AckId;

/// Work that a request or the clock left, to be done once the lock is released.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Indexes into the request's ack ids that named no current lease.
    pub(crate) stale: Vec<usize>,
    /// Messages that used up their attempts.
    pub(crate) dead: Vec<Entry>,
}

impl Queue {
    /// True when the id was given out by this subscription, whatever became of the lease since.
    fn knows(&self, id: &AckId) -> bool {
        id.subscription == self.uid && id.seq < self.next_seq
    }

    fn is_current(&self, id: &AckId) -> bool {
        self.knows(id)
            && self.leased.get(&id.seq).is_some_and(|leased| leased.entry.leases == id.lease && !leased.acked)
    }

    /// Without exactly-once delivery a late ack still ends its message where it can, as the real service
    /// does.
    pub(crate) fn ack(&mut self, ids: &[AckId]) -> Settled {
        let mut settled = Settled::default();
        for (index, id) in ids.iter().enumerate() {
            if !self.is_current(id) {
                if self.config.exactly_once {
                    settled.stale.push(index);
                    continue;
                }
                if !self.knows(id) {
                    continue;
                }
                if self.returned.remove(&id.seq) {
                    self.counts.acked += 1;
                    continue;
                }
            }
            self.end_by_ack(id.seq);
        }
        self.wake();
        settled
    }

    fn end_by_ack(&mut self, seq: u64) {
        let Some(leased) = self.leased.get_mut(&seq).filter(|leased| !leased.acked) else { return };
        leased.acked = true;
        self.counts.acked += 1;
        self.counts.outstanding -= 1;
        let (stream, size) = (leased.stream, leased.entry.stored.size);
        self.release(stream, size);
        if let Some(leased) = self.leased.get(&seq) {
            self.record(&leased.entry, What::Acked);
        }
        match self.leased.get(&seq) {
            Some(leased) if self.is_ordered(&leased.entry) => {
                let key: Arc<str> = leased.entry.stored.message.ordering_key.as_str().into();
                self.drop_acked_of_key(&key);
            }
            _ => drop(self.leased.remove(&seq)),
        }
    }

    // Forgets the key's first messages as far as they are acknowledged, and frees the key when none is
    // leased.
    fn drop_acked_of_key(&mut self, name: &Arc<str>) {
        let Some(key) = self.keys.get_mut(name) else { return };
        while let Some(first) = key.leased.front() {
            if self.leased.get(first).is_some_and(|leased| !leased.acked) {
                return;
            }
            self.leased.remove(first);
            key.leased.pop_front();
        }
        key.holder = None;
        self.queue_key(name);
        if self.keys.get(name).is_some_and(|key| key.waiting.is_empty() && !key.queued) {
            self.keys.remove(name);
        }
    }

    /// After a message of a key was taken and found unwanted.
    pub(super) fn forget_of_key(&mut self, entry: &Entry) {
        if self.is_ordered(entry) {
            let name: Arc<str> = entry.stored.message.ordering_key.as_str().into();
            if let Some(key) = self.keys.get_mut(&name) {
                key.leased.retain(|seq| *seq != entry.seq);
            }
            self.drop_acked_of_key(&name);
        }
    }

    fn release(&mut self, stream: u64, size: usize) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.messages -= 1;
            state.bytes -= size;
            if state.waiting && !state.keys.is_empty() && state.has_credit() {
                state.notify.notify_one();
            }
        }
        self.make_idle(stream);
    }

    /// Moves deadlines; a deadline of zero gives the message back.
    pub(crate) fn modify(&mut self, changes: &[(AckId, Duration)], now: Instant) -> Settled {
        let mut settled = Settled::default();
        let mut nacked = Vec::new();
        for (index, (id, deadline)) in changes.iter().enumerate() {
            if !self.is_current(id) {
                if self.config.exactly_once {
                    settled.stale.push(index);
                }
            } else if deadline.is_zero() {
                nacked.push(id.seq);
            } else if let Some(leased) = self.leased.get_mut(&id.seq) {
                leased.deadline = now + *deadline;
                self.earliest_expiry = self.earliest_expiry.map(|earliest| earliest.min(now + *deadline));
                if let Some(leased) = self.leased.get(&id.seq) {
                    self.record(&leased.entry, |delivery| What::Extended(delivery, *deadline));
                }
            }
        }
        self.return_all(nacked, true, now, &mut settled);
        settled
    }

    /// Ends the leases whose time is over and readies the messages whose backoff is.
    pub(crate) fn on_time(&mut self, now: Instant) -> Settled {
        let mut settled = Settled::default();
        if self.earliest_expiry.is_some_and(|earliest| earliest <= now) {
            let expired: Vec<u64> = self
                .leased
                .iter()
                .filter(|(_, leased)| !leased.acked && leased.deadline <= now)
                .map(|(seq, _)| *seq)
                .collect();
            self.return_all(expired, false, now, &mut settled);
            self.earliest_expiry =
                self.leased.values().filter(|leased| !leased.acked).map(|leased| leased.deadline).min();
        }
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now) {
            let item = first.remove();
            self.ready.push_front(item);
        }
        self.wake();
        settled
    }

    /// Time of the next work of `on_time`.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        let delayed = self.delayed.first_key_value().map(|((at, _), _)| *at);
        self.earliest_expiry.into_iter().chain(delayed).min()
    }

    fn return_all(&mut self, mut seqs: Vec<u64>, nacked: bool, now: Instant, settled: &mut Settled) {
        // The latest first: each goes to the front of the queue, so the oldest ends there.
        seqs.sort_unstable_by(|a, b| b.cmp(a));
        for seq in seqs {
            let Some(leased) = self.leased.remove(&seq) else { continue };
            let entry = self.count_return(leased, nacked);
            if self.is_ordered(&entry) {
                self.return_key(entry, now, settled);
            } else if self.is_spent(&entry) {
                settled.dead.push(entry);
            } else {
                let until = self.backoff(&entry).map(|wait| now + wait);
                let seq = entry.seq;
                self.wait_again(&entry);
                match until {
                    Some(until) => drop(self.delayed.insert((until, seq), Item::Message(entry))),
                    None => self.ready.push_front(Item::Message(entry)),
                }
            }
        }
        self.wake();
    }

    fn count_return(&mut self, leased: Leased, nacked: bool) -> Entry {
        let Leased { mut entry, stream, .. } = leased;
        self.counts.outstanding -= 1;
        self.release(stream, entry.stored.size);
        if nacked {
            self.counts.nacked += 1;
            self.record(&entry, What::Nacked);
        } else {
            self.counts.expired += 1;
            self.record(&entry, What::Expired);
        }
        entry.failures += 1;
        entry
    }

    // Brings back a message of a key and every later one of it, acknowledged or not.
    fn return_key(&mut self, first: Entry, now: Instant, settled: &mut Settled) {
        let name: Arc<str> = first.stored.message.ordering_key.as_str().into();
        let Some(key) = self.keys.get_mut(&name) else { return };
        let Some(position) = key.leased.iter().position(|seq| *seq == first.seq) else { return };
        let later = key.leased.split_off(position);
        let until = self.backoff(&first).map(|wait| now + wait);
        let mut back = Vec::with_capacity(later.len());
        if self.is_spent(&first) {
            settled.dead.push(first);
        } else {
            back.push(first);
        }
        for seq in later.into_iter().skip(1) {
            let Some(Leased { entry, stream, acked, .. }) = self.leased.remove(&seq) else { continue };
            if !acked {
                self.counts.outstanding -= 1;
                self.release(stream, entry.stored.size);
            }
            back.push(entry);
        }
        back.iter().for_each(|entry| self.wait_again(entry));
        if let Some(key) = self.keys.get_mut(&name) {
            key.not_before = until.filter(|_| !back.is_empty());
            back.into_iter().rev().for_each(|entry| key.waiting.push_front(entry));
        }
        self.drop_acked_of_key(&name);
        self.queue_key(&name);
    }

    fn wait_again(&mut self, entry: &Entry) {
        self.returned.insert(entry.seq);
        self.counts.undelivered += 1;
    }

    fn is_spent(&self, entry: &Entry) -> bool {
        self.config.max_attempts.is_some_and(|most| entry.failures >= most)
    }

    fn backoff(&self, entry: &Entry) -> Option<Duration> {
        let (least, most) = self.config.backoff?;
        let doublings = entry.failures.saturating_sub(1).min(16);
        Some(least.saturating_mul(1 << doublings).min(most))
    }

    /// A dead-lettered message left; recorded here so that the order of its events is kept.
    pub(crate) fn dead_lettered(&mut self, entry: &Entry) {
        self.counts.dead_lettered += 1;
        self.record(entry, What::DeadLettered);
    }

    /// A message that could not be forwarded waits for another try.
    pub(crate) fn take_back(&mut self, entry: Entry) {
        self.wait_again(&entry);
        if self.is_ordered(&entry) {
            let name: Arc<str> = entry.stored.message.ordering_key.as_str().into();
            self.keys.entry(name.clone()).or_default().waiting.push_front(entry);
            self.queue_key(&name);
        } else {
            self.ready.push_front(Item::Message(entry));
        }
        self.wake();
    }
}
