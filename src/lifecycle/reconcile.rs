//! Keeps one model on the version of its source that `choice` selects.
//!
//! Keeps the findings about its versions, so that none is loaded or reported twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::cache::Lease;
use super::choice::{self, Facts, Step, Verdict};
use super::findings::{ModelFindings, VersionFindings};
use super::listing::{ListedFile, ListedVersion};
use super::loader::{LoadFailure, Loaded, Loader};
use super::not_served::{NotServed, NotServedRegistry, Refusal};
use super::source::Source;
use super::version::Version;
use crate::lock::lock;
use crate::model::interface::Interface;
use crate::model::{Model, Models};
use crate::ops::health::Health;
use crate::ops::metrics::Metrics;
use crate::ops::reload_spans::blocking_phase;

/// Declarations that are read in parallel.
const READS: usize = 8;
/// The end of a warning about a served version that a new worker would not choose.
const STAYS: &str = "stays until another can be served, and a worker that starts now does not serve it";

/// Parts of the worker that all models share.
#[derive(Debug)]
pub struct Shared {
    pub source: Arc<Source>,
    pub loader: Arc<Loader>,
    pub models: Arc<Models>,
    pub not_served: Arc<NotServedRegistry>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
}

/// Makes one model follow the source.
#[derive(Debug)]
pub(crate) struct Follower {
    model: String,
    /// The files of the served version, and the lease that keeps them in the cache.
    serving: Option<(Files, Option<Lease>)>,
    versions: HashMap<String, VersionFindings>,
}

/// The version whose load runs now, or ran last, and the token that terminates it.
#[derive(Debug, Default)]
pub(crate) struct RunningLoad(Mutex<Option<(ListedVersion, CancellationToken)>>);

impl RunningLoad {
    fn begin(&self, listed: &ListedVersion) -> CancellationToken {
        let unwanted = CancellationToken::new();
        let current = Some((listed.clone(), unwanted.clone()));
        *lock(&self.0) = current;
        unwanted
    }

    /// Terminates the load of a version that is no longer listed with the same files.
    pub(crate) fn terminate_unless(&self, listed: &[ListedVersion]) {
        if let Some((current, unwanted)) = &*lock(&self.0)
            && !listed.contains(current)
        {
            unwanted.cancel();
        }
    }
}

type Files = Vec<ListedFile>;

impl Follower {
    pub(crate) fn new(model: &str) -> Self {
        Self { model: model.to_owned(), serving: None, versions: HashMap::new() }
    }

    pub(crate) fn model(&self) -> &str {
        &self.model
    }

    /// Warns in `/info` and the log that the model is retired unless the next listing has it.
    pub(crate) fn warn_of_its_end(&self, shared: &Shared) {
        let warning =
            "no version of it is in the source any more: it is retired unless the next listing has one";
        let news = NotServed { warning: Some(warning.to_owned()), refused: Vec::new() };
        self.publish(shared, news, true);
    }

    /// Judges the versions of the model until the served one is known, and swaps to it. `is_partial`: a part
    /// of the model's folder could not be read.
    ///
    /// # Errors
    /// A version could not be read. The served version is kept.
    pub(crate) async fn follow(
        &mut self,
        shared: &Shared,
        newest_first: Vec<ListedVersion>,
        is_partial: bool,
        running_load: &RunningLoad,
    ) -> anyhow::Result<()> {
        if !is_partial {
            self.forget_unlisted(&newest_first);
        }
        let serving = shared.models.serving().get(&*self.model).cloned();
        let mut findings = self.begin(shared, newest_first, is_partial).await;
        let mut loaded: Option<(usize, Box<Loaded>)> = None;
        let chosen = loop {
            let (at, to_serve) = match choice::step(&findings.facts) {
                Step::Nothing => break None,
                Step::Open(at) => (at, false),
                Step::Load(at) => (at, true),
                Step::Serve(at) => {
                    let listed = &findings.versions[at];
                    let older = |serving: &Arc<Model>| {
                        Version::parse(&serving.version).is_some_and(|serving| listed.version < serving)
                    };
                    if self.is_serving(serving.as_deref(), listed) {
                        break Some(at);
                    }
                    // A newer version that cannot be read now must not bring an older version back.
                    if (findings.unreadable.is_some() || is_partial) && serving.as_ref().is_some_and(older) {
                        break None;
                    }
                    if let Some((_, loaded)) = loaded.take_if(|(which, _)| *which == at) {
                        self.swap(shared, *loaded, listed.files.clone(), serving.as_deref())?;
                        break Some(at);
                    }
                    (at, true)
                }
            };
            // At most one version that is not served is in memory.
            loaded = None;
            let listed = &findings.versions[at];
            let unwanted = running_load.begin(listed);
            let outcome = shared.loader.load(&shared.source, listed, to_serve, &unwanted).await;
            if let Err(LoadFailure::Unreadable(_)) = outcome {
                shared.metrics.reloaded(&self.model, "failed");
            }
            if let Some(ready) = self.judge(&mut findings, at, outcome)
                && to_serve
            {
                loaded = Some((at, Box::new(ready)));
            }
        };
        self.explain(shared, &findings, chosen, serving.as_deref());
        findings.unreadable.map_or(Ok(()), Err)
    }

