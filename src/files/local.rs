//! A job on this machine alone: its shards one after the other, each on all threads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use super::chunk::Form;
use super::job::{InputFormat, JOB, JobSpec, Plan};
use super::plan::{self, ModelFacts};
use super::records::Chunk;
use super::rows::{Predictor, Submit, Waiter};
use super::select::Table;
use super::shard::{Context, Counts, Ended, Progress};
use super::store::Store;
use super::summary::{self, Summary};
use crate::engine::job::{Batch, Job};
use crate::engine::run_batch::{Running, run_batch};
use crate::hint::with_hint;
use crate::model::Model;
use crate::ops::metrics::Metrics;
use crate::reply_to::ReplyTo;

/// How a job ended.
#[derive(Debug)]
pub enum JobEnded {
    Finished(Summary),
    /// Stopped by its user, or by too many errors.
    Stopped,
}

/// The plan in the output folder; a new one where there is none.
///
/// # Errors
/// There is no input, or it cannot be read; the folder holds another job, or the input has changed.
pub fn plan(store: &Store, job: JobSpec, model: &Arc<Model>, metrics: &Arc<Metrics>) -> anyhow::Result<Plan> {
    job.check().map_err(anyhow::Error::msg)?;
    if let Some(plan) = existing(store, &job)? {
        return Ok(plan);
    }
    let speed = |chunk: &Chunk, format: InputFormat, header: Option<&[u8]>| {
        speed(store, &job, model, metrics, (chunk, format, header))
    };
    let facts = ModelFacts { version: model.version.to_string(), speed: &speed };
    let plan = plan::plan(store, job.clone(), &facts)?;
    let is_new = store.create(&plan.path(JOB), &serde_json::to_vec(&plan)?)?;
    if is_new { Ok(plan) } else { existing(store, &job)?.context("the job vanished from its folder") }
}

/// The plan of an earlier run of the same job.
///
/// # Errors
/// The folder holds another job, or the input has changed.
pub fn existing(store: &Store, job: &JobSpec) -> anyhow::Result<Option<Plan>> {
    let address = super::job::path(&job.output, JOB);
    let Some(text) = store.read(&address)? else { return Ok(None) };
    let plan: Plan =
        serde_json::from_slice(&text).with_context(|| format!("{address} is no job of predictd"))?;
    let other = job.differs_from(&plan.job);
    let version = job.model_version.as_ref().filter(|version| **version != plan.model_version);
    let version = version
        .map(|version| format!("\"model_version\" is {:?} there, got {version:?}", plan.model_version));
    if let Some(difference) = other.or(version) {
        let error = anyhow::anyhow!("{} holds the results of another job: {difference}", job.output);
        return Err(with_hint(error, "name another --output, or delete that folder"));
    }
    let same_input = Plan { job: JobSpec { input: job.input.clone(), ..plan.job.clone() }, ..plan };
    if let Some(change) = plan::changed_input(store, &same_input)? {
        let error = anyhow::anyhow!("the input has changed since {address} was written: {change}");
        return Err(with_hint(error, "name another --output for the new input, or restore the old input"));
    }
    Ok(Some(same_input))
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
    let runnings: Vec<Running<ReplyTo>> = (0..model.executor.threads()).map(|_| Running::default()).collect();
    let submits: Vec<_> =
        runnings.iter().enumerate().map(|(slot, running)| submit_to(slot, running)).collect();
    let submits: Vec<Submit<'_>> = submits.iter().map(|submit| submit as Submit<'_>).collect();
    let finished = summary::finished(store, plan)?;
    for (shard, _) in finished.iter().enumerate().filter(|(_, is_finished)| **is_finished) {
        let Counts { successful, failed } = Counts::read(store, plan, shard)?;
        progress.successful.fetch_add(successful, Ordering::Relaxed);
        progress.failed.fetch_add(failed, Ordering::Relaxed);
    }
    let context = Context { store, plan, model, metrics, progress, stop };
    for (shard, is_finished) in finished.into_iter().enumerate() {
        if !is_finished && context.run(shard, &submits)? == Ended::Stopped {
            return Ok(JobEnded::Stopped);
        }
    }
    summary::finish(store, plan).map(JobEnded::Finished)
}

/// Runs requests at once, on the session of this thread.
fn submit_to(slot: usize, running: &Running<ReplyTo>) -> impl Fn(Vec<Job<Waiter>>) + Sync {
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

/// Rows a second on all threads, by the second of two runs of the same records.
fn speed(
    store: &Store,
    job: &JobSpec,
    model: &Arc<Model>,
    metrics: &Arc<Metrics>,
    (chunk, format, header): (&Chunk, InputFormat, Option<&[u8]>),
) -> Option<f64> {
    let table = header.map(|header| Table::new(job, header)).transpose().ok()?;
    let form = Form { job, format, table, store };
    let predictor = Predictor { form: &form, model, metrics };
    let running = Running::default();
    let submit = submit_to(0, &running);
    predictor.predict(chunk, &submit).ok()?;
    let begun = Instant::now();
    predictor.predict(chunk, &submit).ok()?;
    let seconds = begun.elapsed().as_secs_f64().max(1e-6);
    Some(chunk.records.len() as f64 / seconds * model.executor.threads() as f64)
}

/// Why a folder has no finished job.
///
/// # Errors
/// There is no job, or it cannot be read.
pub fn read_plan(store: &Store, folder: &str) -> anyhow::Result<Plan> {
    let address = super::job::path(folder, JOB);
    let Some(text) = store.read(&address)? else {
        bail!("there is no job in {folder}: {address} does not exist")
    };
    serde_json::from_slice(&text).with_context(|| format!("{address} is no job of predictd"))
}
