//! Requests for predictions over HTTP: from a client to the engine and back.
//!
//! A request waits for its response until its deadline. A client that goes away drops its future, and with it
//! the receiver of its response: the engine then computes nothing for it. No queue is without a bound: bodies
//! have a budget of bytes, and a request that would wait for longer than its deadline is refused at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use axum::body::Body;
use axum::http::HeaderMap;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::request;
use crate::decode::envelope::{self, ResponseFormat};
use crate::decode::{Id, Request};
use crate::engine::admit::{self, LIMITS, Refusal, Target};
use crate::engine::batch::Lane;
use crate::engine::budget::{Budget, Memory, Room};
use crate::engine::job::{Job, Origin, Outcome, Response};
use crate::engine::queue::{Entry, Queues};
use crate::error::{Code, Rejection};
use crate::headers::Headers;
use crate::model::{Model, Models};
use crate::ops::metrics::Metrics;
use crate::ops::traces::MessageTrace;
use crate::reply_to::ReplyTo;

/// A body larger than this, decompressed, is decoded where blocking is allowed.
const LARGE_BODY: usize = 256 << 10;

/// Share of the time until its deadline that a request may be expected to wait. The rest is for its own call,
/// and for the error of the expectation.
const SHARE_TO_WAIT: f64 = 0.8;

/// See the module.
pub struct Predictions {
    models: Arc<Models>,
    metrics: Arc<Metrics>,
    budget: Budget,
    max_body: usize,
    timeout: Duration,
    /// Takes requests to the engine; `None` once the worker stops.
    entry: ArcSwapOption<Entry<ReplyTo>>,
    queues: Arc<Queues<ReplyTo>>,
    /// Requests that are being answered.
    answering: TaskTracker,
}

/// A request for a model, with the headers that the engine knows.
pub(super) struct Call<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) version: Option<&'a str>,
    pub(super) headers: &'a mut HashMap<String, String>,
    pub(super) body: Bytes,
    pub(super) until: Instant,
}

/// An answer before its protocol has given it a form.
pub(super) struct Answer {
    pub(super) outcome: Result<crate::encode::Body, Rejection>,
    pub(super) id: Option<Id>,
    pub(super) model: Option<Arc<Model>>,
    pub(super) format: ResponseFormat,
    pub(super) rows: usize,
    /// Counted until the response is sent.
    pub(super) memory: Memory,
}

impl Predictions {
    pub fn new(
        models: Arc<Models>,
        metrics: Arc<Metrics>,
        config: &crate::config::Http,
        bytes: usize,
        entry: Arc<Entry<ReplyTo>>,
        queues: Arc<Queues<ReplyTo>>,
    ) -> Self {
        Self {
            models,
            metrics,
            budget: Budget::new(bytes),
            max_body: config.max_body,
            timeout: config.timeout,
            entry: ArcSwapOption::new(Some(entry)),
            queues,
            answering: TaskTracker::new(),
        }
    }

    /// Refuses new requests and waits until those before are answered.
    pub async fn drain(&self) {
        self.entry.store(None);
        self.answering.close();
        self.answering.wait().await;
    }
}

impl Predictions {
    /// Refuses a request, before its body is read, that cannot be answered now or in time.
    ///
    /// # Errors
    /// `UNAVAILABLE` or `OVERLOADED`.
    pub(super) fn admit(&self, model: Option<&str>, until: Instant) -> Result<(), Rejection> {
        if self.entry.load().is_none() {
            return Err(stopping());
        }
        let is_awaited = self.models.is_awaited(|| model);
        match self.models.resolve(model) {
            Err(_) if is_awaited || self.models.serving().is_empty() => {
                Err(Rejection::new(Code::Unavailable, "no model is served yet; try again later"))
            }
            // Found again, and with the request's id, when it is read.
            Err(_) => Ok(()),
            Ok(model) => self.in_time(&model, until),
        }
    }

    /// Refuses a request that would be answered after its deadline, by what waits for its model now.
    fn in_time(&self, model: &Model, until: Instant) -> Result<(), Rejection> {
        let wait = self.queues.backlog(&model.name, Lane::OnDemand).wait();
        let left = until.saturating_duration_since(Instant::now());
        if wait <= left.mul_f64(SHARE_TO_WAIT) {
            return Ok(());
        }
        let (wait, left) = (wait.as_secs_f64(), left.as_secs_f64());
        let message = format!(
            "the requests that wait for the model take {wait:.3} seconds, and this one is to be answered within \
             {left:.3}; try again later"
        );
        Err(Rejection::new(Code::Overloaded, message))
    }

