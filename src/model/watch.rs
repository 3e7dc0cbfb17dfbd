//! Keeps every model on the newest version of its source that is complete, loads and passes its checks.
//!
//! Owns the writing side of [`Models`]. Wakes on a notification (a hint: unordered, repeated, lost at times), on the poll
//! interval, and ends on stop. All work happens here, off the hot path; the swap is one pointer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::cache::Lease;
use super::load::{difference, load};
use super::runtime::Runtime;
use super::source::{File, Listed, Source};
use super::{Model, Models, Refusal, memory};
use crate::cli::report;
use crate::health::Pulse;
use crate::metrics::Metrics;
use crate::telemetry::reload::{blocking_phase, carried, phase, reload};

/// What could not be read is tried again after this, doubled up to the poll interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Trouble that lasts so long will not pass by itself.
const LASTING: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Watch {
    pub source: Arc<Source>,
    pub runtime: Arc<Runtime>,
    pub models: Arc<Models>,
    pub metrics: Arc<Metrics>,
    pub poll_interval: Duration,
    /// Rung when the bucket announced something.
    pub hint: Arc<Notify>,
    /// At work while a version loads and while it takes its place; a download has its own limit of silence.
    pub pulse: Arc<Pulse>,
    pub judged: Judged,
}

#[derive(Debug, Clone, Copy)]
struct Unreadable {
    since: Instant,
    /// Until the next look, longer each time.
    wait: Duration,
}

impl Default for Unreadable {
    fn default() -> Self {
        Self { since: Instant::now(), wait: FIRST_RETRY }
    }
}

/// What is already known, so that no version is loaded or reported twice.
#[derive(Debug, Default)]
pub struct Judged {
    /// While the source cannot be read.
    unreadable: Option<Unreadable>,
    /// The files that the serving version of each model was loaded from, kept from eviction where they are cached.
    serving: HashMap<String, (Files, Option<Lease>)>,
    /// Versions that failed with exactly these files.
    failed: HashMap<(String, String), Failed>,
    /// Folders that were warned about.
    ignored: std::collections::BTreeSet<String>,
}

type Files = Vec<File>;

#[derive(Debug)]
struct Failed {
    files: Files,
    reason: String,
    /// Not the version's own fault: it is tried again.
    passing: bool,
}

/// How the attempt to load one version ended.
enum Attempt {
    Serves(Box<Model>, Option<Lease>),
    /// For good, as long as its files stay the same.
    Fails(String),
    /// For want of something that may be there later.
    FailsForNow(String),
    /// Worth another try soon: the source could not be read.
    Unreadable(anyhow::Error),
}

