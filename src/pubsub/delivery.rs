//! One delivery of one request, and the reply to it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use crate::decode::Id;
use crate::encode;
use crate::encode::envelope::{ResponseMetadata, Wrapped, wrap};
use crate::engine::admit::Refusal;
use crate::engine::job::{Origin, Outcome, Response};
use crate::error::{Code, Rejection};
use crate::model::Model;
use crate::ops::metrics::Metrics;
use crate::pubsub::ordering::Turn;
use crate::pubsub::ticket::Ticket;

/// Time that a request may be in flight, counted from its delivery: it is nacked after that, for whoever has
/// time for it. The client, which stops to extend a lease without a word, is told to extend it for longer.
pub const LONGEST_IN_FLIGHT: Duration = Duration::from_secs(3600);

/// The message that a request came in: to whom and how its response is addressed.
#[derive(Debug, Default)]
pub struct Requester {
    pub attributes: HashMap<String, String>,
    pub message_id: String,
    pub ordering_key: String,
}

/// The way to reply to a request that came over Pub/Sub.
#[derive(Debug)]
pub struct Delivery {
    pub requester: Requester,
    /// The number of this delivery, from 1; 0 where the subscription has no dead-letter policy, and so does
    /// not tell.
    pub attempt: u32,
    /// Its place among those of its ordering key, if it has one.
    pub turn: Option<Turn>,
    pub ticket: Ticket,
    /// The right to be decoded and to run alone; see [`crate::engine::quarantine`]. Ends after the ticket.
    pub alone: Option<OwnedSemaphorePermit>,
}

impl Delivery {
    /// Has the request redelivered, and the younger ones of its ordering key after it.
    pub fn give_up(self) {
        if let Some(turn) = self.turn {
            turn.give_up(self.requester.message_id);
        }
    }
}

/// Reports a request that was in flight for too long and is about to be nacked.
pub fn report_expired(metrics: &Metrics, message_id: &str) {
    metrics.overdue.inc();
    tracing::warn!(
        message_id,
        hint = "add workers, or lower `requests.max_outstanding_messages`",
        "a request was in flight for an hour, it is nacked"
    );
}

/// A response, ready to be published.
#[derive(Debug)]
pub struct Reply {
    pub body: Bytes,
    /// Attributes of the response that describe its body.
    pub attributes: Vec<(&'static str, Cow<'static, str>)>,
    pub outcome: Result<(), Box<Rejection>>,
    /// The version that answered; `None` when the request was refused before it reached a model.
    pub model: Option<Arc<Model>>,
    pub id: Option<Id>,
    pub origin: Origin<Delivery>,
}

impl Reply {
    /// The reply to a request, unless it has expired: then it is nacked and reported.
    pub fn of(response: Response<Delivery>, metrics: &Metrics) -> Option<Self> {
        let Response { outcome, id, model, origin } = response;
        match outcome {
            Outcome::Computed(body) => Some(Self::new(body, Ok(()), model, id, origin)),
            Outcome::Rejected(rejection) => Some(Self::refused(Refusal { rejection, id, model }, origin)),
            Outcome::Expired => {
                report_expired(metrics, &origin.reply_to.requester.message_id);
                origin.reply_to.give_up();
                None
            }
        }
    }

    /// The error response to a request.
    pub fn refused(refusal: Refusal, origin: Origin<Delivery>) -> Self {
        let Refusal { rejection, id, model } = refusal;
        let body = encode::error(&rejection, id.as_ref()).into();
        Self::new(body, Err(Box::new(rejection)), model, id, origin)
    }

    /// The same reply with an error in place of its response.
    pub fn into_error(self, rejection: Rejection) -> Self {
        Self::refused(Refusal { rejection, id: self.id, model: self.model }, self.origin)
    }

    /// The error code, where it is an error.
    pub fn code(&self) -> Result<(), Code> {
        self.outcome.as_ref().copied().map_err(|rejection| rejection.code)
    }

    pub fn requester(&self) -> &Requester {
        &self.origin.reply_to.requester
    }

    fn new(
        body: encode::Body,
        outcome: Result<(), Box<Rejection>>,
        model: Option<Arc<Model>>,
        id: Option<Id>,
        mut origin: Origin<Delivery>,
    ) -> Self {
        let sender = ResponseMetadata {
            model: model.as_ref().map(|model| &*model.name),
            message_id: &origin.reply_to.requester.message_id,
            is_ok: outcome.is_ok(),
            now: SystemTime::now(),
        };
        let Wrapped { body, headers: attributes } = wrap(body, &origin.response_format, &sender);
        let body: Bytes = body.into();
        origin.memory.respond(body.len());
        Self { body, attributes, outcome, model, id, origin }
    }
}
