//! Keeps every model on the version of its source that [`choice`] says.
//!
//! Owns the writing side of [`Models`]. Wakes on a notification (a hint: unordered, repeated, lost at times), on the poll
//! interval, and ends on stop. All work happens here, off the hot path; the swap is one pointer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::cache::Lease;
use super::choice::{self, Base, Facts, Step, Verdict};
use super::interface::Interface;
use super::load::load;
use super::runtime::Runtime;
use super::source::{File, Ignored, Listed, Source};
use super::version::Version;
use super::{Model, Models, NotServed, Refusal, memory};
use crate::cli::report;
use crate::health::Pulse;
use crate::metrics::Metrics;
use crate::telemetry::reload::{blocking_phase, carried, phase, reload};

/// What could not be read is tried again after this, doubled up to the poll interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Trouble that lasts so long will not pass by itself.
const LASTING: Duration = Duration::from_secs(300);
/// Small files that are read at once.
const READS: usize = 8;
/// The way out for a version with another signature.
const NEW_SIGNATURE: &str = "if that is meant, push it under a higher version with `predictd push \
                             --new-signature`, or write `new_signature: true` into its \"model.yaml\"";
/// Ends a warning about a version that a worker would not choose now.
const STAYS: &str = "stays until another can be served, and a worker that starts now does not serve it";

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
    versions: HashMap<(String, String), Known>,
    /// What was warned about.
    ignored: BTreeSet<Ignored>,
    /// Whether it was said that there are several models and no default.
    is_ambiguous: bool,
}

type Files = Vec<File>;

/// What was found out of a version with exactly these files.
#[derive(Debug, Default)]
struct Known {
    files: Files,
    new_signature: Option<bool>,
    /// Its signature, or what is wrong with it.
    verdict: Option<Result<Interface, String>>,
    /// The last reason that was logged.
    reported: Option<String>,
}

/// A loaded version that is not served yet.
struct Loaded {
    model: Model,
    lease: Option<Lease>,
    took: Duration,
}

/// Why a version was not loaded.
enum Failure {
    /// For good, as long as its files stay the same.
    Bad(String),
    /// For want of memory, which may be there later.
    Memory(String),
    /// The source could not be read: worth another try soon.
    Unreadable(anyhow::Error),
}

/// One model as a look at the source finds it; versions are positions, the newest first.
struct Look {
    versions: Vec<Listed>,
    facts: Vec<Facts<Interface>>,
    /// What is wrong with each version.
    reasons: Vec<Option<String>>,
    unreadable: Option<anyhow::Error>,
}

impl Look {
    fn unreadable(&mut self, at: usize, error: anyhow::Error) {
        self.reasons[at] = Some(format!("{error:#}"));
        self.unreadable = Some(error);
    }

