//! The whole worker: every stage, channel and task, who owns them, and how they end.
//!
//! ```text
//!  request topic                                                                       response topic
//!       │ streaming pull                                                                     ▲ publish
//!       ▼                                                                                    │
//!   receive ──Vec<Pending>──▶ batch ──Batch──▶ infer ×threads ──Vec<Reply>──────────────▶ publish ── ack
//!   (decode, fetch)             │ reads            (named threads: run, split, encode)       ▲
//!       │                       ▼                                                            │
//!       └──────────────▶ Models (ArcSwap) ◀── model::watch ◀── poll, bucket's notifications  │
//!       └───────────────── refused: Vec<Reply> ──────────────────────────────────────────────┘
//! ```
//!
//! Every message carries its [`Ticket`](crate::engine::job::Ticket) from receive to publish, which alone acknowledges.
//! **Shutdown is channels closing**: stop -> receive drops its senders -> batch flushes -> infer ends -> publish drains and
//! acknowledges -> receive's leases finish. What is left at `shutdown.grace` is dropped and so nacked. A stage that fails or
//! panics starts the same drain and makes the exit code non-zero.

use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::engine::budget::Budget;
use crate::engine::{batch, predict};
use crate::gcp::clients;
use crate::gcp::probes;
use crate::gcp::probes::Servers;
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
use crate::pubsub::objects::Objects;
use crate::pubsub::ordering::Order;
use crate::pubsub::publish::{Large, Publish, topic};
use crate::pubsub::receive::Receive;
use crate::pubsub::{model_updates, receive};
use crate::stages::Stages;
use crate::{http, ops};

/// Groups of requests between receive and batch, and of replies before publish. Small: waiting belongs to Pub/Sub.
const GROUPS: usize = 16;

/// Runs the worker until `stop`, or until a stage fails.
pub async fn run(mut config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    fit_into_container(&mut config.requests.max_outstanding_bytes);
    let metrics = Metrics::new();
    let grace = ops::Grace::from(stop.clone(), config.shutdown.grace);
    ops::push::start(Arc::clone(&metrics), &config.requests.subscription, &config.responses.topic);
    let health = Arc::new(Health::starting(stop.clone()));
    let models = Models::new(config.models.default.clone());
    let not_served = Arc::<NotServedRegistry>::default();

    let runtime = Arc::new(Runtime::load(&config.inference)?.with_max_rows(config.batching.max_rows));
    let source = Arc::new(Source::connect(&config.models.source, &config.models.cache).await?);
    let admin = clients::subscription_admin().await?;
    if let Some(found) = receive::check_subscription(&admin, &config.requests.subscription).await? {
        tracing::info!(
            subscription = config.requests.subscription,
            exactly_once = found.enable_exactly_once_delivery,
            ordering = found.enable_message_ordering,
            dead_letters = found.dead_letter_policy.is_some(),
            "the request subscription"
        );
    }

    // Beside the start, which does not wait for them.
    let checks = tokio::spawn({
        let (servers, config, health) = (Servers::connect().await?, config.clone(), Arc::clone(&health));
        let topic = probes::response_topic(&config);
        async move {
            let rights = probes::log(servers.clone(), config);
            tokio::join!(rights, topic::watch(servers, topic, &health));
        }
    });

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
    let (requests, requests_in) = mpsc::channel(GROUPS);
    let (batches, batches_in) = mpsc::channel(1);
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

    let batches_in = Arc::new(Mutex::new(batches_in));
    let running: Vec<Arc<predict::Running>> = (0..runtime.threads()).map(|_| Arc::default()).collect();
    for (thread, running) in running.iter().enumerate() {
        let (batches_in, replies, running) = (Arc::clone(&batches_in), replies.clone(), Arc::clone(running));
        let name = format!("infer-{thread}");
        let pulse = health.pulse(&name);
        stages.spawn_thread(name, move || {
            predict::run(thread, &pulse, &batches_in, &replies, &running);
        })?;
    }
    // The threads alone keep it open.
    let queued = Arc::downgrade(&batches_in);
    drop(batches_in);
    stages.at_forced_end(move || {
        running.iter().for_each(|running| running.give_up());
        // Held by a thread that waits for a batch: then there is none.
        if let Some(queued) = queued.upgrade()
            && let Ok(mut queued) = queued.try_lock()
        {
            while queued.try_recv().is_ok() {}
        }
    });

    let limits = batch::Limits { max_rows: config.batching.max_rows, max_wait: config.batching.max_wait };
    let budget = Budget::new(config.requests.max_outstanding_bytes);
    let form_batches =
        batch::run(requests_in, batches, Arc::clone(&models), limits, budget.clone(), health.pulse("batch"));
    stages.spawn("batch", async move {
        form_batches.await;
        Ok(())
    });

    let objects = Arc::new(Objects::connect(&config).await?);
    let receiver = Receive {
        subscriber: clients::subscriber().await?,
        admin,
        config: config.requests,
        budget,
        models: Arc::clone(&models),
        objects,
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        order,
        requests,
        replies,
    };
    if let Some(updates) = config.models.updates {
        let listen = model_updates::run(clients::subscriber().await?, updates, source, hint, stop.clone());
        stages.spawn("model updates", async move {
            listen.await;
            Ok(())
        });
    }
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

/// Lowers the budget of bytes to a quarter of what a container allows: what is in flight takes twice the budget at times, and models
/// need memory, too.
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
