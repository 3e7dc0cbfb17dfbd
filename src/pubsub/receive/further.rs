//! Further streams beside the first one, by which the worker's limit follows its throughput. None of them is
//! opened again: the first one is supervised, and where a further one is missed another follows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use google_cloud_pubsub::subscriber::MessageStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::reader::{Ended, Reader, SILENCE};
use super::take::Intake;
use crate::pubsub::flow::{Observed, Seen};
use crate::pubsub::watchdog::Guard;
use crate::stages::pass_panic_on;

/// Between two observations. The client acknowledges ten times a second.
const INTERVAL: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Further {
    /// None once the worker stops: it would keep the stages behind from ending.
    intake: Option<Arc<Intake>>,
    /// The limit of the first stream.
    first: usize,
    open: Vec<Open>,
    /// The streams that are open, and those that are closed until the last message that they brought is
    /// settled.
    tasks: JoinSet<()>,
    observed: Observed,
    settled: usize,
    at: Instant,
    tick: Interval,
}

/// An open stream.
struct Open {
    limit: usize,
    close: CancellationToken,
    task: AbortHandle,
}

impl Further {
    pub(super) fn new(intake: Arc<Intake>) -> Self {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            intake: Some(intake),
            first: 0,
            open: Vec::new(),
            tasks: JoinSet::new(),
            observed: Observed::default(),
            settled: 0,
            at: Instant::now(),
            tick,
        }
    }

    /// The limit of the first stream, which is opened now: requests that fill the batches.
    pub(super) fn first(&mut self) -> usize {
        if let Some(intake) = &self.intake {
            self.first = intake.around.flow.bounded(0, intake.floor());
        }
        self.share();
        self.first
    }

    /// Closes streams, and opens some by `open`, which takes their limit. Ends with a failure alone, and may be
    /// dropped and called again.
    ///
    /// # Errors
    /// The configured limits are too large for the client.
    pub(super) async fn follow(
        &mut self,
        open: impl Fn(usize) -> anyhow::Result<MessageStream>,
    ) -> anyhow::Result<()> {
        loop {
            self.tick.tick().await;
            while self.tasks.try_join_next().and_then(pass_panic_on).is_some() {}
            self.open.retain(|stream| !stream.task.is_finished());
            let now = self.share();
            let Some(intake) = self.intake.clone() else { continue };
            let Some(wanted) = self.observe(&intake) else { continue };
            tracing::debug!(now, wanted, "the limit of requests in flight follows the throughput");
            if wanted > now {
                let limit = wanted - now;
                let (stream, close) = (open(limit)?, CancellationToken::new());
                let task = self.tasks.spawn(run(stream, intake, close.clone()));
                self.open.push(Open { limit, close, task });
            }
            while self.share() > wanted
                && let Some(stream) = self.open.pop()
            {
                stream.close.cancel();
            }
        }
    }

    /// Waits until the last message of every stream is settled, once the worker stops.
    pub(super) async fn finish(mut self) {
        self.intake = None;
        while self.tasks.join_next().await.and_then(pass_panic_on).is_some() {}
    }

    /// The limit of all streams together.
    fn share(&self) -> usize {
        let limit = self.first + self.open.iter().map(|stream| stream.limit).sum::<usize>();
        if let Some(intake) = &self.intake {
            intake.around.flow.set_limit(limit);
        }
        limit
    }

    fn observe(&mut self, intake: &Intake) -> Option<usize> {
        let (flow, now) = (&intake.around.flow, Instant::now());
        let settled = flow.settled();
        let seen = Seen {
            settled: settled.saturating_sub(self.settled),
            took: now.duration_since(self.at),
            in_flight: flow.in_flight(),
            floor: intake.floor(),
            has_several_models: intake.around.models.serving().len() > 1,
        };
        (self.settled, self.at) = (settled, now);
        self.observed.change(flow, seen)
    }
}

/// Reads one stream until the worker stops, the stream ends for whatever reason, or `close` is cancelled.
async fn run(mut stream: MessageStream, intake: Arc<Intake>, close: CancellationToken) {
    let (token, mut guard) = (stream.shutdown_token(), Guard::new(SILENCE));
    let mut reader = Reader::new(intake);
    let ended = reader.read(&mut stream, &mut guard, &mut false, &close).await;
    if matches!(ended, Ended::Stopped) {
        reader.nack_unread(&mut stream).await;
    }
    drop(stream);
    // The stages behind see their channels close; the tickets of what is in flight keep their leases.
    reader.finish().await;
    token.shutdown().await;
}

impl Intake {
    /// Requests of one row that fill a batch on each thread of a model, of the model that takes most.
    fn floor(&self) -> usize {
        let serving = self.around.models.serving();
        let full = serving.values().map(|model| model.executor.full_batches(self.around.max_rows));
        full.max().unwrap_or(0)
    }
}
