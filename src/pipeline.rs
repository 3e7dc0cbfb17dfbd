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

use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::engine::batch::Lane;
use crate::engine::budget::Budget;
use crate::engine::job::Response;
use crate::engine::queue::{Limits, Queues};
use crate::gcp::probes::Servers;
use crate::gcp::{clients, probes};
use crate::lifecycle::crashes::Crashes;
use crate::lifecycle::loader::Loader;
use crate::lifecycle::memory;
use crate::lifecycle::not_served::NotServedRegistry;
use crate::lifecycle::reconcile::Shared;
use crate::lifecycle::source::Source;
use crate::lifecycle::watch::Watch;
use crate::model::Models;
use crate::model::onnx::runtime::Runtime;
use crate::ops::health::Health;
use crate::ops::metrics::Metrics;
use crate::pubsub::delivery::Reply;
use crate::pubsub::model_updates;
use crate::pubsub::objects::Objects;
use crate::pubsub::ordering::Order;
use crate::pubsub::publish::{Large, Publish, topic};
use crate::pubsub::receive::{Receive, Surroundings};
use crate::reply_to::ReplyTo;
use crate::stages::Stages;
use crate::{http, ops};

/// Groups of replies before publish. Small: waiting belongs to Pub/Sub.
const GROUPS: usize = 16;

/// Runs the worker until `stop`, or until a stage fails.
pub async fn run(mut config: Config, stop: CancellationToken) -> anyhow::Result<()> {
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
    let admin = clients::subscription_admin().await?;
    let servers = tokio::spawn(Servers::connect(admin.clone()));
    let source = Source::connect(&config.models.source, &config.models.cache);
    let (runtime, source) = tokio::try_join!(async { runtime.await? }, source)?;
    let (runtime, source) = (Arc::new(runtime.with_max_rows(config.batching.max_rows)), Arc::new(source));
    if let Some(found) = probes::request_subscription(&admin, &config.requests.subscription).await? {
        tracing::info!(
            subscription = config.requests.subscription,
            exactly_once = found.enable_exactly_once_delivery,
            ordering = found.enable_message_ordering,
            dead_letters = found.dead_letter_policy.is_some(),
            "the request subscription"
        );
    }

    let hint = Arc::new(Notify::new());
    let crashes = Crashes::open(source.crashes());
    let watch = Watch::new(
        Shared {
            source: Arc::clone(&source),
            models: Arc::clone(&models),
            not_served: Arc::clone(&not_served),
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            loader: Loader::new(Arc::clone(&runtime), config.models.load_timeout, crashes),
        },
        config.models.poll_interval,
        Arc::clone(&hint),
    );

    let mut stages = Stages::default();
    let (replies, replies_in) = mpsc::channel(GROUPS);

    let state = http::State {
        health: Arc::clone(&health),
        metrics: Arc::clone(&metrics),
        models: Arc::clone(&models),
        not_served,
    };
    // Serves through the drain, so that probes see it.
    let _http = http::Server::start(config.http.listen, state).await?;

    let order = Arc::<Order>::default();
    let large = Large::connect(&config.responses).await?;
    let (topic, publish_order) = (&config.responses.topic, Arc::clone(&order));
    let publish = Publish::new(
        topic,
        &config.requests,
        large,
        publish_order,
        Arc::clone(&metrics),
        Arc::clone(&health),
    )
    .await?;
    stages.spawn("publish", async move {
        publish.run(replies_in).await;
        Ok(())
    });

    let budget = Budget::new(config.requests.max_outstanding_bytes);
    let limits = Limits { max_rows: config.batching.max_rows, max_wait: config.batching.max_wait };
    let reply = {
        let (replies, metrics) = (replies.clone(), Arc::clone(&metrics));
        Box::new(move |responses| reply(responses, &replies, &metrics))
    };
    let (models_read, health_read) = (Arc::clone(&models), Arc::clone(&health));
    let (queues, entry, mut ended) = Queues::new(models_read, limits, budget.clone(), health_read, reply);
    stages.spawn("infer", async move { ended.recv().await.map_or(Ok(()), Err) });
    stages.at_forced_end(move || queues.give_up());

    let checked = config.clone();
    let around = Surroundings {
        models: Arc::clone(&models),
        objects: Objects::connect(&config).await?,
        order,
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        budget,
        submit: Box::new(move |jobs| entry.submit(Lane::Online, jobs)),
        replies,
    };
    let receiver = Receive {
        subscriber: clients::subscriber().await?,
        admin,
        config: config.requests,
        around: Arc::new(around),
    };
    if let Some(updates) = config.models.updates {
        let listen = model_updates::run(clients::subscriber().await?, updates, source, hint, stop.clone());
        stages.spawn("model updates", async move {
            listen.await;
            Ok(())
        });
    }
    // Beside the start, which does not wait for them. Nothing fails from here on, so the reason why a start
    // failed is the last line of its log.
    let servers = servers.await??;
    let checks = tokio::spawn(async move {
        let watched = topic::watch(servers.clone(), probes::response_topic(&checked), &health);
        tokio::join!(watched, probes::log(servers, checked.clone()));
    });
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
    stages.spawn("receive", {
        let stop = stop.clone();
        async move {
            // An error means that the models' stage ended first; it says why.
            if is_serving.await.is_ok() { receiver.run(stop).await } else { Ok(()) }
        }
    });

    let ended = stages.supervise(&stop, config.shutdown.grace).await;
    grace.flush().await;
    checks.abort();
    ended
}

/// Hands the responses of a batch to the transports that their requests came over. Called on an inference
/// thread.
fn reply(responses: Vec<Response<ReplyTo>>, replies: &mpsc::Sender<Vec<Reply>>, metrics: &Metrics) {
    let published = responses.into_iter().filter_map(|Response { outcome, id, model, origin }| {
        let origin = origin.map(|ReplyTo::PubSub(delivery)| delivery);
        Reply::of(Response { outcome, id, model, origin }, metrics)
    });
    // Nobody publishes any more: the worker ends, and the requests are nacked.
    let _ = replies.blocking_send(published.collect());
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
