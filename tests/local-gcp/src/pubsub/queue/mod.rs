//! One subscription's messages: who waits, who is leased to which stream, who comes back and when.
//!
//! Pure state without I/O or tasks: `subscription` puts it behind one lock and calls it once per request. A
//! message is in exactly one place: `ready`, `delayed`, a key's `waiting`, or `leased`. Messages of one
//! ordering key are leased in their order to one stream at a time; when one of them comes back, all later
//! ones of its key come back with it.

mod lease;
pub(super) mod settle;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::ack_id::AckId;
use super::wire::PubsubMessage;
use crate::history::{Delivery, History, What};

/// A published message, shared by all subscriptions of its topic.
#[derive(Debug)]
pub struct Stored {
    pub message: PubsubMessage,
    /// Bytes of data, attributes and ordering key.
    pub size: usize,
    pub published: Instant,
}

/// Part of a subscription's configuration that decides over its messages.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) name: Arc<str>,
    pub(crate) ack_deadline: Duration,
    pub(crate) retention: Duration,
    pub(crate) ordering: bool,
    pub(crate) exactly_once: bool,
    pub(crate) max_attempts: Option<u32>,
    /// Smallest and largest wait before a redelivery.
    pub(crate) backoff: Option<(Duration, Duration)>,
}

/// Numbers of one subscription since it was created.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, PartialEq, Eq)]
pub struct Counts {
    /// Waiting for a stream or for their backoff.
    pub undelivered: usize,
    /// Delivered and not yet acknowledged, given back or expired.
    pub outstanding: usize,
    pub delivered: u64,
    pub acked: u64,
    pub nacked: u64,
    pub expired: u64,
    pub dead_lettered: u64,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) stored: Arc<Stored>,
    seq: u64,
    /// Times leased so far: what tells a stale ack id from the current one.
    leases: u32,
    /// Nacks and expiries so far.
    pub(crate) failures: u32,
}

#[derive(Debug)]
struct Leased {
    entry: Entry,
    deadline: Instant,
    stream: u64,
    /// Acknowledged before an earlier message of its key: kept, since the earlier one may still bring it
    /// back.
    acked: bool,
}

#[derive(Debug)]
enum Item {
    Message(Entry),
    /// A key with messages waiting. At most one token a key exists (`Key::queued`).
    Key(Arc<str>),
}

#[derive(Debug, Default)]
struct Key {
    waiting: VecDeque<Entry>,
    leased: VecDeque<u64>,
    /// The stream that holds the leased ones and must get the next.
    holder: Option<u64>,
    queued: bool,
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Stream {
    notify: Arc<Notify>,
    max_messages: usize,
    max_bytes: usize,
    messages: usize,
    bytes: usize,
    ack_deadline: Option<Duration>,
    keys: VecDeque<Arc<str>>,
    waiting: bool,
    idle: bool,
}

impl Stream {
    // The last message may exceed the bytes, as in the real service: a large one would never fit otherwise.
    fn has_credit(&self) -> bool {
        self.messages < self.max_messages && self.bytes < self.max_bytes
    }
}

/// Limits that a stream asked for; 0 and less mean no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) messages: i64,
    pub(crate) bytes: i64,
    pub(crate) ack_deadline: Option<Duration>,
}

/// One message on its way to a client.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) stored: Arc<Stored>,
    pub(crate) ack_id: AckId,
    /// Only told where a dead-letter policy is set, as in the real service; 0 elsewhere.
    pub(crate) attempt: u32,
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) config: Config,
    /// Tells ack ids of this subscription from those of any other.
    uid: u64,
    history: Arc<History>,
    counts: Counts,
    next_seq: u64,
    next_stream: u64,
    ready: VecDeque<Item>,
    delayed: BTreeMap<(Instant, u64), Item>,
    leased: HashMap<u64, Leased>,
    /// Messages that wait again after a lease. One that leaves this set was acknowledged late and is dropped
    /// when its turn comes.
    returned: HashSet<u64>,
    keys: HashMap<Arc<str>, Key>,
    streams: HashMap<u64, Stream>,
    /// Streams that wait for messages and have credit, in the order in which they began to wait.
    idle: VecDeque<u64>,
    /// No lease ends before this. A lower bound: extensions and acks leave it, the next look corrects it.
    earliest_expiry: Option<Instant>,
}

