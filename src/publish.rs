//! Responses out: each is published, and its request acknowledged once Pub/Sub accepted it.
//!
//! Calls are full when busy and immediate when idle, without a linger: a group of replies is cut into powers of two, and
//! there is one publisher for each power, which sends as soon as it holds that many. Responses with an ordering key go one
//! by one in the order of their requests (see [`Keys`]). Ends when its input closes, after every response was accepted or
//! given up.

mod keys;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use google_cloud_pubsub::client::{BasePublisher, Publisher};
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::publisher::PublishFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::error::{Code, Rejection};
use crate::google::{self, Heard};
use crate::health::{Health, Part, Pulse};
use crate::message::{Reply, Ticket};
use crate::metrics::Metrics;
use keys::Keys;

/// Powers of two from 1 to 128 messages a call. Pub/Sub takes 1000, but beyond a hundred nothing is gained.
const POWERS: usize = 8;
/// Calls under way at most; what waits meanwhile makes the next calls fuller.
const CALLS_IN_FLIGHT: usize = 64;
/// Pub/Sub's limit of one message, data and attributes together.
const MAX_MESSAGE_BYTES: usize = 10_000_000;
const MAX_ATTRIBUTES: usize = 100;
const MAX_ATTRIBUTE_BYTES: usize = 1024;
/// Attributes that a response has of its own at most: 7 that every one has, what its body needs (2), a CloudEvent's (8).
const OWN_ATTRIBUTES: usize = 17;
/// Without an accepted response for so long the worker is not ready; the client goes on trying.
const SLOW: Duration = Duration::from_secs(5);
/// A call without an answer for so long, while nothing was refused either: its connection is dead, though nobody
/// said so. More than two of the client's pauses between attempts ([`google::PUBLISH_BACKOFF`]).
const SILENCE: Duration = Duration::from_secs(30);
const MOST_PAUSE: Duration = Duration::from_secs(10);

/// The client keeps a task for every ordering key that it ever saw: after so many messages it gets a new publisher.
const ORDERED_MESSAGES: u64 = 10_000;
/// How often responses that wait for one before them are looked at, should that one have been given up.
const HELD_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Publish {
    client: BasePublisher,
    topic: String,
    publishers: Vec<Publisher>,
    ordered: Publisher,
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
}

#[derive(Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// Calls refused in a row.
    failures: AtomicU32,
    keys: Keys,
    /// Refusals that the client tries again after.
    heard: Arc<Heard>,
    /// A connection was found dead: a new one is needed.
    is_dead: AtomicBool,
}

/// What is left to do once a message was handed to the client.
struct Sent {
    accepted: PublishFuture,
    ticket: Ticket,
    received_at: Instant,
    outcome: Result<(), Code>,
    model: Option<Arc<crate::model::Model>>,
    ordering_key: String,
    message_id: String,
    /// Counts what has an ordering key from 1, in the order of publishing; else 0.
    number: u64,
}

impl Publish {
    /// # Errors
    /// Google's client cannot be set up.
    pub async fn new(topic: &str, metrics: Arc<Metrics>, health: Arc<Health>) -> anyhow::Result<Self> {
        let heard = Arc::<Heard>::default();
        let client = google::publisher(Arc::clone(&heard)).await?;
        let publishers = publishers(&client, topic);
        let ordered = publisher(&client, topic, 1);
        let pulse = health.pulse("publish");
        let shared = Arc::new(Shared {
            metrics,
            health,
            failures: AtomicU32::new(0),
            keys: Keys::default(),
            heard,
            is_dead: AtomicBool::new(false),
        });
        Ok(Self { client, topic: topic.to_owned(), publishers, ordered, shared, pulse })
    }

