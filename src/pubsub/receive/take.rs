//! What becomes of a message: a decoded request, one to be fetched, or a refusal.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::sync::{MutexGuard, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::follow::{AT_A_TIME, Referred};
use super::{LARGE_BODY, LIMITS, Receive};
use crate::decode::Id;
use crate::decode::envelope::{self, Content, Envelope};
use crate::decode::reference::Reference;
use crate::engine::budget::{Budget, Room};
use crate::engine::deadline;
use crate::engine::job::{Origin, Pending, Reply, Ticket};
use crate::engine::quarantine::Quarantine;
use crate::error::Rejection;
use crate::headers::Headers;
use crate::model::{Model, Models};
use crate::ops::health::Health;
use crate::ops::metrics::Metrics;
use crate::ops::traces;
use crate::pubsub::objects::Objects;
use crate::pubsub::ordering::Order;
use crate::pubsub::receive::blocked_keys::Lanes;

/// What the stream and the fetches beside it share.
pub(super) struct Intake {
    pub(super) models: Arc<Models>,
    pub(super) objects: Arc<Objects>,
    pub(super) order: Arc<Order>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) requests: mpsc::Sender<Vec<Pending>>,
    pub(super) replies: mpsc::Sender<Vec<Reply>>,
    pub(super) budget: Budget,
    pub(super) lanes: Lanes,
    pub(super) stop: CancellationToken,
    pub(super) quarantine: Quarantine,
    /// The right to fetch.
    pub(super) slots: Semaphore,
    /// When it was last said that an object could not be fetched.
    pub(super) warned: std::sync::Mutex<Option<Instant>>,
}

/// A request that came whole, as it came.
pub(super) struct Whole {
    body: Bytes,
    /// Bytes that it takes, unpacked too.
    pub(super) weight: usize,
    pub(super) origin: Origin,
}

impl Intake {
    pub(super) fn new(receive: &Receive, stop: CancellationToken) -> Self {
        let cap = receive.config.max_outstanding_bytes;
        Self {
            models: Arc::clone(&receive.models),
            objects: Arc::clone(&receive.objects),
            order: Arc::clone(&receive.order),
            metrics: Arc::clone(&receive.metrics),
            health: Arc::clone(&receive.health),
            requests: receive.requests.clone(),
            replies: receive.replies.clone(),
            budget: receive.budget.clone(),
            lanes: Lanes::new(cap / 8),
            stop,
            quarantine: Quarantine::starting(),
            slots: Semaphore::new(AT_A_TIME),
            warned: std::sync::Mutex::default(),
        }
    }

    /// Bytes that the request takes while it is in hand, unpacked too.
    pub(super) fn weigh(message: &Message) -> usize {
        envelope::memory_bytes(Headers(&message.attributes), &message.data, &LIMITS)
    }

    /// A request that came whole, and has room for its `weight`.
    pub(super) fn take(&self, message: Message, handler: Handler, weight: usize, room: Room) -> Whole {
        // Shared and not taken out: the message's span says how long it is.
        let body = message.data.clone();
        let mut origin = self.origin(message, handler);
        origin.ticket.hold(weight, room);
        Whole { body, weight, origin }
    }

    /// The right to decode a body of this weight, which large ones wait for.
    pub(super) async fn decoding(&self, weight: usize) -> Option<MutexGuard<'_, ()>> {
        if weight > LARGE_BODY { Some(self.budget.decoding().await) } else { None }
    }

    /// Decodes a request that came whole.
    pub(super) fn read(&self, Whole { body, weight, origin }: Whole) -> Result<Pending, Box<Reply>> {
        may_block(weight, || read(&self.models, &body, origin))
    }

    /// A request that lies in a bucket.
    pub(super) fn refer(
        &self,
        message: Message,
        handler: Handler,
        reference: Box<Reference>,
    ) -> Result<Referred, Box<Reply>> {
        refer(&self.models, &self.objects, reference, self.origin(message, handler))
    }

    /// Who asks, with its place in the order of its key: to be called in the order of delivery.
    fn origin(&self, mut message: Message, handler: Handler) -> Origin {
        let attempt = handler.delivery_attempt();
        let trace = traces::received(&mut message, attempt);
        let key = &message.ordering_key;
        let turn = (!key.is_empty()).then(|| self.order.take(key));
        let ticket = Ticket::new(Some(handler), Arc::clone(&self.metrics), trace);
        let attempt = attempt.and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(0);
        Origin { attempt, turn, ..Origin::of(message, ticket) }
    }
}

