//! Reads one stream: what is ready is decoded and handed on together.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use google_cloud_pubsub::subscriber::MessageStream;
use tokio_util::sync::CancellationToken;

use super::blocked_keys::Delivered;
use super::follow::Fetches;
use super::take::Intake;
use crate::decode::reference;
use crate::engine::admit::LARGE_BODY;
use crate::engine::job::Job;
use crate::headers::{self, Headers};
use crate::ops::health::Pulse;
use crate::pubsub::delivery::Delivery;
use crate::pubsub::ticket::nack;
use crate::pubsub::watchdog::Guard;

/// Requests handed on together at most: enough to fill a batch, few enough not to hold the first one up.
const TOGETHER: usize = 128;
/// Until a request whose model is still loading is nacked.
const PUT_OFF: Duration = Duration::from_secs(10);
/// Time without a message after which a stream may be closed: what Pub/Sub has sent meanwhile would be
/// redelivered only when its lease is over.
const QUIET: Duration = Duration::from_millis(50);

/// Without any sign of life for so long a stream that is waited on is given up, and its connection with it.
/// The client pings every 30 seconds and the server has 15 to answer, as Google's Java client has it. A
/// server that never answers pings (the emulator) costs an idle worker a new stream in so long.
pub(crate) const SILENCE: Duration = Duration::from_secs(45);

/// State of one stream, or of several after each other: requests that are on their way.
pub(super) struct Reader {
    intake: Arc<Intake>,
    fetches: Fetches,
    decoded: Vec<Job<Delivery>>,
    pulse: Arc<Pulse>,
}

/// The stages behind are gone: the pipeline is failing.
struct PipelineGone;

pub(super) enum Ended {
    Stopped,
    /// No sign of life for the guard's time.
    Silent,
    Closed,
    Failed(google_cloud_pubsub::Error),
    PipelineGone,
}

/// Ends a while after `close`.
async fn quiet(close: &CancellationToken) {
    close.cancelled().await;
    tokio::time::sleep(QUIET).await;
}

impl Reader {
    pub(super) fn new(intake: Arc<Intake>) -> Self {
        let pulse = intake.around.health.pulse("receive");
        Self { intake, fetches: Fetches::default(), decoded: Vec::new(), pulse }
    }

    /// Waits until the last object is fetched.
    pub(super) async fn finish(mut self) {
        self.fetches.finish().await;
    }

    /// Nacks messages that the client has read and nobody took, so that they do not wait for the end of their
    /// leases.
    pub(super) async fn nack_unread(&self, stream: &mut MessageStream) {
        while let Poll::Ready(Some(Ok((_, handler)))) = futures::poll!(std::pin::pin!(stream.next())) {
            nack(handler, &self.intake.around.metrics);
        }
    }

    /// Reads until the stream or the worker ends, or until a quiet moment once `close` is cancelled;
    /// everything that was decoded is submitted then.
    pub(super) async fn read(
        &mut self,
        stream: &mut MessageStream,
        guard: &mut Guard,
        received: &mut bool,
        close: &CancellationToken,
    ) -> Ended {
        let stop = self.intake.stop.clone();
        let mut uncounted = 0;
        loop {
            let next = std::pin::pin!(stream.next());
            let mut next = guard.watch(next);
            let item = match futures::poll!(&mut next) {
                Poll::Ready(item) if self.decoded.len() < TOGETHER => item,
                ready => {
                    self.submit_decoded();
                    self.intake.around.flow.received(std::mem::take(&mut uncounted));
                    match ready {
                        Poll::Ready(item) => item,
                        Poll::Pending => tokio::select! {
                            // A message that is there would be lost until its lease is over.
                            biased;
                            item = next => item,
                            () = stop.cancelled() => return Ended::Stopped,
                            () = quiet(close) => return Ended::Closed,
                        },
                    }
                }
            };
            let (mut message, handler) = match item {
                Some(Some(Ok(delivery))) => delivery,
                ended => {
                    self.submit_decoded();
                    self.intake.around.flow.received(uncounted);
                    return match ended {
                        Some(Some(Err(error))) => Ended::Failed(error),
                        Some(_) => Ended::Closed,
                        None => Ended::Silent,
                    };
                }
            };
            uncounted += 1;
            if !*received {
                *received = true;
                self.intake.around.connected();
            }
            let working = self.pulse.work();
            headers::to_lower_case(&mut message.attributes);
            let reference = reference::find(Headers(&message.attributes), &message.data);
            drop(working);
            if self.take(Delivered { message, handler, reference }).await.is_err() {
                return Ended::PipelineGone;
            }
            if stop.is_cancelled() {
                self.submit_decoded();
                return Ended::Stopped;
            }
        }
    }

