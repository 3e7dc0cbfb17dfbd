//! Requests in: one streaming pull, supervised, and the decoding of what it brings.
//!
//! The stream is polled continuously; what is ready is decoded and handed on together, and what is not ready
//! is never waited for with decoded requests held back. Listens to stop: the stream is then shut down, and
//! the leases of all that is still in the pipeline are kept until the last ticket is settled. Requests that
//! lie in a bucket are fetched beside the stream.

mod blocked_keys;
mod follow;
mod take;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use google_cloud_pubsub::client::{Subscriber, SubscriptionAdmin};
use google_cloud_pubsub::subscriber::MessageStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::config::Requests;
use crate::decode::reference;
use crate::engine::job::Job;
use crate::headers::Headers;

use crate::gcp::{clients, probes};
use crate::headers;
use crate::hint::Hint as _;
use crate::ops::health::{Part, Pulse};
use crate::pubsub::delivery::{Delivery, LONGEST_IN_FLIGHT};
use crate::pubsub::receive::blocked_keys::Delivered;
use crate::pubsub::ticket::nack;
use crate::pubsub::watchdog::Guard;
use follow::Fetches;
pub use take::Surroundings;
use take::{Intake, LARGE_BODY};

/// Requests handed on together at most: enough to fill a batch, few enough not to hold the first one up.
const TOGETHER: usize = 128;
/// Length of a lease without an extension, which the client sends every few seconds: requests of a killed
/// worker, and those on the wire when one stopped, are redelivered this soon. The client's own 60 s made a
/// restart a minute's wait.
const LEASE: Duration = Duration::from_secs(20);
/// Time beyond [`LONGEST_IN_FLIGHT`] for which the client extends a lease: it counts from when it has read a
/// message, and what is overdue must be nacked while its lease lasts.
const LEASE_SLACK: Duration = Duration::from_secs(600);
/// Until a request whose model is still loading is nacked.
const PUT_OFF: Duration = Duration::from_secs(10);
/// Interval of checking an idle connection, so that `/ready` is true.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// After a failure the stream must have been open for so long before `/ready` believes in it.
const SETTLING: Duration = Duration::from_secs(2);
/// Without any sign of life for so long a stream that is waited on is given up, and its connection with it.
/// The client pings every 30 seconds and the server has 15 to answer, as Google's Java client has it. A
/// server that never answers pings (the emulator) costs an idle worker a new stream in so long.
pub(crate) const SILENCE: Duration = Duration::from_secs(45);
/// A stream that lasted so long did not fail at its opening: the next attempt comes at once.
const LASTED: Duration = Duration::from_secs(60);
/// A subscription that does not exist for so many attempts in a row (about five minutes) will not come back.
const MISSING_ATTEMPTS: usize = 12;

pub struct Receive {
    pub subscriber: Subscriber,
    pub admin: SubscriptionAdmin,
    pub config: Requests,
    pub around: Arc<Surroundings>,
}