/// Decodes a body of this weight: a large one blocks its thread for a while.
pub(super) fn may_block<T>(weight: usize, decode: impl FnOnce() -> T) -> T {
    if weight > LARGE_BODY { tokio::task::block_in_place(decode) } else { decode() }
}

/// Reads a request that came whole.
pub(super) fn read(models: &Models, body: &[u8], mut origin: Origin) -> Result<Pending, Box<Reply>> {
    let Envelope { response_format, content } = envelope::open(Headers(&origin.attributes), body, &LIMITS);
    origin.delivery = response_format;
    let id = || content.as_ref().ok().and_then(Content::id);
    let (model, origin) = admit(models, origin, id)?;
    decode(content, model, None, origin)
}

/// A request that lies in a bucket which is allowed.
pub(super) fn refer(
    models: &Models,
    objects: &Objects,
    mut reference: Box<Reference>,
    mut origin: Origin,
) -> Result<Referred, Box<Reply>> {
    origin.delivery = std::mem::take(&mut reference.response_format);
    let (model, origin) = admit(models, origin, || reference.id.clone())?;
    let object = reference.object.clone();
    match object.and_then(|object| objects.check(&object).map(|()| object)) {
        Ok(object) => Ok(Referred { object, reference, model, origin }),
        Err(rejection) => Err(Reply::refused(&rejection, reference.id, Some(model), origin).into()),
    }
}

/// The model and the version that are asked for. A request that no answer is computed for costs no decoding: `id` finds its id.
fn admit(
    models: &Models,
    mut origin: Origin,
    id: impl FnOnce() -> Option<Id>,
) -> Result<(Arc<Model>, Origin), Box<Reply>> {
    let attribute = |name: &str| origin.attributes.get(name).map(String::as_str);
    let model = match models.resolve(attribute("model")) {
        Ok(model) => model,
        Err(rejection) => return Err(Reply::refused(&rejection, id(), None, origin).into()),
    };
    let deadline = || attribute("deadline").map(deadline::parse).transpose();
    let checked = model.check_version(attribute("model_version")).and_then(|()| deadline());
    match checked.and_then(|deadline| deadline::check(deadline).map(|()| deadline)) {
        Ok(deadline) => {
            origin.deadline = deadline;
            Ok((model, origin))
        }
        Err(rejection) => Err(Reply::refused(&rejection, id(), Some(model), origin).into()),
    }
}

/// Reads a request against the model's signature; `id` is what it has unless the body gives one.
pub(super) fn decode(
    content: Result<Content<'_>, Rejection>,
    model: Arc<Model>,
    id: Option<Id>,
    mut origin: Origin,
) -> Result<Pending, Box<Reply>> {
    let content = match content {
        Ok(content) => content,
        Err(rejection) => return Err(Reply::refused(&rejection, id, Some(model), origin).into()),
    };
    let wanted_version = origin.attributes.get("model_version").cloned();
    let decoded = content.decode(&model.signature, &LIMITS);
    origin.ticket.trace.decoded();
    match decoded {
        Ok(mut request) => {
            request.response.id = request.response.id.or(id);
            origin.rows = request.rows;
            origin.ticket.decoded(request.bytes() + model.response_bytes(request.rows));
            let alone = origin.ticket.is_alone();
            Ok(Pending { request, model, wanted_version, alone, origin })
        }
        Err(failure) => {
            Err(Reply::refused(&failure.rejection, failure.id.or(id), Some(model), origin).into())
        }
    }
}