impl Queue {
    pub(crate) fn new(config: Config, uid: u64, history: Arc<History>) -> Queue {
        Queue {
            config,
            uid,
            history,
            counts: Counts::default(),
            next_seq: 0,
            next_stream: 0,
            ready: VecDeque::new(),
            delayed: BTreeMap::new(),
            leased: HashMap::new(),
            returned: HashSet::new(),
            keys: HashMap::new(),
            streams: HashMap::new(),
            idle: VecDeque::new(),
            earliest_expiry: None,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes in published messages, in their order.
    pub(crate) fn push(&mut self, messages: impl Iterator<Item = Arc<Stored>>) {
        for stored in messages {
            let entry = Entry { stored, seq: self.next_seq, leases: 0, failures: 0 };
            self.next_seq += 1;
            self.counts.undelivered += 1;
            if self.is_ordered(&entry) {
                let name: Arc<str> = entry.stored.message.ordering_key.as_str().into();
                self.keys.entry(name.clone()).or_default().waiting.push_back(entry);
                self.queue_key(&name);
            } else {
                self.ready.push_back(Item::Message(entry));
            }
        }
        self.wake();
    }

    fn is_ordered(&self, entry: &Entry) -> bool {
        self.config.ordering && !entry.stored.message.ordering_key.is_empty()
    }

    // Puts the key's token where the next stream to serve it finds it; nothing when it is there already.
    fn queue_key(&mut self, name: &Arc<str>) {
        let Some(key) = self.keys.get_mut(name) else { return };
        if key.queued || key.waiting.is_empty() {
            return;
        }
        match key.holder {
            None => self.ready.push_back(Item::Key(name.clone())),
            Some(holder) => match self.streams.get_mut(&holder) {
                Some(stream) => {
                    stream.keys.push_back(name.clone());
                    if stream.waiting && stream.has_credit() {
                        stream.notify.notify_one();
                    }
                }
                // Held by a unary pull or a stream that is gone: no more of this key until what it took is
                // settled.
                None => return,
            },
        }
        key.queued = true;
    }

    /// Registers a stream (or one unary pull); `notify` is called when messages may be there for it.
    pub(crate) fn open(&mut self, limits: Limits, notify: Arc<Notify>) -> u64 {
        let cap = |limit: i64| if limit > 0 { limit as usize } else { usize::MAX };
        let id = self.next_stream;
        self.next_stream += 1;
        let stream = Stream {
            notify,
            max_messages: cap(limits.messages),
            max_bytes: cap(limits.bytes),
            messages: 0,
            bytes: 0,
            ack_deadline: limits.ack_deadline,
            keys: VecDeque::new(),
            waiting: false,
            idle: false,
        };
        self.streams.insert(id, stream);
        id
    }

    pub(crate) fn set_ack_deadline(&mut self, stream: u64, deadline: Duration) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.ack_deadline = Some(deadline);
        }
    }

    /// Forgets a stream. Its leases run on until they are settled or expire, as in the real service.
    pub(crate) fn close(&mut self, id: u64, unary: bool) {
        let Some(stream) = self.streams.remove(&id) else { return };
        self.idle.retain(|idle| *idle != id);
        for name in &stream.keys {
            if let Some(key) = self.keys.get_mut(name) {
                key.queued = false;
            }
        }
        // A key with messages still leased to it stays with it: they go to one subscriber at a time.
        if !unary && self.config.ordering {
            let free = |key: &&mut Key| key.holder == Some(id) && key.leased.is_empty();
            self.keys.values_mut().filter(free).for_each(|key| key.holder = None);
        }
        for name in &stream.keys {
            self.queue_key(name);
        }
        self.wake();
    }

    fn ack_id(&self, entry: &Entry) -> AckId {
        AckId { subscription: self.uid, seq: entry.seq, lease: entry.leases }
    }

    fn record(&self, entry: &Entry, what: impl FnOnce(Delivery) -> What) {
        self.history.record(|| {
            what(Delivery {
                subscription: self.config.name.clone(),
                message_id: entry.stored.message.message_id.clone(),
                ack_id: self.ack_id(entry).to_string(),
                attempt: entry.failures + 1,
            })
        });
    }

    fn make_idle(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.waiting
            && stream.has_credit()
            && !stream.idle
        {
            stream.idle = true;
            self.idle.push_back(id);
        }
    }

    // Tells as many waiting streams as there are messages, the one that waits longest first.
    fn wake(&mut self) {
        let mut told = 0;
        while told < self.ready.len() {
            let Some(id) = self.idle.pop_front() else { return };
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.idle = false;
                if stream.waiting && stream.has_credit() {
                    stream.notify.notify_one();
                    told += 1;
                }
            }
        }
    }

    /// Tells every stream to look again, for those that must notice a reset or a deletion.
    pub(crate) fn wake_all(&self) {
        self.streams.values().for_each(|stream| stream.notify.notify_one());
    }
}
