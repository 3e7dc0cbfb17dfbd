//! A job on this machine alone: its shards one after the other, each on all threads.

use std::fs::{File, TryLockError};
use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::counts::{Counts, Progress};
use super::job::{self, JOB, Plan};
use super::marks;
use super::rows::{Submit, Waiter};
use super::shard::{Context, Ended};
use super::store::{self, Store};
use super::summary::{self, Summary};
use super::threads::ConcurrencyLimit;
use crate::engine::job::{Batch, Job};
use crate::engine::run_batch::{Running, run_batch};
use crate::hint::with_hint;
use crate::model::Model;
use crate::ops::metrics::Metrics;
use crate::reply_to::ReplyTo;

/// End of a job.
#[derive(Debug)]
pub enum JobEnded {
    Finished(Summary),
    /// Stopped by its user, or by too many errors.
    Stopped,
}

/// Computes the shards of a job that have no output yet, and ends the job. Blocks.
///
/// # Errors
/// The input cannot be read or has changed, or the output cannot be written.
pub fn run(
    store: &Store,
    plan: &Plan,
    model: &Arc<Model>,
    metrics: &Arc<Metrics>,
    progress: &Progress,
    stop: &CancellationToken,
) -> anyhow::Result<JobEnded> {
    let _lock = lock(plan)?;
    let runnings: Vec<Running<ReplyTo>> = (0..model.executor.threads()).map(|_| Running::default()).collect();
    let submits: Vec<_> =
        runnings.iter().enumerate().map(|(slot, running)| submit_to(slot, running)).collect();
    let submits: Vec<Submit<'_>> = submits.iter().map(|submit| submit as Submit<'_>).collect();
    let (finished, missing) = summary::shards(store, plan)?;
    progress.add(Counts::sum(store, plan, &finished)?);
    let limit = ConcurrencyLimit::new(submits.len());
    let context = Context { store, plan, model, metrics, progress, stop, limit: &limit };
    // The mark that `predictd batch cancel` leaves.
    marks::resume(store, &plan.job.output)?;
    for shard in missing {
        let is_cancelled = marks::stopped(store, &plan.job.output)?.is_some();
        if is_cancelled || context.run(shard, &submits)? == Ended::Stopped {
            return Ok(JobEnded::Stopped);
        }
    }
    summary::finish(store, plan).map(JobEnded::Finished)
}

/// Runs requests at once, on the session of this thread.
pub fn submit_to(slot: usize, running: &Running<ReplyTo>) -> impl Fn(Vec<Job<Waiter>>) + Sync {
    move |jobs: Vec<Job<Waiter>>| {
        for job in jobs {
            let batch = Batch { model: Arc::clone(&job.model), jobs: vec![job.map(ReplyTo::from)] };
            for response in run_batch(slot, batch, running, &mut || {}) {
                let (response, reply_to) = response.split();
                if let ReplyTo::Caller(waiter) = reply_to {
                    drop(waiter.send(response));
                }
            }
        }
    }
}

/// True if a process of this machine computes the job in `folder`.
pub fn is_running(folder: &str) -> bool {
    let job = File::open(job::path(folder, JOB));
    job.is_ok_and(|job| matches!(job.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The right to compute a job, as long as the file is open: two runs would write the same files. With it, what
/// a killed run has left is deleted.
///
/// # Errors
/// Another process computes the job.
fn lock(plan: &Plan) -> anyhow::Result<File> {
    let (folder, address) = (&plan.job.output, plan.path(JOB));
    let job = File::open(&address).with_context(|| format!("cannot open {address:?}"))?;
    match job.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let error = anyhow::anyhow!("another process computes the job in {folder:?}");
            return Err(with_hint(error, "wait for its end, or name another --output"));
        }
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) => tracing::debug!(%error, "cannot lock the job"),
    }
    store::delete_scratch(folder)?;
    Ok(job)
}
