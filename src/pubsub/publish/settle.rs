//! Published responses until they are settled: accepted, and their requests acknowledged, or refused, and
//! their requests nacked.
//!
//! Pub/Sub refuses a call for one of its messages. The responses of a refused call go again each by itself,
//! then as an error response of the simplest form. One that is refused in every form is nacked, and affects
//! no other.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::future::join_all;
use google_cloud_pubsub::client::Publisher;
use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::publisher::PublishFuture;
use tokio::sync::OwnedSemaphorePermit;

use super::response;
use crate::gcp::clients;
use crate::gcp::clients::LastRefusal;
use crate::lock::lock;
use crate::ops::health::{Health, Part};
use crate::ops::metrics::Metrics;
use crate::ops::request_log;
use crate::ops::request_log::Answered;
use crate::pubsub::delivery::{Reply, Requester};
use crate::pubsub::flow::Flow;
use crate::pubsub::ordering::Order;

/// Without an accepted response for so long the worker is not ready; the client goes on trying.
const SLOW: Duration = Duration::from_secs(5);
const STILL_TRYING: &str = "no response was accepted for 5 seconds, still trying";
/// A call without an answer for so long, while nothing was refused either: its connection is dead, though
/// nobody said so. More than two of the client's pauses between attempts
/// ([`LONGEST_PUBLISH_PAUSE`](crate::backoff::LONGEST_PUBLISH_PAUSE)).
const SILENCE: Duration = Duration::from_secs(30);
/// Pause of a request whose response was refused for good: before it is nacked, or, with an ordering key,
/// when it is redelivered. Nacked at once it would be redelivered at once, as often as the worker can compute
/// it.
pub(super) const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Different requests refused since the last accepted response: by then the topic accepts none, and the
/// worker is not ready.
const MOST_REFUSED: usize = 10;

/// State that all calls under way share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) order: Arc<Order>,
    /// Refusals that the client tries again after.
    pub(super) last_refusal: LastRefusal,
    /// A connection was found dead: a new one is needed.
    pub(super) is_dead: AtomicBool,
    /// Message ids refused for good since the last accepted response, [`MOST_REFUSED`] at most.
    pub(super) refused: Mutex<HashSet<String>>,
    /// Refused requests that wait to be nacked: beyond [`Self::share`] they are nacked at once, so that others
    /// are received.
    pub(super) put_off: AtomicUsize,
    pub(super) flow: Arc<Flow>,
}

impl Shared {
    /// The part of the requests in flight that may wait for a redelivery.
    pub(super) fn share(&self) -> usize {
        self.flow.limit() / 2
    }

    /// Waits for the answers to one call's messages. `alone`: sends a message a call, all that have an
    /// ordering key.
    pub(super) async fn settle(
        &self,
        alone: Publisher,
        sent: Vec<(PublishFuture, Reply)>,
        call: OwnedSemaphorePermit,
    ) {
        let started = Instant::now();
        let (mut refused, sent_count) = (Vec::new(), sent.len());
        for (mut accepted, reply) in sent {
            match self.answer(&mut accepted, started).await {
                Ok(id) => self.accepted(reply, &id),
                Err(why) => refused.push((reply, why)),
            }
        }
        self.metrics.publish.observe(started.elapsed().as_secs_f64());
        if refused.len() < sent_count {
            self.accepts();
        }
        if refused.is_empty() {
            return;
        }
        let was_alone = sent_count == 1;
        let again = refused.into_iter().map(|(reply, why)| self.insist(&alone, reply, why, was_alone));
        let given_up = join_all(again).await;
        drop(call);
        join_all(given_up.into_iter().flatten().map(|(reply, _)| self.give_up(reply))).await;
    }

    /// Publishes a response with an ordering key and waits until it is settled: the next of its key follows.
    pub(super) async fn settle_ordered(&self, publisher: Publisher, reply: Reply) {
        let started = Instant::now();
        let (answer, reply) = self.publish(&publisher, reply).await;
        self.metrics.publish.observe(started.elapsed().as_secs_f64());
        match answer {
            Ok(id) => {
                self.accepted(reply, &id);
                self.accepts();
            }
            Err(why) => {
                let Some((reply, why)) = self.insist(&publisher, reply, why, true).await else { return };
                let wait = if why.is_for_good { REFUSED_PAUSE } else { Duration::ZERO };
                let Requester { ordering_key: key, message_id, .. } = reply.requester();
                // Before its request is nacked, which ends the call.
                self.order.pauses.pause(key, message_id.clone(), true, wait);
            }
        }
    }

    fn accepted(&self, reply: Reply, id: &str) {
        let (code, Reply { outcome, model, mut origin, .. }) = (reply.code(), reply);
        origin.trace.published(id);
        let exemplar = origin.trace.exemplar();
        origin.reply_to.ticket.ack();
        origin.trace.settled();
        let metrics = model.as_ref().map_or(&self.metrics.unrouted, |model| &model.metrics);
        let elapsed = origin.received_at.elapsed();
        metrics.answered(code, elapsed, exemplar);
        request_log::log(&Answered {
            model: model.as_deref().map(|model| &*model.name),
            version: model.as_deref().map(|model| &*model.version),
            message_id: &origin.reply_to.requester.message_id,
            code,
            reason: outcome.err().as_ref().map(|rejection| &*rejection.message),
            rows: origin.rows,
            elapsed,
        });
    }