impl Watch {
    /// Runs until `stop`. The first look was the caller's: see [`Watch::look`].
    pub async fn run(mut self, stop: CancellationToken) {
        let mut wait = self.poll_interval;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.hint.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            wait = tokio::select! {
                () = stop.cancelled() => return,
                wait = self.look() => wait,
            };
        }
    }

    /// Brings the serving models in line with the source; answers how long to wait until the next look. What serves goes on,
    /// whatever happens: trouble is logged, as an error once it lasts.
    pub async fn look(&mut self) -> Duration {
        let Err(error) = self.reconcile().await else {
            self.judged.unreadable = None;
            return self.poll_interval;
        };
        let Unreadable { since, wait } = self.judged.unreadable.unwrap_or_default();
        let (error, hint) = (format!("{error:#}"), report::hint(&error));
        if since.elapsed() < LASTING {
            tracing::warn!(error, hint, "cannot look for new model versions, trying again");
        } else {
            tracing::error!(error, hint, "cannot look for new model versions");
        }
        let longer = (wait * 2).min(self.poll_interval);
        self.judged.unreadable = Some(Unreadable { since, wait: longer });
        wait.min(self.poll_interval)
    }

    /// Brings the serving models in line with the source as it is now.
    ///
    /// # Errors
    /// The source could not be listed, or a version not be read. What serves goes on.
    async fn reconcile(&mut self) -> anyhow::Result<()> {
        reload(self.reconcile_all()).await
    }

    async fn reconcile_all(&mut self) -> anyhow::Result<()> {
        let listing = phase("list", None, self.source.list()).await?;
        for name in listing.ignored {
            if self.judged.ignored.insert(name.clone()) {
                tracing::warn!(
                    path = name,
                    "ignored: not a version, expected a whole number or a semantic version"
                );
            }
        }
        self.judged.failed.retain(|(model, version), _| {
            let is_it = |listed: &Listed| listed.model == *model && listed.version.as_str() == version;
            listing.versions.iter().any(is_it)
        });
        let mut by_model: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
        for listed in listing.versions {
            by_model.entry(listed.model.clone()).or_default().push(listed);
        }
        let mut unreadable = None;
        for (model, mut versions) in by_model {
            versions.sort_by_key(|listed| Reverse(listed.version.clone()));
            if let Err(error) = self.reconcile_model(&model, versions).await {
                unreadable = Some(error.context(format!("model {model:?}")));
            }
        }
        self.metrics.models_serving.set(i64::try_from(self.models.serving().len()).unwrap_or(i64::MAX));
        unreadable.map_or(Ok(()), Err)
    }

    /// Tries the versions of one model, newest first, until one serves.
    async fn reconcile_model(&mut self, model: &str, newest_first: Vec<Listed>) -> anyhow::Result<()> {
        let mut refusals = Vec::new();
        let mut unreadable = None;
        for listed in newest_first {
            let serving = self.models.serving().get(model).cloned();
            let is_serving =
                serving.as_ref().is_some_and(|serving| *serving.version == *listed.version.as_str());
            if is_serving && self.judged.serving.get(model).is_some_and(|(files, _)| *files == listed.files) {
                break;
            }
            let key = (model.to_owned(), listed.version.to_string());
            let known = self.judged.failed.get(&key).filter(|failed| failed.files == listed.files);
            let reason = match known {
                Some(Failed { reason, passing: false, .. }) => reason.clone(),
                _ => match self.attempt(&listed, serving.as_deref()).await {
                    Attempt::Serves(loaded, lease) => {
                        let of = Some((model, listed.version.as_str()));
                        let _working = self.pulse.work();
                        blocking_phase("swap", of, || {
                            self.models.swap(Arc::from(loaded));
                            anyhow::Ok(())
                        })?;
                        if let Some(old) = serving.filter(|_| !is_serving) {
                            self.metrics.retire(&old.name, &old.version);
                        }
                        self.judged.serving.insert(model.to_owned(), (listed.files, lease));
                        self.judged.failed.remove(&key);
                        break;
                    }
                    Attempt::Fails(reason) => {
                        self.report(model, &listed, &reason);
                        let failed =
                            Failed { files: listed.files.clone(), reason: reason.clone(), passing: false };
                        self.judged.failed.insert(key, failed);
                        reason
                    }
                    Attempt::FailsForNow(reason) => {
                        if known.is_none() {
                            self.report(model, &listed, &reason);
                        }
                        let failed =
                            Failed { files: listed.files.clone(), reason: reason.clone(), passing: true };
                        self.judged.failed.insert(key, failed);
                        reason
                    }
                    Attempt::Unreadable(error) => {
                        let reason = format!("{error:#}");
                        self.metrics.reloaded(model, "failed");
                        unreadable = Some(error);
                        reason
                    }
                },
            };
            let from = self.source.address(model, &listed.version);
            refusals.push(Refusal { version: listed.version.to_string(), from, reason });
            if is_serving {
                // Its files changed for the worse: the loaded copy is still the newest good one.
                break;
            }
        }
        self.models.set_refused(model, refusals);
        unreadable.map_or(Ok(()), Err)
    }

    fn report(&self, model: &str, listed: &Listed, reason: &str) {
        if reason.starts_with("incomplete: ") {
            tracing::info!(model, version = listed.version.as_str(), reason, "version not complete yet");
            return;
        }
        self.metrics.reloaded(model, "refused");
        tracing::error!(
            model,
            version = listed.version.as_str(),
            reason,
            "version refused, it will not serve"
        );
    }

    async fn attempt(&self, listed: &Listed, serving: Option<&Model>) -> Attempt {
        let started = Instant::now();
        if let Some(shortage) = memory::shortage(listed, self.runtime.threads(), self.source.downloads()) {
            return Attempt::FailsForNow(shortage);
        }
        let of = Some((listed.model.as_str(), listed.version.as_str()));
        let fetched = match phase("fetch", of, self.source.fetch(listed, |_| {})).await {
            Ok(fetched) => fetched,
            Err(error) => return Attempt::Unreadable(error),
        };
        let load = {
            let (runtime, metrics) = (Arc::clone(&self.runtime), Arc::clone(&self.metrics));
            let pulse = Arc::clone(&self.pulse);
            let from = self.source.address(&listed.model, &listed.version);
            let (name, version) = (listed.model.clone(), listed.version.to_string());
            move || {
                let _working = pulse.work();
                // A lease that stays goes with the model; without one, the downloaded copy goes here.
                match load(&runtime, &metrics, &fetched.folder, &name, &version, from) {
                    Ok(model) => Ok((model, fetched.lease.filter(Lease::stays))),
                    Err(problem) => {
                        fetched.lease.into_iter().for_each(Lease::discard);
                        Err(problem)
                    }
                }
            }
        };
        let (loaded, lease) =
            match tokio::task::spawn_blocking(carried(load)).await.context("loading panicked") {
                Ok(Ok(loaded)) => loaded,
                Ok(Err(problem)) => return Attempt::Fails(problem.to_string()),
                Err(error) => return Attempt::Fails(format!("{error:#}")),
            };
        if let Some(serving) = serving
            && let Some(difference) = difference(serving, &loaded)
        {
            return Attempt::Fails(difference);
        }
        self.metrics.reloaded(&listed.model, "serving");
        tracing::info!(
            model = &*loaded.name,
            version = &*loaded.version,
            from = loaded.from,
            milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "version in service"
        );
        Attempt::Serves(Box::new(loaded), lease)
    }
}
