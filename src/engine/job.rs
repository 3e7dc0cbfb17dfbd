//! The types that cross the engine's borders: jobs in, responses out. `R` is the transport's way to reply;
//! nothing here looks into it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::decode::envelope::ResponseFormat;
use crate::decode::{Id, Request};
use crate::encode;
use crate::engine::admit::{Refusal, Target};
use crate::engine::budget::Memory;
use crate::error::Rejection;
use crate::model::Model;
use crate::ops::traces::MessageTrace;

/// The part of a transport's way to reply that the engine asks for.
pub trait ReplyTo {
    /// True when nobody waits for the response any more, so that computing it would be for nothing.
    fn is_abandoned(&self) -> bool {
        false
    }
}

/// Facts about a request that stay with it from its receipt to its response.
#[derive(Debug)]
pub struct Origin<R> {
    pub reply_to: R,
    pub received_at: Instant,
    /// From then on it is neither computed nor answered: its transport has it handled elsewhere.
    pub expires_at: Option<Instant>,
    /// Rows of the decoded request; 0 until then.
    pub rows: usize,
    /// Parts of the request's envelope that the response mirrors.
    pub response_format: ResponseFormat,
    pub memory: Memory,
    pub trace: MessageTrace,
}

impl<R> Origin<R> {
    /// A request that was received just now.
    pub fn new(reply_to: R, memory: Memory, trace: MessageTrace) -> Self {
        Self {
            reply_to,
            received_at: Instant::now(),
            expires_at: None,
            rows: 0,
            response_format: ResponseFormat::default(),
            memory,
            trace,
        }
    }

    /// True when the request has been in flight for too long by `now`.
    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// The request, and the way to reply.
    pub fn split(self) -> (Origin<()>, R) {
        let Self { reply_to, received_at, expires_at, rows, response_format, memory, trace } = self;
        (Origin { reply_to: (), received_at, expires_at, rows, response_format, memory, trace }, reply_to)
    }

    /// The same request under another type of reply.
    pub fn map<S>(self, reply_to: impl FnOnce(R) -> S) -> Origin<S> {
        let Self { reply_to: old, received_at, expires_at, rows, response_format, memory, trace } = self;
        Origin { reply_to: reply_to(old), received_at, expires_at, rows, response_format, memory, trace }
    }
}

/// A decoded request that waits for its batch.
#[derive(Debug)]
pub struct Job<R> {
    pub request: Request,
    /// The version that the request was decoded for; a newer one of the same signature may answer.
    pub model: Arc<Model>,
    /// The only version that may answer, if the request names one.
    pub wanted_version: Option<String>,
    /// After this nobody waits for the answer.
    pub deadline: Option<SystemTime>,
    /// Shares its call with no other request.
    pub is_alone: bool,
    pub origin: Origin<R>,
}

impl<R> Job<R> {
    /// Counts the memory of the decoded request and of the response that is expected.
    pub fn new(request: Request, target: Target, is_alone: bool, mut origin: Origin<R>) -> Self {
        let Target { model, wanted_version, deadline } = target;
        origin.rows = request.rows;
        origin.memory.decoded(request.bytes() + model.response_bytes(request.rows));
        Self { request, model, wanted_version, deadline, is_alone, origin }
    }

    /// The same request under another type of reply.
    pub fn map<S>(self, reply_to: impl FnOnce(R) -> S) -> Job<S> {
        let Self { request, model, wanted_version, deadline, is_alone, origin } = self;
        Job { request, model, wanted_version, deadline, is_alone, origin: origin.map(reply_to) }
    }
}

/// Jobs that run together on one version of one model.
#[derive(Debug)]
pub struct Batch<R> {
    pub model: Arc<Model>,
    pub jobs: Vec<Job<R>>,
}

/// Result of a request.
#[derive(Debug)]
pub enum Outcome {
    Computed(encode::Body),
    Rejected(Rejection),
    /// Nothing: see [`Origin::expires_at`].
    Expired,
}

/// The outcome of a request, for its transport to send.
#[derive(Debug)]
pub struct Response<R> {
    pub outcome: Outcome,
    pub id: Option<Id>,
    /// The version that answered; `None` when the request was refused before it reached a model.
    pub model: Option<Arc<Model>>,
    pub origin: Origin<R>,
}

impl<R> Response<R> {
    /// The response, and the way to reply.
    pub fn split(self) -> (Response<()>, R) {
        let Self { outcome, id, model, origin } = self;
        let (origin, reply_to) = origin.split();
        (Response { outcome, id, model, origin }, reply_to)
    }

    pub fn refused(refusal: Refusal, origin: Origin<R>) -> Self {
        let Refusal { rejection, id, model } = refusal;
        Self { outcome: Outcome::Rejected(rejection), id, model, origin }
    }
}
