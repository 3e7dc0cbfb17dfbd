//! Jobs of workers: asking for one, watching it, and stopping it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::retry_policy::RetryableErrors;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::args::JobArgs;
use super::bar::Bar;
use super::end;
use crate::cli::check::load_or_report;
use crate::cli::run::stop_on_signals;
use crate::cli::{Exit, output};
use crate::config::load::Loaded;
use crate::files::counts::{Counts, Progress};
use crate::files::job::{JobSpec, Plan};
use crate::files::store::{Bucket, Store};
use crate::files::summary::{self, Summary};
use crate::files::{jobs, marks};
use crate::gcp::{clients, probes};
use crate::hint::{Hint as _, with_hint};

/// Interval of looking at the folder of a job.
const LOOK: Duration = Duration::from_secs(1);
/// Interval of looking for shards that are delivered again and again.
const LOOK_FOR_RETRIED: Duration = Duration::from_secs(10);
/// Deliveries of a shard that a person is told of: the default at which Pub/Sub gives up.
const MANY: i32 = 5;
/// Time without a plan after which a person is told what to look at.
const SLOW_PLAN: Duration = Duration::from_secs(30);

/// The store of jobs in Cloud Storage.
pub(super) async fn store() -> anyhow::Result<Store> {
    Ok(Store { bucket: Some(Bucket::connect().await?), allowed: None, has_files: false })
}

/// Gives a job to the workers, and watches it to its end.
pub(super) async fn run(args: &JobArgs) -> anyhow::Result<Exit> {
    let Some(topic) = topic(args).await? else { return Ok(Exit::BadConfig) };
    let (stop, store, spec) = (stop_on_signals()?, Arc::new(store().await?), args.spec());
    spec.check().map_err(anyhow::Error::msg)?;
    let checked = {
        let (store, spec) = (Arc::clone(&store), spec.clone());
        spawn_blocking(move || {
            let plan = jobs::existing(&store, &spec)?;
            if let Some(plan) = plan
                && let Some(summary) = summary::read(&store, &plan)?
            {
                return end::report(&plan, &summary, first_error(&store, &plan, &summary)?.as_deref())
                    .map(Some);
            }
            // A worker that sees the job stopped would leave it.
            marks::resume(&store, &spec.output)?;
            Ok(None)
        })
    };
    if let Some(exit) = checked.await?? {
        return Ok(exit);
    }
    let publisher = clients::publisher(RetryableErrors).await?.publisher(&topic).build();
    let message = Message::new().set_data(serde_json::to_vec(&spec)?);
    let published = publisher.publish(message).await;
    published.with_context(|| format!("cannot publish the job to {topic:?}"))?;
    if args.detach {
        output::print(format!("{}: the workers have the job\n", spec.output))?;
        return Ok(Exit::Ok);
    }
    spawn_blocking(move || watch(&store, &spec, &stop)).await?
}

/// The topic of batches; none if the configuration has problems, which are reported.
async fn topic(args: &JobArgs) -> anyhow::Result<Option<String>> {
    if let Some(topic) = args.topic.as_ref().filter(|topic| topic.starts_with("projects/")) {
        return Ok(Some(topic.clone()));
    }
    if args.config.config.is_empty() {
        let error = anyhow::anyhow!("expected the topic of batches, got none");
        return Err(with_hint(
            error,
            "name the workers' --config FILE, or --topic projects/PROJECT/topics/TOPIC",
        ));
    }
    let Some(Loaded { config, .. }) = load_or_report(&args.config.config) else { return Ok(None) };
    if let Some(topic) = &args.topic {
        return Ok(Some(format!("projects/{}/topics/{topic}", config.project)));
    }
    let subscription =
        config.files.subscription.context("`files.subscription` is empty, so workers take no batches");
    let subscription = subscription.hint("set it for the workers, or name --topic")?;
    Ok(Some(probes::topic_of(&clients::subscription_admin().await?, &subscription).await?))
}

