//! Runs one batch: requests that need not be computed are answered at once, the others run together.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::decode::{Id, Request};
use crate::engine::job::{Batch, Job, Origin, Outcome, ReplyTo, Response};
use crate::engine::{deadline, predict};
use crate::error::Rejection;
use crate::lock::lock;
use crate::model::Model;
use crate::ops::traces;

/// Requests that a thread computes; of nested batches the last one ends first. They are kept apart from the
/// call, which nothing can end, so that a forced end can drop them.
#[derive(Debug)]
pub struct Running<R>(Mutex<Held<R>>);

#[derive(Debug)]
struct Held<R> {
    batches: Vec<HeldBatch<R>>,
    is_over: bool,
}

#[derive(Debug)]
struct HeldBatch<R> {
    computed: Vec<Origin<R>>,
    /// Responses to those that are not computed.
    ended: Vec<Response<R>>,
}

impl<R> Default for Running<R> {
    fn default() -> Self {
        Self(Mutex::new(Held { batches: Vec::new(), is_over: false }))
    }
}

impl<R> Running<R> {
    /// Drops what the thread runs, and whatever it begins.
    pub fn give_up(&self) {
        let mut held = self.lock();
        held.is_over = true;
        let dropped = std::mem::take(&mut held.batches);
        drop(held);
        drop(dropped);
    }

    fn hold(&self, batch: HeldBatch<R>) {
        let mut held = self.lock();
        if !held.is_over {
            held.batches.push(batch);
        }
    }

    /// The batch that was held last; none once they were given up.
    fn take(&self) -> Option<HeldBatch<R>> {
        self.lock().batches.pop()
    }

    fn lock(&self) -> MutexGuard<'_, Held<R>> {
        lock(&self.0)
    }
}

/// Runs a batch on the session of inference thread `slot`. `between` is called between the parts of a large
/// request.
pub fn run_batch<R: ReplyTo>(
    slot: usize,
    batch: Batch<R>,
    running: &Running<R>,
    between: &mut dyn FnMut(),
) -> Vec<Response<R>> {
    let Batch { model, mut jobs } = batch;
    let rows = jobs.iter().map(|job| job.request.rows).sum();
    let traced = jobs.iter_mut().map(|job| &mut job.origin.trace);
    let _span = traces::batch((&model.name, &model.version), rows, traced);
    let started = Instant::now();
    let mut computed: Vec<Origin<R>> = Vec::with_capacity(jobs.len());
    let mut requests: Vec<Request> = Vec::with_capacity(jobs.len());
    let mut ended = Vec::new();
    let response =
        |outcome, id: Option<Id>, origin| Response { outcome, id, model: Some(Arc::clone(&model)), origin };
    for job in jobs {
        if job.origin.reply_to.is_abandoned() {
            continue;
        }
        if job.origin.is_expired(started) {
            ended.push(response(Outcome::Expired, job.request.response.id, job.origin));
            continue;
        }
        let waited = started - job.origin.received_at;
        model.metrics.histograms().queue.observe(waited.as_secs_f64());
        match refusal(&model, &job) {
            Some(rejection) => {
                ended.push(response(Outcome::Rejected(rejection), job.request.response.id, job.origin));
            }
            None => {
                requests.push(job.request);
                computed.push(job.origin);
            }
        }
    }
    running.hold(HeldBatch { computed, ended });
    let (ids, answers) = predict::predict(&model, slot, requests, between);
    let Some(HeldBatch { computed, ended: mut responses }) = running.take() else { return Vec::new() };
    let mut largest = 0;
    responses.extend(answers.into_iter().zip(ids).zip(computed).map(|((answered, id), origin)| {
        let outcome = match answered {
            Ok(body) => {
                largest = largest.max(body.bytes.len().div_ceil(origin.rows.max(1)));
                Outcome::Computed(body)
            }
            Err(rejection) => Outcome::Rejected(rejection),
        };
        response(outcome, id, origin)
    }));
    if largest > 0 {
        model.responded(largest);
    }
    responses
}

/// Reason not to compute a request. Checked last, so that a request that expired while it waited costs
/// nothing.
fn refusal<R>(model: &Model, job: &Job<R>) -> Option<Rejection> {
    let checked = model.check_version(job.wanted_version.as_deref());
    checked.and_then(|()| deadline::check(job.deadline)).err()
}
