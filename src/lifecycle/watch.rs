//! Looks for changes of the models' source and has each model follow them, side by side: a slow one delays no
//! other.
//!
//! Owns the writing side of `Models`. Wakes on a notification (a hint: unordered, repeated, lost at times),
//! on the poll interval, and ends on stop, with all that it started. All work happens here, off the hot path;
//! the swap is one pointer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::listing::{IgnoredPath, ListedVersion, Listing};
use super::reconcile::{Current, Follower, Shared};
use crate::ops::health::Part;
use crate::ops::log_limits::{REMINDER, Throttle};
use crate::ops::reload_spans::{Reload, phase};
use crate::stages::pass_panic_on;

/// What could not be read is tried again after this, doubled up to the poll interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Trouble that lasts so long will not pass by itself.
const LASTING: Duration = Duration::from_secs(300);
/// A model is retired by two listings without it that are at least so far apart: notifications of one
/// deletion come together.
const GONE: Duration = Duration::from_secs(1);
/// At the start, a worker with a model that serves waits so long for those that are still loading. Longer
/// delays readiness; shorter nacks more requests ([`crate::model::Models::is_awaited`]).
const START_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    poll_interval: Duration,
    /// Rung when the bucket announced something.
    hint: Arc<Notify>,
    models: BTreeMap<String, Entry>,
    running: JoinSet<(Box<Follower>, anyhow::Result<()>)>,
    next_look: Instant,
    /// While the source cannot be listed.
    unlisted: Option<Trouble>,
    /// Warnings that were given.
    ignored: BTreeSet<IgnoredPath>,
    /// Set once it was said that there are several models and no default.
    is_ambiguous: bool,
}

/// One model of the source, or one that was.
#[derive(Debug, Default)]
struct Entry {
    /// None while it follows the source.
    follower: Option<Box<Follower>>,
    /// The version that it loads.
    current: Arc<Current>,
    /// The listing that came meanwhile.
    next: Option<Found>,
    gone: Option<Gone>,
    trouble: Option<Trouble>,
}

/// A model as one listing has it.
#[derive(Debug)]
struct Found {
    newest_first: Vec<ListedVersion>,
    /// Set when a part of its folder could not be read, so that there may be more versions.
    is_partial: bool,
    reload: Arc<Reload>,
}

/// Listings have a model no more.
#[derive(Debug, Clone, Copy)]
struct Gone {
    since: Instant,
    /// Set by a second one.
    is_certain: bool,
}

/// Something that could not be read.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    since: Instant,
    /// Until the next attempt, longer each time.
    wait: Duration,
}