    fn is_serving(&self, serving: Option<&Model>, listed: &ListedVersion) -> bool {
        serving.is_some_and(|serving| *serving.version == *listed.version.as_str())
            && self.serving.as_ref().is_some_and(|(files, _)| *files == listed.files)
    }

    /// Drops the findings about versions that are no longer in the source.
    fn forget_unlisted(&mut self, listed: &[ListedVersion]) {
        self.versions.retain(|version, known| {
            listed.iter().any(|listed| listed.version.as_str() == version && listed.files == known.files)
        });
    }

    /// Collects the findings about these versions. Reads which of them declare a new signature, but for the
    /// oldest one, which has none to differ from.
    async fn begin(
        &mut self,
        shared: &Shared,
        newest_first: Vec<ListedVersion>,
        is_partial: bool,
    ) -> ModelFindings {
        let mut unread = Vec::new();
        for (at, listed) in newest_first.iter().enumerate() {
            let new = || VersionFindings { files: listed.files.clone(), ..VersionFindings::default() };
            let known = self.versions.entry(listed.version.to_string()).or_insert_with(new);
            if at + 1 < newest_first.len() && known.new_signature.is_none() {
                unread.push(at);
            }
        }
        let read = async |at: usize| (at, shared.source.declares_new_signature(&newest_first[at]).await);
        let read: Vec<_> = futures::stream::iter(unread).map(read).buffered(READS).collect().await;
        let mut findings =
            ModelFindings { versions: newest_first, facts: Vec::new(), unreadable: None, is_partial };
        let mut unread = HashMap::new();
        for (at, declares) in read {
            match declares {
                Ok(declares) => {
                    if let Some(known) = self.versions.get_mut(findings.versions[at].version.as_str()) {
                        known.new_signature = Some(declares);
                    }
                }
                Err(error) => {
                    shared.metrics.reloaded(&self.model, "failed");
                    unread.insert(at, format!("{error:#}"));
                    findings.unreadable = Some(error);
                }
            }
        }
        for (at, listed) in findings.versions.iter().enumerate() {
            let known = &self.versions[listed.version.as_str()];
            let new_signature = unread.remove(&at).map_or(Ok(known.new_signature == Some(true)), Err);
            findings.facts.push(Facts { new_signature, verdict: known.verdict.clone() });
        }
        findings
    }

    /// Keeps the outcome of a load. Returns the version if it is good.
    fn judge(
        &mut self,
        findings: &mut ModelFindings,
        at: usize,
        outcome: Result<Loaded, LoadFailure>,
    ) -> Option<Loaded> {
        let (verdict, loaded) = match outcome {
            Ok(loaded) => (Verdict::Good(Interface::of(&loaded.model.signature)), Some(loaded)),
            Err(LoadFailure::Bad(reason)) => (Verdict::Bad(reason), None),
            Err(LoadFailure::Transient(reason)) => (Verdict::Unclear(reason), None),
            Err(LoadFailure::Unreadable(error)) => {
                let reason = format!("{error:#}");
                findings.unreadable = Some(error);
                (Verdict::Unclear(reason), None)
            }
        };
        if !matches!(verdict, Verdict::Unclear(_)) {
            let version = findings.versions[at].version.to_string();
            self.versions.entry(version).or_default().verdict = verdict.clone();
        }
        findings.facts[at].verdict = verdict;
        loaded
    }