    pub async fn run(mut self, mut replies: mpsc::Receiver<Vec<Reply>>) {
        let calls = Arc::new(Semaphore::new(CALLS_IN_FLIGHT));
        let (mut settling, mut in_order) = (JoinSet::new(), JoinSet::new());
        let mut number = 1;
        loop {
            let mut group = tokio::select! {
                group = replies.recv() => match group {
                    Some(group) => group,
                    None => break,
                },
                () = tokio::time::sleep(HELD_INTERVAL), if self.shared.keys.holds_any() => Vec::new(),
            };
            if self.shared.is_dead.swap(false, Ordering::Relaxed) {
                self.connect_anew().await;
            }
            self.shared.pause().await;
            while group.len() < 1 << (POWERS - 1)
                && let Ok(more) = replies.try_recv()
            {
                group.extend(more);
            }
            let working = self.pulse.work();
            let (ordered, mut plain): (Vec<Reply>, Vec<Reply>) =
                group.into_iter().partition(|reply| reply.origin.turn.is_some());
            ordered.into_iter().for_each(|reply| self.shared.keys.hold(reply));
            drop(working);
            // The client keeps the order within a key, as long as one publisher gets all of it.
            for reply in self.shared.keys.due() {
                let resume = |key: &str| self.ordered.resume_publish(key);
                if !self.shared.keys.admits(&reply, number, resume) {
                    continue;
                }
                if number.is_multiple_of(ORDERED_MESSAGES) {
                    while in_order.join_next().await.is_some() {}
                    self.ordered = publisher(&self.client, &self.topic, 1);
                }
                let call = acquire(&calls).await;
                in_order.spawn(self.send(self.ordered.clone(), vec![reply], number, call));
                number += 1;
            }
            while !plain.is_empty() {
                let power = (POWERS - 1).min(plain.len().ilog2() as usize);
                let rest = plain.split_off(1 << power);
                let call = acquire(&calls).await;
                settling.spawn(self.send(self.publishers[power].clone(), plain, 0, call));
                plain = rest;
            }
            while settling.try_join_next().is_some() {}
            while in_order.try_join_next().is_some() {}
        }
        while settling.join_next().await.is_some() {}
        while in_order.join_next().await.is_some() {}
    }

