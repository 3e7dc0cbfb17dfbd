//! Requests in: one streaming pull, supervised, further ones as the throughput allows, and the decoding of
//! what they bring.
//!
//! A stream is polled continuously; what is ready is decoded and handed on together, and what is not ready
//! is never waited for with decoded requests held back. Listens to stop: the streams are then shut down, and
//! the leases of all that is still in the pipeline are kept until the last ticket is settled. Requests that
//! lie in a bucket are fetched beside the stream.

mod blocked_keys;
mod follow;
mod further;
mod reader;
mod take;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use google_cloud_pubsub::client::{Subscriber, SubscriptionAdmin};
use google_cloud_pubsub::subscriber::MessageStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backoff;
use crate::config::Requests;
use crate::gcp::{clients, probes};
use crate::hint::Hint as _;
use crate::ops::health::Part;
use crate::pubsub::delivery::LONGEST_IN_FLIGHT;
use crate::pubsub::watchdog::Guard;
use further::Further;
pub(crate) use reader::SILENCE;
use reader::{Ended, Reader};
use take::Intake;
pub use take::Surroundings;

/// Length of a lease without an extension, which the client sends every few seconds: requests of a killed
/// worker, and those on the wire when one stopped, are redelivered this soon. The client's own 60 s made a
/// restart a minute's wait.
const LEASE: Duration = Duration::from_secs(20);
/// Time beyond [`LONGEST_IN_FLIGHT`] for which the client extends a lease: it counts from when it has read a
/// message, and what is overdue must be nacked while its lease lasts.
const LEASE_SLACK: Duration = Duration::from_secs(600);
/// Interval of checking an idle connection, so that `/ready` is true.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// After a failure the stream must have been open for so long before `/ready` believes in it.
const SETTLING: Duration = Duration::from_secs(2);
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
        let mut reader = Reader::new(Arc::clone(&intake));
        let mut further = Further::new(intake);
        let never = CancellationToken::new();
        // The first stream has one half of the bytes, the further ones together the other.
        let half = self.config.max_outstanding_bytes / 2;
        let part = half as f64 / self.config.max_outstanding_messages as f64;
        let mut delays = backoff::reconnect();
        let (mut missing, mut failed) = (0, false);
        // Streams that ended, each until the last message that it brought is settled.
        let mut ending = JoinSet::new();
        loop {
            let mut stream = self.open(further.first(), half)?;
            let token = stream.shutdown_token();
            let (opened, mut received) = (Instant::now(), false);
            let mut guard = Guard::new(SILENCE);
            let further_stream = |limit| self.open(limit, (part * limit as f64).ceil() as usize);
            let slowed = guard.slowed();
            let ended = tokio::select! {
                ended = reader.read(&mut stream, &mut guard, &mut received, &never) => ended,
                () = self.probe(failed, &slowed) => unreachable!("the probe never ends"),
                failed = further.follow(further_stream) => return failed,
            };
            if matches!(ended, Ended::Stopped) {
                reader.nack_unread(&mut stream).await;
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
        reader.finish().await;
        drop(self);
        further.finish().await;
        while ending.join_next().await.is_some() {}
        Ok(())
    }

    /// A stream of so many messages and bytes in flight.
    fn open(&self, messages: usize, bytes: usize) -> anyhow::Result<MessageStream> {
        let stream = self
            .subscriber
            .subscribe(&self.config.subscription)
            .set_max_lease_extension(LEASE)
            .set_max_lease(LONGEST_IN_FLIGHT + LEASE_SLACK)
            .set_max_outstanding_messages(i64::try_from(messages)?)
            .set_max_outstanding_bytes(i64::try_from(bytes)?);
        Ok(stream.build())
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
                None => self.around.connected(),
                Some(why) => {
                    if self.around.health.fails(Part::Requests, &*why) {
                        tracing::warn!(error = why, "not receiving");
                    }
                }
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }
}
