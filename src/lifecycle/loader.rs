//! Brings versions from the source into memory, several side by side: bounded in number, in memory and in
//! time.
//!
//! A call of ONNX Runtime is ended by its own flag. What cannot be ended, such as reading a graph, is
//! abandoned once its time is over: its thread goes on and is told of by the version's name. So many may be
//! abandoned; then no more loads begin.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::cache::Lease;
use super::crashes::Crashes;
use super::listing::ListedVersion;
use super::load::load;
use super::memory::Room;
use super::source::Source;
use crate::model::Model;
use crate::model::bundle::Problem;
use crate::model::onnx::runtime::{Runtime, Terminator};
use crate::ops::reload::{carried, phase};

/// Downloads side by side: one that stalls holds up no other for long.
const DOWNLOADS: usize = 8;
/// Loads side by side, each of which may take all cores for a while.
const LOADS: usize = 4;
/// Loads beyond those, which took longer than [`SLOW`] already.
const SLOW_LOADS: usize = 16;
const SLOW: Duration = Duration::from_secs(15);
/// Time for a load to end once it is told to.
const ENDING: Duration = Duration::from_secs(5);
/// Loads that go on though their time is over, each with a thread and its memory.
const MOST_ABANDONED: usize = 8;

/// A loaded version that is not served yet.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) model: Model,
    pub(crate) lease: Option<Lease>,
    pub(crate) took: Duration,
}

/// Why a version was not loaded.
#[derive(Debug)]
pub(crate) enum Failure {
    /// For good, as long as its files stay the same.
    Bad(String),
    /// For want of something that may be there later, such as memory.
    ForNow(String),
    /// The source could not be read: worth another try soon.
    Unreadable(anyhow::Error),
}

