//! The state behind `/ready`, which reports every part that does not work, and behind `/health`, which
//! reports stuck stages.
//!
//! A stage is stuck when one piece of its work takes too long. Waiting for requests, for another stage or for
//! Pub/Sub does not count as work. Nor does loading a model, which has its own limit: a restart would only
//! begin it again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::log_limits::{REMINDER, Throttle};

use crate::lock::lock;

/// The parts that a ready worker needs, in the order of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Models,
    Requests,
    /// The response topic: it exists and may be published to.
    Topic,
    /// The response topic accepts responses.
    Responses,
}

const PARTS: usize = 4;
/// The trouble of [`Part::Topic`] until its first check.
pub const UNCHECKED_TOPIC: &str = "the response topic is not checked yet";
/// A batch, a body or a group of responses that takes so long never ends: only a restart helps.
const STUCK: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub struct Health {
    /// The trouble of each part; `None` when it works.
    parts: Mutex<[Option<Trouble>; PARTS]>,
    /// The pulses of the stages. A stage that ended has dropped its pulse.
    pulses: Mutex<Vec<Weak<Pulse>>>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Trouble {
    why: String,
    reminder: Throttle,
}

impl Trouble {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), reminder: Throttle::every(REMINDER) }
    }
}

/// Reports the work of one thread or task of the pipeline.
#[derive(Debug)]
pub struct Pulse {
    stage: String,
    start: Instant,
    /// Milliseconds after `start`, plus one; 0 while waiting for work.
    busy_since: AtomicU64,
}

impl Pulse {
    /// Marks the stage as working until the guard is dropped.
    pub fn work(&self) -> Working<'_> {
        self.work_since(Instant::now())
    }

    /// Like [`Self::work`], with a known start time.
    pub fn work_since(&self, now: Instant) -> Working<'_> {
        let since = u64::try_from(now.duration_since(self.start).as_millis()).unwrap_or(u64::MAX - 1);
        self.busy_since.store(since + 1, Ordering::Relaxed);
        Working(self)
    }

    fn busy_for(&self, now: Instant) -> Duration {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => now.saturating_duration_since(self.start + Duration::from_millis(since - 1)),
        }
    }
}

/// Guard of [`Pulse::work`].
#[derive(Debug)]
pub struct Working<'a>(&'a Pulse);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.busy_since.store(0, Ordering::Relaxed);
    }
}

impl Health {
    /// The state of a worker that starts: no part works yet. Once `stop` is cancelled, it is not ready.
    pub fn starting(stop: CancellationToken) -> Self {
        Self {
            parts: Mutex::new([
                Some(Trouble::new("no model is serving yet")),
                Some(Trouble::new("the request subscription is not connected yet")),
                Some(Trouble::new(UNCHECKED_TOPIC)),
                None,
            ]),
            pulses: Mutex::default(),
            stop,
        }
    }

    /// Records that a part works. True when it did not before, so that this is to be logged.
    pub fn works(&self, part: Part) -> bool {
        lock(&self.parts)[part as usize].take().is_some()
    }

    /// Records that a part does not work. True when this is to be logged: the reason is new, or a
    /// [`REMINDER`] is due.
    pub fn fails(&self, part: Part, why: impl Into<String>) -> bool {
        let new = Trouble::new(why);
        let known = &mut lock(&self.parts)[part as usize];
        match known {
            Some(known) if known.why == new.why => known.reminder.admit(),
            _ => known.insert(new).reminder.admit(),
        }
    }

    /// The reason why a part does not work; `None` when it does.
    pub fn trouble(&self, part: Part) -> Option<String> {
        lock(&self.parts)[part as usize].as_ref().map(|trouble| trouble.why.clone())
    }

    /// The reasons why the worker is not ready; empty when it is.
    pub fn troubles(&self) -> Vec<String> {
        let stopping = self.stop.is_cancelled().then(|| "stopping, nothing more is received".to_owned());
        let failing: Vec<String> = lock(&self.parts).iter().flatten().map(|part| part.why.clone()).collect();
        stopping.into_iter().chain(failing).chain(self.stuck(Instant::now())).collect()
    }

    /// Makes the pulse of a stage, or of one of its threads or tasks.
    pub fn pulse(&self, stage: impl Into<String>) -> Arc<Pulse> {
        let pulse = Pulse { stage: stage.into(), start: Instant::now(), busy_since: AtomicU64::new(0) };
        let pulse = Arc::new(pulse);
        let mut pulses = lock(&self.pulses);
        pulses.retain(|pulse| pulse.strong_count() > 0);
        pulses.push(Arc::downgrade(&pulse));
        pulse
    }

    /// A sentence for each stuck stage; empty when there is none.
    pub fn stuck(&self, now: Instant) -> Vec<String> {
        let pulses = lock(&self.pulses);
        let stuck = pulses.iter().filter_map(Weak::upgrade).filter(|pulse| pulse.busy_for(now) >= STUCK);
        stuck
            .map(|pulse| {
                format!("{} has made no progress for {} seconds", pulse.stage, pulse.busy_for(now).as_secs())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_stuck_when_one_piece_of_its_work_never_ends() {
        let health = Health::starting(CancellationToken::new());
        let (one, two) = (health.pulse("infer-0"), health.pulse("infer-1"));
        let soon = Instant::now() + STUCK + Duration::from_secs(9);
        assert!(health.stuck(soon).is_empty());
        let working = one.work();
        drop(two.work());
        assert!(health.stuck(Instant::now()).is_empty());
        let stuck = health.stuck(soon);
        assert!(stuck.len() == 1 && stuck[0].starts_with("infer-0 has made no progress for 60"), "{stuck:?}");
        drop(working);
        assert!(health.stuck(soon).is_empty());
    }

    #[test]
    fn a_pulse_ends_with_its_owner() {
        let health = Health::starting(CancellationToken::new());
        let pulse = health.pulse("receive");
        std::mem::forget(pulse.work());
        assert_eq!(health.stuck(Instant::now() + STUCK).len(), 1);
        drop(pulse);
        assert!(health.stuck(Instant::now() + STUCK).is_empty());
    }

    #[test]
    fn a_worker_that_stops_is_not_ready() {
        let stop = CancellationToken::new();
        let health = Health::starting(stop.clone());
        health.works(Part::Models);
        health.works(Part::Requests);
        health.works(Part::Topic);
        assert!(health.troubles().is_empty());
        stop.cancel();
        assert_eq!(health.troubles(), ["stopping, nothing more is received"]);
    }
}
