//! The whole worker: every stage, channel and thread, who owns them, and how they end.
//!
//! ```text
//!  request topic                                                                    response topic
//!       │ streaming pull                                                                   ▲ publish
//!       ▼                                                                                  │
//!   receive ──Vec<Job>──▶ a queue for each model ──Batch──▶ inference threads ──Vec<Reply>─▶ publish ── ack
//!   (decode, fetch)             │ reads                     (run, split, encode)           ▲
//!       │                       ▼                                                          │
//!       └──────────────▶ Models (ArcSwap) ◀── lifecycle::watch ◀── poll, notifications     │
//!       └───────────────── refused: Vec<Reply> ────────────────────────────────────────────┘
//! ```
//!
//! Every request carries its [`Ticket`](crate::pubsub::ticket::Ticket) from receive to publish, which alone
//! acknowledges. **Shutdown is channels closing**: stop -> receive drops its entry to the queues -> what
//! waits is computed and the threads end -> publish drains and acknowledges -> receive's leases finish. What
//! is left at `shutdown.grace` is dropped and so nacked. A stage that fails or panics starts the same drain
//! and makes the exit code non-zero.

use std::sync::Arc;

use futures::FutureExt as _;
use google_cloud_pubsub::client::SubscriptionAdmin;
use google_cloud_pubsub::retry_policy::RetryableErrors;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::engine::batch::Lane;
use crate::engine::budget::Budget;
use crate::engine::job::Response;
use crate::engine::load;
use crate::engine::quarantine::Quarantine;
use crate::engine::queue::{Entry, Limits, Queues};
use crate::files::store::{Bucket, Store};
use crate::files::threads::ConcurrencyLimit;
use crate::files::worker::{Batches, Versions, Worker};
use crate::gcp::probes::Servers;
use crate::gcp::{clients, probes};
use crate::http::Tokens;
use crate::http::predictions::{self, Predictions};
use crate::lifecycle::crashes::Crashes;
use crate::lifecycle::loader::Loader;
use crate::lifecycle::memory;
use crate::lifecycle::not_served::NotServedRegistry;
use crate::lifecycle::reconcile::Shared;
use crate::lifecycle::source::Source;
use crate::lifecycle::watch::Watch;
use crate::model::Models;
use crate::model::onnx::runtime::Runtime;
use crate::objects::Objects;
use crate::ops::health::{Health, Part};
use crate::ops::metrics::Metrics;
use crate::pubsub::delivery::Reply;
use crate::pubsub::flow::Flow;
use crate::pubsub::model_updates;
use crate::pubsub::ordering::Order;
use crate::pubsub::publish::{Large, Publish, topic};
use crate::pubsub::receive::{Receive, Surroundings};
use crate::reply_to::ReplyTo;
use crate::stages::Stages;
use crate::{http, ops};

/// Groups of replies before publish. Small: waiting belongs to Pub/Sub.
const GROUPS: usize = 16;

/// Transports of a worker, beside HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transports {
    /// Requests come over Pub/Sub, and over HTTP where `http.predictions` says so.
    PubSub,
    /// Requests come over HTTP alone.
    HttpAlone,
}

