//! Responses out: each is published, and its request acknowledged once Pub/Sub accepted it.
//!
//! Calls are full when busy and immediate when idle, without a linger: a group of replies is cut into powers of two, and
//! there is one publisher for each power, which sends as soon as it holds that many. Ends when its input closes, after
//! every response was accepted or given up. Results that are too large for a message go to a bucket first.

mod large;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use google_cloud_pubsub::client::{BasePublisher, Publisher};
use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::model::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::error::{Code, Rejection};
use crate::google;
use crate::health::{Health, Part};
use crate::message::{Reply, Ticket};
use crate::metrics::Metrics;
use crate::order::{Away, Leave};
pub use large::Large;

/// Powers of two from 1 to 128 messages a call. Pub/Sub takes 1000, but beyond a hundred nothing is gained.
const POWERS: usize = 8;
/// Calls under way at most; what waits meanwhile makes the next calls fuller.
const CALLS_IN_FLIGHT: usize = 64;
/// Pub/Sub's limit of one message, data and attributes together.
const MAX_MESSAGE_BYTES: usize = 10_000_000;
const MAX_ATTRIBUTES: usize = 100;
const MAX_ATTRIBUTE_BYTES: usize = 1024;
/// Attributes that a response has of its own at most: 9 that a traced one has, what its body needs (2), where it lies (1), a
/// CloudEvent's (9).
const OWN_ATTRIBUTES: usize = 19;
/// Without an accepted response for so long the worker is not ready; the client goes on trying.
const SLOW: Duration = Duration::from_secs(5);
const MOST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Publish {
    publishers: Vec<Publisher>,
    large: Arc<Large>,
    /// Ordering keys whose next response is being written to a bucket.
    away: Arc<Away>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// Calls refused in a row.
    failures: AtomicU32,
}

/// What is left to do once a message was handed to the client.
struct Sent {
    accepted: google_cloud_pubsub::publisher::PublishFuture,
    ticket: Ticket,
    received_at: Instant,
    outcome: Result<(), Code>,
    model: Option<Arc<crate::model::Model>>,
    ordering_key: String,
}

