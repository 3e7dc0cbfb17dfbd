//! Requests for predictions over HTTP: from a client to the engine and back.
//!
//! A request waits for its response until its deadline. A client that goes away drops its future, and with it
//! the receiver of its response: the engine then computes nothing for it. No queue is without a bound: bodies
//! have a budget of bytes, and a request that would wait for longer than its deadline is refused at once.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use axum::body::Body;
use axum::http::HeaderMap;
use bytes::Bytes;
use flate2::bufread::ZlibDecoder;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::request;
use crate::config;
use crate::decode::envelope::{self, Envelope, ResponseFormat};
use crate::decode::reference::{self, Object, Reference};
use crate::decode::{Id, Request};
use crate::engine::admit::{self, LARGE_BODY, LIMITS, Refusal, Target, may_block};
use crate::engine::batch::Lane;
use crate::engine::budget::{Budget, Memory, Room};
use crate::engine::job::{Job, Origin, Outcome, Response};
use crate::engine::queue::{Entry, Queues};
use crate::error::{Code, Rejection};
use crate::headers::{CONTENT_ENCODING, Headers};
use crate::model::{Model, Models};
use crate::objects::{Failed, Fetched, Objects};
use crate::ops::metrics::Metrics;
use crate::ops::traces::{self, MessageTrace};
use crate::reply_to::ReplyTo;

/// Share of the time until its deadline that a request may be expected to wait. The rest is for its own call,
/// and for the error of the expectation: with 0.8, one in ten of those that were admitted under twice the
/// capacity was too late.
const SHARE_TO_WAIT: f64 = 0.5;

/// Parts of the worker that requests over HTTP use.
pub struct Surroundings {
    pub models: Arc<Models>,
    pub metrics: Arc<Metrics>,
    pub objects: Objects,
    /// Bytes of requests over HTTP.
    pub budget: Budget,
    pub queues: Arc<Queues<ReplyTo>>,
}

/// See the module.
pub struct Predictions {
    around: Surroundings,
    max_body: usize,
    timeout: Duration,
    /// Takes requests to the engine; `None` once the worker stops.
    entry: ArcSwapOption<Entry<ReplyTo>>,
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
    /// The path with its parameters' names in place of their values, for traces.
    pub(super) route: &'static str,
}

/// A request that was decoded, or why it is not, and the envelope of its response.
type Decoded = (ResponseFormat, Result<(Request, Target), Box<Refusal>>);

/// An answer before its protocol has given it a form.
pub(super) struct Answer {
    pub(super) outcome: Result<crate::encode::Body, Rejection>,
    pub(super) id: Option<Id>,
    pub(super) model: Option<Arc<Model>>,
    pub(super) format: ResponseFormat,
    pub(super) rows: usize,
    pub(super) trace: MessageTrace,
    /// Counted until the response is sent.
    pub(super) memory: Memory,
}

impl Answer {
    /// The error code, where it is an error.
    pub(super) fn code(&self) -> Result<(), Code> {
        self.outcome.as_ref().map(|_| ()).map_err(|rejection| rejection.code)
    }
}

impl Predictions {
    pub fn new(config: &config::Http, around: Surroundings, entry: Arc<Entry<ReplyTo>>) -> Self {
        Self {
            around,
            max_body: config.max_body,
            timeout: config.timeout,
            entry: ArcSwapOption::new(Some(entry)),
            answering: TaskTracker::new(),
        }
    }

    /// Refuses new requests and waits until those before are answered.
    pub async fn drain(&self) {
        self.entry.store(None);
        self.answering.close();
        self.answering.wait().await;
    }

    /// Refuses a request, before its body is read, that cannot be answered now or in time.
    ///
    /// # Errors
    /// `UNAVAILABLE` or `OVERLOADED`.
    pub(super) fn admit(&self, model: Option<&str>, until: Instant) -> Result<(), Rejection> {
        self.available(model)?;
        match self.around.models.resolve(model) {
            Ok(model) => self.in_time(&model, until),
            // Found again, and with the request's id, when it is read.
            Err(_) => Ok(()),
        }
    }

    /// Refuses a request for a model that another worker may have, or this one later.
    ///
    /// # Errors
    /// `UNAVAILABLE`.
    pub(super) fn available(&self, model: Option<&str>) -> Result<(), Rejection> {
        if self.entry.load().is_none() {
            return Err(stopping());
        }
        let models = &self.around.models;
        let may_come = models.is_awaited(|| model) || models.serving().is_empty();
        if may_come && models.resolve(model).is_err() {
            return Err(Rejection::new(Code::Unavailable, "no model is served yet; try again later"));
        }
        Ok(())
    }