/// Watches a job until it ends.
fn watch(store: &Store, spec: &JobSpec, stop: &CancellationToken) -> anyhow::Result<Exit> {
    let Some(plan) = until_planned(store, spec, stop)? else { return Err(left(spec)) };
    let progress = Arc::<Progress>::default();
    let bar = Bar::start(plan.rows, Arc::clone(&progress));
    let ended = until_finished(store, &plan, &progress, stop);
    bar.end();
    match ended? {
        Some(summary) => end::report(&plan, &summary, first_error(store, &plan, &summary)?.as_deref()),
        None => Err(left(spec)),
    }
}

fn left(spec: &JobSpec) -> anyhow::Error {
    let error = anyhow::anyhow!("the job is watched no more; the workers go on with it");
    let output = &spec.output;
    with_hint(
        error,
        &format!("`predictd batch status {output}` shows it, `predictd batch cancel {output}` stops it"),
    )
}

/// None if the user has left.
fn until_planned(store: &Store, spec: &JobSpec, stop: &CancellationToken) -> anyhow::Result<Option<Plan>> {
    let (begun, mut is_told) = (Instant::now(), false);
    loop {
        if let Some(plan) = jobs::find(store, &spec.output)? {
            return Ok(Some(plan));
        }
        fail_if_stopped(store, &spec.output)?;
        if stop.is_cancelled() {
            return Ok(None);
        }
        if !is_told && begun.elapsed() > SLOW_PLAN {
            is_told = true;
            output::print_error(
                "no worker has planned the job yet: check that workers run with `files.subscription`, and their logs\n",
            );
        }
        std::thread::sleep(LOOK);
    }
}

fn until_finished(
    store: &Store,
    plan: &Plan,
    progress: &Progress,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Summary>> {
    let (mut counted, mut told, mut looked) = (HashSet::new(), HashSet::new(), Instant::now());
    loop {
        let (finished, missing) = summary::shards(store, plan)?;
        let new: Vec<usize> = finished.into_iter().filter(|shard| counted.insert(*shard)).collect();
        progress.add(Counts::sum(store, plan, &new)?);
        if missing.is_empty() {
            return summary::finish(store, plan).map(Some);
        }
        fail_if_stopped(store, &plan.job.output)?;
        if stop.is_cancelled() {
            return Ok(None);
        }
        if looked.elapsed() > LOOK_FOR_RETRIED {
            looked = Instant::now();
            for (shard, deliveries) in marks::attempts(store, &plan.job.output)? {
                if deliveries >= MANY && missing.contains(&shard) && told.insert(shard) {
                    output::print_error(&format!(
                        "shard {shard} was delivered {deliveries} times without output; `predictd batch status {}` says more\n",
                        plan.job.output
                    ));
                }
            }
        }
        std::thread::sleep(LOOK);
    }
}

fn fail_if_stopped(store: &Store, folder: &str) -> anyhow::Result<()> {
    match marks::stopped(store, folder)? {
        None => Ok(()),
        Some(reason) => Err(anyhow::anyhow!("the job in {folder} was stopped: {reason}"))
            .hint("remove the cause; the same command goes on with the job"),
    }
}

/// The first line of the errors, for a person to read.
pub(super) fn first_error(store: &Store, plan: &Plan, summary: &Summary) -> anyhow::Result<Option<String>> {
    if summary.failed == 0 {
        return Ok(None);
    }
    for shard in summary::shards(store, plan)?.0 {
        if Counts::sum(store, plan, &[shard])?.failed > 0 {
            let errors = store.read(&plan.errors(shard))?.unwrap_or_default();
            let line = errors.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let error: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
            let text =
                |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let place = match &error["source"] {
                serde_json::Value::Null => text(&error["instance"]),
                source => format!("{}, line {}", text(source), error["line"]),
            };
            return Ok(Some(format!("{place}: {}", text(&error["error"]["message"]))));
        }
    }
    Ok(None)
}