/// Runs the worker until `stop`, or until a stage fails.
pub async fn run(mut config: Config, transports: Transports, stop: CancellationToken) -> anyhow::Result<()> {
    fit_into_container(&mut config.requests.max_outstanding_bytes);
    let metrics = Metrics::new();
    let grace = ops::Grace::from(stop.clone(), config.shutdown.grace);
    ops::otlp::metrics::start(Arc::clone(&metrics), &config.requests.subscription, &config.responses.topic);
    let health = Arc::new(Health::starting(stop.clone()));
    let models = Models::new(config.models.default.clone());
    let not_served = Arc::<NotServedRegistry>::default();

    // Beside each other, since the start waits for all of them: the library is mapped and linked, and every
    // client of a REST interface reads the certificates of the system.
    let runtime = spawn_blocking({
        let inference = config.inference.clone();
        move || Runtime::load(&inference)
    });
    let pubsub = match transports {
        Transports::PubSub => {
            let admin = clients::subscription_admin().await?;
            let servers = tokio::spawn(Servers::connect(admin.clone()));
            Some((admin, servers))
        }
        Transports::HttpAlone => None,
    };
    let source = Source::connect(&config.models.source, &config.models.cache);
    let (runtime, source) = tokio::try_join!(async { runtime.await? }, source)?;
    let (runtime, source) = (Arc::new(runtime.with_max_rows(config.batching.max_rows)), Arc::new(source));
    if let Some((admin, _)) = &pubsub {
        find_subscription(admin, &config.requests.subscription).await?;
    }
    let (admin, servers) = pubsub.unzip();

    let hint = Arc::new(Notify::new());
    let crashes = Crashes::open(source.crashes());
    let loader = Arc::new(Loader::new(Arc::clone(&runtime), config.models.load_timeout, crashes));
    let watch = Watch::new(
        Shared {
            source: Arc::clone(&source),
            models: Arc::clone(&models),
            not_served: Arc::clone(&not_served),
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            loader: Arc::clone(&loader),
        },
        config.models.poll_interval,
        Arc::clone(&hint),
    );

    let mut stages = Stages::default();
    let (replies, replies_in) = mpsc::channel(GROUPS);
    let budget = Budget::new(config.requests.max_outstanding_bytes);
    let limits = Limits { max_rows: config.batching.max_rows, max_wait: config.batching.max_wait };
    let reply = {
        let (replies, metrics) = (replies.clone(), Arc::clone(&metrics));
        Box::new(move |responses| reply(responses, &replies, &metrics))
    };
    let (models_read, health_read) = (Arc::clone(&models), Arc::clone(&health));
    let (queues, entry, mut ended) = Queues::new(models_read, limits, budget.clone(), health_read, reply);
    stages.spawn("infer", async move { ended.recv().await.map_or(Ok(()), Err) });
    let load = tokio::spawn(load::measure(Arc::clone(&queues), Arc::clone(&metrics)));

    let predictions = match config.http.predictions {
        true => {
            let around = predictions::Surroundings {
                models: Arc::clone(&models),
                metrics: Arc::clone(&metrics),
                objects: Objects::connect(&config).await?,
                budget: Budget::new(http_bytes(config.http.max_body)),
                queues: Arc::clone(&queues),
            };
            Some(Arc::new(Predictions::new(&config.http, around, Arc::clone(&entry))))
        }
        false => None,
    };
    let state = http::State {
        health: Arc::clone(&health),
        metrics: Arc::clone(&metrics),
        models: Arc::clone(&models),
        not_served,
    };
    let tokens = config.http.tokens_file.as_deref().map(|path| Tokens::open(path).map(Arc::new));
    let options = http::Options {
        listen: config.http.listen,
        tokens: tokens.transpose()?,
        console: config.http.console,
        stop: stop.clone(),
    };
    // Serves through the drain, so that probes see it.
    let server = http::Server::start(options, state, predictions.clone()).await?;
    if let Some(predictions) = predictions {
        let (stop, sent) = (stop.clone(), server.sent());
        stages.spawn("http", async move {
            stop.cancelled().await;
            predictions.drain().await;
            sent.await;
            Ok(())
        });
    }
    stages.at_forced_end(move || queues.give_up());

    let mut batches = None;
    let receiver = match admin {
        Some(admin) => {
            if let Some(subscription) = &config.files.subscription {
                let versions = Versions::new(Arc::clone(&models), Arc::clone(&source), loader);
                let around = (versions, Arc::clone(&entry), Arc::clone(&metrics));
                batches = Some(files(&config, &admin, subscription, around).await?);
            }
            let flow = Flow::new(config.requests.max_outstanding_messages, Arc::clone(&metrics));
            let (publish, order) = publish(&config, &flow, &metrics, &health).await?;
            stages.spawn("publish", async move {
                publish.run(replies_in).await;
                Ok(())
            });
            let around = Surroundings {
                models: Arc::clone(&models),
                objects: Objects::connect(&config).await?,
                order,
                metrics: Arc::clone(&metrics),
                health: Arc::clone(&health),
                budget,
                flow,
                max_rows: config.batching.max_rows,
                subscription: config.requests.subscription.clone(),
                submit: Box::new(move |jobs| entry.submit(Lane::Online, jobs)),
                replies,
            };
            let (subscriber, requests) = (clients::subscriber().await?, config.requests.clone());
            Some(Receive { subscriber, admin, config: requests, around: Arc::new(around) })
        }
        None => {
            drop((entry, replies));
            for part in [Part::Requests, Part::Topic] {
                health.works(part);
            }
            None
        }
    };
    if let Some(updates) = config.models.updates.clone() {
        let listen = model_updates::run(clients::subscriber().await?, updates, source, hint, stop.clone());
        stages.spawn("model updates", async move {
            listen.await;
            Ok(())
        });
    }
    // Beside the start, which does not wait for them. Nothing fails from here on, so the reason why a start
    // failed is the last line of its log.
    let checks = match servers {
        Some(servers) => Some(check(servers.await??, config.clone(), health)),
        None => None,
    };
    // Models first: what is received must find something to run on.
    let (serving, is_serving) = tokio::sync::oneshot::channel();
    stages.spawn("models", {
        let stop = stop.clone();
        async move {
            let started = || {
                let _ = serving.send(());
            };
            watch.run(stop, started).await;
            Ok(())
        }
    });
    let is_serving = is_serving.shared();
    if let Some(batches) = batches {
        let (stop, is_serving) = (stop.clone(), is_serving.clone());
        stages.spawn("batches", async move {
            if is_serving.await.is_ok() {
                batches.run(stop).await;
            }
            Ok(())
        });
    }
    if let Some(receiver) = receiver {
        let stop = stop.clone();
        stages.spawn("receive", async move {
            // An error means that the models' stage ended first; it says why.
            if is_serving.await.is_ok() { receiver.run(stop).await } else { Ok(()) }
        });
    }

    let ended = stages.supervise(&stop, config.shutdown.grace).await;
    grace.flush().await;
    checks.inspect(JoinHandle::abort);
    load.abort();
    drop(server);
    ended
}

