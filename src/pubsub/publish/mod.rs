//! Responses out: each is published, and its request acknowledged once Pub/Sub accepted it.
//!
//! Calls are full when busy and immediate when idle, without a linger: a group of replies is cut into powers
//! of two, and there is one publisher for each power, which sends as soon as it holds that many. Responses
//! with an ordering key go one by one in the order of their requests, a call a key at a time, and the loop
//! waits for none of these calls. Results that are too large for a message go to a bucket first, and
//! come back as a reference. Ends when its input closes, after every response was accepted or given up.

mod by_key;
mod large;
mod response;
mod retry;
mod settle;
pub mod topic;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use google_cloud_pubsub::client::{BasePublisher, Publisher};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::config::Requests;
use crate::gcp::clients;
use crate::gcp::clients::LastRefusal;
use crate::ops::health::{Health, Pulse};
use crate::ops::metrics::Metrics;
use crate::pubsub::delivery::{Reply, Requester, report_expired};
use crate::pubsub::flow::Flow;
use crate::pubsub::ordering::{Admission, Order};
use crate::pubsub::publish::by_key::{Keys, Next, Weight};
use crate::stages::pass_panic_on;
pub use large::Large;
pub use response::attributes;
use response::message;
use retry::Retry;
use settle::Shared;

/// Powers of two from 1 to 256 messages a call, of the 1000 that Pub/Sub takes: a call whose reply is lost
/// doubles all of its responses.
const POWERS: usize = 9;
/// Calls under way at most; what waits meanwhile makes the next calls fuller. Together they hold about what is
/// in flight by default. Fewer took less memory at full load (8 calls of 128: 15 MB), but would limit a worker
/// whose topic answers slowly.
const CALLS_IN_FLIGHT: usize = 32;
/// The same for responses with an ordering key, each of which is a call.
const ORDERED_CALLS_IN_FLIGHT: usize = 64;
/// The client keeps a task for every ordering key that it ever saw: after so many messages it gets a new
/// publisher.
const ORDERED_MESSAGES: u64 = 10_000;
/// Interval of looking at responses that wait for one before them, should that one have been given up.
const HELD_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Publish {
    client: BasePublisher,
    topic: String,
    publishers: Vec<Publisher>,
    ordered: Publisher,
    large: Arc<Large>,
    shared: Arc<Shared>,
    /// Bytes that may wait of interrupted keys; see [`Self::share`].
    share_of_bytes: usize,
    pulse: Arc<Pulse>,
}

impl Publish {
    /// # Errors
    /// Google's client cannot be set up.
    pub async fn new(
        topic: &str,
        requests: &Requests,
        flow: Arc<Flow>,
        large: Large,
        order: Arc<Order>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> anyhow::Result<Self> {
        let pulse = health.pulse("publish");
        let shared = Arc::new(Shared {
            metrics,
            health,
            order,
            last_refusal: LastRefusal::default(),
            is_dead: AtomicBool::new(false),
            refused: Mutex::default(),
            put_off: AtomicUsize::new(0),
            flow,
        });
        let client = clients::publisher(Retry(Arc::clone(&shared))).await?;
        Ok(Self {
            publishers: publishers(&client, topic),
            ordered: publisher(&client, topic, 1),
            client,
            topic: topic.to_owned(),
            large: Arc::new(large),
            shared,
            share_of_bytes: requests.max_outstanding_bytes / 2,
            pulse,
        })
    }

    /// Most that may wait of interrupted keys; beyond it they start over, so that others are received.
    fn share(&self) -> Weight {
        Weight { messages: self.shared.share(), bytes: self.share_of_bytes }
    }

    pub async fn run(mut self, mut replies: mpsc::Receiver<Vec<Reply>>) {
        let [calls, ordered_calls] =
            [CALLS_IN_FLIGHT, ORDERED_CALLS_IN_FLIGHT].map(|calls| Arc::new(Semaphore::new(calls)));
        let (mut settling, mut in_order) = (JoinSet::new(), JoinSet::new());
        let mut writing: JoinSet<Option<Reply>> = JoinSet::new();
        let (mut keys, mut number, mut is_open) = (Keys::default(), 1_u64, true);
        let mut held = tokio::time::interval(HELD_INTERVAL);
        held.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut plain = tokio::select! {
                group = replies.recv(), if is_open => match group {
                    Some(group) => group,
                    None => { is_open = false; continue }
                },
                Some(written) = writing.join_next() => pass_panic_on(written).flatten().into_iter().collect(),
                Some(settled) = in_order.join_next() => {
                    keys.settled(pass_panic_on(settled));
                    Vec::new()
                }
                _ = held.tick(), if keys.holds_any() => { keys.look_at_all(); Vec::new() }
                else => break,
            };
            while let Some(settled) = in_order.try_join_next() {
                keys.settled(pass_panic_on(settled));
            }
            if self.shared.is_dead.swap(false, Ordering::Relaxed) {
                self.connect_anew().await;
            }
            while plain.len() < 1 << (POWERS - 1)
                && let Ok(more) = replies.try_recv()
            {
                plain.extend(more);
            }
            for reply in plain.extract_if(.., |reply| reply.origin.reply_to.turn.is_some()) {
                let Requester { ordering_key, message_id, .. } = reply.requester();
                self.shared.order.pauses.came(ordering_key, message_id, reply.origin.received_at);
                keys.hold(reply);
            }
            while let Ok(call) = Arc::clone(&ordered_calls).try_acquire_owned()
                && let Some(reply) = keys.next(|reply| self.next(reply, is_open))
            {
                if self.large.takes(&reply) {
                    writing.spawn(self.write(reply).await);
                    continue;
                }
                if number.is_multiple_of(ORDERED_MESSAGES) {
                    // The calls under way keep the old one.
                    self.ordered = publisher(&self.client, &self.topic, 1);
                }
                number += 1;
                let (shared, ordered) = (Arc::clone(&self.shared), self.ordered.clone());
                let key: Arc<str> = Arc::from(&*reply.requester().ordering_key);
                in_order.spawn(async move {
                    shared.settle_ordered(ordered, reply).await;
                    drop(call);
                    key
                });
            }
            while let Some((key, given_up)) = keys.beyond(self.share()) {
                self.shared.order.pauses.start_over(&key);
                drop(given_up);
            }
            let now = Instant::now();
            for reply in plain.extract_if(.., |reply| reply.origin.is_expired(now)) {
                report_expired(&self.shared.metrics, &reply.requester().message_id);
            }
            for reply in plain.extract_if(.., |reply| self.large.takes(reply)) {
                writing.spawn(self.write(reply).await);
            }
            while !plain.is_empty() {
                let power = (POWERS - 1).min(plain.len().ilog2() as usize);
                let rest = plain.split_off(1 << power);
                let call = acquire(&calls).await;
                settling.spawn(self.send(&self.publishers[power], plain, call));
                plain = rest;
            }
            while settling.try_join_next().and_then(pass_panic_on).is_some() {}
        }
        while settling.join_next().await.and_then(pass_panic_on).is_some() {}
    }

