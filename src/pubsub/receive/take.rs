//! Messages to jobs: a decoded request, one to be fetched, or a refusal.

use std::sync::Arc;

use bytes::Bytes;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::sync::{MutexGuard, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::blocked_keys::Lanes;
use crate::decode::reference::{Object, Reference};
use crate::decode::{Request, envelope};
use crate::engine::admit::{self, LARGE_BODY, LIMITS, Refusal, Target, may_block};
use crate::engine::budget::{Budget, Memory, Room};
use crate::engine::job::{Job, Origin};
use crate::engine::quarantine::Quarantine;
use crate::headers::Headers;
use crate::model::Models;
use crate::objects::Objects;
use crate::ops::health::{Health, Part};
use crate::ops::log_limits::{Throttle, WINDOW};
use crate::ops::metrics::Metrics;
use crate::ops::traces::{self, ReceivedMessage};
use crate::pubsub::delivery::{Delivery, LONGEST_IN_FLIGHT, Reply, Requester};
use crate::pubsub::flow::Flow;
use crate::pubsub::ordering::Order;
use crate::pubsub::ticket::Ticket;

/// Objects fetched at a time: enough for one connection's delays to hide behind the others.
const AT_A_TIME: usize = 16;

/// Parts of the worker that receiving uses.
pub struct Surroundings {
    pub models: Arc<Models>,
    pub objects: Objects,
    pub order: Arc<Order>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub budget: Budget,
    pub flow: Arc<Flow>,
    /// Rows in a call.
    pub max_rows: usize,
    /// Its full name.
    pub subscription: String,
    /// Hands decoded requests to the engine.
    pub submit: Box<dyn Fn(Vec<Job<Delivery>>) + Send + Sync>,
    /// Channel of refusals to publish.
    pub replies: mpsc::Sender<Vec<Reply>>,
}

impl Surroundings {
    /// Records that the subscription can be received from.
    pub(super) fn connected(&self) {
        if self.health.works(Part::Requests) {
            tracing::info!(subscription = self.subscription, "receiving");
        }
    }
}

/// State that the streams and the fetches beside it share.
pub(super) struct Intake {
    pub(super) around: Arc<Surroundings>,
    pub(super) lanes: Lanes,
    pub(super) stop: CancellationToken,
    pub(super) quarantine: Quarantine,
    /// The right to fetch.
    pub(super) slots: Semaphore,
    /// Limits the log lines about objects that cannot be read.
    pub(super) unreadable: Throttle,
}

/// A request to fetch.
pub(super) struct Referred {
    pub(super) object: Object,
    pub(super) reference: Box<Reference>,
    pub(super) target: Target,
    pub(super) origin: Origin<Delivery>,
}

/// A request that came whole, as it came.
pub(super) struct Whole {
    body: Bytes,
    /// Bytes that it takes, decompressed too.
    pub(super) weight: usize,
    pub(super) origin: Origin<Delivery>,
}

impl Intake {
    /// `waiting_bytes`: room for what waits behind requests that are being fetched.
    pub(super) fn new(around: Arc<Surroundings>, waiting_bytes: usize, stop: CancellationToken) -> Self {
        Self {
            around,
            lanes: Lanes::new(waiting_bytes),
            stop,
            quarantine: Quarantine::starting(),
            slots: Semaphore::new(AT_A_TIME),
            unreadable: Throttle::every(WINDOW),
        }
    }

    /// Bytes that the request takes while it is in flight, decompressed too.
    pub(super) fn weigh(message: &Message) -> usize {
        envelope::memory_bytes(Headers(&message.attributes), &message.data, &LIMITS)
    }

    /// A request that came whole, and has room for its `weight`.
    pub(super) fn take(&self, message: Message, handler: Handler, weight: usize, room: Room) -> Whole {
        // Shared and not taken out: the message's span says how long it is.
        let body = message.data.clone();
        let mut origin = self.origin(message, handler);
        origin.memory.hold(weight, room);
        Whole { body, weight, origin }
    }

    /// The right to decode a body of this weight, which large ones wait for.
    pub(super) async fn decoding(&self, weight: usize) -> Option<MutexGuard<'_, ()>> {
        if weight > LARGE_BODY { Some(self.around.budget.decoding().await) } else { None }
    }

    /// Decodes a request that came whole.
    pub(super) fn read(&self, Whole { body, weight, origin }: Whole) -> Result<Job<Delivery>, Box<Reply>> {
        may_block(weight, || read(&self.around.models, &body, origin))
    }

    /// A request that lies in a bucket.
    pub(super) fn refer(
        &self,
        message: Message,
        handler: Handler,
        reference: Box<Reference>,
    ) -> Result<Referred, Box<Reply>> {
        refer(&self.around.models, &self.around.objects, reference, self.origin(message, handler))
    }

    /// The sender, with its place in the order of its key: to be called in the order of delivery.
    fn origin(&self, mut message: Message, handler: Handler) -> Origin<Delivery> {
        let attempt = handler.delivery_attempt();
        let received = ReceivedMessage {
            message_id: &message.message_id,
            ordering_key: &message.ordering_key,
            bytes: message.data.len(),
            attempt,
        };
        let trace = traces::received(&mut message.attributes, &received);
        let key = &message.ordering_key;
        let delivery = Delivery {
            attempt: attempt.and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(0),
            turn: (!key.is_empty()).then(|| self.around.order.take(key)),
            ticket: Ticket::new(Some(handler), Arc::clone(&self.around.metrics)),
            alone: None,
            requester: Requester {
                attributes: message.attributes,
                message_id: message.message_id,
                ordering_key: message.ordering_key,
            },
        };
        let mut origin = Origin::new(delivery, Memory::new(Arc::clone(&self.around.metrics)), trace);
        origin.expires_at = Some(origin.received_at + LONGEST_IN_FLIGHT);
        origin
    }

    /// True for a request that must wait for its turn before it is decoded. Those with an ordering key keep
    /// their order.
    pub(super) fn is_quarantined(&self, delivery: &Delivery) -> bool {
        delivery.turn.is_none() && self.quarantine.holds(delivery.attempt)
    }
}