    /// Reads a body, and takes room for what it decompresses to.
    ///
    /// # Errors
    /// Those of [`request::body`] and [`request::inflate`].
    pub(super) async fn body(
        &self,
        all: &HeaderMap,
        headers: &mut HashMap<String, String>,
        body: Body,
        until: Instant,
    ) -> Result<(Bytes, Room), Rejection> {
        let (body, mut room) = request::body(all, body, self.max_body, &self.budget, until).await?;
        let body = request::inflate(headers, body, &self.budget, &mut room)?;
        let weight = envelope::memory_bytes(Headers(headers), &body, &LIMITS);
        if weight > body.len() && !self.budget.try_grow(&mut room, weight) {
            return Err(request::no_room());
        }
        Ok((body, room))
    }

    /// Reads a body as it is sent.
    ///
    /// # Errors
    /// Those of [`request::body`].
    pub(super) async fn raw_body(
        &self,
        headers: &HeaderMap,
        body: Body,
        until: Instant,
    ) -> Result<(Bytes, Room), Rejection> {
        request::body(headers, body, self.max_body, &self.budget, until).await
    }

    /// The time until which a request is to be answered.
    ///
    /// # Errors
    /// Those of [`request::deadline`].
    pub(super) fn deadline(&self, headers: &HeaderMap) -> Result<Instant, Rejection> {
        request::deadline(headers, self.timeout)
    }

    /// Room for a body that was read by other means.
    pub(super) fn room(&self, bytes: usize) -> Result<Room, Rejection> {
        self.budget.try_take(bytes).ok_or_else(request::no_room)
    }

    /// Answers a request. `check` judges the decoded request by the rules of its route.
    pub(super) async fn answer(
        &self,
        call: Call<'_>,
        room: Room,
        check: impl FnOnce(&mut Request) -> Result<(), Rejection>,
    ) -> Answer {
        let _answering = self.answering.token();
        let Call { model, version, headers, body, until } = call;
        let mut memory = Memory::new(Arc::clone(&self.metrics));
        memory.hold(envelope::memory_bytes(Headers(headers), &body, &LIMITS), room);
        for (name, value) in [("model", model), ("model_version", version)] {
            if let Some(value) = value {
                headers.insert(name.to_owned(), value.to_owned());
            }
        }
        let (format, decoded) = self.decode(headers, &body).await;
        drop(body);
        let mut origin = Origin::new((), memory, MessageTrace::default());
        let checked = decoded.and_then(|(mut request, target)| match check(&mut request) {
            Ok(()) => Ok((request, target)),
            Err(rejection) => {
                Err(Box::new(Refusal { rejection, id: request.response.id, model: Some(target.model) }))
            }
        });
        match checked {
            Ok((request, target)) => {
                origin.response_format = format;
                self.compute(request, target, origin, until).await
            }
            Err(refusal) => {
                let Refusal { rejection, id, model } = *refusal;
                Answer { outcome: Err(rejection), id, model, format, rows: 0, memory: origin.memory }
            }
        }
    }

    async fn decode(
        &self,
        headers: &HashMap<String, String>,
        body: &[u8],
    ) -> (ResponseFormat, Result<(Request, Target), Box<Refusal>>) {
        let read = || admit::read(&self.models, Headers(headers), body);
        if envelope::memory_bytes(Headers(headers), body, &LIMITS) <= LARGE_BODY {
            return read();
        }
        let _decoding = self.budget.decoding().await;
        tokio::task::block_in_place(read)
    }

    async fn compute(
        &self,
        request: Request,
        mut target: Target,
        origin: Origin<()>,
        until: Instant,
    ) -> Answer {
        let until = request.timeout.map_or(until, |limit| until.min(origin.received_at + limit));
        let now = (SystemTime::now(), Instant::now());
        target.deadline = now.0.checked_add(until.saturating_duration_since(now.1));
        let (model, id, format) =
            (Arc::clone(&target.model), request.response.id.clone(), origin.response_format.clone());
        let rows = request.rows;
        let refused = |rejection| {
            let memory = Memory::new(Arc::clone(&self.metrics));
            Answer { outcome: Err(rejection), id, model: Some(model), format, rows, memory }
        };
        let (reply_to, response) = oneshot::channel();
        let job = Job::new(request, target, false, origin.map(|()| reply_to));
        match &*self.entry.load() {
            Some(entry) => entry.submit(Lane::OnDemand, vec![job]),
            None => return refused(stopping()),
        }
        match tokio::time::timeout_at(until.into(), response).await {
            Ok(Ok(Response { outcome, id, model, origin })) => {
                let outcome = match outcome {
                    Outcome::Computed(body) => Ok(body),
                    Outcome::Rejected(rejection) => Err(rejection),
                    Outcome::Expired => Err(too_late()),
                };
                let Origin { response_format: format, rows, memory, .. } = origin;
                Answer { outcome, id, model, format, rows, memory }
            }
            // Dropped by a forced end.
            Ok(Err(_)) => refused(stopping()),
            Err(_) => refused(too_late()),
        }
    }
}

fn stopping() -> Rejection {
    Rejection::new(Code::Unavailable, "this worker stops; send the request to another one")
}

fn too_late() -> Rejection {
    Rejection::new(Code::DeadlineExceeded, "the deadline passed before the response was there")
}
