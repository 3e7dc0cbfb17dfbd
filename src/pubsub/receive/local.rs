//! A request that no subscription gave: taken as a worker does whose configuration allows no bucket and has one model.

use google_cloud_pubsub::model::Message;

use super::follow::Referred;
use super::take;
use crate::decode::reference;
use crate::engine::job::{Origin, Pending, Reply, Ticket};
use crate::headers;
use crate::headers::Headers;
use crate::model::Models;
use crate::ops::metrics::Metrics;
use crate::ops::traces::MessageTrace;
use crate::pubsub::objects::Objects;

/// Reads a request; what refers to an object is refused.
pub fn take(mut message: Message, models: &Models) -> Result<Pending, Box<Reply>> {
    headers::to_lower_case(&mut message.attributes);
    let reference = reference::find(Headers(&message.attributes), &message.data);
    let body = message.data.clone();
    let ticket = Ticket::new(None, Metrics::new(), MessageTrace::default());
    let origin = Origin::of(message, ticket);
    let Some(reference) = reference else { return take::read(models, &body, origin) };
    let Referred { object, reference, model, origin } =
        take::refer(models, &Objects::default(), reference, origin)?;
    Err(Reply::refused(&object.forbidden(), reference.id, Some(model), origin).into())
}
