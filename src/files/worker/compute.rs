//! One shard on this worker: whether it is to be computed, its computing, and the end of its job.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::engine::batch::Lane;
use crate::engine::job::Job;
use crate::engine::queue::Entry;
use crate::files::counts::Progress;
use crate::files::job::{Plan, Refused, SUCCESS};
use crate::files::rows::{Submit, Waiter};
use crate::files::shard::{Context, Ended};
use crate::files::store::Store;
use crate::files::threads::ConcurrencyLimit;
use crate::files::{jobs, marks, summary};
use crate::model::Model;
use crate::ops::metrics::Metrics;
use crate::reply_to::ReplyTo;

/// Interval of looking whether somebody stopped the job of a running shard.
const LOOK: Duration = Duration::from_secs(3);

/// A shard that was looked at.
pub(super) enum Looked {
    Compute(Box<Plan>),
    /// The shard needs no computing.
    Nothing(&'static str),
}

/// Reads the plan of a shard, and whether it is to be computed.
pub(super) fn look(store: &Store, folder: &str, number: usize, attempt: i32) -> anyhow::Result<Looked> {
    let plan = jobs::read(store, folder)?;
    if number >= plan.shards.len() {
        return Err(
            Refused(format!("the job in {folder} has {} shards, got {number}", plan.shards.len())).into()
        );
    }
    if marks::stopped(store, folder)?.is_some() {
        return Ok(Looked::Nothing("stopped"));
    }
    if store.stat(&plan.results(number))?.is_some() {
        // The worker that wrote the last shard may have died before it ended the job.
        if store.stat(&plan.path(SUCCESS))?.is_none() && summary::shards(store, &plan)?.1.is_empty() {
            summary::finish(store, &plan)?;
        }
        return Ok(Looked::Nothing("repeated"));
    }
    if attempt > 1 {
        marks::attempt(store, folder, number, attempt)?;
    }
    Ok(Looked::Compute(Box::new(plan)))
}

/// Ends once somebody has stopped the job, and stops the shard.
pub(super) async fn watch(store: Arc<Store>, folder: String, stop: CancellationToken) {
    loop {
        tokio::time::sleep(LOOK).await;
        let (store, folder) = (Arc::clone(&store), folder.clone());
        if let Ok(Ok(Some(_))) = spawn_blocking(move || marks::stopped(&store, &folder)).await {
            stop.cancel();
            return;
        }
    }
}

/// One shard on this worker.
pub(super) struct Run {
    pub(super) store: Arc<Store>,
    pub(super) entry: Arc<Entry<ReplyTo>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limit: Arc<ConcurrencyLimit>,
    pub(super) plan: Plan,
    pub(super) model: Arc<Model>,
    pub(super) number: usize,
    pub(super) attempt: i32,
    pub(super) stop: CancellationToken,
}

impl Run {
    /// None if it was stopped.
    pub(super) fn run(self) -> anyhow::Result<Option<&'static str>> {
        let Self { store, entry, metrics, limit, plan, model, number, attempt, stop } = self;
        let submit = |jobs: Vec<Job<Waiter>>| entry.submit(Lane::Offline, jobs);
        // One more than compute, so that the next chunk is read before a thread is free.
        let submits: Vec<Submit<'_>> =
            (0..=model.executor.threads()).map(|_| &submit as Submit<'_>).collect();
        let progress = Progress::counting(metrics.file_rows(&model.name));
        let context = Context {
            store: &store,
            plan: &plan,
            model: &model,
            metrics: &metrics,
            progress: &progress,
            stop: &stop,
            limit: &limit,
        };
        let ended = context.run(number, &submits)?;
        if let Some(most) = plan.job.max_errors
            && progress.failed() > 0
        {
            // A written shard is one of the finished ones.
            let own = if ended == Ended::Stopped { progress.failed() } else { 0 };
            if jobs::failed(&store, &plan)? + own > most {
                let first = progress.first_error().unwrap_or_default();
                let reason =
                    format!("expected at most {most} failed rows, got more; the first of a shard: {first}");
                marks::stop(&store, &plan.job.output, &reason)?;
            }
        }
        let outcome = match ended {
            Ended::Stopped => return Ok(None),
            Ended::Written(_) => "computed",
            Ended::WasThere => "repeated",
        };
        if attempt > 1 {
            marks::forget_attempts(&store, &plan.job.output, number)?;
        }
        if summary::shards(&store, &plan)?.1.is_empty() {
            let ended = summary::finish(&store, &plan)?;
            let summary::Summary { model, rows, failed, seconds, .. } = ended;
            let seconds = format!("{seconds:.3}");
            tracing::info!(model, output = plan.job.output, rows, failed, seconds, "a batch job is finished");
            metrics.file_job("finished");
        }
        Ok(Some(outcome))
    }
}
