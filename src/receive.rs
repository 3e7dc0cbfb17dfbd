//! Requests in: one streaming pull, supervised, and the decoding of what it brings.
//!
//! The stream is polled continuously; what is ready is decoded and handed on together, and what is not ready is never
//! waited for with requests in hand. Listens to stop: the stream is then shut down, and the leases of all that is still in
//! the pipeline are kept until the last ticket is settled. Requests that lie in a bucket are fetched beside the stream.

mod follow;

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use backoff::BackoffBuilder as _;
use google_cloud_pubsub::client::{Subscriber, SubscriptionAdmin};
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::MessageStream;
use google_cloud_pubsub::subscriber::handler::Handler;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::report::Hint as _;
use crate::config::Requests;
use crate::deadline;
use crate::decode::envelope::{self, Content, Envelope, Headers};
use crate::decode::reference::{self, Reference};
use crate::decode::{Id, Limits};
use crate::error::Rejection;
use crate::google;
use crate::health::{Health, Part};
use crate::message::{Origin, Pending, Reply, Ticket};
use crate::metrics::Metrics;
use crate::model::{Model, Models};
use crate::order::Away;
use crate::reference::{Budget, Objects};
use crate::telemetry::traces;
use follow::{Fetches, Follow, Referred};

/// Requests handed on together at most: enough to fill a batch, few enough not to hold the first one up.
const TOGETHER: usize = 128;
/// A body larger than this, unpacked, is decoded where blocking is allowed.
const LARGE_BODY: usize = 256 << 10;
const LIMITS: Limits = Limits::DEFAULT;
/// How long a lease lasts without an extension, which the client sends every few seconds: what a killed worker had, and
/// what was on the wire when one stopped, comes again this soon. The client's own 60 s made a restart a minute's wait.
const LEASE: Duration = Duration::from_secs(20);
/// How often an idle connection is looked at, so that `/ready` tells the truth.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// A subscription that does not exist for so many attempts in a row (about five minutes) will not come back.
const MISSING_ATTEMPTS: usize = 12;

#[derive(Debug)]
pub struct Receive {
    pub subscriber: Subscriber,
    pub admin: SubscriptionAdmin,
    pub config: Requests,
    pub models: Arc<Models>,
    pub objects: Arc<Objects>,
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub requests: mpsc::Sender<Vec<Pending>>,
    pub replies: mpsc::Sender<Vec<Reply>>,
}

/// Looks the subscription up before anything starts.
///
/// # Errors
/// It does not exist, or nobody answers. A refusal for want of rights is none: receiving needs fewer.
pub async fn check_subscription(admin: &SubscriptionAdmin, name: &str) -> anyhow::Result<()> {
    let asked = admin.get_subscription().set_subscription(name).send();
    let error = match tokio::time::timeout(google::CALL_TIMEOUT, asked).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => {
            return Err(anyhow::anyhow!("no answer in {} seconds", google::CALL_TIMEOUT.as_secs()))
                .with_context(|| format!("cannot reach {}", google::pubsub_address()))
                .hint("check the network, or PUBSUB_EMULATOR_HOST when a local server is meant");
        }
    };
    match google::code(&error) {
        Some("PERMISSION_DENIED") => Ok(()),
        Some("NOT_FOUND") => Err(anyhow::anyhow!("the subscription {name:?} does not exist"))
            .hint("create it, or correct `requests.subscription` and `project`"),
        Some(_) => Err(error)
            .with_context(|| format!("cannot use the subscription {name:?}"))
            .hint("check the credentials and the rights (roles/pubsub.subscriber)"),
        None => Err(error).with_context(|| format!("cannot reach {}", google::pubsub_address())).hint(
            "check the network and the credentials, or PUBSUB_EMULATOR_HOST when a local server is meant",
        ),
    }
}

