//! What becomes of published responses: accepted, and their requests acknowledged, or refused, and their requests given back.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::publisher::PublishFuture;

use crate::error::Code;
use crate::google::{self, Heard};
use crate::health::{Health, Part};
use crate::message::Ticket;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::order::Order;
use crate::telemetry::requests::{self, Answered};

/// Without an accepted response for so long the worker is not ready; the client goes on trying.
const SLOW: Duration = Duration::from_secs(5);
/// A call without an answer for so long, while nothing was refused either: its connection is dead, though nobody
/// said so. More than two of the client's pauses between attempts ([`google::PUBLISH_BACKOFF`]).
const SILENCE: Duration = Duration::from_secs(30);
const MOST_PAUSE: Duration = Duration::from_secs(10);

/// What is left to do once a message was handed to the client.
pub(super) struct Sent {
    pub(super) accepted: PublishFuture,
    pub(super) ticket: Ticket,
    pub(super) received_at: Instant,
    pub(super) code: Result<(), Code>,
    /// The message of an error response.
    pub(super) reason: Option<Cow<'static, str>>,
    pub(super) rows: usize,
    pub(super) model: Option<Arc<Model>>,
    pub(super) ordering_key: String,
    pub(super) message_id: String,
    /// Counts what has an ordering key from 1, in the order of publishing; else 0.
    pub(super) number: u64,
}

/// What every call under way shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) order: Arc<Order>,
    /// Calls refused in a row.
    pub(super) failures: AtomicU32,
    /// Refusals that the client tries again after.
    pub(super) heard: Arc<Heard>,
    /// A connection was found dead: a new one is needed.
    pub(super) is_dead: AtomicBool,
}

impl Shared {
    pub(super) async fn settle(&self, sent: Vec<Sent>) {
        let started = Instant::now();
        let mut refused: Option<Refused> = None;
        for mut sent in sent {
            match self.answer(&mut sent.accepted, started).await {
                Ok(id) => {
                    sent.ticket.trace.published(&id);
                    let exemplar = sent.ticket.trace.exemplar();
                    sent.ticket.ack();
                    let metrics = sent.model.as_ref().map_or(&self.metrics.unrouted, |model| &model.metrics);
                    metrics.requests(sent.code).inc();
                    let elapsed = sent.received_at.elapsed();
                    metrics.answered(elapsed, exemplar);
                    requests::log(&Answered {
                        model: sent.model.as_deref(),
                        message_id: &sent.message_id,
                        code: sent.code,
                        reason: sent.reason.as_deref(),
                        rows: sent.rows,
                        elapsed,
                    });
                }
                Err(why) => {
                    self.metrics.publish_failures.inc();
                    if sent.number > 0 {
                        self.order.pauses.pause(&sent.ordering_key, sent.message_id, sent.number);
                    }
                    drop(sent.ticket);
                    refused = Some(why);
                }
            }
        }
        self.metrics.publish.observe(started.elapsed().as_secs_f64());
        match refused {
            Some(why) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.failing(why.part, &format!("the response topic refused responses: {}", why.why));
            }
            None => {
                self.failures.store(0, Ordering::Relaxed);
                // Not `||`: an accepted response proves that the topic can be used, too.
                if self.health.works(Part::Topic) | self.health.works(Part::Responses) {
                    tracing::info!("responses are accepted");
                }
            }
        }
    }

    /// Waits for as long as the client tries and the server says anything, `since` the call was made.
    async fn answer(&self, accepted: &mut PublishFuture, since: Instant) -> Result<String, Refused> {
        let is_silent = || since.elapsed() > SILENCE && self.heard.ago() > SILENCE;
        loop {
            // One call's messages share its fate: what the first has waited for, the others need not.
            let patience = if is_silent() { Duration::ZERO } else { SLOW };
            if let Ok(answer) = tokio::time::timeout(patience, &mut *accepted).await {
                return answer.map_err(|error| Refused::of(&error));
            }
            self.failing(Part::Responses, "no response was accepted for 5 seconds, still trying");
            if is_silent() {
                self.is_dead.store(true, Ordering::Relaxed);
                let why = "no answer at all for 30 seconds, trying over a new connection".to_owned();
                return Err(Refused { part: Part::Responses, why });
            }
        }
    }

    fn failing(&self, part: Part, why: &str) {
        if self.health.fails(part, why) {
            tracing::error!(why, "responses are not accepted, their requests will come again");
        }
    }

    /// After a refusal, longer each time: what is nacked comes back at once, and must not turn in a hot loop.
    pub(super) async fn pause(&self) {
        let failures = self.failures.load(Ordering::Relaxed);
        if failures > 0 {
            let pause = Duration::from_millis(100) * 2u32.saturating_pow(failures.min(10) - 1);
            tokio::time::sleep(pause.min(MOST_PAUSE)).await;
        }
    }
}

/// Why a response was not accepted, and what to do where that is plain.
#[derive(Debug)]
struct Refused {
    part: Part,
    why: String,
}

impl Refused {
    fn of(error: &PublishError) -> Self {
        match error {
            PublishError::Rpc(call) if google::code(call) == Some("NOT_FOUND") => Self {
                part: Part::Topic,
                why: format!("{error}; create it, or correct `responses.topic` and `project`"),
            },
            _ => Self { part: Part::Responses, why: error.to_string() },
        }
    }
}
