//! Jobs by their folders: planning one once, finding it again, and counting what it has done.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;

use super::chunk::Form;
use super::counts::Counts;
use super::job::{InputFormat, JOB, JobSpec, Plan, Refused, path};
use super::local::submit_to;
use super::plan::{self, ModelFacts};
use super::records::Chunk;
use super::rows::Predictor;
use super::select::Table;
use super::store::Store;
use super::summary;
use crate::engine::run_batch::Running;
use crate::hint::with_hint;
use crate::model::Model;
use crate::ops::metrics::Metrics;

/// The plan in the output folder; a new one where there is none, and then true. `measures`: the first rows are
/// computed to measure the model, so that shards have a minute of work.
///
/// # Errors
/// There is no input, or it cannot be read; the folder holds another job, or the input has changed.
pub fn plan(
    store: &Store,
    job: JobSpec,
    model: &Arc<Model>,
    metrics: &Arc<Metrics>,
    measures: bool,
) -> anyhow::Result<(Plan, bool)> {
    job.check().map_err(Refused)?;
    if let Some(plan) = existing(store, &job)? {
        return Ok((plan, false));
    }
    let speed = |chunk: &Chunk, format: InputFormat, header: Option<&[u8]>| {
        if measures { speed(store, &job, model, metrics, (chunk, format, header)) } else { None }
    };
    let facts = ModelFacts { version: model.version.to_string(), speed: &speed };
    let plan = plan::plan(store, job.clone(), &facts)?;
    if store.create(&plan.path(JOB), &serde_json::to_vec(&plan)?)? {
        return Ok((plan, true));
    }
    let other = existing(store, &job)?.context("the job vanished from its folder")?;
    Ok((other, false))
}

/// The plan of an earlier run of the same job.
///
/// # Errors
/// The folder holds another job, or the input has changed.
pub fn existing(store: &Store, job: &JobSpec) -> anyhow::Result<Option<Plan>> {
    let Some(plan) = find(store, &job.output)? else { return Ok(None) };
    let version = job.model_version.as_ref().filter(|version| **version != plan.model_version);
    let version = version
        .map(|version| format!("\"model_version\" is {:?} there, got {version:?}", plan.model_version));
    if let Some(difference) = job.differs_from(&plan.job).or(version) {
        let error = Refused(format!("{} holds the results of another job: {difference}", job.output));
        return Err(with_hint(error, "name another --output, or delete that folder"));
    }
    // The limit of errors may change from run to run.
    let job = JobSpec { model_version: plan.job.model_version.clone(), ..job.clone() };
    let plan = Plan { job, ..plan };
    if let Some(change) = plan::changed_input(store, &plan)? {
        let error = Refused(format!("the input has changed since {} was written: {change}", plan.path(JOB)));
        return Err(with_hint(error, "name another --output for the new input, or restore the old input"));
    }
    Ok(Some(plan))
}

/// The plan in a folder.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn read(store: &Store, folder: &str) -> anyhow::Result<Plan> {
    find(store, folder)?.ok_or_else(|| {
        let error = Refused(format!("there is no job in {folder}: {} does not exist", path(folder, JOB)));
        with_hint(error, "name the folder that the job was given as --output")
    })
}

pub fn find(store: &Store, folder: &str) -> anyhow::Result<Option<Plan>> {
    let address = path(folder, JOB);
    let Some(text) = store.read(&address)? else { return Ok(None) };
    let plan: Result<Plan, String> = serde_json::from_slice(&text).map_err(|error| error.to_string());
    let plan = plan.and_then(|plan| plan.check(folder).map(|()| plan));
    plan.map(Some).map_err(|error| Refused(format!("{address} is no job of predictd: {error}")).into())
}

/// The failed rows of all finished shards.
pub fn failed(store: &Store, plan: &Plan) -> anyhow::Result<u64> {
    let (finished, _) = summary::shards(store, plan)?;
    Ok(Counts::sum(store, plan, &finished)?.failed)
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
    let predictor = Predictor { model, metrics };
    let running = Running::default();
    let submit = submit_to(0, &running);
    predictor.predict(form.instances(chunk).ok()?, &submit)?;
    let instances = form.instances(chunk).ok()?;
    let begun = Instant::now();
    predictor.predict(instances, &submit)?;
    let seconds = begun.elapsed().as_secs_f64().max(1e-6);
    Some(chunk.records.len() as f64 / seconds * model.executor.threads() as f64)
}