impl Trouble {
    /// Logs it, as an error once it lasts, and answers when to try again.
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
            next_look: Instant::now(),
            unlisted: None,
            ignored: BTreeSet::new(),
            is_ambiguous: false,
        }
    }

    /// Runs until `stop`; calls `started` once requests may come. What serves goes on, whatever happens.
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
        // Downloads and copies under way remove what they have written.
        self.running.shutdown().await;
    }

    /// Until a model serves, and the others do, cannot, or have had their time. What cannot be read now may
    /// be later: rights take minutes to arrive where they are new.
    async fn start(&mut self) {
        let (reminder, mut serving_since) = (Throttle::every(REMINDER), None::<Instant>);
        self.look().await;
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

    /// Waits for one thing to happen, `until` then at most, and does what it asks for.
    async fn step(&mut self, until: Option<Instant>) {
        let patience = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.running.join_next() => self.take_back(ended),
            () = self.hint.notified() => self.look().await,
            () = tokio::time::sleep_until(self.next_look.into()) => self.look().await,
            () = patience => {}
        }
    }

    /// Lists the source and lets every model follow it. Where that fails, nothing changes.
    async fn look(&mut self) {
        let reload = Arc::new(Reload::begin());
        match reload.run(phase("list", None, self.shared.source.list())).await {
            Ok(listing) => {
                self.unlisted = None;
                self.next_look = Instant::now() + self.poll_interval;
                self.spread(listing, &reload);
            }
            Err(error) => self.next_look = Trouble::again(&mut self.unlisted, &error, self.poll_interval),
        }
    }

    fn spread(&mut self, listing: Listing, reload: &Arc<Reload>) {
        let Listing { versions, ignored, unreadable } = listing;
        for ignored in &ignored {
            if self.ignored.insert(ignored.clone()) {
                let IgnoredPath { path, expected } = ignored;
                tracing::warn!(path, expected, "ignored in the models' source");
            }
        }
        self.ignored.retain(|known| ignored.contains(known));
        self.shared.not_served.set_ignored(ignored);
        self.shared.loader.forget_crashes_but(&self.shared.source, &versions, &unreadable);
        let mut by_model: BTreeMap<String, Vec<ListedVersion>> = BTreeMap::new();
        for listed in versions {
            by_model.entry(listed.model.clone()).or_default().push(listed);
        }
        // A folder that cannot be read is not gone.
        for model in unreadable.iter().filter(|model| self.models.contains_key(*model)) {
            by_model.entry(model.clone()).or_default();
        }
        let gone: Vec<String> =
            self.models.keys().filter(|model| !by_model.contains_key(*model)).cloned().collect();
        gone.iter().for_each(|model| self.miss(model));
        for newest_first in by_model.values_mut() {
            newest_first.sort_by_key(|listed| Reverse(listed.version.clone()));
        }
        // Before any model makes room for a version of its own.
        let is_new = |listed: &&ListedVersion| !self.models.contains_key(&listed.model);
        by_model.values().filter_map(|newest_first| newest_first.first()).filter(is_new).for_each(|newest| {
            self.shared.source.mark_used(newest);
        });
        for (model, newest_first) in by_model {
            let is_partial = unreadable.contains(&model);
            let found = Found { newest_first, is_partial, reload: Arc::clone(reload) };
            let new = || {
                let follower = Box::new(Follower::new(&model));
                Entry {
                    current: Arc::clone(follower.current()),
                    follower: Some(follower),
                    ..Entry::default()
                }
            };
            let entry = self.models.entry(model.clone()).or_insert_with(new);
            entry.gone = None;
            match entry.follower.take() {
                Some(follower) => self.follow(follower, found),
                None => {
                    if !is_partial {
                        entry.current.end_unless(&found.newest_first);
                    }
                    entry.next = Some(found);
                }
            }
        }
    }

    fn follow(&mut self, mut follower: Box<Follower>, found: Found) {
        let (shared, Found { newest_first, is_partial, reload }) = (Arc::clone(&self.shared), found);
        self.running.spawn(async move {
            let outcome = reload.run(follower.follow(&shared, newest_first, is_partial)).await;
            (follower, outcome)
        });
    }

    /// A model has followed its listing.
    fn take_back(&mut self, ended: Result<(Box<Follower>, anyhow::Result<()>), JoinError>) {
        let Some((follower, outcome)) = pass_panic_on(ended) else { return };
        let model = follower.model().to_owned();
        self.shared.models.set_not_awaited(&model);
        let Some(entry) = self.models.get_mut(&model) else { return };
        match outcome {
            Ok(()) => entry.trouble = None,
            Err(error) => {
                let error = error.context(format!("model {model:?}"));
                let again = Trouble::again(&mut entry.trouble, &error, self.poll_interval);
                self.next_look = self.next_look.min(again);
            }
        }
        let is_gone = entry.gone.is_some_and(|gone| gone.is_certain);
        match entry.next.take() {
            Some(found) => self.follow(follower, found),
            None => entry.follower = Some(follower),
        }
        if is_gone {
            self.retire(&model);
        }
        self.count();
    }

    /// A listing has no version of this model. A folder that is there, with no version that can be served, is
    /// another thing: somebody uploads to it or made a mistake, and did not decide that the model ends.
    fn miss(&mut self, model: &str) {
        let Some(entry) = self.models.get_mut(model) else { return };
        entry.next = None;
        entry.current.end_unless(&[]);
        let new = Gone { since: Instant::now(), is_certain: false };
        let gone = entry.gone.get_or_insert(new);
        gone.is_certain |= gone.since.elapsed() >= GONE;
        let Some(follower) = &entry.follower else { return };
        if gone.is_certain || !self.shared.models.serving().contains_key(model) {
            self.retire(model);
            self.count();
        } else {
            follower.warn_of_its_end(&self.shared);
        }
    }

    /// Ends a model that is in the source no more.
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

    /// Brings what is told of all models together in line.
    fn count(&mut self) {
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
