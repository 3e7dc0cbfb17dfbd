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
//! Every message carries its [`Ticket`](crate::message::Ticket) from receive to publish, which alone acknowledges.
//! **Shutdown is channels closing**: stop -> receive drops its senders -> batch flushes -> infer ends -> publish drains and
//! acknowledges -> receive's leases finish. What is left at `shutdown.grace` is dropped and so nacked. A stage that fails or
//! panics starts the same drain and makes the exit code non-zero.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::health::{Health, Part};
use crate::metrics::Metrics;
use crate::model::Models;
use crate::model::runtime::Runtime;
use crate::model::source::Source;
use crate::model::watch::{Judged, Watch};
use crate::order::Order;
use crate::publish::{Large, Publish};
use crate::receive::{self, Receive, updates};
use crate::reference::Objects;
use crate::{batch, google, http, infer, telemetry};

/// Groups of requests between receive and batch, and of replies before publish. Small: waiting belongs to Pub/Sub.
const GROUPS: usize = 16;
/// Of the grace, what the forced end takes: nacks are flushed every tenth of a second.
const NACK_TIME: Duration = Duration::from_secs(1);

/// Runs the worker until `stop`, or until a stage fails.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let grace = telemetry::Grace::from(stop.clone(), config.shutdown.grace);
    telemetry::push::start(Arc::clone(&metrics), &config.requests.subscription, &config.responses.topic);
    let health = Arc::new(Health::starting());
    let models = Models::new(config.models.default.clone());

    let runtime = Arc::new(Runtime::load(&config.inference)?);
    let source = Arc::new(Source::connect(&config.models.source, &config.models.cache).await?);
    let admin = google::subscription_admin().await?;
    if let Some(found) = receive::check_subscription(&admin, &config.requests.subscription).await? {
        tracing::info!(
            subscription = config.requests.subscription,
            exactly_once = found.enable_exactly_once_delivery,
            ordering = found.enable_message_ordering,
            dead_letters = found.dead_letter_policy.is_some(),
            "the request subscription"
        );
    }

    let hint = Arc::new(Notify::new());
    let mut watch = Watch {
        source: Arc::clone(&source),
        runtime: Arc::clone(&runtime),
        models: Arc::clone(&models),
        metrics: Arc::clone(&metrics),
        poll_interval: config.models.poll_interval,
        hint: Arc::clone(&hint),
        judged: Judged::default(),
    };

    let mut stages = Stages::default();
    let (requests, requests_in) = mpsc::channel(GROUPS);
    let (batches, batches_in) = mpsc::channel(1);
    let (replies, replies_in) = mpsc::channel(GROUPS);

    let state = http::State {
        health: Arc::clone(&health),
        metrics: Arc::clone(&metrics),
        models: Arc::clone(&models),
    };
    let server = http::bind(config.http.listen).await?;
    // Serves through the drain, so that probes see it; ends with the runtime.
    let http = tokio::spawn(http::serve(server, state));

    let order = Arc::<Order>::default();
    let large = Large::connect(&config.responses).await?;
    let (topic, publish_order) = (&config.responses.topic, Arc::clone(&order));
    let publish =
        Publish::new(topic, large, publish_order, Arc::clone(&metrics), Arc::clone(&health)).await?;
    stages.spawn("publish", async move {
        publish.run(replies_in).await;
        Ok(())
    });

    let batches_in = Arc::new(Mutex::new(batches_in));
    for thread in 0..runtime.threads() {
        let (batches_in, replies) = (Arc::clone(&batches_in), replies.clone());
        let name = format!("infer-{thread}");
        let pulse = health.pulse(&name);
        stages.spawn_thread(name, move || infer::run(thread, &pulse, &batches_in, &replies))?;
    }
    drop(batches_in);

    let limits = batch::Limits { max_rows: config.batching.max_rows, max_wait: config.batching.max_wait };
    let form_batches =
        batch::run(requests_in, batches, replies.clone(), Arc::clone(&models), limits, health.pulse("batch"));
    stages.spawn("batch", async move {
        form_batches.await;
        Ok(())
    });

    let objects = Arc::new(Objects::connect(&config).await?);
    let receiver = Receive {
        subscriber: google::subscriber().await?,
        admin,
        config: config.requests,
        models: Arc::clone(&models),
        objects,
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        order,
        requests,
        replies,
    };
    if let Some(updates) = config.models.updates {
        let listen = updates::run(google::subscriber().await?, updates, source, hint, stop.clone());
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
            tokio::select! {
                served = first_model(&mut watch, &models) => served?,
                () = stop.cancelled() => return Ok(()),
            }
            health.works(Part::Models);
            let _ = serving.send(());
            watch.run(stop).await;
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
    http.abort();
    ended
}