impl Publish {
    pub fn new(
        client: &BasePublisher,
        topic: &str,
        large: Large,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Self {
        let publishers = (0..POWERS)
            .map(|power| {
                client
                    .publisher(topic)
                    .set_message_count_threshold(1u32 << power)
                    // Only for what a call's limit of bytes has cut off.
                    .set_delay_threshold(Duration::from_millis(1))
                    .build()
            })
            .collect();
        let shared = Arc::new(Shared { metrics, health, failures: AtomicU32::new(0) });
        Self { publishers, large: Arc::new(large), away: Arc::default(), shared }
    }

    pub async fn run(self, mut replies: mpsc::Receiver<Vec<Reply>>) {
        let calls = Arc::new(Semaphore::new(CALLS_IN_FLIGHT));
        let mut settling = JoinSet::new();
        while let Some(mut group) = replies.recv().await {
            self.shared.pause().await;
            while group.len() < 1 << (POWERS - 1)
                && let Ok(more) = replies.try_recv()
            {
                group.extend(more);
            }
            let (ordered, mut plain): (Vec<Reply>, Vec<Reply>) =
                group.into_iter().partition(|reply| !reply.origin.ordering_key.is_empty());
            // The client keeps the order within a key, as long as one publisher gets all of it.
            for reply in ordered {
                self.away.returned(&reply.origin.ordering_key).await;
                if self.large.takes(&reply) {
                    let leave = self.away.leave(&reply.origin.ordering_key);
                    settling.spawn(self.write(reply, leave).await);
                    continue;
                }
                let call = acquire(&calls).await;
                settling.spawn(self.send(0, vec![reply], call));
            }
            for reply in plain.extract_if(.., |reply| self.large.takes(reply)) {
                settling.spawn(self.write(reply, None).await);
            }
            while !plain.is_empty() {
                let power = (POWERS - 1).min(plain.len().ilog2() as usize);
                let rest = plain.split_off(1 << power);
                let call = acquire(&calls).await;
                settling.spawn(self.send(power, plain, call));
                plain = rest;
            }
            while settling.try_join_next().is_some() {}
        }
        while settling.join_next().await.is_some() {}
    }

    /// Hands replies to the client at once, in order; the future settles their tickets.
    fn send(
        &self,
        power: usize,
        replies: Vec<Reply>,
        call: OwnedSemaphorePermit,
    ) -> impl Future<Output = ()> + use<> {
        let publisher = self.publishers[power].clone();
        let sent: Vec<Sent> = replies.into_iter().map(|reply| publish(&publisher, reply)).collect();
        let (shared, started) = (Arc::clone(&self.shared), Instant::now());
        async move {
            shared.settle(sent, &publisher).await;
            shared.metrics.publish.observe(started.elapsed().as_secs_f64());
            drop(call);
        }
    }
}

impl Publish {
    /// Waits for a free place among the writes under way; the future writes the result, publishes where it is, and settles.
    async fn write(&self, reply: Reply, leave: Option<Leave>) -> impl Future<Output = ()> + use<> {
        let place = self.large.place().await;
        let publisher = self.publishers[0].clone();
        let (large, shared) = (Arc::clone(&self.large), Arc::clone(&self.shared));
        async move {
            match large.write(reply).await {
                Ok(reply) => {
                    let sent = publish(&publisher, reply);
                    // From here on the client keeps the order.
                    drop(leave);
                    shared.settle(vec![sent], &publisher).await;
                }
                Err(error) => {
                    shared.metrics.publish_failures.inc();
                    tracing::error!(
                        error = format!("{error:#}"),
                        "a result was not written, its request will come again; check `responses.bucket` and the rights \
                         (roles/storage.objectUser)"
                    );
                }
            }
            drop(place);
        }
    }
}

async fn acquire(calls: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(calls).acquire_owned().await.expect("the semaphore is never closed")
}

fn publish(publisher: &Publisher, reply: Reply) -> Sent {
    let reply = fit(reply);
    let Reply { body, attributes: own, outcome, model, id, mut origin } = reply;
    let event_id = origin.delivery.event.map(|event| event.id);
    let body_id = id.as_ref().map(crate::decode::Id::as_str).filter(|id| is_attribute(id));
    let given_id = body_id.or(event_id.as_deref().filter(|id| is_attribute(id)));
    let mut all = attributes(origin.attributes, &origin.message_id, given_id, model.as_deref(), outcome);
    origin.ticket.trace.publishing(&mut all, body.len(), outcome);
    let message = Message::new()
        .set_data(body)
        .set_attributes(
            all.into_iter().chain(own.into_iter().map(|(key, value)| (key.to_owned(), value.into_owned()))),
        )
        .set_ordering_key(origin.ordering_key.clone());
    Sent {
        accepted: publisher.publish(message),
        ticket: origin.ticket,
        received_at: origin.received_at,
        outcome,
        model,
        ordering_key: origin.ordering_key,
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
    let of_the_body =
        ["content-type", "content-encoding", "inference-header-content-length", "dataref", "payloadFormat"];
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

/// Why a response was refused, and what to do where that is plain.
fn what_to_do(error: &PublishError) -> String {
    match error {
        PublishError::Rpc(call) if google::code(call) == Some("NOT_FOUND") => {
            format!("{error}; create it, or correct `responses.topic` and `project`")
        }
        _ => error.to_string(),
    }
}

impl Shared {
    async fn settle(&self, sent: Vec<Sent>, publisher: &Publisher) {
        let mut refused: Option<String> = None;
        for Sent { mut accepted, mut ticket, received_at, outcome, model, ordering_key } in sent {
            let answer = match tokio::time::timeout(SLOW, &mut accepted).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.failing("no response was accepted for 5 seconds, still trying");
                    accepted.await
                }
            };
            match answer {
                Ok(id) => {
                    ticket.trace.published(&id);
                    ticket.ack();
                    let metrics = model.as_ref().map_or(&self.metrics.unrouted, |model| &model.metrics);
                    metrics.requests(outcome).inc();
                    metrics.request.observe(received_at.elapsed().as_secs_f64());
                }
                Err(error) => {
                    self.metrics.publish_failures.inc();
                    drop(ticket);
                    if !ordering_key.is_empty() {
                        publisher.resume_publish(ordering_key);
                    }
                    refused = Some(what_to_do(&error));
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
