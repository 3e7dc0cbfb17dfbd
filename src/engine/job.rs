//! Every type that crosses a channel of the pipeline, and the [`Ticket`] that makes sure none is lost.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::sync::OwnedSemaphorePermit;

use crate::decode::envelope::ResponseFormat;
use crate::decode::{Id, Request};
use crate::encode;
use crate::encode::envelope::{ResponseMetadata, Wrapped, wrap};
use crate::engine::budget::Room;
use crate::error::{Code, Rejection};
use crate::model::Model;
use crate::ops::metrics::Metrics;
use crate::ops::traces::MessageTrace;
use crate::pubsub::ordering::Turn;

/// How long a request may be in flight, counted from its delivery: nacked after that, it goes to whoever has time for it. The
/// client, which stops to extend a lease without a word, is told to extend it for longer.
pub const LONGEST_IN_FLIGHT: Duration = Duration::from_secs(3600);

/// The right, and the duty, to settle one message. Moves by value with it, is never cloned, is consumed once:
/// [`Ticket::ack`] is called by publish alone, after the response was accepted. Dropping it nacks and counts.
#[derive(Debug)]
pub struct Ticket {
    handler: Option<Handler>,
    metrics: Arc<Metrics>,
    /// Bytes of its body, decompressed.
    body: usize,
    /// Its share of `metrics.bytes_in_hand`.
    bytes: i64,
    /// Room under `requests.max_outstanding_bytes`; released with the ticket. None while the request lies in a bucket.
    room: Option<Room>,
    /// The right to be decoded and to run alone, see [`crate::engine::quarantine`].
    alone: Option<OwnedSemaphorePermit>,
    /// Its spans end with it.
    pub trace: MessageTrace,
}

impl Ticket {
    /// For a request that has no body yet. `handler`: none where no subscription gave the message.
    pub fn new(handler: Option<Handler>, metrics: Arc<Metrics>, trace: MessageTrace) -> Self {
        metrics.in_hand.inc();
        Self { handler, metrics, body: 0, bytes: 0, room: None, alone: None, trace }
    }

    /// The request's body has so many `bytes`, which take this room.
    pub fn hold(&mut self, bytes: usize, room: Room) {
        debug_assert!(self.room.is_none(), "a request has one body");
        self.room = Some(room);
        self.body = bytes;
        self.count(bytes);
    }

    /// Bytes that the request takes now.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(0)
    }

    /// The decoded request takes so many bytes, with the response that is expected.
    pub fn decoded(&mut self, bytes: usize) {
        let Some(room) = &mut self.room else { return };
        let bytes = bytes.max(self.body);
        room.resize(bytes);
        self.count(bytes);
    }

    /// The response takes so many bytes, and nothing else of the request is left.
    pub fn respond(&mut self, bytes: usize) {
        self.decoded(bytes);
        self.publishing(bytes);
    }

    /// Counts so many bytes of its response as waiting for Pub/Sub alone; 0 while it waits for an older response.
    pub fn publishing(&mut self, bytes: usize) {
        if let Some(room) = &mut self.room {
            room.respond(bytes);
        }
    }

    fn count(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if bytes != self.bytes {
            self.metrics.bytes_in_hand.inc_by(bytes - self.bytes);
            self.bytes = bytes;
        }
    }

    /// No other suspect is decoded or runs until this one is settled.
    pub fn keep_alone(&mut self, alone: OwnedSemaphorePermit) {
        self.alone = Some(alone);
    }

    pub fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    /// On a subscription with exactly-once delivery Pub/Sub says whether it took the acknowledgement: one that it did not
    /// take, for want of a lease, is counted and never tried again, since the request comes again.
    pub fn ack(mut self) {
        match self.handler.take() {
            Some(Handler::ExactlyOnce(handler)) => {
                let metrics = Arc::clone(&self.metrics);
                // The client waits for it at shutdown: the handler keeps its lease loop running.
                tokio::spawn(async move {
                    if let Err(error) = handler.confirmed_ack().await {
                        metrics.ack_failures.inc();
                        tracing::debug!(%error, "an acknowledgement was not taken, its request will come again");
                    }
                });
            }
            Some(handler) => handler.ack(),
            None => {}
        }
        self.trace.settled();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.metrics.in_hand.dec();
        self.metrics.bytes_in_hand.dec_by(self.bytes);
        if let Some(handler) = self.handler.take() {
            give_back(handler, &self.metrics);
        }
    }
}

/// The message comes again, at once.
pub fn give_back(handler: Handler, metrics: &Metrics) {
    metrics.nacked.inc();
    handler.nack();
}

