//! Watches the models' source and makes each model follow its changes, in parallel: a slow model delays no
//! other.
//!
//! Wakes on a notification, which is only a hint (unordered, repeated, sometimes lost), and on the poll
//! interval. Ends on stop, with all tasks that it started. Versions are loaded here, off the hot path; the
//! swap is one pointer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::OptionFuture;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::listing::{IgnoredPath, ListedVersion, Listing};
use super::reconcile::{Follower, RunningLoad, Shared};
use crate::ops::health::Part;
use crate::ops::log_limits::{REMINDER, Throttle};
use crate::ops::reload_spans::{Reload, phase};
use crate::stages::pass_panic_on;

/// The first retry of a failed read is after this time; it doubles up to the poll interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// A failure that lasts this long is logged as an error.
const LASTING: Duration = Duration::from_secs(300);
/// A model is retired by two listings without it. They must be at least this far apart, since the
/// notifications of one deletion arrive together and each causes a listing.
const MIN_ABSENCE: Duration = Duration::from_secs(1);
/// At the start, a worker that serves one model waits this long for those that are still loading. A longer
/// time delays readiness; a shorter one nacks more requests ([`crate::model::Models::is_awaited`]).
const START_PATIENCE: Duration = Duration::from_secs(10);
/// Ignored paths of one listing that are logged; a folder of other files must not fill the log.
const MOST_IGNORED_LOGGED: usize = 10;

#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    poll_interval: Duration,
    /// Notified when the bucket announces a change.
    hint: Arc<Notify>,
    models: BTreeMap<String, WatchedModel>,
    running: JoinSet<(Box<Follower>, anyhow::Result<()>)>,
    next_listing: Instant,
    /// Set while the source cannot be listed.
    unlisted: Option<ReadFailure>,
    /// The ignored paths that have been logged.
    ignored: BTreeSet<IgnoredPath>,
    /// Set once it has been logged that there are several models and no default.
    is_ambiguous: bool,
}

/// One model that is in the source, or was.
#[derive(Debug, Default)]
struct WatchedModel {
    /// `None` while its task runs.
    follower: Option<Box<Follower>>,
    /// The load of its task.
    running_load: Arc<RunningLoad>,
    /// The newest listing that its running task does not have.
    next: Option<ModelListing>,
    absence: Option<Absence>,
    failure: Option<ReadFailure>,
}

/// One model in one listing.
#[derive(Debug)]
struct ModelListing {
    newest_first: Vec<ListedVersion>,
    /// Set when a part of its folder could not be read, so that versions may be missing.
    is_partial: bool,
    reload: Arc<Reload>,
}

/// The state of a model that is no longer listed.
#[derive(Debug, Clone, Copy)]
struct Absence {
    since: Instant,
    /// Set by a second listing without it.
    is_certain: bool,
}

/// A failure to read the source.
#[derive(Debug, Clone, Copy)]
struct ReadFailure {
    since: Instant,
    /// The time until the next attempt, longer each time.
    wait: Duration,
}

impl ReadFailure {
    /// Logs the failure, as an error once it lasts, and returns the time of the next attempt.
    fn again(known: &mut Option<Self>, error: &anyhow::Error, poll_interval: Duration) -> Instant {
        let Self { since, wait } = known.unwrap_or(Self { since: Instant::now(), wait: FIRST_RETRY });
        let (error, hint) = (format!("{error:#}"), crate::hint::hint(error));
        if since.elapsed() < LASTING {
            tracing::warn!(error, hint, "cannot look for new model versions, trying again");
        } else {
            tracing::error!(error, hint, "cannot look for new model versions");
        }
        *known = Some(Self { since, wait: (wait * 2).min(poll_interval) });
        Instant::now() + wait.min(poll_interval)
    }
}

impl Watch {
    pub fn new(shared: Shared, poll_interval: Duration, hint: Arc<Notify>) -> Self {
        Self {
            shared: Arc::new(shared),
            poll_interval,
            hint,
            models: BTreeMap::new(),
            running: JoinSet::new(),
            next_listing: Instant::now(),
            unlisted: None,
            ignored: BTreeSet::new(),
            is_ambiguous: false,
        }
    }