    /// Refuses a request that would be answered after its deadline, by what waits for its model now.
    fn in_time(&self, model: &Model, until: Instant) -> Result<(), Rejection> {
        let wait = self.around.queues.backlog(&model.name, Lane::OnDemand).wait();
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
    /// The errors of [`request::body`] and [`request::decompress`].
    pub(super) async fn body(
        &self,
        all: &HeaderMap,
        headers: &mut HashMap<String, String>,
        body: Body,
        until: Instant,
    ) -> Result<(Bytes, Room), Rejection> {
        let (body, mut room) = request::body(all, body, self.max_body, &self.around.budget, until).await?;
        if request::is_deflated(headers) {
            headers.remove(CONTENT_ENCODING);
            let body = self.decompress(ZlibDecoder::new(&*body), body.len(), &mut room)?;
            return Ok((body, room));
        }
        let weight = envelope::memory_bytes(Headers(headers), &body, &LIMITS);
        if weight > body.len() && !self.around.budget.try_grow(&mut room, weight) {
            return Err(request::no_room());
        }
        Ok((body, room))
    }

    /// Decompresses a body, of so many compressed bytes.
    ///
    /// # Errors
    /// The errors of [`request::decompress`].
    pub(super) fn decompress(
        &self,
        body: impl Read,
        compressed: usize,
        room: &mut Room,
    ) -> Result<Bytes, Rejection> {
        tokio::task::block_in_place(|| request::decompress(body, compressed, &self.around.budget, room))
    }

    /// Reads a body as it is sent.
    ///
    /// # Errors
    /// The errors of [`request::body`].
    pub(super) async fn raw_body(
        &self,
        headers: &HeaderMap,
        body: Body,
        until: Instant,
    ) -> Result<(Bytes, Room), Rejection> {
        request::body(headers, body, self.max_body, &self.around.budget, until).await
    }

    /// The time until which a request is to be answered.
    ///
    /// # Errors
    /// The errors of [`request::deadline`].
    pub(super) fn deadline(&self, headers: &HeaderMap) -> Result<Instant, Rejection> {
        request::deadline(headers, self.timeout)
    }

    /// Room for a body that was read by other means.
    pub(super) fn room(&self, bytes: usize) -> Result<Room, Rejection> {
        self.around.budget.try_take(bytes).ok_or_else(request::no_room)
    }

    /// Answers a request. `check` judges the decoded request by the rules of its route.
    pub(super) async fn answer(
        &self,
        call: Call<'_>,
        room: Room,
        check: impl FnOnce(&mut Request) -> Result<(), Rejection>,
    ) -> Answer {
        let _answering = self.answering.token();
        let Call { model, version, headers, body, until, route } = call;
        let trace = traces::requested(headers, route);
        for (name, value) in [("model", model), ("model_version", version)] {
            if let Some(value) = value {
                headers.insert(name.to_owned(), value.to_owned());
            }
        }
        let mut memory = Memory::new(Arc::clone(&self.around.metrics));
        let (format, decoded) = match reference::find(Headers(headers), &body) {
            Some(mut reference) => {
                drop(room);
                let format = std::mem::take(&mut reference.response_format);
                // Boxed, since it is large, and every request would have room for it.
                Box::pin(self.fetch(*reference, headers, until, format, &mut memory)).await
            }
            None => {
                memory.hold(envelope::memory_bytes(Headers(headers), &body, &LIMITS), room);
                self.decode(&body, Headers(headers), || {
                    admit::read(&self.around.models, Headers(headers), &body)
                })
                .await
            }
        };
        drop(body);
        let mut origin = Origin::new((), memory, trace);
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
                let Origin { memory, trace, .. } = origin;
                Answer { outcome: Err(rejection), id, model, format, rows: 0, trace, memory }
            }
        }
    }

    /// Decodes a body, and a large one where that is allowed to block.
    async fn decode<T>(&self, body: &[u8], headers: Headers<'_>, read: impl FnOnce() -> T) -> T {
        let weight = envelope::memory_bytes(headers, body, &LIMITS);
        let _decoding = if weight > LARGE_BODY { Some(self.around.budget.decoding().await) } else { None };
        may_block(weight, read)
    }

    /// Reads the object that a request refers to, and decodes it.
    async fn fetch(
        &self,
        reference: Reference,
        headers: &HashMap<String, String>,
        until: Instant,
        mut format: ResponseFormat,
        memory: &mut Memory,
    ) -> Decoded {
        let target = match admit::target(&self.around.models, Headers(headers), || reference.id.clone()) {
            Ok(target) => target,
            Err(refusal) => return (format, Err(refusal)),
        };
        let object = reference.object.clone();
        let fetched = match object.and_then(|object| self.around.objects.check(&object).map(|()| object)) {
            Ok(object) => self.read_object(&object, &reference, until).await,
            Err(rejection) => Err(rejection),
        };
        let Fetched { attributes, body, weight, room } = match fetched {
            Ok(fetched) => fetched,
            Err(rejection) => {
                let refusal = Refusal { rejection, id: reference.id, model: Some(target.model) };
                return (format, Err(refusal.into()));
            }
        };
        memory.hold(weight, room);
        let of_object = Headers(&attributes);
        let read = || {
            let Envelope { response_format, content } = envelope::open(of_object, &body, &LIMITS);
            // The request's own envelope is what its response mirrors.
            format.event = format.event.take().or(response_format.event);
            admit::decode(content, target, reference.id)
        };
        let decoded = self.decode(&body, of_object, read).await;
        (format, decoded)
    }

    async fn read_object(
        &self,
        object: &Object,
        reference: &Reference,
        until: Instant,
    ) -> Result<Fetched, Rejection> {
        let stop = CancellationToken::new();
        let read = self.around.objects.read(object, reference, &LIMITS, &self.around.budget, &stop);
        match tokio::time::timeout_at(until.into(), read).await {
            Ok(Ok(fetched)) => Ok(fetched),
            Ok(Err(Failed::Rejected(rejection))) => Err(rejection),
            Ok(Err(Failed::Unavailable(why))) => {
                Err(Rejection::new(Code::Unavailable, format!("cannot read {object}: {why}")))
            }
            Err(_) => Err(too_late()),
        }
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
            let memory = Memory::new(Arc::clone(&self.around.metrics));
            let trace = MessageTrace::default();
            Answer { outcome: Err(rejection), id, model: Some(model), format, rows, trace, memory }
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
                let Origin { response_format: format, rows, memory, trace, .. } = origin;
                Answer { outcome, id, model, format, rows, trace, memory }
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