    /// Why the version is not served, if there is a reason, and whether that passes by itself.
    fn refusal(&self, at: usize) -> Option<(String, bool)> {
        if let Some(reason) = &self.reasons[at] {
            return Some((reason.clone(), !matches!(self.facts[at].verdict, Verdict::Bad)));
        }
        match (choice::base(&self.facts, at), &self.facts[at].verdict) {
            (Base::At(base), Verdict::Good(own)) => {
                let Verdict::Good(expected) = &self.facts[base].verdict else { return None };
                let difference = own.difference(expected, self.versions[base].version.as_str())?;
                Some((format!("{difference}; {NEW_SIGNATURE}"), false))
            }
            (Base::Unclear(base), _) => {
                let (version, reason) = (&self.versions[base].version, self.reasons[base].as_deref());
                let reason = reason.unwrap_or_default();
                let why = format!(
                    "it must be compared with version {version}, which is not possible now: {reason}"
                );
                Some((why, true))
            }
            _ => None,
        }
    }
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
        for ignored in &listing.ignored {
            if self.judged.ignored.insert(ignored.clone()) {
                let Ignored { path, expected } = ignored;
                tracing::warn!(path, expected, "ignored in the models' source");
            }
        }
        self.judged.ignored.retain(|ignored| listing.ignored.contains(ignored));
        self.models.set_ignored(listing.ignored);
        let mut by_model: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
        for listed in listing.versions {
            by_model.entry(listed.model.clone()).or_default().push(listed);
        }
        self.forget(&by_model);
        let mut unreadable = None;
        for (model, mut versions) in by_model {
            versions.sort_by_key(|listed| Reverse(listed.version.clone()));
            if let Err(error) = self.reconcile_model(&model, versions).await {
                unreadable = Some(error.context(format!("model {model:?}")));
            }
        }
        let was_ambiguous = std::mem::replace(&mut self.judged.is_ambiguous, self.models.are_ambiguous());
        if self.judged.is_ambiguous && !was_ambiguous {
            tracing::warn!(
                models = self.models.names(),
                hint = "set `models.default` to one of them",
                "several models are served: requests that name none are refused with MODEL_NOT_FOUND"
            );
        }
        self.metrics.models_serving.set(i64::try_from(self.models.serving().len()).unwrap_or(i64::MAX));
        unreadable.map_or(Ok(()), Err)
    }

    /// Drops what is known of versions that are not in the source any more.
    fn forget(&mut self, by_model: &BTreeMap<String, Vec<Listed>>) {
        self.judged.versions.retain(|(model, version), known| {
            let is_it = |listed: &Listed| listed.version.as_str() == version && listed.files == known.files;
            by_model.get(model).is_some_and(|versions| versions.iter().any(is_it))
        });
        let serving = self.models.serving();
        self.models.retain_not_served(|model| by_model.contains_key(model) || serving.contains_key(model));
        for (name, model) in serving.iter().filter(|(name, _)| !by_model.contains_key(&***name)) {
            let version = &model.version;
            let warning = format!("no version of it is in the source any more: version {version} {STAYS}");
            self.publish(name, NotServed { warning: Some(warning), refused: Vec::new() }, true);
        }
    }

    /// Judges the versions of one model until it is clear which is served, and swaps to that one.
    async fn reconcile_model(&mut self, model: &str, newest_first: Vec<Listed>) -> anyhow::Result<()> {
        let serving = self.models.serving().get(model).cloned();
        let mut look = self.begin(model, newest_first).await;
        let mut loaded: Option<(usize, Box<Loaded>)> = None;
        let chosen = loop {
            let (at, to_serve) = match choice::step(&look.facts) {
                Step::Nothing => break None,
                Step::Open(at) => (at, false),
                Step::Load(at) => (at, true),
                Step::Serve(at) => {
                    let listed = &look.versions[at];
                    let older = |serving: &Arc<Model>| {
                        Version::parse(&serving.version).is_some_and(|serving| listed.version < serving)
                    };
                    if self.is_serving(serving.as_deref(), listed) {
                        break Some(at);
                    }
                    // What cannot be read now never brings an older version back.
                    if look.unreadable.is_some() && serving.as_ref().is_some_and(older) {
                        break None;
                    }
                    if let Some((_, loaded)) = loaded.take_if(|(which, _)| *which == at) {
                        self.swap(*loaded, listed.files.clone(), serving.as_deref())?;
                        break Some(at);
                    }
                    (at, true)
                }
            };
            // No more than one version that is not served lies in memory.
            loaded = None;
            let outcome = self.load(&look.versions[at], to_serve).await;
            if let Some(ready) = self.judge(&mut look, at, outcome)
                && to_serve
            {
                loaded = Some((at, Box::new(ready)));
            }
        };
        self.explain(model, &look, chosen, serving.as_deref());
        look.unreadable.map_or(Ok(()), Err)
    }

    fn is_serving(&self, serving: Option<&Model>, listed: &Listed) -> bool {
        serving.is_some_and(|serving| *serving.version == *listed.version.as_str())
            && self.judged.serving.get(&listed.model).is_some_and(|(files, _)| *files == listed.files)
    }

    /// What is known of these versions, and which of them declare a new signature; the oldest has none to
    /// differ from.
    async fn begin(&mut self, model: &str, newest_first: Vec<Listed>) -> Look {
        let key = |listed: &Listed| (model.to_owned(), listed.version.to_string());
        let mut unread = Vec::new();
        for (at, listed) in newest_first.iter().enumerate() {
            let new = || Known { files: listed.files.clone(), ..Known::default() };
            let known = self.judged.versions.entry(key(listed)).or_insert_with(new);
            if at + 1 < newest_first.len() && known.new_signature.is_none() {
                unread.push(at);
            }
        }
        let read = async |at: usize| (at, self.source.declares_new_signature(&newest_first[at]).await);
        let read: Vec<_> = futures::stream::iter(unread).map(read).buffered(READS).collect().await;
        let count = newest_first.len();
        let mut look =
            Look { versions: newest_first, facts: Vec::new(), reasons: vec![None; count], unreadable: None };
        let mut unread = BTreeSet::new();
        for (at, declares) in read {
            match declares {
                Ok(declares) => {
                    if let Some(known) = self.judged.versions.get_mut(&key(&look.versions[at])) {
                        known.new_signature = Some(declares);
                    }
                }
                Err(error) => {
                    self.metrics.reloaded(model, "failed");
                    look.unreadable(at, error);
                    unread.insert(at);
                }
            }
        }
        for (at, listed) in look.versions.iter().enumerate() {
            let known = &self.judged.versions[&key(listed)];
            let verdict = match &known.verdict {
                None => Verdict::Unknown,
                Some(Ok(interface)) => Verdict::Good(interface.clone()),
                Some(Err(reason)) => {
                    look.reasons[at] = Some(reason.clone());
                    Verdict::Bad
                }
            };
            let new_signature = (!unread.contains(&at)).then_some(known.new_signature == Some(true));
            look.facts.push(Facts { new_signature, verdict });
        }
        look
    }

    /// Keeps what loading a version has shown; the version, where it is good.
    fn judge(&mut self, look: &mut Look, at: usize, outcome: Result<Loaded, Failure>) -> Option<Loaded> {
        let listed = &look.versions[at];
        let known =
            self.judged.versions.entry((listed.model.clone(), listed.version.to_string())).or_default();
        match outcome {
            Ok(loaded) => {
                let interface = Interface::of(&loaded.model.signature);
                known.verdict = Some(Ok(interface.clone()));
                look.facts[at].verdict = Verdict::Good(interface);
                return Some(loaded);
            }
            Err(Failure::Bad(reason)) => {
                known.verdict = Some(Err(reason.clone()));
                look.facts[at].verdict = Verdict::Bad;
                look.reasons[at] = Some(reason);
            }
            Err(Failure::Memory(reason)) => {
                look.facts[at].verdict = Verdict::Unclear;
                look.reasons[at] = Some(reason);
            }
            Err(Failure::Unreadable(error)) => {
                self.metrics.reloaded(&listed.model, "failed");
                look.facts[at].verdict = Verdict::Unclear;
                look.unreadable(at, error);
            }
        }
        None
    }

    /// Takes a version into service; its numbers begin.
    fn swap(&mut self, loaded: Loaded, files: Files, serving: Option<&Model>) -> anyhow::Result<()> {
        let Loaded { mut model, lease, took } = loaded;
        model.metrics = self.metrics.for_version(&model.name, &model.version);
        let (name, version, from) = (Arc::clone(&model.name), Arc::clone(&model.version), model.from.clone());
        let _working = self.pulse.work();
        blocking_phase("swap", Some((&*name, &*version)), || {
            self.models.swap(Arc::new(model));
            anyhow::Ok(())
        })?;
        if let Some(old) = serving.filter(|old| old.version != version) {
            self.metrics.retire(&old.name, &old.version);
        }
        self.judged.serving.insert(name.to_string(), (files, lease));
        self.metrics.reloaded(&name, "serving");
        tracing::info!(
            model = &*name,
            version = &*version,
            from,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "version in service"
        );
        Ok(())
    }

    /// Says why versions newer than the `chosen` one, or all of them, are not served.
    fn explain(&mut self, model: &str, look: &Look, chosen: Option<usize>, serving: Option<&Model>) {
        let (mut refused, mut own) = (Vec::new(), None);
        for (at, listed) in look.versions.iter().enumerate().take(chosen.unwrap_or(look.versions.len())) {
            let Some((reason, passes)) = look.refusal(at) else { continue };
            self.report(listed, &reason, passes && look.unreadable.is_some(), passes);
            let version = listed.version.to_string();
            if chosen.is_none() && serving.is_some_and(|serving| *serving.version == *version) {
                own = Some(reason);
                continue;
            }
            refused.push(Refusal { version, from: self.source.address(model, &listed.version), reason });
        }
        let warning = serving.filter(|_| chosen.is_none()).map(|serving| {
            let why = match &look.unreadable {
                Some(error) => format!("the source cannot be read: {error:#}"),
                None => "no version in the source can be served".to_owned(),
            };
            let own = own.map(|reason| format!("; what the source has of it now: {reason}"));
            format!("{why}: version {} {STAYS}{}", serving.version, own.unwrap_or_default())
        });
        // What cannot be read is logged by the look itself.
        self.publish(model, NotServed { warning, refused }, look.unreadable.is_none());
    }

    /// Shows in `/info` what is not served. A warning that `is_logged` is so once.
    fn publish(&self, model: &str, news: NotServed, is_logged: bool) {
        let warning = news.warning.clone();
        if self.models.set_not_served(model, news) && is_logged {
            tracing::warn!(model, warning, "the served version is kept, though the source does not have it");
        }
    }

    /// Logs a reason once; what passes by itself may change its words.
    fn report(&mut self, listed: &Listed, reason: &str, is_unread: bool, passes: bool) {
        let key = (listed.model.clone(), listed.version.to_string());
        let Some(known) = self.judged.versions.get_mut(&key).filter(|_| !is_unread) else { return };
        let said = if passes { "" } else { reason };
        if known.reported.as_deref() == Some(said) {
            return;
        }
        known.reported = Some(said.to_owned());
        let (model, version) = (&*listed.model, listed.version.as_str());
        if reason.starts_with("incomplete: ") {
            tracing::info!(model, version, reason, "version not complete yet");
            return;
        }
        self.metrics.reloaded(model, "refused");
        tracing::error!(model, version, reason, "version refused, it will not serve");
    }

    /// For one inference thread where it is not `to_serve`.
    async fn load(&self, listed: &Listed, to_serve: bool) -> Result<Loaded, Failure> {
        let started = Instant::now();
        let runtime =
            if to_serve { Arc::clone(&self.runtime) } else { Arc::new(self.runtime.with_one_thread()) };
        if let Some(shortage) = memory::shortage(listed, runtime.threads(), self.source.downloads()) {
            return Err(Failure::Memory(shortage));
        }
        let of = Some((listed.model.as_str(), listed.version.as_str()));
        let fetched =
            phase("fetch", of, self.source.fetch(listed, |_| {})).await.map_err(Failure::Unreadable)?;
        let load = {
            let pulse = Arc::clone(&self.pulse);
            let from = self.source.address(&listed.model, &listed.version);
            let (name, version) = (listed.model.clone(), listed.version.to_string());
            move || {
                let _working = pulse.work();
                // A lease that stays goes with the model; without one, the downloaded copy goes here.
                match load(&runtime, &fetched.folder, &name, &version, from) {
                    Ok(model) => Ok((model, fetched.lease.filter(Lease::stays))),
                    Err(problem) => {
                        fetched.lease.into_iter().for_each(Lease::discard);
                        Err(problem)
                    }
                }
            }
        };
        match tokio::task::spawn_blocking(carried(load)).await {
            Ok(Ok((model, lease))) => Ok(Loaded { model, lease, took: started.elapsed() }),
            Ok(Err(problem)) => Err(Failure::Bad(problem.to_string())),
            Err(error) => Err(Failure::Bad(format!("loading panicked: {error:#}"))),
        }
    }
}