impl Receive {
    /// Receives until `stop`; then waits until the last message in hand is settled.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let cap = self.config.max_outstanding_bytes;
        let channels = (self.requests.clone(), self.replies.clone());
        let budget = Budget::new(cap);
        let follow = Arc::new(Follow::new(Arc::clone(&self.objects), budget, channels, stop.clone()));
        let mut intake =
            Intake { follow, fetches: Fetches::default(), away: Arc::default(), decoded: Vec::new() };
        let mut delays = reconnect_delays();
        let mut missing = 0;
        loop {
            let mut stream = self
                .subscriber
                .subscribe(&self.config.subscription)
                .set_max_lease_extension(LEASE)
                .set_max_outstanding_messages(i64::try_from(self.config.max_outstanding_messages)?)
                .set_max_outstanding_bytes(i64::try_from(cap)?)
                .build();
            let token = stream.shutdown_token();
            let mut received = false;
            let ended = tokio::select! {
                ended = self.read(&mut stream, &mut intake, &mut received, &stop) => ended,
                () = self.probe() => unreachable!("the probe never ends"),
            };
            let why = match ended {
                Ended::Stopped => {
                    self.give_back(&mut stream).await;
                    // The stages behind see their channels close once the last object is fetched; the tickets of all that
                    // is in hand keep their leases meanwhile.
                    let finish = async move {
                        intake.fetches.finish().await;
                        drop((self, intake));
                    };
                    tokio::join!(finish, token.shutdown());
                    return Ok(());
                }
                Ended::Closed => "the server closed the stream".to_owned(),
                Ended::Failed(error) => {
                    let is_missing = google::code(&error) == Some("NOT_FOUND");
                    missing = if is_missing { missing + 1 } else { 0 };
                    if missing >= MISSING_ATTEMPTS {
                        return Err(error).context("the request subscription is gone");
                    }
                    error.to_string()
                }
                Ended::PipelineGone => return Ok(()),
            };
            self.metrics.stream_failures.inc();
            if received {
                delays = reconnect_delays();
                missing = 0;
            }
            let delay = delays.next().unwrap_or(Duration::from_secs(30));
            if self.health.fails(Part::Requests, format!("the request stream ended: {why}")) {
                tracing::warn!(why, "the request stream ended, it will be opened again");
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Keeps `/ready` truthful while the client connects by itself and says nothing. Never ends.
    async fn probe(&self) {
        loop {
            match check_subscription(&self.admin, &self.config.subscription).await {
                Ok(()) => self.connected(),
                Err(error) => {
                    if self.health.fails(Part::Requests, format!("{error:#}")) {
                        tracing::warn!(error = format!("{error:#}"), "not receiving");
                    }
                }
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    fn connected(&self) {
        if self.health.works(Part::Requests) {
            tracing::info!(subscription = self.config.subscription, "receiving");
        }
    }

    /// What the client has read and nobody took goes back at once, instead of when its lease is over.
    async fn give_back(&self, stream: &mut MessageStream) {
        while let Poll::Ready(Some(Ok((_, handler)))) = futures::poll!(std::pin::pin!(stream.next())) {
            self.metrics.nacked.inc();
            handler.nack();
        }
    }

    /// Reads until the stream or the worker ends, with nothing left in hand.
    async fn read(
        &self,
        stream: &mut MessageStream,
        intake: &mut Intake,
        received: &mut bool,
        stop: &CancellationToken,
    ) -> Ended {
        loop {
            let mut next = std::pin::pin!(stream.next());
            let item = match futures::poll!(next.as_mut()) {
                Poll::Ready(item) if intake.decoded.len() < TOGETHER => item,
                ready => {
                    if self.hand_on(intake).await.is_err() {
                        return Ended::PipelineGone;
                    }
                    match ready {
                        Poll::Ready(item) => item,
                        Poll::Pending => tokio::select! {
                            item = next => item,
                            () = stop.cancelled() => return Ended::Stopped,
                        },
                    }
                }
            };
            let (message, handler) = match item {
                Some(Ok(delivery)) => delivery,
                ended => {
                    if self.hand_on(intake).await.is_err() {
                        return Ended::PipelineGone;
                    }
                    return match ended {
                        Some(Err(error)) => Ended::Failed(error),
                        _ => Ended::Closed,
                    };
                }
            };
            if !*received {
                *received = true;
                self.connected();
            }
            let reference = reference::find(Headers(&message.attributes), &message.data);
            let key = &message.ordering_key;
            if !key.is_empty() {
                // What came before under the same key goes on first, whether it is in hand or being fetched.
                let is_away = intake.away.has(key);
                if (is_away || reference.is_some()) && self.hand_on(intake).await.is_err() {
                    return Ended::PipelineGone;
                }
                if is_away {
                    tokio::select! {
                        () = intake.away.returned(key) => {}
                        () = stop.cancelled() => {
                            self.metrics.nacked.inc();
                            handler.nack();
                            return Ended::Stopped;
                        }
                    }
                }
            }
            let taken = match reference {
                Some(reference) => self.refer(message, handler, reference, intake).map_err(Refused::Reply),
                None => self.take(message, handler, intake).await,
            };
            let sent = match taken {
                Ok(()) => Ok(()),
                Err(Refused::Reply(reply)) => self.replies.send(vec![*reply]).await.map_err(drop),
                Err(Refused::PipelineGone) => Err(()),
            };
            if sent.is_err() {
                return Ended::PipelineGone;
            }
            if stop.is_cancelled() {
                let _ = self.hand_on(intake).await;
                return Ended::Stopped;
            }
        }
    }

    /// Hands on what is decoded.
    async fn hand_on(&self, intake: &mut Intake) -> Result<(), ()> {
        if intake.decoded.is_empty() {
            return Ok(());
        }
        self.requests.send(std::mem::take(&mut intake.decoded)).await.map_err(drop)
    }

    /// A request that came whole.
    async fn take(&self, mut message: Message, handler: Handler, intake: &mut Intake) -> Result<(), Refused> {
        let weight = envelope::weight(Headers(&message.attributes), &message.data, &LIMITS);
        let room = match intake.follow.budget.try_take(weight) {
            Some(room) => room,
            None => {
                // Hand on what is in hand first: only that can make room.
                self.hand_on(intake).await.map_err(|()| Refused::PipelineGone)?;
                intake.follow.budget.take(weight).await
            }
        };
        let trace = traces::received(&mut message, handler.delivery_attempt());
        let deadline = message.attributes.get("deadline").map(|text| deadline::parse(text)).transpose();
        let mut ticket = Ticket::new(handler, Arc::clone(&self.metrics), trace);
        ticket.hold(weight, room);
        let is_large = weight > LARGE_BODY;
        let open = || envelope::open(Headers(&message.attributes), &message.data, &LIMITS);
        let Envelope { delivery, content } =
            if is_large { tokio::task::block_in_place(open) } else { open() };
        let origin = Origin {
            attributes: message.attributes,
            message_id: message.message_id,
            ordering_key: message.ordering_key,
            received_at: Instant::now(),
            deadline: deadline.clone().ok().flatten(),
            delivery,
            ticket,
        };
        let model = match self.models.resolve(origin.attributes.get("model").map(String::as_str)) {
            Ok(model) => model,
            Err(rejection) => {
                let reply = Reply::refused(&rejection, None, None, origin);
                return Err(Refused::Reply(reply.into()));
            }
        };
        // Expired work costs neither decoding nor inference.
        if let Err(rejection) = deadline.and_then(deadline::check) {
            return Err(Refused::Reply(Reply::refused(&rejection, None, Some(model), origin).into()));
        }
        let decode = || decode(content, model, None, origin);
        let decoded = if is_large { tokio::task::block_in_place(decode) } else { decode() };
        intake.decoded.push(decoded.map_err(Refused::Reply)?);
        Ok(())
    }

    /// A request that lies in a bucket.
    fn refer(
        &self,
        mut message: Message,
        handler: Handler,
        mut reference: Box<Reference>,
        intake: &mut Intake,
    ) -> Result<(), Box<Reply>> {
        let trace = traces::received(&mut message, handler.delivery_attempt());
        let deadline = message.attributes.get("deadline").map(|text| deadline::parse(text)).transpose();
        let ticket = Ticket::new(handler, Arc::clone(&self.metrics), trace);
        let origin = Origin {
            attributes: message.attributes,
            message_id: message.message_id,
            ordering_key: message.ordering_key,
            received_at: Instant::now(),
            deadline: deadline.clone().ok().flatten(),
            delivery: std::mem::take(&mut reference.delivery),
            ticket,
        };
        let resolved = self.models.resolve(origin.attributes.get("model").map(String::as_str));
        let model = match resolved {
            Ok(model) => model,
            Err(rejection) => return Err(Reply::refused(&rejection, reference.id, None, origin).into()),
        };
        if let Err(rejection) = deadline.and_then(deadline::check) {
            return Err(Reply::refused(&rejection, reference.id, Some(model), origin).into());
        }
        let object = reference.object.clone();
        let object = match object.and_then(|object| self.objects.check(&object).map(|()| object)) {
            Ok(object) => object,
            Err(rejection) => {
                return Err(Reply::refused(&rejection, reference.id, Some(model), origin).into());
            }
        };
        let leave = intake.away.leave(&origin.ordering_key);
        intake.fetches.start(&intake.follow, Referred { object, reference, model, origin, leave });
        Ok(())
    }
}

/// Reads a request against the model's signature; `id` is what it has unless the body gives one.
fn decode(
    content: Result<Content<'_>, Rejection>,
    model: Arc<Model>,
    id: Option<Id>,
    mut origin: Origin,
) -> Result<Pending, Box<Reply>> {
    let content = match content {
        Ok(content) => content,
        Err(rejection) => return Err(Reply::refused(&rejection, id, Some(model), origin).into()),
    };
    let wanted_version = origin.attributes.get("model_version").cloned();
    let decoded = content.decode(&model.signature, &LIMITS);
    origin.ticket.trace.decoded();
    match decoded {
        Ok(mut request) => {
            request.answer.id = request.answer.id.or(id);
            Ok(Pending { request, model, wanted_version, origin })
        }
        Err(failure) => {
            Err(Reply::refused(&failure.rejection, failure.id.or(id), Some(model), origin).into())
        }
    }
}

/// What outlives a stream: requests that are in hand or on their way.
struct Intake {
    follow: Arc<Follow>,
    fetches: Fetches,
    /// Ordering keys whose next request is being fetched.
    away: Arc<Away>,
    decoded: Vec<Pending>,
}

enum Refused {
    Reply(Box<Reply>),
    PipelineGone,
}

enum Ended {
    Stopped,
    Closed,
    Failed(google_cloud_pubsub::Error),
    /// The stages behind are gone: the pipeline is failing.
    PipelineGone,
}

/// From a tenth of a second, doubled, with jitter: a clean close is over within a second, an accept-then-reset loop costs little.
fn reconnect_delays() -> impl Iterator<Item = Duration> {
    backoff::ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(30))
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// A bucket's notifications, as hints for the model watch. Runs until `stop`; trouble is logged and tried again.
pub async fn run_updates(
    subscriber: Subscriber,
    subscription: String,
    source: Arc<crate::model::source::Source>,
    hint: Arc<tokio::sync::Notify>,
    stop: CancellationToken,
) {
    let mut delays = reconnect_delays();
    loop {
        let mut stream = subscriber.subscribe(&subscription).build();
        let token = stream.shutdown_token();
        let why = loop {
            let next = tokio::select! {
                next = stream.next() => next,
                () = stop.cancelled() => {
                    drop(stream);
                    token.shutdown().await;
                    return;
                }
            };
            match next {
                Some(Ok((message, handler))) => {
                    delays = reconnect_delays();
                    if announces(&message, &source) {
                        hint.notify_one();
                    }
                    handler.ack();
                }
                Some(Err(error)) => break error.to_string(),
                None => break "the server closed the stream".to_owned(),
            }
        };
        tracing::warn!(
            subscription,
            why,
            "no notifications of model updates for now, the poll finds them meanwhile"
        );
        tokio::select! {
            () = tokio::time::sleep(delays.next().unwrap_or(Duration::from_secs(30))) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Anyone who can publish can forge a notification: it only ever makes the watch look at its own source.
fn announces(message: &Message, source: &crate::model::source::Source) -> bool {
    let attribute = |name: &str| message.attributes.get(name).map(String::as_str);
    match (attribute("bucketId"), attribute("objectId")) {
        (Some(bucket), Some(object)) => source.covers(bucket, object),
        _ => false,
    }
}
