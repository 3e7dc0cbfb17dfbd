//! Faults on demand: what the next calls of a method do instead of what they should.
//!
//! A method is named as gRPC names it (`Publish`, `Acknowledge`, `StreamingPull`, `GetObject`, …) or, for
//! Cloud Storage's JSON API, as Google's discovery document does (`storage.objects.get`,
//! `storage.objects.insert`, …).

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Misbehaviour of one call. Serialised as the control endpoint takes it: `{"fail": "UNAVAILABLE"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Answer this gRPC status (`UNAVAILABLE`, …; over HTTP its usual status code) and do nothing.
    Fail(String),
    /// Do it, so many milliseconds late.
    DelayMs(u64),
    /// Do it, then answer UNAVAILABLE as if the reply had been lost.
    LoseReply,
    /// Never answer.
    Hang,
    /// Streams and media: send so many messages (streams) or bytes (media), then break the connection.
    ResetAfter(u64),
    /// Streams and media: send so many messages (streams) or bytes (media), then nothing more, without
    /// closing.
    StallAfter(u64),
    /// Streams: close cleanly after so many messages.
    CloseAfter(u64),
    /// Streams: deliver every message of this stream twice.
    DeliverTwice,
    /// Streams: ignore the flow control that the client asked for.
    IgnoreFlowControl,
    /// Media: flip one bit of what is sent.
    Corrupt,
    /// Publish: answer fewer ids than messages.
    FewerIds,
}

/// The queue of faults by method; shared by every service of one server.
#[derive(Debug, Default)]
pub struct Faults {
    armed: AtomicBool,
    queues: Mutex<HashMap<String, VecDeque<Fault>>>,
}

impl Faults {
    /// The next `times` calls of `method` meet `fault`, after those already waiting.
    pub fn inject(&self, method: &str, fault: Fault, times: usize) {
        let mut queues = self.lock();
        let queue = queues.entry(method.to_owned()).or_default();
        queue.extend(std::iter::repeat_n(fault, times));
        self.armed.store(true, Ordering::Release);
    }

    /// Takes the fault that this call of `method` must meet. One atomic load when none is set.
    pub fn next(&self, method: &str) -> Option<Fault> {
        if !self.armed.load(Ordering::Acquire) {
            return None;
        }
        self.lock().get_mut(method)?.pop_front()
    }

    /// Number of faults that still wait for calls of `method`.
    pub fn waiting(&self, method: &str) -> usize {
        self.lock().get(method).map_or(0, VecDeque::len)
    }

    /// Forgets every fault that has not been met.
    pub fn clear(&self) {
        self.lock().clear();
        self.armed.store(false, Ordering::Release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, VecDeque<Fault>>> {
        self.queues.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Waits for a while; a named place so that every delay of the server is found by one search.
pub async fn delay(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
