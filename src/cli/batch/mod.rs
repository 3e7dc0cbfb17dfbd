//! `predictd batch`: predictions for files.

pub mod args;
mod bar;
mod end;
mod remote;
mod status;

use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use self::args::{BatchArgs, BatchCommand, JobArgs};
use self::bar::Bar;
use super::run::stop_on_signals;
use super::{Exit, load_model};
use crate::files::counts::Progress;
use crate::files::job::{JobSpec, Plan};
use crate::files::jobs;
use crate::files::local::{self, JobEnded};
use crate::files::store::Store;
use crate::hint::with_hint;
use crate::ops::metrics::Metrics;

pub async fn run(args: BatchArgs) -> anyhow::Result<Exit> {
    let BatchArgs { command, job } = args;
    match command {
        Some(BatchCommand::Status(args)) => status::show(args).await,
        Some(BatchCommand::Cancel(args)) => status::cancel(args).await,
        None => {
            if job.is_remote().map_err(anyhow::Error::msg)? {
                return remote::run(&job).await;
            }
            on_this_machine(&job).await
        }
    }
}

async fn on_this_machine(args: &JobArgs) -> anyhow::Result<Exit> {
    let stop = stop_on_signals()?;
    let runtime = load_model::runtime(args.library.as_deref(), load_model::Threads::All)?;
    let spec = args.spec();
    let planned = {
        let spec = spec.clone();
        spawn_blocking(move || jobs::existing(&Store::local(), &spec)).await??
    };
    let version =
        planned.as_ref().map(|plan| plan.model_version.clone()).or_else(|| spec.model_version.clone());
    // Boxed, since the compiler limits how deep futures nest.
    let loading = Box::pin(load_model::load_version(&spec.model, version.as_deref(), runtime));
    let model = loading.await?.model;
    if let Some(wanted) = version.filter(|wanted| **wanted != *model.version) {
        let error = anyhow::anyhow!("expected version {wanted} of the model, got {}", model.version);
        return Err(with_hint(error, "name the folder of that version with --model, or another --output"));
    }
    spawn_blocking(move || compute(spec, Arc::new(model), &stop)).await?
}

fn compute(spec: JobSpec, model: Arc<crate::model::Model>, stop: &CancellationToken) -> anyhow::Result<Exit> {
    let (store, metrics, progress) = (Store::local(), Metrics::new(), Arc::<Progress>::default());
    let (plan, _) = jobs::plan(&store, spec, &model, &metrics, true)?;
    let bar = Bar::start(plan.rows, Arc::clone(&progress));
    let ended = local::run(&store, &plan, &model, &metrics, &progress, stop);
    bar.end();
    let first_error = progress.first_error();
    match ended? {
        JobEnded::Finished(summary) => end::report(&plan, &summary, first_error.as_deref()),
        JobEnded::Stopped => Err(stopped(&plan, &progress, first_error)),
    }
}

fn stopped(plan: &Plan, progress: &Progress, first_error: Option<String>) -> anyhow::Error {
    let failed = progress.failed();
    match plan.job.max_errors.filter(|most| failed > *most) {
        Some(most) => {
            let first = first_error.map_or_else(String::new, |error| format!("; the first: {error}"));
            let error = anyhow::anyhow!("expected at most {most} failed rows, got {failed}{first}");
            with_hint(
                error,
                "raise --max-errors, and the same command goes on with the job; or correct the rows and name another --output",
            )
        }
        None => {
            let error = anyhow::anyhow!("the job was stopped before its end");
            with_hint(error, "the same command goes on with it, and computes only what is missing")
        }
    }
}
