//! What becomes of a message: a decoded request, one to be fetched, or a refusal.

use std::sync::Arc;
use std::time::Instant;

use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;

use super::follow::Referred;
use super::{Intake, LARGE_BODY, LIMITS, Receive};
use crate::deadline;
use crate::decode::Id;
use crate::decode::envelope::{self, Content, Envelope, Headers};
use crate::decode::reference::Reference;
use crate::error::Rejection;
use crate::message::{Origin, Pending, Reply, Ticket};
use crate::model::Model;
use crate::order::Turn;
use crate::telemetry::traces;

pub(super) enum Refused {
    Reply(Box<Reply>),
    PipelineGone,
}

impl Receive {
    /// A request that came whole.
    pub(super) async fn take(
        &self,
        mut message: Message,
        handler: Handler,
        intake: &mut Intake,
    ) -> Result<(), Refused> {
        let weight = envelope::weight(Headers(&message.attributes), &message.data, &LIMITS);
        let room = match intake.follow.budget.try_take(weight) {
            Some(room) => room,
            None => {
                // Hand on what is in hand first: only that can make room.
                self.hand_on(intake).await.map_err(|()| Refused::PipelineGone)?;
                intake.follow.budget.take(weight).await
            }
        };
        let attempt = handler.delivery_attempt();
        let trace = traces::received(&mut message, attempt);
        let deadline = message.attributes.get("deadline").map(|text| deadline::parse(text)).transpose();
        let mut ticket = Ticket::new(handler, Arc::clone(&self.metrics), trace);
        ticket.hold(weight, room);
        let is_large = weight > LARGE_BODY;
        let open = || envelope::open(Headers(&message.attributes), &message.data, &LIMITS);
        let Envelope { delivery, content } =
            if is_large { tokio::task::block_in_place(open) } else { open() };
        let turn = self.turn(&message);
        let origin = Origin {
            attributes: message.attributes,
            message_id: message.message_id,
            ordering_key: message.ordering_key,
            received_at: Instant::now(),
            deadline: deadline.clone().ok().flatten(),
            attempt: attempt.and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(0),
            turn,
            delivery,
            ticket,
        };
        let model = match self.models.resolve(origin.attributes.get("model").map(String::as_str)) {
            Ok(model) => model,
            Err(rejection) => {
                let reply = Reply::refused(&rejection, None, None, origin);
                return Err(Refused::Reply(reply.into()));
            }
        };
        // Expired work costs neither decoding nor inference.
        if let Err(rejection) = deadline.and_then(deadline::check) {
            return Err(Refused::Reply(Reply::refused(&rejection, None, Some(model), origin).into()));
        }
        let decode = || decode(content, model, None, origin);
        let decoded = if is_large { tokio::task::block_in_place(decode) } else { decode() };
        intake.decoded.push(decoded.map_err(Refused::Reply)?);
        Ok(())
    }

    /// A request that lies in a bucket.
    pub(super) fn refer(
        &self,
        mut message: Message,
        handler: Handler,
        mut reference: Box<Reference>,
        intake: &mut Intake,
    ) -> Result<(), Box<Reply>> {
        let attempt = handler.delivery_attempt();
        let trace = traces::received(&mut message, attempt);
        let deadline = message.attributes.get("deadline").map(|text| deadline::parse(text)).transpose();
        let ticket = Ticket::new(handler, Arc::clone(&self.metrics), trace);
        let turn = self.turn(&message);
        let origin = Origin {
            attributes: message.attributes,
            message_id: message.message_id,
            ordering_key: message.ordering_key,
            received_at: Instant::now(),
            deadline: deadline.clone().ok().flatten(),
            attempt: attempt.and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(0),
            turn,
            delivery: std::mem::take(&mut reference.delivery),
            ticket,
        };
        let resolved = self.models.resolve(origin.attributes.get("model").map(String::as_str));
        let model = match resolved {
            Ok(model) => model,
            Err(rejection) => return Err(Reply::refused(&rejection, reference.id, None, origin).into()),
        };
        if let Err(rejection) = deadline.and_then(deadline::check) {
            return Err(Reply::refused(&rejection, reference.id, Some(model), origin).into());
        }
        let object = reference.object.clone();
        let object = match object.and_then(|object| self.objects.check(&object).map(|()| object)) {
            Ok(object) => object,
            Err(rejection) => {
                return Err(Reply::refused(&rejection, reference.id, Some(model), origin).into());
            }
        };
        let leave = intake.away.leave(&origin.ordering_key);
        intake.fetches.start(&intake.follow, Referred { object, reference, model, origin, leave });
        Ok(())
    }

    /// Its place in the order of its key: to be taken in the order of delivery.
    fn turn(&self, message: &Message) -> Option<Turn> {
        let key = &message.ordering_key;
        (!key.is_empty()).then(|| self.order.take(key))
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
            request.answer.id = request.answer.id.or(id);
            Ok(Pending { request, model, wanted_version, alone: false, origin })
        }
        Err(failure) => {
            Err(Reply::refused(&failure.rejection, failure.id.or(id), Some(model), origin).into())
        }
    }
}
