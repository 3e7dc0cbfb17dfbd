//! Record for an oracle: every publish, delivery, ack, object and refusal of one server in one order.
//!
//! Off unless the server was built with `record()`: it keeps every message and grows without bound. An event
//! is appended under the lock of the subscription or the buckets that it concerns, so the order of events
//! about one message or object is the order in which they took effect.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::pubsub::Stored;

/// One thing that happened; `sequence` counts from 0 without gaps.
#[derive(Debug, Clone)]
pub struct Event {
    pub sequence: u64,
    pub at: Instant,
    pub what: What,
}

/// A delivery that an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// `projects/P/subscriptions/S`
    pub subscription: Arc<str>,
    pub message_id: String,
    pub ack_id: String,
    /// 1 at first, one more after every nack and expiry.
    pub attempt: u32,
}

/// The generation of an object that an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub bucket: String,
    pub object: String,
    pub generation: i64,
}

/// Kind of the event.
#[derive(Debug, Clone)]
pub enum What {
    /// A message was accepted: its id, attributes, data and ordering key are in `message`.
    Published {
        topic: Arc<str>,
        message: Arc<Stored>,
    },
    Delivered(Delivery),
    Acked(Delivery),
    Nacked(Delivery),
    Extended(Delivery, Duration),
    Expired(Delivery),
    DeadLettered(Delivery),
    /// A generation became the live one.
    Finalized(Generation),
    /// A generation was deleted, or stopped being live where versioning keeps it. An overwrite is not told as
    /// one.
    Deleted(Generation),
    /// A generation's bytes were asked for, in whole or in part.
    Read(Generation),
    /// A call was refused, on its merits or by an injected fault. `method` is named as for faults.
    Refused {
        method: &'static str,
        code: tonic::Code,
        message: String,
    },
}

/// The record of one server.
#[derive(Debug)]
pub struct History {
    /// None while nothing is recorded.
    events: Option<Mutex<Vec<Event>>>,
    length: watch::Sender<u64>,
}

impl History {
    pub fn new(record: bool) -> Arc<History> {
        Arc::new(History { events: record.then(Mutex::default), length: watch::channel(0).0 })
    }

    /// Appends an event; where nothing is recorded it is not even made.
    pub(crate) fn record(&self, what: impl FnOnce() -> What) {
        let Some(events) = &self.events else { return };
        let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = events.len() as u64;
        events.push(Event { sequence, at: Instant::now(), what: what() });
        // Under the lock, so that lengths are announced in order.
        self.length.send_replace(sequence + 1);
    }

    pub fn is_recording(&self) -> bool {
        self.events.is_some()
    }

    /// A copy of everything so far; empty when nothing is recorded.
    pub fn snapshot(&self) -> Vec<Event> {
        self.with(<[Event]>::to_vec)
    }

    /// Looks at everything so far without copying it. No event is recorded meanwhile: be brief, and do not
    /// ask the server.
    pub fn with<T>(&self, look: impl FnOnce(&[Event]) -> T) -> T {
        match &self.events {
            Some(events) => look(&events.lock().unwrap_or_else(PoisonError::into_inner)),
            None => look(&[]),
        }
    }

    /// Waits until `condition` holds, looking again after every event; false when it did not within
    /// `timeout`.
    pub async fn wait_until(&self, timeout: Duration, mut condition: impl FnMut(&[Event]) -> bool) -> bool {
        let mut length = self.length.subscribe();
        let holds = async {
            loop {
                length.borrow_and_update();
                if self.with(&mut condition) {
                    return;
                }
                if length.changed().await.is_err() {
                    // The sender lives in `self`, so this cannot happen while `self` is borrowed.
                    return;
                }
            }
        };
        tokio::time::timeout(timeout, holds).await.is_ok()
    }
}
