//! The queues of jobs, one for each model, and the threads that work on them.
//!
//! A model has threads of its own, so that one with slow calls holds up no other: the operating system shares
//! the cores. They are started as jobs come and end when none came for a while. A thread that is free takes
//! whatever waits, so that batches grow while a model is busy and nobody waits while it is not. Queues have
//! no bound of their own: every job in one holds its share of the budget of bytes.
//!
//! Once the last [`Entry`] is dropped, what waits is finished and the threads end.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::engine::batch::{Item as _, Lane, Waiting};
use crate::engine::budget::Budget;
use crate::engine::job::{Batch, Job, Outcome, ReplyTo, Response};
use crate::engine::run_batch::{Running, run_batch};
use crate::engine::throughput::{Backlog, Throughput};
use crate::lock::lock;
use crate::model::Models;
use crate::ops::health::{Health, Pulse};
use crate::stages;

/// A thread without work ends after so long.
const IDLE: Duration = Duration::from_secs(5);

/// Limits of batches.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows in a call.
    pub max_rows: usize,
    /// Time that the first request of a batch may wait for company; zero: none.
    pub max_wait: Duration,
}

/// Sends responses; called on an inference thread, once for each batch.
pub type Reply<R> = dyn Fn(Vec<Response<R>>) + Send + Sync;

/// See the module.
pub struct Queues<R> {
    models: Arc<Models>,
    limits: Limits,
    budget: Budget,
    health: Arc<Health>,
    state: Mutex<State<R>>,
}

struct State<R> {
    /// One for each model that was ever asked.
    queues: HashMap<Arc<str>, Queue<R>>,
    /// Kept by every thread; none once the last entry is dropped.
    lifeline: Option<Arc<Lifeline<R>>>,
    /// Nothing is computed any more.
    is_over: bool,
}

/// Its end is the end of the last thread.
struct Lifeline<R> {
    reply: Box<Reply<R>>,
    ended: mpsc::UnboundedSender<anyhow::Error>,
}

struct Queue<R> {
    waiting: Waiting<Job<R>>,
    changed: Arc<Condvar>,
    /// Threads that wait for jobs.
    idle: usize,
    /// For each thread that may run, the requests that it computes; none where it does not run. A thread for
    /// each session of the version that came last.
    threads: Vec<Option<Arc<Running<R>>>>,
    throughput: Arc<Throughput>,
}

/// The right to bring jobs.
pub struct Entry<R: ReplyTo + Send + 'static>(Arc<Queues<R>>);

impl<R: ReplyTo + Send + 'static> fmt::Debug for Entry<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry")
    }
}

impl<R: ReplyTo + Send + 'static> Drop for Entry<R> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.lifeline = None;
        state.queues.values().for_each(|queue| queue.changed.notify_all());
    }
}

/// The first error of an inference thread; none once all have ended.
pub type Ended = mpsc::UnboundedReceiver<anyhow::Error>;

