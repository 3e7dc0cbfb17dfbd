//! What happened, in order, for whoever judges a run. Off by default: it keeps every message.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::proto::pubsub::PubsubMessage;

#[derive(Debug, Clone)]
pub enum Event {
    Published {
        topic: String,
        message: Arc<PubsubMessage>,
    },
    Delivered {
        subscription: String,
        message_id: String,
        ack_id: String,
        attempt: u32,
    },
    Acked {
        subscription: String,
        message_id: String,
        ack_id: String,
    },
    Nacked {
        subscription: String,
        message_id: String,
        ack_id: String,
    },
    Expired {
        subscription: String,
        message_id: String,
        ack_id: String,
    },
    DeadLettered {
        subscription: String,
        message_id: String,
    },
    /// An object's generation became the live one.
    Finalized {
        bucket: String,
        object: String,
        generation: i64,
    },
}

#[derive(Debug, Default)]
pub struct History {
    events: Option<Mutex<Vec<(Instant, Event)>>>,
    grew: Notify,
}

impl History {
    pub fn new(record: bool) -> Arc<Self> {
        Arc::new(Self { events: record.then(Mutex::default), grew: Notify::new() })
    }

    pub fn record(&self, event: impl FnOnce() -> Event) {
        if let Some(events) = &self.events {
            let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
            events.push((Instant::now(), event()));
            drop(events);
            self.grew.notify_waiters();
        }
    }

    /// Everything so far, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.with(|events| events.iter().map(|(_, event)| event.clone()).collect())
    }

    /// Looks at everything so far without copying it.
    pub fn with<T>(&self, look: impl FnOnce(&[(Instant, Event)]) -> T) -> T {
        let Some(events) = &self.events else { return look(&[]) };
        look(&events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until `holds` does; whether it did within `time`. `holds` must not ask the server: it holds the history's lock.
    pub async fn wait_until(&self, time: Duration, holds: impl Fn(&[(Instant, Event)]) -> bool) -> bool {
        let wait = async {
            loop {
                let grew = self.grew.notified();
                tokio::pin!(grew);
                grew.as_mut().enable();
                if self.with(&holds) {
                    return;
                }
                grew.await;
            }
        };
        tokio::time::timeout(time, wait).await.is_ok()
    }
}