    /// Decodes a message, or starts to fetch its request, or lets it wait for that of another.
    async fn take(&mut self, mut delivered: Delivered) -> Result<(), PipelineGone> {
        if self
            .intake
            .around
            .models
            .is_awaited(|| delivered.message.attributes.get("model").map(String::as_str))
        {
            self.put_off(delivered);
            return Ok(());
        }
        if self.intake.lanes.is_open(&delivered.message.ordering_key) {
            let room = match self.intake.lanes.try_room(&delivered.message) {
                Some(room) => room,
                None => {
                    // Decoded requests do not wait for one that is being fetched.
                    self.submit_decoded();
                    tokio::select! {
                        room = self.intake.lanes.room(&delivered.message) => room,
                        () = self.intake.stop.cancelled() => {
                            nack(delivered.handler, &self.intake.around.metrics);
                            return Ok(());
                        }
                    }
                }
            };
            match self.intake.lanes.wait(delivered, room) {
                None => return Ok(()),
                Some(is_next) => delivered = is_next,
            }
        }
        let Delivered { message, handler, reference } = delivered;
        let refused = if let Some(reference) = reference {
            match self.intake.refer(message, handler, reference) {
                Ok(referred) => {
                    self.fetches.start(&self.intake, referred);
                    return Ok(());
                }
                Err(reply) => reply,
            }
        } else {
            let weight = Intake::weigh(&message);
            let room = match self.intake.around.budget.try_take(weight) {
                Some(room) => room,
                None => {
                    // Submit what is decoded first: only that can make room.
                    self.submit_decoded();
                    self.intake.around.budget.take(weight).await
                }
            };
            let whole = self.intake.take(message, handler, weight, room);
            if self.intake.is_quarantined(&whole.origin.reply_to) {
                self.fetches.quarantine(&self.intake, whole);
                return Ok(());
            }
            if weight > LARGE_BODY {
                // The debt may be that of requests which are decoded here.
                self.submit_decoded();
            }
            let _decoding = self.intake.decoding(weight).await;
            let _working = self.pulse.work_since(whole.origin.received_at);
            match self.intake.read(whole) {
                Ok(pending) => {
                    self.decoded.push(pending);
                    return Ok(());
                }
                Err(reply) => reply,
            }
        };
        self.intake.around.replies.send(vec![*refused]).await.map_err(|_| PipelineGone)
    }

    /// Nacks a request whose model is still loading: at once where the order of its key must be kept, else
    /// after a while, so that the attempts that its subscription allows last longer.
    fn put_off(&self, delivered: Delivered) {
        let Delivered { message, handler, .. } = delivered;
        if !message.ordering_key.is_empty() {
            self.intake.around.order.take(&message.ordering_key).give_up(message.message_id);
            return nack(handler, &self.intake.around.metrics);
        }
        let (metrics, stop) = (Arc::clone(&self.intake.around.metrics), self.intake.stop.clone());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PUT_OFF, stop.cancelled()).await;
            nack(handler, &metrics);
        });
    }

    /// Hands on what is decoded.
    fn submit_decoded(&mut self) {
        if !self.decoded.is_empty() {
            (self.intake.around.submit)(std::mem::take(&mut self.decoded));
        }
    }
}