impl<R: ReplyTo + Send + 'static> Queues<R> {
    /// The queues, the right to bring jobs (shared, it lasts until its last owner ends), and how the threads
    /// end.
    pub fn new(
        models: Arc<Models>,
        limits: Limits,
        budget: Budget,
        health: Arc<Health>,
        reply: Box<Reply<R>>,
    ) -> (Arc<Self>, Arc<Entry<R>>, Ended) {
        let (ended, ends) = mpsc::unbounded_channel();
        let lifeline = Some(Arc::new(Lifeline { reply, ended }));
        let state = Mutex::new(State { queues: HashMap::new(), lifeline, is_over: false });
        let queues = Arc::new(Self { models, limits, budget, health, state });
        let entry = Arc::new(Entry(Arc::clone(&queues)));
        (queues, entry, ends)
    }

    /// Gives up all that waits or is computed: the transports see their requests dropped.
    pub fn give_up(&self) {
        let mut state = self.lock();
        state.is_over = true;
        let mut dropped = Vec::new();
        for queue in state.queues.values_mut() {
            dropped.extend(queue.waiting.drain());
            queue.threads.iter().flatten().for_each(|running| running.give_up());
            queue.changed.notify_all();
        }
        drop(state);
    }

    /// The rows that a model computes before those of a request that comes now, and how fast.
    pub fn backlog(&self, model: &str, lane: Lane) -> Backlog {
        let state = self.lock();
        state.queues.get(model).map_or(Backlog { rows: 0, rows_per_second: None }, |queue| Backlog {
            rows: queue.waiting.rows_before(lane),
            rows_per_second: queue.throughput.rows_per_second(),
        })
    }

    /// The measured work of each model, and its backlog.
    pub(super) fn work(&self) -> Vec<(Arc<Throughput>, Backlog)> {
        let state = self.lock();
        state.queues.values().map(|queue| (Arc::clone(&queue.throughput), queue.backlog())).collect()
    }

    /// Models with rows that wait, and their number.
    pub(super) fn waiting(&self) -> Vec<(Arc<str>, usize)> {
        let state = self.lock();
        let waiting = state.queues.iter().map(|(model, queue)| (Arc::clone(model), queue.backlog().rows));
        waiting.filter(|(_, rows)| *rows > 0).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State<R>> {
        lock(&self.state)
    }

    /// Wakes a thread of the model, or starts one, unless all are at work.
    fn wake(self: &Arc<Self>, state: &mut State<R>, model: &Arc<str>, lifeline: &Arc<Lifeline<R>>) {
        let Some(queue) = state.queues.get_mut(model) else { return };
        if queue.idle > 0 {
            queue.changed.notify_one();
            return;
        }
        let Some(slot) = queue.threads.iter().position(Option::is_none) else { return };
        let running = Arc::<Running<R>>::default();
        queue.threads[slot] = Some(Arc::clone(&running));
        let worker = Worker {
            queues: Arc::clone(self),
            model: Arc::clone(model),
            slot,
            lifeline: Arc::clone(lifeline),
            pulse: self.health.pulse(format!("infer-{model}-{slot}")),
            throughput: Arc::clone(&queue.throughput),
            running,
        };
        if let Err(error) = worker.start() {
            queue.threads[slot] = None;
            let _ = lifeline.ended.send(error);
        }
    }

    /// The next batch for a thread of `model`; none when the thread is to end, and then it is forgotten.
    fn next(
        self: &Arc<Self>,
        model: &Arc<str>,
        slot: usize,
        lifeline: &Arc<Lifeline<R>>,
    ) -> Option<Batch<R>> {
        loop {
            if self.budget.is_full_of_responses() {
                futures::executor::block_on(self.budget.responses_left());
            }
            let mut state = self.lock();
            let is_closed = state.lifeline.is_none();
            let queue = state.queues.get_mut(model)?;
            let (changed, now) = (Arc::clone(&queue.changed), Instant::now());
            let wait = match queue.waiting.first() {
                None if is_closed => None,
                None => Some(IDLE),
                Some(first) => {
                    let is_ready = is_closed
                        || first.is_alone()
                        || queue.waiting.rows() >= self.limits.max_rows
                        || now >= first.received_at() + self.limits.max_wait;
                    if is_ready {
                        let jobs = queue.waiting.take(self.limits.max_rows);
                        if !queue.waiting.is_empty() {
                            self.wake(&mut state, model, lifeline);
                        }
                        drop(state);
                        return Some(self.pin_version(jobs));
                    }
                    Some(first.received_at() + self.limits.max_wait - now)
                }
            };
            let is_idle = queue.waiting.is_empty();
            let timed_out = match wait {
                None => true,
                Some(wait) => {
                    queue.idle += 1;
                    let (after, ended) =
                        changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
                    state = after;
                    state.queues.get_mut(model)?.idle -= 1;
                    is_idle && ended.timed_out()
                }
            };
            if timed_out && state.queues.get(model)?.waiting.is_empty() {
                self.forget(&mut state, model, slot);
                return None;
            }
        }
    }

    /// A batch of small requests that pass between the parts of a large one of the same model.
    fn next_small(&self, model: &str) -> Option<Batch<R>> {
        let mut state = self.lock();
        let jobs = state.queues.get_mut(model)?.waiting.take_small(self.limits.max_rows);
        drop(state);
        (!jobs.is_empty()).then(|| self.pin_version(jobs))
    }

    fn pin_version(&self, jobs: Vec<Job<R>>) -> Batch<R> {
        let keeps_version = jobs.iter().any(|job| job.wanted_version.is_some());
        let model = &jobs[0].model;
        let model = if keeps_version { Arc::clone(model) } else { self.models.current(model) };
        Batch { model, jobs }
    }

    /// A thread ends.
    fn forget(&self, state: &mut State<R>, model: &Arc<str>, slot: usize) -> Vec<Job<R>> {
        let Some(queue) = state.queues.get_mut(model) else { return Vec::new() };
        queue.threads[slot] = None;
        if queue.threads.iter().any(Option::is_some) {
            return Vec::new();
        }
        queue.waiting.drain()
    }

    /// A thread panicked: the worker is to end, and what nobody computes any more is dropped.
    fn failed(&self, model: &Arc<str>, slot: usize, lifeline: &Lifeline<R>, error: anyhow::Error) {
        let mut state = self.lock();
        let dropped = self.forget(&mut state, model, slot);
        drop(state);
        drop(dropped);
        let _ = lifeline.ended.send(error);
    }
}

