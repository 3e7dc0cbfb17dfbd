//! `predictd run`: reads the configuration, sets up the log and the signals, and runs the pipeline.

use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::check::load_or_report;
use super::execute::end;
use crate::config::Config;
use crate::config::load::Loaded;
use crate::gcp::clients;
use crate::ops;
use crate::pipeline::{self, Transports};

/// Runs the worker until a signal, or until the pipeline fails.
pub async fn run(files: &[PathBuf]) -> anyhow::Result<Exit> {
    let Some(Loaded { config, .. }) = load_or_report(files) else { return Ok(Exit::BadConfig) };
    ops::logs::init(&config.project);
    announce(&config);
    raise_open_files();
    ops::init(&config.requests.subscription, &config.responses.topic);
    pipeline::run(config, Transports::PubSub, stop_on_signals()?).await.map(|()| Exit::Ok)
}

/// Writes the first line of the log.
fn announce(config: &Config) {
    let emulators = clients::emulators();
    let providers: Vec<&str> = config.inference.providers.iter().map(|provider| provider.name()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        project = config.project,
        subscription = config.requests.subscription,
        topic = config.responses.topic,
        source = %config.models.source,
        default_model = config.models.default,
        providers = providers.join(", "),
        threads = config.inference.threads,
        emulators = (!emulators.is_empty()).then(|| emulators.join(", ")),
        "predictd starts"
    );
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
}

/// Raises the limit of open files to the hard limit. Most systems start a process with 1024, for old programs
/// that call `select`.
pub(super) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, limit = limit.current, "cannot raise the limit of open files");
    }
}

/// Returns a token that the first SIGTERM or SIGINT cancels, which begins the drain. The second ends the
/// process at once.
pub(super) fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn({
        let stop = stop.clone();
        async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if stop.is_cancelled() {
                    end(Exit::Failure);
                }
                stop.cancel();
            }
        }
    });
    Ok(stop)
}