impl Receive {
    /// Receives until `stop`; then waits until the last message in flight is settled.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let intake = Arc::new(Intake::new(
            Arc::clone(&self.around),
            self.config.max_outstanding_bytes / 8,
            stop.clone(),
        ));
        let pulse = self.around.health.pulse("receive");
        let mut requests = Received { intake, fetches: Fetches::default(), decoded: Vec::new(), pulse };
        let mut delays = backoff::reconnect();
        let (mut missing, mut failed) = (0, false);
        // Streams that ended, each until the last message that it brought is settled.
        let mut ending = JoinSet::new();
        loop {
            let mut stream = self
                .subscriber
                .subscribe(&self.config.subscription)
                .set_max_lease_extension(LEASE)
                .set_max_lease(LONGEST_IN_FLIGHT + LEASE_SLACK)
                .set_max_outstanding_messages(i64::try_from(self.config.max_outstanding_messages)?)
                .set_max_outstanding_bytes(i64::try_from(self.config.max_outstanding_bytes)?)
                .build();
            let token = stream.shutdown_token();
            let (opened, mut received) = (Instant::now(), false);
            let mut guard = Guard::new(SILENCE);
            let slowed = guard.slowed();
            let ended = tokio::select! {
                ended = self.read(&mut stream, &mut guard, &mut requests, &mut received, &stop) => ended,
                () = self.probe(failed, &slowed) => unreachable!("the probe never ends"),
            };
            if matches!(ended, Ended::Stopped) {
                self.nack_unread(&mut stream).await;
            }
            drop(stream);
            ending.spawn(async move { token.shutdown().await });
            while ending.try_join_next().is_some() {}
            let why = match ended {
                Ended::Stopped => break,
                Ended::Silent => {
                    tracing::warn!("no sign of life on the request stream, trying over a new connection");
                    self.connect_anew().await;
                    self.around.metrics.stream_failures.inc();
                    continue;
                }
                Ended::Closed => "the server closed the stream".to_owned(),
                Ended::Failed(error) => {
                    let is_missing = clients::code(&error) == Some("NOT_FOUND");
                    missing = if is_missing { missing + 1 } else { 0 };
                    if missing >= MISSING_ATTEMPTS {
                        let name = &self.config.subscription;
                        return Err(error)
                            .with_context(|| format!("the request subscription {name:?} is gone"))
                            .hint("create it again, or correct `requests.subscription` and `project`");
                    }
                    error.to_string()
                }
                Ended::PipelineGone => return Ok(()),
            };
            self.around.metrics.stream_failures.inc();
            if received || opened.elapsed() > LASTED {
                delays = backoff::reconnect();
                missing = 0;
            }
            let delay = delays.next().unwrap_or(Duration::from_secs(30));
            failed = true;
            if self.around.health.fails(Part::Requests, format!("the request stream ended: {why}")) {
                tracing::warn!(why, "the request stream ended, it will be opened again");
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => break,
            }
        }
        // The stages behind see their channels close once the last object is fetched; the tickets of all
        // requests in flight keep their leases meanwhile.
        requests.fetches.finish().await;
        drop((self, requests));
        while ending.join_next().await.is_some() {}
        Ok(())
    }

    /// Replaces the clients. Messages sent over a dead connection are lost, and redelivered when their leases
    /// are over.
    async fn connect_anew(&mut self) {
        match (clients::subscriber().await, clients::subscription_admin().await) {
            (Ok(subscriber), Ok(admin)) => (self.subscriber, self.admin) = (subscriber, admin),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(error = format!("{error:#}"), "no new connection, keeping the old one");
            }
        }
    }

    /// Keeps `/ready` truthful while the client connects by itself and says nothing. Never ends.
    async fn probe(&self, failed: bool, slowed: &AtomicBool) {
        if failed {
            tokio::time::sleep(SETTLING).await;
        }
        loop {
            let trouble = if slowed.load(Ordering::Relaxed) {
                Some("the request stream is broken again as soon as it is open".to_owned())
            } else {
                let checked = probes::request_subscription(&self.admin, &self.config.subscription).await;
                checked.err().map(|error| format!("{error:#}"))
            };
            match trouble {
                None => self.connected(),
                Some(why) => {
                    if self.around.health.fails(Part::Requests, &*why) {
                        tracing::warn!(error = why, "not receiving");
                    }
                }
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    fn connected(&self) {
        if self.around.health.works(Part::Requests) {
            tracing::info!(subscription = self.config.subscription, "receiving");
        }
    }

    /// Nacks messages that the client has read and nobody took, so that they do not wait for the end of their
    /// leases.
    async fn nack_unread(&self, stream: &mut MessageStream) {
        while let Poll::Ready(Some(Ok((_, handler)))) = futures::poll!(std::pin::pin!(stream.next())) {
            nack(handler, &self.around.metrics);
        }
    }

    /// Reads until the stream or the worker ends; everything that was decoded is submitted then.
    async fn read(
        &self,
        stream: &mut MessageStream,
        guard: &mut Guard,
        requests: &mut Received,
        received: &mut bool,
        stop: &CancellationToken,
    ) -> Ended {
        loop {
            let next = std::pin::pin!(stream.next());
            let mut next = guard.watch(next);
            let item = match futures::poll!(&mut next) {
                Poll::Ready(item) if requests.decoded.len() < TOGETHER => item,
                ready => {
                    Self::submit_decoded(requests);
                    match ready {
                        Poll::Ready(item) => item,
                        Poll::Pending => tokio::select! {
                            item = next => item,
                            () = stop.cancelled() => return Ended::Stopped,
                        },
                    }
                }
            };
            let (mut message, handler) = match item {
                Some(Some(Ok(delivery))) => delivery,
                ended => {
                    Self::submit_decoded(requests);
                    return match ended {
                        Some(Some(Err(error))) => Ended::Failed(error),
                        Some(_) => Ended::Closed,
                        None => Ended::Silent,
                    };
                }
            };
            if !*received {
                *received = true;
                self.connected();
            }
            let working = requests.pulse.work();
            headers::to_lower_case(&mut message.attributes);
            let reference = reference::find(Headers(&message.attributes), &message.data);
            drop(working);
            if self.take(Delivered { message, handler, reference }, requests, stop).await.is_err() {
                return Ended::PipelineGone;
            }
            if stop.is_cancelled() {
                Self::submit_decoded(requests);
                return Ended::Stopped;
            }
        }
    }

    /// Decodes a message, or starts to fetch its request, or lets it wait for that of another.
    async fn take(
        &self,
        mut delivered: Delivered,
        requests: &mut Received,
        stop: &CancellationToken,
    ) -> Result<(), PipelineGone> {
        if self.around.models.is_awaited(|| delivered.message.attributes.get("model").map(String::as_str)) {
            self.put_off(delivered, stop);
            return Ok(());
        }
        if requests.intake.lanes.is_open(&delivered.message.ordering_key) {
            let room = match requests.intake.lanes.try_room(&delivered.message) {
                Some(room) => room,
                None => {
                    // Decoded requests do not wait for one that is being fetched.
                    Self::submit_decoded(requests);
                    tokio::select! {
                        room = requests.intake.lanes.room(&delivered.message) => room,
                        () = stop.cancelled() => {
                            nack(delivered.handler, &self.around.metrics);
                            return Ok(());
                        }
                    }
                }
            };
            match requests.intake.lanes.wait(delivered, room) {
                None => return Ok(()),
                Some(is_next) => delivered = is_next,
            }
        }
        let Delivered { message, handler, reference } = delivered;
        let refused = if let Some(reference) = reference {
            match requests.intake.refer(message, handler, reference) {
                Ok(referred) => {
                    requests.fetches.start(&requests.intake, referred);
                    return Ok(());
                }
                Err(reply) => reply,
            }
        } else {
            let weight = Intake::weigh(&message);
            let room = match self.around.budget.try_take(weight) {
                Some(room) => room,
                None => {
                    // Submit what is decoded first: only that can make room.
                    Self::submit_decoded(requests);
                    self.around.budget.take(weight).await
                }
            };
            let whole = requests.intake.take(message, handler, weight, room);
            if requests.intake.is_quarantined(&whole.origin.reply_to) {
                requests.fetches.quarantine(&requests.intake, whole);
                return Ok(());
            }
            if weight > LARGE_BODY {
                // The debt may be that of requests which are decoded here.
                Self::submit_decoded(requests);
            }
            let _decoding = requests.intake.decoding(weight).await;
            let _working = requests.pulse.work_since(whole.origin.received_at);
            match requests.intake.read(whole) {
                Ok(pending) => {
                    requests.decoded.push(pending);
                    return Ok(());
                }
                Err(reply) => reply,
            }
        };
        self.around.replies.send(vec![*refused]).await.map_err(|_| PipelineGone)
    }

    /// Nacks a request whose model is still loading: at once where the order of its key must be kept, else
    /// after a while, so that the attempts that its subscription allows last longer.
    fn put_off(&self, delivered: Delivered, stop: &CancellationToken) {
        let Delivered { message, handler, .. } = delivered;
        if !message.ordering_key.is_empty() {
            self.around.order.take(&message.ordering_key).give_up(message.message_id);
            return nack(handler, &self.around.metrics);
        }
        let (metrics, stop) = (Arc::clone(&self.around.metrics), stop.clone());
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PUT_OFF, stop.cancelled()).await;
            nack(handler, &metrics);
        });
    }

    /// Received on what is decoded.
    fn submit_decoded(requests: &mut Received) {
        if !requests.decoded.is_empty() {
            (requests.intake.around.submit)(std::mem::take(&mut requests.decoded));
        }
    }
}

/// State that outlives a stream: requests that are in flight or on their way.
struct Received {
    intake: Arc<Intake>,
    fetches: Fetches,
    decoded: Vec<Job<Delivery>>,
    pulse: Arc<Pulse>,
}

/// The stages behind are gone: the pipeline is failing.
struct PipelineGone;

enum Ended {
    Stopped,
    /// No sign of life for [`SILENCE`].
    Silent,
    Closed,
    Failed(google_cloud_pubsub::Error),
    PipelineGone,
}