/// Says how the request subscription is set up, which must exist.
async fn find_subscription(admin: &SubscriptionAdmin, subscription: &str) -> anyhow::Result<()> {
    if let Some(found) = probes::request_subscription(admin, subscription).await? {
        tracing::info!(
            subscription,
            exactly_once = found.enable_exactly_once_delivery,
            ordering = found.enable_message_ordering,
            dead_letters = found.dead_letter_policy.is_some(),
            "the request subscription"
        );
    }
    Ok(())
}

/// The stage that publishes, and the order of its responses.
async fn publish(
    config: &Config,
    flow: &Arc<Flow>,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> anyhow::Result<(Publish, Arc<Order>)> {
    let order = Arc::<Order>::default();
    let large = Large::connect(&config.responses).await?;
    let (topic, requests) = (&config.responses.topic, &config.requests);
    let (flow, metrics, health) = (Arc::clone(flow), Arc::clone(metrics), Arc::clone(health));
    let publish = Publish::new(topic, requests, flow, large, Arc::clone(&order), metrics, health).await?;
    Ok((publish, order))
}

/// The stage that takes jobs and shards of batches. Its subscription's topic gets the shards.
async fn files(
    config: &Config,
    admin: &SubscriptionAdmin,
    subscription: &str,
    (versions, entry, metrics): (Versions, Arc<Entry<ReplyTo>>, Arc<Metrics>),
) -> anyhow::Result<Batches> {
    let topic = probes::topic_of(admin, subscription).await?;
    let store = Store {
        bucket: Some(Bucket::connect().await?),
        allowed: Some(config.files.allowed_buckets.clone()),
        has_files: false,
    };
    let worker = Worker {
        store: Arc::new(store),
        versions,
        entry,
        publisher: clients::publisher(RetryableErrors).await?,
        topic,
        metrics,
        limit: Arc::new(ConcurrencyLimit::new(config.inference.threads)),
        quarantine: Quarantine::starting(),
    };
    let subscriber = clients::subscriber().await?;
    Ok(Batches { subscriber, subscription: subscription.to_owned(), worker: Arc::new(worker) })
}

/// Checks the configured resources, and watches the response topic until it is there.
fn check(servers: Servers, config: Config, health: Arc<Health>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let watched = topic::watch(servers.clone(), probes::response_topic(&config), &health);
        tokio::join!(watched, probes::log(servers, config.clone()));
    })
}

/// Bytes of requests over HTTP in flight: beside those of Pub/Sub, since a full queue of one transport must
/// not stop the other. In a container at most an eighth of its memory.
fn http_bytes(max_body: usize) -> usize {
    let limit = memory::limit().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    (2 * max_body).min(limit / 8)
}

/// Hands the responses of a batch to the transports that their requests came over. Called on an inference
/// thread.
fn reply(responses: Vec<Response<ReplyTo>>, replies: &mpsc::Sender<Vec<Reply>>, metrics: &Metrics) {
    let mut published = Vec::with_capacity(responses.len());
    for response in responses {
        let (response, reply_to) = response.split();
        match reply_to {
            ReplyTo::PubSub(delivery) => {
                let Response { outcome, id, model, origin } = response;
                let response = Response { outcome, id, model, origin: origin.map(|()| delivery) };
                published.extend(Reply::of(response, metrics));
            }
            // Dropped when the client is gone.
            ReplyTo::Caller(waiter) => drop(waiter.send(response)),
        }
    }
    if !published.is_empty() {
        // Nobody publishes any more: the worker ends, and the requests are nacked.
        let _ = replies.blocking_send(published);
    }
}

/// Lowers the budget of bytes to a quarter of what a container allows: what is in flight takes twice the
/// budget at times, and models need memory, too.
fn fit_into_container(bytes: &mut usize) {
    let Some(limit) = memory::limit().and_then(|limit| usize::try_from(limit).ok()) else { return };
    if limit / 4 < *bytes {
        tracing::info!(
            configured = *bytes,
            bytes = limit / 4,
            container = limit,
            "`requests.max_outstanding_bytes` is lowered to a quarter of the container's memory"
        );
        *bytes = limit / 4;
    }
}
