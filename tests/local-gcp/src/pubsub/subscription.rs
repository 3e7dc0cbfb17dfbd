//! A subscription: its configuration, its queue behind one lock, and the task that watches its deadlines.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::ack_id::AckId;
use super::filter::Filter;
use super::queue::settle::Settled;
use super::queue::{Config, Limits, Outgoing, Queue, Stored};
use super::wire;
use crate::history::History;

const DEFAULT_ACK_DEADLINE: Duration = Duration::from_secs(10);
const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 86_400);
const DEFAULT_ATTEMPTS: u32 = 5;

#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) name: Arc<str>,
    proto: RwLock<wire::Subscription>,
    filter: Option<Filter>,
    queue: Mutex<Queue>,
    /// Told when the queue's next event came nearer.
    timer: Notify,
    pub(crate) deleted: AtomicBool,
    /// Counts `Server::reset_streams`: a stream that began before the current one must break.
    pub(crate) resets: AtomicU64,
}

pub(crate) fn duration(duration: &prost_types::Duration) -> Duration {
    Duration::new(duration.seconds.try_into().unwrap_or(0), duration.nanos.try_into().unwrap_or(0))
}

fn config(proto: &wire::Subscription) -> Config {
    let or = |value: &Option<prost_types::Duration>, default| value.as_ref().map_or(default, duration);
    Config {
        name: proto.name.as_str().into(),
        ack_deadline: match proto.ack_deadline_seconds {
            0 => DEFAULT_ACK_DEADLINE,
            seconds => Duration::from_secs(seconds.unsigned_abs().into()),
        },
        retention: or(&proto.message_retention_duration, DEFAULT_RETENTION),
        ordering: proto.enable_message_ordering,
        exactly_once: proto.enable_exactly_once_delivery,
        max_attempts: proto.dead_letter_policy.as_ref().map(|policy| match policy.max_delivery_attempts {
            0 => DEFAULT_ATTEMPTS,
            attempts => attempts.unsigned_abs(),
        }),
        backoff: proto.retry_policy.as_ref().map(|policy| {
            (
                or(&policy.minimum_backoff, Duration::from_secs(10)),
                or(&policy.maximum_backoff, Duration::from_secs(600)),
            )
        }),
    }
}

impl Subscription {
    pub(crate) fn new(
        proto: wire::Subscription,
        filter: Option<Filter>,
        uid: u64,
        history: Arc<History>,
    ) -> Arc<Subscription> {
        Arc::new(Subscription {
            name: proto.name.as_str().into(),
            queue: Mutex::new(Queue::new(config(&proto), uid, history)),
            proto: RwLock::new(proto),
            filter,
            timer: Notify::new(),
            deleted: AtomicBool::new(false),
            resets: AtomicU64::new(0),
        })
    }

    pub(crate) fn proto(&self) -> wire::Subscription {
        self.proto.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn configure(&self, proto: wire::Subscription) {
        self.queue().config = config(&proto);
        *self.proto.write().unwrap_or_else(PoisonError::into_inner) = proto;
    }

    pub(crate) fn set_topic_deleted(&self) {
        super::DELETED_TOPIC
            .clone_into(&mut self.proto.write().unwrap_or_else(PoisonError::into_inner).topic);
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Runs one change under the lock and tells the timer when its next event came nearer.
    fn change<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let (result, nearer) = {
            let mut queue = self.queue();
            let before = queue.next_event();
            let result = change(&mut queue);
            let nearer = match (before, queue.next_event()) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(before), Some(after)) => after < before,
            };
            (result, nearer)
        };
        if nearer {
            self.timer.notify_one();
        }
        result
    }

    pub(crate) fn push(&self, messages: &[Arc<Stored>]) {
        let wanted = |stored: &&Arc<Stored>| match &self.filter {
            Some(filter) => filter.matches(&stored.message.attributes),
            None => true,
        };
        self.change(|queue| queue.push(messages.iter().filter(wanted).cloned()));
    }

    pub(crate) fn open(&self, limits: Limits, notify: Arc<Notify>) -> u64 {
        self.queue().open(limits, notify)
    }

    pub(crate) fn take(&self, stream: u64, most: usize) -> Vec<Outgoing> {
        self.change(|queue| queue.take(stream, most, Instant::now()))
    }

    pub(crate) fn close(&self, stream: u64, unary: bool) {
        self.queue().close(stream, unary);
    }

    pub(crate) fn ack(&self, ids: &[AckId]) -> Settled {
        self.change(|queue| queue.ack(ids))
    }

    pub(crate) fn modify(&self, changes: &[(AckId, Duration)]) -> Settled {
        self.change(|queue| queue.modify(changes, Instant::now()))
    }

    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.queue().wake_all();
        self.timer.notify_one();
    }

    pub(crate) fn reset_streams(&self) {
        self.resets.fetch_add(1, Ordering::AcqRel);
        self.queue().wake_all();
    }

    /// Watches deadlines and backoffs until the subscription is deleted; `settle` forwards what used up its
    /// attempts.
    pub(crate) async fn watch(self: Arc<Self>, settle: impl Fn(&Arc<Subscription>, Settled)) {
        while !self.deleted.load(Ordering::Acquire) {
            let next = self.queue().next_event();
            match next {
                None => self.timer.notified().await,
                Some(at) => {
                    tokio::select! {
                        () = self.timer.notified() => continue,
                        () = tokio::time::sleep_until(at.into()) => {}
                    }
                    let settled = self.queue().on_time(Instant::now());
                    settle(&self, settled);
                }
            }
        }
    }
}