/// Reconciles until at least one model serves.
async fn first_model(watch: &mut Watch, models: &Models) -> anyhow::Result<()> {
    watch.reconcile().await.context("cannot load the models")?;
    let mut said = false;
    while models.serving().is_empty() {
        if !said {
            tracing::error!(
                "no model can serve yet, waiting for one; `/info` says why the versions found do not"
            );
            said = true;
        }
        tokio::select! {
            () = watch.hint.notified() => {}
            () = tokio::time::sleep(watch.poll_interval) => {}
        }
        if let Err(error) = watch.reconcile().await {
            tracing::warn!(error = format!("{error:#}"), "cannot look for new model versions");
        }
    }
    Ok(())
}

/// The tasks and threads of the pipeline. Each ends by itself once its input has closed.
#[derive(Default)]
struct Stages(JoinSet<(String, anyhow::Result<()>)>);

impl Stages {
    fn spawn(&mut self, name: &str, stage: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let name = name.to_owned();
        // A panic is caught in a task of its own, so that it is known whose it was.
        self.0.spawn(async move {
            let task = AbortOnDrop(tokio::spawn(stage));
            let ended = task.await;
            (name, ended.unwrap_or_else(|error| Err(anyhow!("panicked: {error}"))))
        });
    }

    fn spawn_thread(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        let (done, ended) = tokio::sync::oneshot::channel();
        let run = move || {
            body();
            let _ = done.send(());
        };
        std::thread::Builder::new().name(name.clone()).spawn(run).context("cannot start a thread")?;
        self.0.spawn(async move { (name, ended.await.map_err(|_| anyhow!("panicked"))) });
        Ok(())
    }

    /// Waits for every stage, from the first failure or stop on for `grace` at most.
    async fn supervise(mut self, stop: &CancellationToken, grace: Duration) -> anyhow::Result<()> {
        let (mut failed, mut ended_early) = (Ok(()), Ok(()));
        let drain_time = grace.saturating_sub(NACK_TIME.min(grace / 2));
        let deadline = async {
            stop.cancelled().await;
            tracing::info!("stopping: what is in hand is finished, nothing more is received");
            tokio::time::sleep(drain_time).await;
        };
        tokio::pin!(deadline);
        loop {
            let ended = tokio::select! {
                ended = self.0.join_next() => ended,
                () = &mut deadline => break,
            };
            let Some(ended) = ended else { break };
            match stage_outcome(ended) {
                (_, Err(error)) => failed = failed.and(Err(error)),
                (name, Ok(())) if !stop.is_cancelled() => {
                    ended_early = Err(anyhow!("the stage `{name}` ended by itself"));
                }
                _ => {}
            }
            stop.cancel();
        }
        if !self.0.is_empty() {
            tracing::warn!("the grace is over: what is still in hand goes back to Pub/Sub");
            self.0.abort_all();
            while self.0.join_next().await.is_some() {}
            let rest = NACK_TIME.min(grace / 2);
            tokio::join!(tokio::time::sleep(rest), telemetry::flush(rest));
        }
        // One that ended by itself may only have noticed first that another had failed.
        failed.and(ended_early)
    }
}

fn stage_outcome(ended: Result<(String, anyhow::Result<()>), JoinError>) -> (String, anyhow::Result<()>) {
    let (name, result) = match ended {
        Ok(ended) => ended,
        Err(error) => return (String::new(), Err(error).context("a stage was lost")),
    };
    let result = match name.as_str() {
        "receive" | "models" => result,
        _ => result.with_context(|| format!("the stage `{name}` failed")),
    };
    (name, result)
}

/// A task that ends with its owner.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One stage panics; those behind it end as their channel closes, with what was in it.
    #[tokio::test]
    async fn a_panic_drains_the_rest_and_names_the_stage() {
        let stop = CancellationToken::new();
        let mut stages = Stages::default();
        let (work, mut work_in) = mpsc::channel(4);
        let (done, mut done_in) = mpsc::channel(4);
        stages
            .spawn_thread("infer-0".to_owned(), move || {
                let _ = work.blocking_send(1);
                panic!("a fault injected by the test");
            })
            .unwrap();
        stages.spawn("publish", async move {
            while let Some(item) = work_in.recv().await {
                let _ = done.send(item).await;
            }
            Ok(())
        });
        let error = stages.supervise(&stop, Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "the stage `infer-0` failed: panicked");
        assert!(stop.is_cancelled());
        assert_eq!((done_in.recv().await, done_in.recv().await), (Some(1), None));
    }

    #[tokio::test]
    async fn a_stage_that_ends_by_itself_is_a_failure() {
        let mut stages = Stages::default();
        stages.spawn("batch", async { Ok(()) });
        let ended = stages.supervise(&CancellationToken::new(), Duration::from_secs(10)).await;
        assert_eq!(ended.unwrap_err().to_string(), "the stage `batch` ended by itself");
    }
}
