//! The right and the duty to settle one message.

use std::sync::Arc;

use google_cloud_pubsub::subscriber::handler::Handler;

use crate::ops::metrics::Metrics;

/// Settles one message. Moves by value, is never cloned, and is consumed once: [`Ticket::ack`] is called by
/// publish alone, after the response was accepted. Dropping it nacks the message and counts that.
#[derive(Debug)]
pub struct Ticket {
    handler: Option<Handler>,
    metrics: Arc<Metrics>,
}

impl Ticket {
    /// `handler`: none where no subscription gave the message.
    pub fn new(handler: Option<Handler>, metrics: Arc<Metrics>) -> Self {
        metrics.messages_in_flight.inc();
        Self { handler, metrics }
    }

    /// Acknowledges the message. With exactly-once delivery Pub/Sub says whether it took the acknowledgement:
    /// one that it did not take, for want of a lease, is counted and never tried again, since the request
    /// is redelivered.
    pub fn ack(mut self) {
        match self.handler.take() {
            Some(Handler::ExactlyOnce(handler)) => {
                let metrics = Arc::clone(&self.metrics);
                // The client waits for it at shutdown: the handler keeps its lease loop running.
                tokio::spawn(async move {
                    if let Err(error) = handler.confirmed_ack().await {
                        metrics.ack_failures.inc();
                        tracing::debug!(%error, "an acknowledgement was not taken, its request will be redelivered");
                    }
                });
            }
            Some(handler) => handler.ack(),
            None => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.metrics.messages_in_flight.dec();
        if let Some(handler) = self.handler.take() {
            nack(handler, &self.metrics);
        }
    }
}

/// Has the message redelivered at once.
pub fn nack(handler: Handler, metrics: &Metrics) {
    metrics.nacked.inc();
    handler.nack();
}