    /// Decides over the oldest response of a key. `may_come`: requests may still be redelivered to this
    /// worker.
    fn next(&self, reply: &Reply, may_come: bool) -> Next {
        let Requester { ordering_key, message_id, .. } = reply.requester();
        if reply.origin.is_expired(Instant::now()) {
            report_expired(&self.shared.metrics, message_id);
            self.shared.order.pauses.pause(ordering_key, message_id.clone(), false, Duration::ZERO);
            return Next::Drop;
        }
        match self.shared.order.pauses.admits(ordering_key, message_id, reply.origin.received_at) {
            Admission::Now if self.large.takes(reply) => Next::Leave,
            Admission::Now => Next::Go,
            Admission::Later if may_come => Next::Wait,
            Admission::Later | Admission::Never => Next::Drop,
        }
    }

    /// Replaces the clients. Requests whose responses went over the dead connection were nacked and are
    /// redelivered.
    async fn connect_anew(&mut self) {
        match clients::publisher(Retry(Arc::clone(&self.shared))).await {
            Ok(client) => self.client = client,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "no new connection, keeping the old one");
            }
        }
        self.publishers = publishers(&self.client, &self.topic);
        self.ordered = publisher(&self.client, &self.topic, 1);
    }

    /// Hands replies to the client at once; the future settles them.
    fn send(
        &self,
        publisher: &Publisher,
        replies: Vec<Reply>,
        call: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + use<> {
        let working = self.pulse.work();
        let sent = replies.into_iter().map(|reply| {
            let (message, reply) = message(reply);
            (publisher.publish(message), reply)
        });
        let sent = sent.collect();
        drop(working);
        let (shared, alone) = (Arc::clone(&self.shared), self.publishers[0].clone());
        async move { shared.settle(alone, sent, call).await }
    }

    /// Waits for a free place among the writes under way. The future writes the result; the reply that says
    /// where it is, or `None` when its request is redelivered.
    async fn write(&self, reply: Reply) -> impl Future<Output = Option<Reply>> + use<> {
        let place = self.large.place().await;
        let (large, shared) = (Arc::clone(&self.large), Arc::clone(&self.shared));
        async move {
            let written = large.write(reply).await;
            drop(place);
            let (reply, error) = match written {
                Ok(reply) => return Some(reply),
                Err(failed) => failed,
            };
            shared.metrics.publish_failures.inc();
            tracing::error!(
                error = format!("{error:#}"),
                hint = "check `responses.bucket` and the rights (roles/storage.objectUser)",
                "a result was not written, its request will be redelivered"
            );
            reply.origin.reply_to.give_up();
            None
        }
    }
}

fn publishers(client: &BasePublisher, topic: &str) -> Vec<Publisher> {
    (0..POWERS).map(|power| publisher(client, topic, 1 << power)).collect()
}

fn publisher(client: &BasePublisher, topic: &str, messages: u32) -> Publisher {
    let builder = client.publisher(topic).set_message_count_threshold(messages);
    // Only for what a call's limit of bytes has cut off.
    builder.set_delay_threshold(Duration::from_millis(1)).build()
}

async fn acquire(calls: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(calls).acquire_owned().await.expect("the semaphore is never closed")
}