    /// What was sent over a dead connection was given back, and its requests come again.
    async fn connect_anew(&mut self) {
        match google::publisher(Arc::clone(&self.shared.heard)).await {
            Ok(client) => self.client = client,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "no new connection, keeping the old one");
            }
        }
        self.publishers = publishers(&self.client, &self.topic);
        self.ordered = publisher(&self.client, &self.topic, 1);
    }

    /// Hands replies to the client at once, in order; the future settles their tickets. `number`: 0 without an ordering key.
    fn send(
        &self,
        publisher: Publisher,
        replies: Vec<Reply>,
        number: u64,
        call: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + use<> {
        let working = self.pulse.work();
        let sent: Vec<Sent> = replies.into_iter().map(|reply| publish(&publisher, reply, number)).collect();
        drop(working);
        let shared = Arc::clone(&self.shared);
        async move {
            shared.settle(sent).await;
            drop(call);
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

fn publish(publisher: &Publisher, reply: Reply, number: u64) -> Sent {
    let reply = fit(reply);
    let Reply { body, attributes: own, outcome, model, id, origin } = reply;
    let event_id = origin.delivery.event.map(|event| event.id);
    let body_id = id.as_ref().map(crate::decode::Id::as_str).filter(|id| is_attribute(id));
    let given_id = body_id.or(event_id.as_deref().filter(|id| is_attribute(id)));
    let all = attributes(origin.attributes, &origin.message_id, given_id, model.as_deref(), outcome);
    let message = Message::new()
        .set_data(body)
        .set_attributes(
            all.into_iter().chain(own.into_iter().map(|(key, value)| (key.to_owned(), value.into_owned()))),
        )
        .set_ordering_key(origin.ordering_key.clone());
    // Its turn ends here: the client keeps the order from now on.
    Sent {
        accepted: publisher.publish(message),
        ticket: origin.ticket,
        received_at: origin.received_at,
        outcome,
        model,
        ordering_key: origin.ordering_key,
        message_id: origin.message_id,
        number,
    }
}

/// A response that Pub/Sub would refuse becomes an error that it takes.
fn fit(reply: Reply) -> Reply {
    let attributes: usize = reply.origin.attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    let most = MAX_MESSAGE_BYTES - attributes - OWN_ATTRIBUTES * MAX_ATTRIBUTE_BYTES;
    if reply.body.len() <= most {
        return reply;
    }
    let message = format!("the response has {} bytes, at most {most} can be published", reply.body.len());
    Reply::refused(&Rejection::new(Code::ResponseTooLarge, message), reply.id, reply.model, reply.origin)
}

/// Whether Pub/Sub takes it as an attribute's value, and it says something.
fn is_attribute(value: &str) -> bool {
    !value.is_empty() && value.len() <= MAX_ATTRIBUTE_BYTES
}

/// The request's own attributes, then the response's, but for those that tell of the body.
fn attributes(
    mut all: HashMap<String, String>,
    message_id: &str,
    given_id: Option<&str>,
    model: Option<&crate::model::Model>,
    outcome: Result<(), Code>,
) -> HashMap<String, String> {
    let of_the_body = ["content-type", "content-encoding", "inference-header-content-length"];
    all.retain(|key, _| {
        !(key.starts_with("goog") || key.starts_with("ce-") || of_the_body.contains(&key.as_str()))
    });
    if all.len() > MAX_ATTRIBUTES - OWN_ATTRIBUTES {
        // Pub/Sub would refuse the response for ever; what identifies it matters more than what was passed along.
        let request_id = all.remove("request_id");
        let kept = MAX_ATTRIBUTES - OWN_ATTRIBUTES;
        all = all.into_iter().take(kept).collect();
        all.extend(request_id.map(|id| ("request_id".to_owned(), id)));
    }
    all.reserve(OWN_ATTRIBUTES);
    if !all.contains_key("request_id") {
        all.insert("request_id".to_owned(), given_id.unwrap_or(message_id).to_owned());
    }
    let mut set = |key: &str, value: &str| all.insert(key.to_owned(), value.to_owned());
    set("request_message_id", message_id);
    if let Some(model) = model {
        set("model", &model.name);
        set("model_version", &model.version);
    }
    match outcome {
        Ok(()) => {
            set("status", "ok");
            all.remove("error_code");
        }
        Err(code) => {
            set("status", "error");
            set("error_code", code.as_str());
        }
    }
    all
}

impl Shared {
    async fn settle(&self, sent: Vec<Sent>) {
        let mut refused: Option<String> = None;
        for Sent { mut accepted, ticket, received_at, outcome, model, ordering_key, message_id, number } in
            sent
        {
            let answer = self.answer(&mut accepted).await;
            match answer {
                Ok(_id) => {
                    ticket.ack();
                    let metrics = model.as_ref().map_or(&self.metrics.unrouted, |model| &model.metrics);
                    metrics.requests(outcome).inc();
                    metrics.request.observe(received_at.elapsed().as_secs_f64());
                }
                Err(error) => {
                    self.metrics.publish_failures.inc();
                    if number > 0 {
                        self.keys.pause(ordering_key, message_id, number);
                    }
                    drop(ticket);
                    refused = Some(error);
                }
            }
        }
        match refused {
            Some(why) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.failing(&format!("the response topic refused responses: {why}"));
            }
            None => {
                self.failures.store(0, Ordering::Relaxed);
                if self.health.works(Part::Responses) {
                    tracing::info!("responses are accepted again");
                }
            }
        }
    }

    /// Waits for as long as the client tries and the server says anything.
    async fn answer(&self, accepted: &mut PublishFuture) -> Result<String, String> {
        let since = Instant::now();
        loop {
            if let Ok(answer) = tokio::time::timeout(SLOW, &mut *accepted).await {
                return answer.map_err(|error| error.to_string());
            }
            self.failing("no response was accepted for 5 seconds, still trying");
            if since.elapsed() > SILENCE && self.heard.ago() > SILENCE {
                self.is_dead.store(true, Ordering::Relaxed);
                return Err("no answer at all for 30 seconds, trying over a new connection".to_owned());
            }
        }
    }

    fn failing(&self, why: &str) {
        if self.health.fails(Part::Responses, why) {
            tracing::error!(why, "responses are not accepted, their requests will come again");
        }
    }

    /// After a refusal, longer each time: what is nacked comes back at once, and must not turn in a hot loop.
    async fn pause(&self) {
        let failures = self.failures.load(Ordering::Relaxed);
        if failures > 0 {
            let pause = Duration::from_millis(100) * 2u32.saturating_pow(failures.min(10) - 1);
            tokio::time::sleep(pause.min(MOST_PAUSE)).await;
        }
    }
}
