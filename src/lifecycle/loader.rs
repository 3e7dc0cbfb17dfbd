//! Loads versions from the source, several in parallel, within limits of number, memory and time.
//!
//! A load that exceeds its time is terminated: ONNX Runtime's calls end by a flag. Work that ignores the
//! flag, such as parsing a graph, is abandoned: its thread goes on, and the log names its version. Once too
//! many loads are abandoned, no more begin.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::cache::Lease;
use super::crashes::Crashes;
use super::listing::ListedVersion;
use super::load::load;
use super::memory::MemoryBudget;
use super::source::Source;
use crate::lock::lock;
use crate::model::Model;
use crate::model::bundle::Problem;
use crate::model::onnx::runtime::{Runtime, Terminator, Threads};
use crate::ops::reload_spans::{carried, phase};

/// Parallel downloads. Several, so that one that stalls does not delay the others.
const DOWNLOADS: usize = 8;
/// Parallel loads, each of which may use all cores for a while.
const LOADS: usize = 4;
/// Further parallel loads, which have taken longer than [`SLOW`].
const SLOW_LOADS: usize = 16;
const SLOW: Duration = Duration::from_secs(15);
/// Time for a load to end once it is terminated.
const ENDING: Duration = Duration::from_secs(5);
/// Limit of abandoned loads, each of which keeps a thread and its memory.
const MAX_ABANDONED: usize = 8;

/// A loaded version that is not served yet.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) model: Model,
    pub(crate) lease: Option<Lease>,
    pub(crate) took: Duration,
}

/// The reason why a version was not loaded.
#[derive(Debug)]
pub(crate) enum LoadFailure {
    /// The version is bad until its files change.
    Bad(String),
    /// The worker lacks something that it may have later, such as memory.
    Transient(String),
    /// The source could not be read; retried soon.
    Unreadable(anyhow::Error),
}

impl LoadFailure {
    /// Adds to the reason.
    fn and(self, more: &str) -> Self {
        match self {
            Self::Bad(reason) => Self::Bad(format!("{reason}; {more}")),
            Self::Transient(reason) => Self::Transient(format!("{reason}; {more}")),
            Self::Unreadable(error) => Self::Unreadable(error),
        }
    }
}

#[derive(Debug)]
pub struct Loader {
    runtime: Arc<Runtime>,
    /// Time for one load, from its files to its last sample.
    limit: Duration,
    downloads: Semaphore,
    loads: Semaphore,
    slow: Semaphore,
    memory: MemoryBudget,
    crashes: Crashes,
    abandoned: Abandoned,
}

/// The versions whose loads go on although their time is over.
type Abandoned = Arc<Mutex<Vec<String>>>;

type Load = JoinHandle<Result<(Model, Option<Lease>), Problem>>;
type Ended = Result<Result<(Model, Option<Lease>), Problem>, JoinError>;

impl Loader {
    pub fn new(runtime: Arc<Runtime>, limit: Duration, crashes: Crashes) -> Self {
        Self {
            runtime,
            limit,
            downloads: Semaphore::new(DOWNLOADS),
            loads: Semaphore::new(LOADS),
            slow: Semaphore::new(SLOW_LOADS),
            memory: MemoryBudget::default(),
            crashes,
            abandoned: Abandoned::default(),
        }
    }

    /// Forgets the crashes of versions that are not listed, except those of `unreadable` models; see
    /// [`Crashes::forget_unlisted`].
    pub(crate) fn forget_unlisted_crashes(
        &self,
        source: &Source,
        listed: &[ListedVersion],
        unreadable: &BTreeSet<String>,
    ) {
        let listed: Vec<_> = listed.iter().map(|listed| (source.address(listed), listed)).collect();
        let unreadable: Vec<String> =
            unreadable.iter().map(|model| source.locate(&format!("{model}/"))).collect();
        self.crashes.forget_unlisted(&listed, &unreadable);
    }