impl Failure {
    /// Says more.
    fn and(self, more: &str) -> Self {
        match self {
            Self::Bad(reason) => Self::Bad(format!("{reason}; {more}")),
            Self::ForNow(reason) => Self::ForNow(format!("{reason}; {more}")),
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
    room: Room,
    crashes: Crashes,
    abandoned: Abandoned,
}

/// The versions whose loads go on though nobody waits for them.
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
            room: Room::default(),
            crashes,
            abandoned: Abandoned::default(),
        }
    }

    /// See [`Crashes::forget_but`]; `unreadable`: models.
    pub(crate) fn forget_crashes_but(
        &self,
        source: &Source,
        listed: &[ListedVersion],
        unreadable: &BTreeSet<String>,
    ) {
        let address = |listed: &ListedVersion| source.address(&listed.model, &listed.version);
        let listed: Vec<_> = listed.iter().map(|listed| (address(listed), listed)).collect();
        let unreadable: Vec<String> =
            unreadable.iter().map(|model| source.locate(&format!("{model}/"))).collect();
        self.crashes.forget_but(&listed, &unreadable);
    }

    /// For one inference thread where it is not `to_serve`. Once `unwanted`, the load is ended.
    pub(crate) async fn load(
        &self,
        source: &Source,
        listed: &ListedVersion,
        to_serve: bool,
        unwanted: &CancellationToken,
    ) -> Result<Loaded, Failure> {
        let started = Instant::now();
        let from = source.address(&listed.model, &listed.version);
        let crashes = self.crashes.of(&from, listed);
        if let Some(refusal) = self.crashes.refusal(&from, listed, crashes) {
            return Err(Failure::Bad(refusal));
        }
        self.check_abandoned()?;
        let terminator =
            Terminator::new().map_err(|error| Failure::ForNow(format!("cannot load: {error}")))?;
        let threads = if to_serve { self.runtime.threads() } else { 1 };
        let runtime = self.runtime.for_load(threads, Arc::clone(&terminator));
        let room = self.room.take(listed, threads, source.downloads()).await.map_err(Failure::ForNow)?;
        let of = Some((listed.model.as_str(), listed.version.as_str()));
        let fetched = {
            let _permit = self.downloads.acquire().await;
            phase("fetch", of, source.fetch(listed, |_| {})).await.map_err(Failure::Unreadable)?
        };
        let turn = Turn::wait(self, crashes > 0).await;
        let mark = self.crashes.begin(&from, listed);
        if let Err(error) = &mark {
            tracing::warn!(
                %error,
                version = from,
                "cannot note that its load begins: if it ends the process, it will be tried again"
            );
        }
        let load = {
            let (name, version, from) = (listed.model.clone(), listed.version.to_string(), from.clone());
            move || {
                let (_mark, _copy) = (mark, fetched.copy);
                // A lease that stays goes with the model; without one, the copy goes here.
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
            ended = self.in_time(&mut load, turn) => ended,
            () = unwanted.cancelled() => Err(Failure::ForNow("it changed while it was loaded".to_owned())),
        };
        let ended = match ended {
            Ok(ended) => ended,
            Err(failure) => {
                terminator.terminate();
                if timeout(ENDING, &mut load).await.is_ok() {
                    return Err(failure);
                }
                self.abandon(load, &from);
                return Err(failure.and("it cannot be ended: its thread goes on until the worker restarts"));
            }
        };
        drop(room);
        match ended {
            Ok(Ok((model, lease))) => Ok(Loaded { model, lease, took: started.elapsed() }),
            Ok(Err(problem)) => Err(Failure::Bad(problem.to_string())),
            Err(error) => Err(Failure::Bad(format!("loading panicked: {error:#}"))),
        }
    }

    fn check_abandoned(&self) -> Result<(), Failure> {
        let abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        if abandoned.len() < MOST_ABANDONED {
            return Ok(());
        }
        let all = abandoned.join(", ");
        Err(Failure::ForNow(format!(
            "no more versions are loaded, since loads go on that cannot be ended ({all}); delete these \
             versions and restart the worker"
        )))
    }

    /// Waits for a load until its time is over.
    async fn in_time(&self, load: &mut Load, mut turn: Turn<'_>) -> Result<Ended, Failure> {
        let end = Instant::now() + self.limit;
        if let Ok(ended) = timeout(SLOW.min(self.limit), &mut *load).await {
            return Ok(ended);
        }
        turn.let_others_begin();
        timeout_at(end, load).await.map_err(|_| {
            let limit = self.limit;
            Failure::Bad(format!(
                "its load did not end within `models.load_timeout` ({limit:?}); correct it and upload it as \
                 a new version, or raise `models.load_timeout`"
            ))
        })
    }

    /// Leaves a load to itself.
    fn abandon(&self, load: JoinHandle<impl Send + 'static>, from: &str) {
        let (from, abandoned) = (from.to_owned(), Arc::clone(&self.abandoned));
        let lock = |abandoned: &Abandoned| abandoned.lock().unwrap_or_else(PoisonError::into_inner).len();
        abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(from.clone());
        tracing::error!(
            version = from,
            abandoned = lock(&abandoned),
            "a load cannot be ended and is abandoned"
        );
        tokio::spawn(async move {
            drop(load.await);
            let mut abandoned = abandoned.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = abandoned.iter().position(|known| *known == from) {
                abandoned.swap_remove(at);
            }
            tracing::info!(version = from, "a load that was abandoned has ended");
        });
    }
}

/// The right to load.
struct Turn<'a> {
    permits: Vec<SemaphorePermit<'a>>,
    slow: &'a Semaphore,
    is_alone: bool,
}

impl<'a> Turn<'a> {
    /// `is_alone`: beside no other load, so that a crash can be told from those of others.
    async fn wait(loader: &'a Loader, is_alone: bool) -> Self {
        let (loads, slow) = if is_alone { (LOADS, SLOW_LOADS) } else { (1, 0) };
        let mut permits = Vec::new();
        for (semaphore, count) in [(&loader.loads, loads), (&loader.slow, slow)] {
            let count = u32::try_from(count).expect("there are few");
            permits.push(semaphore.acquire_many(count).await.expect("they are never closed"));
        }
        Self { permits, slow: &loader.slow, is_alone }
    }

    /// A load that takes long makes way, where it may.
    fn let_others_begin(&mut self) {
        if !self.is_alone
            && let Ok(slow) = self.slow.try_acquire()
        {
            self.permits = vec![slow];
        }
    }
}
