//! `predictd batch status` and `predictd batch cancel`.

use serde::Serialize;

use super::args::FolderArgs;
use super::{end, remote};
use crate::cli::{Exit, output};
use crate::files::counts::Counts;
use crate::files::job::SUMMARY;
use crate::files::store::Store;
use crate::files::summary;
use crate::files::{jobs, local, marks};

/// A shard that was given to workers again and again.
#[derive(Debug, Serialize)]
struct Retried {
    shard: usize,
    deliveries: i32,
    source: String,
    line: u64,
}

#[derive(Debug, Serialize)]
struct Status {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    model: String,
    model_version: String,
    rows: u64,
    successful: u64,
    failed: u64,
    shards: usize,
    finished_shards: usize,
    retried: Vec<Retried>,
}

async fn store(folder: &str) -> anyhow::Result<Store> {
    if folder.starts_with("gs://") { remote::store().await } else { Ok(Store::local()) }
}

pub(super) async fn show(args: FolderArgs) -> anyhow::Result<Exit> {
    let store = store(&args.folder).await?;
    tokio::task::spawn_blocking(move || print(&store, &args)).await?
}

fn print(store: &Store, args: &FolderArgs) -> anyhow::Result<Exit> {
    let folder = &args.folder;
    let stopped = marks::stopped(store, folder)?;
    let plan = match (jobs::read(store, folder), &stopped) {
        (Ok(plan), _) => plan,
        (Err(_), Some(reason)) => anyhow::bail!("the job in {folder} was refused: {reason}"),
        (Err(error), None) => return Err(error),
    };
    let (finished, missing) = summary::shards(store, &plan)?;
    let counts = Counts::sum(store, &plan, &finished)?;
    let attempts = marks::attempts(store, folder)?;
    let retried = attempts.into_iter().filter(|(shard, _)| missing.contains(shard));
    let retried = retried.map(|(shard, deliveries)| {
        let place = &plan.shards[shard];
        Retried { shard, deliveries, source: plan.inputs[place.input].address.clone(), line: place.line }
    });
    let summary = summary::read(store, &plan)?;
    let is_finished = summary.is_some();
    let is_local = !folder.starts_with("gs://");
    let state = match (is_finished, &stopped) {
        (true, _) => "finished",
        (false, Some(_)) => "stopped",
        (false, None) if is_local && !local::is_running(folder) => "stopped",
        (false, None) => "running",
    };
    let status = Status {
        state,
        reason: stopped,
        model: plan.job.model.clone(),
        model_version: plan.model_version.clone(),
        rows: plan.rows,
        successful: counts.successful,
        failed: counts.failed,
        shards: plan.shards.len(),
        finished_shards: finished.len(),
        retried: retried.collect(),
    };
    if args.json {
        output::print(serde_json::to_string_pretty(&status)? + "\n")?;
        return Ok(Exit::Ok);
    }
    if let Some(summary) = summary {
        return end::report(&plan, &summary, remote::first_error(store, &plan, &summary)?.as_deref());
    }
    let Status { model, model_version, rows, successful, failed, shards, finished_shards, .. } = &status;
    let mut text = format!(
        "{state}: {model} {model_version}, {finished_shards} of {shards} shards, {} of {rows} rows, {failed} failed\n",
        successful + failed
    );
    if let Some(reason) = &status.reason {
        text += &format!("why: {reason}\n");
    }
    for Retried { shard, deliveries, source, line } in &status.retried {
        text += &format!(
            "shard {shard} ({source}, from line {line}): delivered {deliveries} times without output; once it has used \
             up its attempts, it is in the dead-letter topic\n"
        );
    }
    output::print(text)?;
    Ok(Exit::Ok)
}

pub(super) async fn cancel(args: FolderArgs) -> anyhow::Result<Exit> {
    let store = store(&args.folder).await?;
    tokio::task::spawn_blocking(move || {
        let plan = jobs::read(&store, &args.folder)?;
        if store.stat(&plan.path(SUMMARY))?.is_some() {
            output::print(format!("{}: the job is finished\n", args.folder))?;
            return Ok(Exit::Ok);
        }
        marks::stop(&store, &args.folder, "cancelled by `predictd batch cancel`")?;
        output::print(format!("{}: the job is cancelled; the same command goes on with it\n", args.folder))?;
        Ok(Exit::Ok)
    })
    .await?
}
