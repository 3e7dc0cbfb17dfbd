//! Takes messages of the batch subscription.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use google_cloud_pubsub::client::Subscriber;
use google_cloud_pubsub::model::Message as PubsubMessage;
use google_cloud_pubsub::subscriber::MessageStream;
use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::work::{Done, Worker};
use crate::backoff;
use crate::pubsub::receive::SILENCE;
use crate::pubsub::watchdog::Guard;

/// Shards at a time: while one reads or writes, the other computes.
const AT_ONCE: i64 = 2;
/// Length of a lease without an extension, which the client sends as long as the work goes on.
const LEASE: Duration = Duration::from_secs(20);
/// Longest work on one message.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The stage that takes batches.
pub struct Batches {
    pub subscriber: Subscriber,
    /// Full name.
    pub subscription: String,
    pub worker: Arc<Worker>,
}

impl Batches {
    /// Runs until `stop`, and then until the last message is settled. Trouble is logged and tried again.
    pub async fn run(self, stop: CancellationToken) {
        let mut working = JoinSet::new();
        let mut delays = backoff::reconnect();
        while !stop.is_cancelled() {
            let mut stream = self
                .subscriber
                .subscribe(&self.subscription)
                .set_max_lease_extension(LEASE)
                .set_max_lease(LONGEST)
                .set_max_outstanding_messages(AT_ONCE)
                .build();
            let token = stream.shutdown_token();
            let mut guard = Guard::new(SILENCE);
            let why = loop {
                let next = std::pin::pin!(stream.next());
                let next = tokio::select! {
                    next = guard.watch(next) => next,
                    () = stop.cancelled() => break None,
                };
                while working.try_join_next().is_some() {}
                match next {
                    Some(Some(Ok((message, handler)))) => {
                        delays = backoff::reconnect();
                        working.spawn(settle(Arc::clone(&self.worker), message, handler, stop.clone()));
                    }
                    Some(Some(Err(error))) => break Some(error.to_string()),
                    Some(None) => break Some("the server closed the stream".to_owned()),
                    None => break Some("no sign of life".to_owned()),
                }
            };
            if why.is_none() {
                nack_unread(&mut stream).await;
            }
            drop(stream);
            let Some(why) = why else {
                while working.join_next().await.is_some() {}
                token.shutdown().await;
                break;
            };
            tracing::warn!(
                subscription = self.subscription,
                why,
                "the stream of batches ended, it will be opened again"
            );
            // Work of the old stream keeps its leases until it ends.
            tokio::spawn(async move { token.shutdown().await });
            tokio::select! {
                () = tokio::time::sleep(delays.next().unwrap_or(SILENCE)) => {}
                () = stop.cancelled() => {}
            }
        }
        while working.join_next().await.is_some() {}
    }
}

/// Nacks messages that the client has read and nobody took, so that they do not wait for the end of their
/// leases.
async fn nack_unread(stream: &mut MessageStream) {
    while let Poll::Ready(Some(Ok((_, handler)))) = futures::poll!(std::pin::pin!(stream.next())) {
        handler.nack();
    }
}

async fn settle(worker: Arc<Worker>, message: PubsubMessage, handler: Handler, stop: CancellationToken) {
    // Counted where the subscription has a dead-letter policy.
    let attempt = handler.delivery_attempt().unwrap_or(0);
    let deliveries = u32::try_from(attempt).unwrap_or(0);
    let quarantine = &worker.quarantine;
    // Held until it is settled: of two shards at a time, one may have ended the process, and must take no other
    // along.
    let _alone = match quarantine.holds(deliveries) {
        true => quarantine.turn(&message.message_id, deliveries, &stop).await,
        false => None,
    };
    match worker.work(&message.data, &message.attributes, attempt, &stop).await {
        Done::Done => handler.ack(),
        Done::Again => handler.nack(),
    }
}
