//! Ways to reply to a request: one for each transport.

use crate::pubsub::delivery::Delivery;

/// Opaque to the engine; the pipeline hands each response to the transport that its request came over.
#[derive(Debug)]
pub enum ReplyTo {
    PubSub(Delivery),
}

impl From<Delivery> for ReplyTo {
    fn from(delivery: Delivery) -> Self {
        Self::PubSub(delivery)
    }
}