    /// Publishes a refused response by itself, then an error in its place. The reply, if Pub/Sub accepts
    /// neither.
    async fn insist(
        &self,
        publisher: &Publisher,
        mut reply: Reply,
        mut why: Refused,
        was_alone: bool,
    ) -> Option<(Reply, Refused)> {
        let mut is_error = false;
        let mut again = !was_alone;
        while why.is_for_good && !is_error {
            if !again {
                (reply, is_error) = (response::in_place_of(reply, &why.why), true);
            }
            again = false;
            match self.publish(publisher, reply).await {
                (Ok(id), reply) => {
                    self.accepted(reply, &id);
                    self.accepts();
                    return None;
                }
                (Err(next), refused) => (reply, why) = (refused, next),
            }
        }
        self.metrics.publish_failures.inc();
        let is_all = why.is_for_good && self.refuses(&reply.requester().message_id);
        if !why.is_for_good || is_all {
            self.failing(why.part, &format!("the response topic refused responses: {}", why.why));
        }
        if why.is_for_good {
            tracing::error!(
                message_id = reply.requester().message_id,
                why = why.why,
                hint = "check the response topic's schema, which error responses must fit too; with a dead-letter policy the \
                        request ends in the dead-letter topic",
                "a response was refused in every form, its request is nacked"
            );
        }
        Some((reply, why))
    }

    /// Publishes one response and waits for the answer.
    pub(super) async fn publish(
        &self,
        publisher: &Publisher,
        reply: Reply,
    ) -> (Result<String, Refused>, Reply) {
        let (started, mut reply) = (Instant::now(), reply);
        loop {
            let (message, same) = response::message(reply);
            reply = same;
            match self.answer(&mut publisher.publish(message), started).await {
                // Not sent: the client pauses a key after a refusal, perhaps only once that is known here.
                Err(Refused { is_paused: true, .. }) => {
                    publisher.resume_publish(&reply.requester().ordering_key)
                }
                answer => return (answer, reply),
            }
        }
    }

    /// The request is nacked when this ends.
    async fn give_up(&self, reply: Reply) {
        let others = self.put_off.fetch_add(1, Ordering::Relaxed);
        if others < self.share() || self.refused().len() >= MOST_REFUSED {
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
        self.put_off.fetch_sub(1, Ordering::Relaxed);
        drop(reply);
    }

    /// Waits for as long as the client tries and the server says anything, `since` the call was made.
    pub(super) async fn answer(
        &self,
        accepted: &mut PublishFuture,
        since: Instant,
    ) -> Result<String, Refused> {
        let is_silent = || since.elapsed() > SILENCE && self.last_refusal.age() > SILENCE;
        loop {
            // One call's messages share its fate: what the first has waited for, the others need not.
            let patience = if is_silent() { Duration::ZERO } else { SLOW };
            if let Ok(answer) = tokio::time::timeout(patience, &mut *accepted).await {
                return answer.map_err(|error| Refused::of(&error));
            }
            // A refusal says more.
            let says_more = |part| self.health.trouble(part).is_some_and(|why| why != STILL_TRYING);
            if ![Part::Topic, Part::Responses].into_iter().any(says_more) {
                self.failing(Part::Responses, STILL_TRYING);
            }
            if is_silent() {
                self.is_dead.store(true, Ordering::Relaxed);
                let why = "no answer at all for 30 seconds, trying over a new connection".to_owned();
                return Err(Refused { part: Part::Responses, why, is_for_good: false, is_paused: false });
            }
        }
    }

    /// A response was accepted.
    fn accepts(&self) {
        let mut refused = self.refused();
        if !refused.is_empty() {
            refused.clear();
        }
        drop(refused);
        // Not `||`: an accepted response proves that the topic can be used, too.
        if self.health.works(Part::Topic) | self.health.works(Part::Responses) {
            tracing::info!("responses are accepted");
        }
    }

    /// A request's response was refused for good; whether the topic accepts none any more.
    fn refuses(&self, message_id: &str) -> bool {
        let mut refused = self.refused();
        if refused.len() < MOST_REFUSED {
            refused.insert(message_id.to_owned());
        }
        refused.len() >= MOST_REFUSED
    }

    fn refused(&self) -> MutexGuard<'_, HashSet<String>> {
        lock(&self.refused)
    }

    /// The topic cannot be published to, and is tried again.
    pub(super) fn refuses_all(&self, error: &google_cloud_pubsub::Error) {
        let Refused { part, why, .. } = Refused::of_call(error);
        self.failing(part, &format!("the response topic refused responses: {why}"));
    }

    fn failing(&self, part: Part, why: &str) {
        if self.health.fails(part, why) {
            tracing::error!(why, "responses are not accepted, their requests will be redelivered");
        }
    }
}

/// Why a response was not accepted, and what to do where that is plain.
#[derive(Debug)]
pub(super) struct Refused {
    part: Part,
    why: String,
    /// Pub/Sub found a message of the call invalid: it never accepts it.
    is_for_good: bool,
    /// The client did not send it.
    is_paused: bool,
}

impl Refused {
    fn of(error: &PublishError) -> Self {
        match error {
            PublishError::Rpc(call) => Self::of_call(call),
            _ => Self {
                part: Part::Responses,
                why: error.to_string(),
                is_for_good: false,
                is_paused: matches!(error, PublishError::OrderingKeyPaused),
            },
        }
    }

    fn of_call(error: &google_cloud_pubsub::Error) -> Self {
        let code = clients::code(error);
        let (part, hint) = match code {
            Some("NOT_FOUND") => (Part::Topic, "; create it, or correct `responses.topic` and `project`"),
            _ => (Part::Responses, ""),
        };
        let is_for_good = code == Some("INVALID_ARGUMENT");
        Self { part, why: format!("{error}{hint}"), is_for_good, is_paused: false }
    }
}
