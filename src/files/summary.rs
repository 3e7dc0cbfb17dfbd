//! The end of a job: `summary.json` and `_SUCCESS`, once every shard has its output.

use std::collections::HashSet;
use std::time::SystemTime;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::counts::Counts;
use super::job::{Input, Plan, SUCCESS, SUMMARY};
use super::store::Store;
use crate::rfc3339;

/// `summary.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    pub model: String,
    pub model_version: String,
    pub rows: u64,
    pub successful: u64,
    pub failed: u64,
    pub shards: usize,
    pub created: String,
    pub ended: String,
    pub seconds: f64,
    pub rows_per_second: f64,
    pub inputs: Vec<Input>,
}

/// The shards that have their output, and those that have not.
pub fn shards(store: &Store, plan: &Plan) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
    let listed = store.list(&plan.job.output)?;
    let names: HashSet<&str> = listed.iter().map(|(name, _)| &**name).collect();
    let is_finished = |shard: &usize| {
        let address = plan.results(*shard);
        names.contains(address.rsplit('/').next().unwrap_or(&address))
    };
    Ok((0..plan.shards.len()).partition(is_finished))
}

/// The summary of a finished job.
pub fn read(store: &Store, plan: &Plan) -> anyhow::Result<Option<Summary>> {
    let Some(text) = store.read(&plan.path(SUMMARY))? else { return Ok(None) };
    let summary = serde_json::from_slice(&text);
    summary.map(Some).with_context(|| format!("{} is no summary of a job", plan.path(SUMMARY)))
}

/// Ends a job whose shards all have their output. Every worker may do so; the first one's summary stays.
pub fn finish(store: &Store, plan: &Plan) -> anyhow::Result<Summary> {
    if let Some(summary) = read(store, plan)? {
        store.create(&plan.path(SUCCESS), b"")?;
        return Ok(summary);
    }
    let all: Vec<usize> = (0..plan.shards.len()).collect();
    let counts = Counts::sum(store, plan, &all)?;
    let now = SystemTime::now();
    let created = rfc3339::parse(&plan.created).unwrap_or(now);
    let seconds = now.duration_since(created).unwrap_or_default().as_secs_f64();
    let summary = Summary {
        model: plan.job.model.clone(),
        model_version: plan.model_version.clone(),
        rows: plan.rows,
        successful: counts.successful,
        failed: counts.failed,
        shards: plan.shards.len(),
        created: plan.created.clone(),
        ended: rfc3339::format(now),
        seconds,
        rows_per_second: if seconds > 0.0 { plan.rows as f64 / seconds } else { 0.0 },
        inputs: plan.inputs.clone(),
    };
    store.create(&plan.path(SUMMARY), &serde_json::to_vec_pretty(&summary)?)?;
    store.create(&plan.path(SUCCESS), b"")?;
    Ok(summary)
}