/// Reads a request that came whole.
fn read(models: &Models, body: &[u8], mut origin: Origin<Delivery>) -> Result<Job<Delivery>, Box<Reply>> {
    let (response_format, admitted) =
        admit::read(models, Headers(&origin.reply_to.requester.attributes), body);
    origin.response_format = response_format;
    job(admitted, origin)
}

/// A request that lies in a bucket which is allowed.
fn refer(
    models: &Models,
    objects: &Objects,
    mut reference: Box<Reference>,
    mut origin: Origin<Delivery>,
) -> Result<Referred, Box<Reply>> {
    origin.response_format = std::mem::take(&mut reference.response_format);
    let id = || reference.id.clone();
    let target = match admit::target(models, Headers(&origin.reply_to.requester.attributes), id) {
        Ok(target) => target,
        Err(refusal) => return Err(Reply::refused(*refusal, origin).into()),
    };
    let object = reference.object.clone();
    match object.and_then(|object| objects.check(&object).map(|()| object)) {
        Ok(object) => Ok(Referred { object, reference, target, origin }),
        Err(rejection) => {
            let refusal = Refusal { rejection, id: reference.id, model: Some(target.model) };
            Err(Reply::refused(refusal, origin).into())
        }
    }
}

/// The job of a request that was decoded just now, or its refusal.
pub(super) fn job(
    admitted: Result<(Request, Target), Box<Refusal>>,
    mut origin: Origin<Delivery>,
) -> Result<Job<Delivery>, Box<Reply>> {
    origin.trace.decoded();
    match admitted {
        Ok((request, target)) => {
            let is_alone = origin.reply_to.alone.is_some();
            Ok(Job::new(request, target, is_alone, origin))
        }
        Err(refusal) => Err(Reply::refused(*refusal, origin).into()),
    }
}
