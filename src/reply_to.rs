//! Ways to reply to a request: one for each transport.

use tokio::sync::oneshot;

use crate::engine::job::{self, Response};
use crate::pubsub::delivery::Delivery;

/// Opaque to the engine; the pipeline hands each response to the transport that its request came over.
#[derive(Debug)]
pub enum ReplyTo {
    PubSub(Delivery),
    /// Over HTTP, or from a file.
    Caller(oneshot::Sender<Response<()>>),
}

impl job::ReplyTo for ReplyTo {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::PubSub(_) => false,
            Self::Caller(waiter) => waiter.is_closed(),
        }
    }
}

impl From<Delivery> for ReplyTo {
    fn from(delivery: Delivery) -> Self {
        Self::PubSub(delivery)
    }
}

impl From<oneshot::Sender<Response<()>>> for ReplyTo {
    fn from(waiter: oneshot::Sender<Response<()>>) -> Self {
        Self::Caller(waiter)
    }
}