    /// Takes a version into service, and begins its metrics.
    fn swap(
        &mut self,
        shared: &Shared,
        loaded: Loaded,
        files: Files,
        serving: Option<&Model>,
    ) -> anyhow::Result<()> {
        let Loaded { mut model, lease, took } = loaded;
        model.metrics = shared.metrics.for_version(&model.name, &model.version);
        let (name, version, from) = (Arc::clone(&model.name), Arc::clone(&model.version), model.from.clone());
        blocking_phase("swap", Some((&*name, &*version)), || {
            shared.models.swap(Arc::new(model));
            anyhow::Ok(())
        })?;
        if let Some(old) = serving.filter(|old| old.version != version) {
            shared.metrics.retire(&old.name, &old.version);
        }
        self.serving = Some((files, lease));
        shared.metrics.reloaded(&name, "serving");
        tracing::info!(
            model = &*name,
            version = &*version,
            from,
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "version in service"
        );
        Ok(())
    }

    /// Reports why versions newer than the `chosen` one, or all of them, are not served.
    fn explain(
        &mut self,
        shared: &Shared,
        findings: &ModelFindings,
        chosen: Option<usize>,
        serving: Option<&Model>,
    ) {
        let (mut refused, mut own) = (Vec::new(), None);
        for (at, listed) in
            findings.versions.iter().enumerate().take(chosen.unwrap_or(findings.versions.len()))
        {
            let Some((reason, may_pass)) = findings.refusal(at) else { continue };
            // The watch logs errors of reading.
            if !may_pass || findings.unreadable.is_none() {
                self.report(shared, listed, &reason, may_pass);
            }
            let version = listed.version.to_string();
            if chosen.is_none() && serving.is_some_and(|serving| *serving.version == *version) {
                own = Some(reason);
                continue;
            }
            let from = shared.source.address(listed);
            refused.push(Refusal { version, from, reason });
        }
        let warning = serving.filter(|_| chosen.is_none()).map(|serving| {
            let why = match &findings.unreadable {
                Some(error) => format!("the source cannot be read: {error:#}"),
                None if findings.is_partial => "a part of its folder in the source cannot be read".to_owned(),
                None => "no version in the source can be served".to_owned(),
            };
            let own = own.map(|reason| format!("; what the source has of it now: {reason}"));
            format!("{why}: version {} {STAYS}{}", serving.version, own.unwrap_or_default())
        });
        // The watch logs errors of reading.
        self.publish(shared, NotServed { warning, refused }, findings.unreadable.is_none());
    }

    /// Shows in `/info` the versions that are not served. Logs a new warning if `is_logged`.
    fn publish(&self, shared: &Shared, news: NotServed, is_logged: bool) {
        let (model, warning) = (&*self.model, news.warning.clone());
        if shared.not_served.set(model, news) && is_logged {
            tracing::warn!(model, warning, "the served version is kept, though the source does not have it");
        }
    }

    /// Logs a reason once. One that may pass by itself counts as the same even if its words change.
    fn report(&mut self, shared: &Shared, listed: &ListedVersion, reason: &str, may_pass: bool) {
        let Some(known) = self.versions.get_mut(listed.version.as_str()) else { return };
        let said = if may_pass { "" } else { reason };
        if known.reported.as_deref() == Some(said) {
            return;
        }
        known.reported = Some(said.to_owned());
        let (model, version) = (&*listed.model, listed.version.as_str());
        if reason.starts_with("incomplete: ") {
            tracing::info!(model, version, reason, "version not complete yet");
            return;
        }
        shared.metrics.reloaded(model, "refused");
        tracing::error!(model, version, reason, "version refused, it will not serve");
    }
}