    /// Loads a version: for all inference threads if it is `to_serve`, otherwise for one. Cancelling
    /// `unwanted` terminates the load.
    pub(crate) async fn load(
        &self,
        source: &Source,
        listed: &ListedVersion,
        to_serve: bool,
        unwanted: &CancellationToken,
    ) -> Result<Loaded, LoadFailure> {
        let started = Instant::now();
        let from = source.address(listed);
        let crashes = self.crashes.of(&from, listed);
        if let Some(refusal) = self.crashes.refusal(&from, listed, crashes) {
            return Err(LoadFailure::Bad(refusal));
        }
        self.check_abandoned()?;
        let terminator =
            Terminator::new().map_err(|error| LoadFailure::Transient(format!("cannot load: {error}")))?;
        let threads = if to_serve { self.runtime.threads() } else { Threads::ONE };
        let runtime = self.runtime.for_load(threads, Arc::clone(&terminator));
        let reservation = self
            .memory
            .reserve(listed, threads.sessions, source.downloads())
            .await
            .map_err(LoadFailure::Transient)?;
        let of = Some((listed.model.as_str(), listed.version.as_str()));
        let fetched = {
            let _permit = self.downloads.acquire().await;
            phase("fetch", of, source.fetch(listed, |_| {})).await.map_err(LoadFailure::Unreadable)?
        };
        let permit = LoadPermit::wait(self, crashes > 0).await;
        let mark = self.crashes.begin(&from, listed);
        if let Err(error) = &mark {
            tracing::warn!(
                %error,
                version = from,
                "cannot record that its load begins: a crash will not be counted"
            );
        }
        let load = {
            let (name, version, from) = (listed.model.clone(), listed.version.to_string(), from.clone());
            move || {
                let (_mark, _copy) = (mark, fetched.copy);
                // A lasting lease goes to the caller with the model. A private copy is removed here.
                match load(&runtime, &fetched.folder, &name, &version, from) {
                    Ok(model) => Ok((model, fetched.lease.filter(Lease::stays))),
                    Err(problem) => {
                        fetched.lease.into_iter().for_each(Lease::discard);
                        Err(problem)
                    }
                }
            }
        };
        let mut load = spawn_blocking(carried(load));
        let ended = tokio::select! {
            ended = self.in_time(&mut load, permit) => ended,
            () = unwanted.cancelled() => {
                // Its upload goes on, or somebody has deleted it.
                let changed = Problem::Incomplete("it changed while it was loaded".to_owned());
                Err(LoadFailure::Transient(changed.to_string()))
            }
        };
        let ended = match ended {
            Ok(ended) => ended,
            Err(failure) => {
                terminator.terminate();
                if timeout(ENDING, &mut load).await.is_ok() {
                    return Err(failure);
                }
                self.abandon(load, &from);
                return Err(
                    failure.and("it cannot be terminated: its thread goes on until the worker restarts")
                );
            }
        };
        drop(reservation);
        match ended {
            Ok(Ok((model, lease))) => Ok(Loaded { model, lease, took: started.elapsed() }),
            Ok(Err(problem)) => Err(LoadFailure::Bad(problem.to_string())),
            Err(error) => Err(LoadFailure::Bad(format!("loading panicked: {error:#}"))),
        }
    }

    fn check_abandoned(&self) -> Result<(), LoadFailure> {
        let abandoned = lock(&self.abandoned);
        if abandoned.len() < MAX_ABANDONED {
            return Ok(());
        }
        let all = abandoned.join(", ");
        Err(LoadFailure::Transient(format!(
            "no more versions are loaded, since these loads cannot be terminated: {all}; delete the versions \
             and restart the worker"
        )))
    }

    /// Waits for a load, at most for its time.
    async fn in_time(&self, load: &mut Load, mut permit: LoadPermit<'_>) -> Result<Ended, LoadFailure> {
        let end = Instant::now() + self.limit;
        if let Ok(ended) = timeout(SLOW.min(self.limit), &mut *load).await {
            return Ok(ended);
        }
        permit.release_for_others();
        timeout_at(end, load).await.map_err(|_| {
            let limit = self.limit;
            LoadFailure::Bad(format!(
                "its load did not end within `models.load_timeout` ({limit:?}); correct it and upload it as \
                 a new version, or raise `models.load_timeout`"
            ))
        })
    }

    /// Abandons a load: it counts as abandoned until its thread ends.
    fn abandon(&self, load: JoinHandle<impl Send + 'static>, from: &str) {
        let (from, abandoned) = (from.to_owned(), Arc::clone(&self.abandoned));
        let count = {
            let mut abandoned = lock(&abandoned);
            abandoned.push(from.clone());
            abandoned.len()
        };
        tracing::error!(version = from, abandoned = count, "a load cannot be terminated and is abandoned");
        tokio::spawn(async move {
            drop(load.await);
            let mut abandoned = lock(&abandoned);
            if let Some(at) = abandoned.iter().position(|known| *known == from) {
                abandoned.swap_remove(at);
            }
            tracing::info!(version = from, "an abandoned load has ended");
        });
    }
}

/// The permit to load.
struct LoadPermit<'a> {
    permits: Vec<SemaphorePermit<'a>>,
    slow: &'a Semaphore,
    is_alone: bool,
}

impl<'a> LoadPermit<'a> {
    /// `is_alone`: waits until no other load runs, so that a crash can only be this load's.
    async fn wait(loader: &'a Loader, is_alone: bool) -> Self {
        let (loads, slow) = if is_alone { (LOADS, SLOW_LOADS) } else { (1, 0) };
        let mut permits = Vec::new();
        for (semaphore, count) in [(&loader.loads, loads), (&loader.slow, slow)] {
            let count = u32::try_from(count).expect("there are few");
            permits.push(semaphore.acquire_many(count).await.expect("they are never closed"));
        }
        Self { permits, slow: &loader.slow, is_alone }
    }

    /// Exchanges the permit of a slow load for one of those beyond [`LOADS`], if one is free.
    fn release_for_others(&mut self) {
        if !self.is_alone
            && let Ok(slow) = self.slow.try_acquire()
        {
            self.permits = vec![slow];
        }
    }
}