impl<R: ReplyTo + Send + 'static> Entry<R> {
    /// Queues jobs, each for its model. Dropped at once when nothing is computed any more.
    pub fn submit<T>(&self, lane: Lane, jobs: Vec<Job<T>>)
    where
        R: From<T>,
    {
        let mut state = self.0.lock();
        let Some(lifeline) = state.lifeline.clone().filter(|_| !state.is_over) else {
            drop(state);
            return;
        };
        let mut jobs = jobs.into_iter().peekable();
        while let Some(first) = jobs.peek() {
            let model = Arc::clone(&first.model.name);
            let queue = state.queues.entry(Arc::clone(&model));
            let queue = queue.or_default();
            queue.allow(first.model.executor.threads());
            while let Some(job) = jobs.next_if(|job| job.model.name == model) {
                queue.waiting.push(lane, job.map(R::from));
            }
            self.0.wake(&mut state, &model, &lifeline);
        }
    }
}

impl<R> Default for Queue<R> {
    fn default() -> Self {
        Self {
            waiting: Waiting::default(),
            changed: Arc::default(),
            idle: 0,
            threads: Vec::new(),
            throughput: Arc::default(),
        }
    }
}

impl<R> Queue<R> {
    /// Lets so many threads run. Running ones beyond that end once they are idle.
    fn allow(&mut self, threads: usize) {
        let running = self.threads.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.threads.resize_with(threads.max(running), || None);
        self.throughput.set_threads(threads);
    }

    fn backlog(&self) -> Backlog {
        Backlog { rows: self.waiting.rows(), rows_per_second: self.throughput.rows_per_second() }
    }
}

/// One inference thread.
struct Worker<R: ReplyTo + Send + 'static> {
    queues: Arc<Queues<R>>,
    model: Arc<str>,
    slot: usize,
    lifeline: Arc<Lifeline<R>>,
    pulse: Arc<Pulse>,
    throughput: Arc<Throughput>,
    running: Arc<Running<R>>,
}

impl<R: ReplyTo + Send + 'static> Worker<R> {
    fn start(self) -> anyhow::Result<()> {
        let name = format!("infer-{}", self.slot);
        let run = move || {
            let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run())) else { return };
            let stage = format!("the stage `infer-{}-{}` failed", self.model, self.slot);
            let error = stages::panicked(&*panic).context(stage);
            self.queues.failed(&self.model, self.slot, &self.lifeline, error);
        };
        std::thread::Builder::new().name(name).spawn(run).context("cannot start an inference thread")?;
        Ok(())
    }

    /// Runs batches until there are none. Blocks.
    fn run(&self) {
        while let Some(batch) = self.queues.next(&self.model, self.slot, &self.lifeline) {
            let now = Instant::now();
            let (alive, working) = (self.pulse.work_since(now), self.throughput.begin(now));
            let mut small = 0;
            let mut between = || small += self.run_small();
            let responses = run_batch(self.slot, batch, &self.running, &mut between);
            working.computed(computed_rows(&responses) + small);
            drop((alive, working));
            (self.lifeline.reply)(responses);
        }
    }

    /// Runs small requests between two parts of a large one. Returns the number of their rows.
    fn run_small(&self) -> usize {
        let Some(batch) = self.queues.next_small(&self.model) else { return 0 };
        let responses = run_batch(self.slot, batch, &self.running, &mut || {});
        let rows = computed_rows(&responses);
        (self.lifeline.reply)(responses);
        rows
    }
}

fn computed_rows<R>(responses: &[Response<R>]) -> usize {
    let computed = responses.iter().filter(|response| matches!(response.outcome, Outcome::Computed(_)));
    computed.map(|response| response.origin.rows).sum()
}