    /// Runs until `stop`. Calls `started` once the worker may take requests. Served models stay, whatever
    /// fails.
    pub async fn run(mut self, stop: CancellationToken, started: impl FnOnce()) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = async {
                self.start().await;
                started();
                loop {
                    self.update_health();
                    self.step(None).await;
                }
            } => {}
        }
        // Dropped downloads and copies remove their partial files.
        self.running.shutdown().await;
    }

    /// Waits until one model is served and the others are, cannot be, or have had [`START_PATIENCE`]. Keeps
    /// trying: new rights take minutes to take effect.
    async fn start(&mut self) {
        let (reminder, mut serving_since) = (Throttle::every(REMINDER), None::<Instant>);
        self.list_source().await;
        self.shared.models.set_awaited(self.models.keys().cloned().collect());
        loop {
            if !self.shared.models.serving().is_empty() {
                let since = serving_since.get_or_insert_with(Instant::now);
                if self.running.is_empty() || since.elapsed() >= START_PATIENCE {
                    return;
                }
            } else if self.running.is_empty() && reminder.admit() {
                tracing::error!(
                    "no model can serve yet, waiting for one; `/info` says why the versions found do not"
                );
            }
            self.step(serving_since.map(|since| since + START_PATIENCE)).await;
        }
    }

    /// Waits for one event, at most `until` this time, and handles it.
    async fn step(&mut self, until: Option<Instant>) {
        let patience = OptionFuture::from(until.map(|until| tokio::time::sleep_until(until.into())));
        tokio::select! {
            Some(ended) = self.running.join_next() => self.take_follower_back(ended),
            () = self.hint.notified() => self.list_source().await,
            () = tokio::time::sleep_until(self.next_listing.into()) => self.list_source().await,
            Some(()) = patience => {}
        }
    }

    /// Lists the source and makes every model follow it. A failed listing changes nothing.
    async fn list_source(&mut self) {
        let reload = Arc::new(Reload::begin());
        match reload.run(phase("list", None, self.shared.source.list())).await {
            Ok(listing) => {
                self.unlisted = None;
                self.next_listing = Instant::now() + self.poll_interval;
                self.distribute(listing, &reload);
            }
            Err(error) => {
                self.next_listing = ReadFailure::again(&mut self.unlisted, &error, self.poll_interval)
            }
        }
    }

    fn distribute(&mut self, listing: Listing, reload: &Arc<Reload>) {
        let Listing { versions, ignored, unreadable } = listing;
        let new: Vec<&IgnoredPath> =
            ignored.iter().filter(|ignored| self.ignored.insert((*ignored).clone())).collect();
        for IgnoredPath { path, expected } in new.iter().take(MOST_IGNORED_LOGGED) {
            tracing::warn!(path, expected, "ignored in the models' source");
        }
        if let Some(more @ 1..) = new.len().checked_sub(MOST_IGNORED_LOGGED) {
            tracing::warn!(more, "more is ignored in the models' source; `/info` names it");
        }
        self.ignored.retain(|known| ignored.contains(known));
        self.shared.not_served.set_ignored(ignored);
        self.shared.loader.forget_unlisted_crashes(&self.shared.source, &versions, &unreadable);
        let mut by_model: BTreeMap<String, Vec<ListedVersion>> = BTreeMap::new();
        for listed in versions {
            by_model.entry(listed.model.clone()).or_default().push(listed);
        }
        // A model whose folder cannot be read is not gone.
        for model in unreadable.iter().filter(|model| self.models.contains_key(*model)) {
            by_model.entry(model.clone()).or_default();
        }
        let gone: Vec<String> =
            self.models.keys().filter(|model| !by_model.contains_key(*model)).cloned().collect();
        gone.iter().for_each(|model| self.handle_absence(model));
        for newest_first in by_model.values_mut() {
            newest_first.sort_by_key(|listed| Reverse(listed.version.clone()));
        }
        // Marked first, so that no download evicts a version that another model is about to load.
        let is_new = |listed: &&ListedVersion| !self.models.contains_key(&listed.model);
        by_model.values().filter_map(|newest_first| newest_first.first()).filter(is_new).for_each(|newest| {
            self.shared.source.mark_used(newest);
        });
        for (model, newest_first) in by_model {
            let is_partial = unreadable.contains(&model);
            let listing = ModelListing { newest_first, is_partial, reload: Arc::clone(reload) };
            let follower = || Some(Box::new(Follower::new(&model)));
            let new = || WatchedModel { follower: follower(), ..WatchedModel::default() };
            let entry = self.models.entry(model.clone()).or_insert_with(new);
            entry.absence = None;
            match entry.follower.take() {
                Some(follower) => self.follow(follower, listing),
                None => {
                    if !is_partial {
                        entry.running_load.terminate_unless(&listing.newest_first);
                    }
                    entry.next = Some(listing);
                }
            }
        }
    }

    fn follow(&mut self, mut follower: Box<Follower>, listing: ModelListing) {
        let (shared, ModelListing { newest_first, is_partial, reload }) = (Arc::clone(&self.shared), listing);
        let running_load = Arc::clone(&self.models[follower.model()].running_load);
        self.running.spawn(async move {
            let followed = follower.follow(&shared, newest_first, is_partial, &running_load);
            let outcome = reload.run(followed).await;
            (follower, outcome)
        });
    }

    /// Takes back the follower of a task that has ended.
    fn take_follower_back(&mut self, ended: Result<(Box<Follower>, anyhow::Result<()>), JoinError>) {
        let Some((follower, outcome)) = pass_panic_on(ended) else { return };
        let model = follower.model().to_owned();
        self.shared.models.set_not_awaited(&model);
        let Some(entry) = self.models.get_mut(&model) else { return };
        match outcome {
            Ok(()) => entry.failure = None,
            Err(error) => {
                let error = error.context(format!("model {model:?}"));
                let again = ReadFailure::again(&mut entry.failure, &error, self.poll_interval);
                self.next_listing = self.next_listing.min(again);
            }
        }
        let is_gone = entry.absence.is_some_and(|absence| absence.is_certain);
        match entry.next.take() {
            Some(listing) => self.follow(follower, listing),
            None => entry.follower = Some(follower),
        }
        if is_gone {
            self.retire(&model);
        }
        self.update_overview();
    }

    /// Handles a listing without this model. A folder without a version that can be served does not count:
    /// its owner is uploading, or made a mistake, and did not delete the model.
    fn handle_absence(&mut self, model: &str) {
        let Some(entry) = self.models.get_mut(model) else { return };
        entry.next = None;
        entry.running_load.terminate_unless(&[]);
        let new = Absence { since: Instant::now(), is_certain: false };
        let absence = entry.absence.get_or_insert(new);
        absence.is_certain |= absence.since.elapsed() >= MIN_ABSENCE;
        let Some(follower) = &entry.follower else { return };
        if absence.is_certain || !self.shared.models.serving().contains_key(model) {
            self.retire(model);
            self.update_overview();
        } else {
            follower.warn_of_its_end(&self.shared);
        }
    }

    /// Retires a model that is no longer in the source.
    fn retire(&mut self, model: &str) {
        self.models.remove(model);
        self.shared.not_served.remove(model);
        if let Some(old) = self.shared.models.retire(model) {
            let version = &*old.version;
            self.shared.metrics.retire(model, version);
            self.shared.metrics.reloaded(model, "retired");
            tracing::warn!(model, version, "model retired: no version of it is in the source any more");
        }
    }

    /// Updates the metric and the warning that concern all models.
    fn update_overview(&mut self) {
        let serving = self.shared.models.serving();
        self.shared.metrics.models_serving.set(i64::try_from(serving.len()).unwrap_or(i64::MAX));
        let was_ambiguous = std::mem::replace(&mut self.is_ambiguous, self.shared.models.are_ambiguous());
        if self.is_ambiguous && !was_ambiguous {
            tracing::warn!(
                models = self.shared.models.names(),
                hint = "set `models.default` to one of them",
                "several models are served: requests that name none are refused with MODEL_NOT_FOUND"
            );
        }
    }

    fn update_health(&self) {
        if !self.shared.models.serving().is_empty() {
            self.shared.health.works(Part::Models);
        } else if self.shared.health.fails(Part::Models, "no model is serving any more") {
            tracing::error!("no model is served any more: all were deleted from the source");
        }
    }
}