/// Where a request came from and how its response is addressed.
#[derive(Debug)]
pub struct Origin {
    pub attributes: HashMap<String, String>,
    pub message_id: String,
    pub ordering_key: String,
    pub received_at: Instant,
    /// After this nobody waits for the answer.
    pub deadline: Option<SystemTime>,
    /// Which delivery this is, from 1; 0 when the subscription has no dead-letter policy, and so does not tell.
    pub attempt: u32,
    /// Its place among those of its ordering key, if it has one.
    pub turn: Option<Turn>,
    /// Rows of the decoded request; 0 until then.
    pub rows: usize,
    /// How the answer must be sent.
    pub delivery: ResponseFormat,
    pub ticket: Ticket,
}

impl Origin {
    /// Of a message that has no place in an order and was delivered for the first time.
    pub fn of(message: Message, ticket: Ticket) -> Self {
        Self {
            attributes: message.attributes,
            message_id: message.message_id,
            ordering_key: message.ordering_key,
            received_at: Instant::now(),
            deadline: None,
            attempt: 0,
            turn: None,
            rows: 0,
            delivery: ResponseFormat::default(),
            ticket,
        }
    }

    /// True when the request has been in flight for too long by `now`.
    pub fn is_overdue(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.received_at) >= LONGEST_IN_FLIGHT
    }

    /// Counts and logs a request that is overdue and about to be given up.
    pub fn report_overdue(&self) {
        self.ticket.metrics.overdue.inc();
        tracing::warn!(
            message_id = self.message_id,
            hint = "add workers, or lower `requests.max_outstanding_messages`",
            "a request was in flight for an hour, it is nacked"
        );
    }

    /// See [`Reply::give_up`].
    pub fn give_up(self) {
        if let Some(turn) = self.turn {
            turn.give_up(self.message_id);
        }
    }
}

/// A decoded request that waits for its batch.
#[derive(Debug)]
pub struct Pending {
    pub request: Request,
    /// The version that it was decoded for; a newer one of the same signature may answer.
    pub model: Arc<Model>,
    /// The attribute `model_version`: only this version may answer.
    pub wanted_version: Option<String>,
    /// Shares its call with nobody.
    pub alone: bool,
    pub origin: Origin,
}

/// Requests that run together on one version of one model.
#[derive(Debug)]
pub struct Batch {
    pub model: Arc<Model>,
    pub requests: Vec<Pending>,
}

/// The outcome of a request, ready to be published.
#[derive(Debug)]
pub struct Reply {
    pub body: Bytes,
    /// What the response's attributes say of the body.
    pub attributes: Vec<(&'static str, Cow<'static, str>)>,
    pub outcome: Result<(), Box<Rejection>>,
    /// The version that answered; `None` when the request was refused before it reached a model.
    pub model: Option<Arc<Model>>,
    pub id: Option<Id>,
    pub origin: Origin,
}

impl Reply {
    /// The response to a request that was computed.
    pub fn answered(body: encode::Body, model: Option<Arc<Model>>, id: Option<Id>, origin: Origin) -> Self {
        Self::sealed(body, Ok(()), model, id, origin)
    }

    /// The error response to a request.
    pub fn refused(rejection: &Rejection, id: Option<Id>, model: Option<Arc<Model>>, origin: Origin) -> Self {
        let body = encode::error(rejection, id.as_ref()).into();
        Self::sealed(body, Err(Box::new(rejection.clone())), model, id, origin)
    }

    /// The error code, where it is an error.
    pub fn code(&self) -> Result<(), Code> {
        self.outcome.as_ref().copied().map_err(|rejection| rejection.code)
    }

    /// No answer for now: the request comes again, and the younger ones of its ordering key after it.
    pub fn give_up(self) {
        self.origin.give_up();
    }

    fn sealed(
        body: encode::Body,
        outcome: Result<(), Box<Rejection>>,
        model: Option<Arc<Model>>,
        id: Option<Id>,
        mut origin: Origin,
    ) -> Self {
        let name = model.as_ref().map(|model| &*model.name);
        let sender = ResponseMetadata {
            model: name,
            message_id: &origin.message_id,
            is_ok: outcome.is_ok(),
            now: SystemTime::now(),
        };
        let Wrapped { body, headers: attributes } = wrap(body, &origin.delivery, &sender);
        let body: Bytes = body.into();
        origin.ticket.respond(body.len());
        Self { body, attributes, outcome, model, id, origin }
    }
}
