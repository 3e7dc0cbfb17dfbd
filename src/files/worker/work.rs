//! The work that one message asks for.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use google_cloud_pubsub::client::BasePublisher;
use google_cloud_pubsub::model::Message as PubsubMessage;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::compute::{Looked, Run, look, watch};
use super::versions::Versions;
use crate::engine::quarantine::Quarantine;
use crate::engine::queue::Entry;
use crate::files::job::{InputChanged, JOB, JobSpec, Plan, Refused, path};
use crate::files::message::{Message, ShardMessage};
use crate::files::store::{Forbidden, Store};
use crate::files::threads::ConcurrencyLimit;
use crate::files::{jobs, marks, summary};
use crate::hint::causes;
use crate::ops::metrics::Metrics;
use crate::reply_to::ReplyTo;

/// Plans jobs and computes shards.
pub struct Worker {
    pub store: Arc<Store>,
    pub versions: Versions,
    pub entry: Arc<Entry<ReplyTo>>,
    pub publisher: BasePublisher,
    /// Full name of the topic that jobs and shards come from.
    pub topic: String,
    pub metrics: Arc<Metrics>,
    /// Chunks that are computed at the same time: no more than inference threads, so that a core is left to those
    /// who wait for an answer.
    pub limit: Arc<ConcurrencyLimit>,
    /// For messages that may have ended the process.
    pub quarantine: Quarantine,
}

/// Settlement of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Done,
    /// Another attempt may succeed, here or on another worker.
    Again,
}

impl Worker {
    /// `attempt`: how often the message was delivered, 0 if nobody counts.
    pub async fn work(
        &self,
        body: &[u8],
        attributes: &HashMap<String, String>,
        attempt: i32,
        stop: &CancellationToken,
    ) -> Done {
        match Message::parse(body, attributes) {
            Ok(Message::Nothing) => Done::Done,
            Ok(Message::Job(job)) => self.job(*job, attempt, stop).await,
            Ok(Message::Shard(shard)) => self.shard(&shard, attempt, stop).await,
            Err(why) => {
                // Nobody can be told: the message names no folder.
                tracing::error!(why, "a message of the batch subscription is no job and is dropped");
                self.metrics.file_job("refused");
                Done::Done
            }
        }
    }

    async fn job(&self, job: JobSpec, attempt: i32, stop: &CancellationToken) -> Done {
        let (model, output) = (job.model.clone(), job.output.clone());
        match self.plan(job, attempt, stop).await {
            Ok(()) => Done::Done,
            Err(_) if stop.is_cancelled() => Done::Again,
            Err(error) if is_final(&error) => {
                tracing::error!(model, output, why = format!("{error:#}"), "a batch job is refused");
                self.metrics.file_job("refused");
                let (store, reason) = (Arc::clone(&self.store), format!("{error:#}"));
                let mark = move || match store.stat(&path(&output, JOB))? {
                    // Another job's folder.
                    Some(_) => Ok(()),
                    None => marks::stop(&store, &output, &reason),
                };
                let marked = spawn_blocking(mark).await;
                if let Ok(Err(error)) = marked {
                    tracing::warn!(
                        why = format!("{error:#}"),
                        "cannot say in the folder why the job is refused"
                    );
                }
                Done::Done
            }
            Err(error) => {
                tracing::warn!(
                    model,
                    output,
                    why = format!("{error:#}"),
                    "a batch job cannot be planned now"
                );
                Done::Again
            }
        }
    }

    async fn plan(&self, job: JobSpec, attempt: i32, stop: &CancellationToken) -> anyhow::Result<()> {
        self.versions.awaited(&job.model, stop).await;
        let newest = self.versions.newest(&job.model).map_err(Refused);
        let model = match &job.model_version {
            Some(version) => self.versions.pinned(&job.model, version, stop).await?,
            None => newest?,
        };
        let (store, metrics) = (Arc::clone(&self.store), Arc::clone(&self.metrics));
        let (plan, missing) = spawn_blocking(move || {
            // A row of the job may have ended the worker that measured the model with it.
            let measures = attempt <= 1;
            // The folder is read before the input, so that a planned job costs little.
            let (plan, is_new) = jobs::plan(&store, job, &model, &metrics, measures)?;
            let (_, missing) = summary::shards(&store, &plan)?;
            if missing.is_empty() {
                summary::finish(&store, &plan)?;
            }
            if is_new {
                metrics.file_job("planned");
                // An earlier job of the folder was refused before it had a plan.
                marks::resume(&store, &plan.job.output)?;
            }
            anyhow::Ok((plan, missing))
        })
        .await??;
        let Plan { job: JobSpec { model, output, max_errors, .. }, model_version, rows, .. } = &plan;
        tracing::info!(model, model_version, output, rows, shards = missing.len(), "a batch job begins");
        let publisher = self.publisher.publisher(&self.topic).build();
        let published = missing.iter().map(|&shard| {
            let message = ShardMessage { job: output.clone(), shard, max_errors: *max_errors };
            let body = serde_json::to_vec(&message).expect("a shard is JSON");
            publisher.publish(PubsubMessage::new().set_data(body))
        });
        let published: Vec<_> = published.collect();
        for sent in published {
            sent.await.context("cannot publish the shards of the job")?;
        }
        Ok(())
    }

    async fn shard(&self, shard: &ShardMessage, attempt: i32, stop: &CancellationToken) -> Done {
        let ShardMessage { job: output, shard: number, .. } = shard;
        match self.compute(shard, attempt, stop).await {
            Ok(Some(outcome)) => {
                self.metrics.file_shard(outcome);
                Done::Done
            }
            Ok(None) => Done::Again,
            Err(_) if stop.is_cancelled() => Done::Again,
            Err(error) if is_final(&error) => {
                tracing::error!(output, shard = number, why = format!("{error:#}"), "a batch job stops");
                self.metrics.file_shard("refused");
                let (store, folder, reason) = (Arc::clone(&self.store), output.clone(), format!("{error:#}"));
                let _ = spawn_blocking(move || marks::stop(&store, &folder, &reason)).await;
                Done::Done
            }
            Err(error) => {
                tracing::warn!(
                    output,
                    shard = number,
                    why = format!("{error:#}"),
                    "a shard of a batch failed for now"
                );
                self.metrics.file_shard("failed");
                Done::Again
            }
        }
    }

    /// None if the worker stops.
    async fn compute(
        &self,
        shard: &ShardMessage,
        attempt: i32,
        stop: &CancellationToken,
    ) -> anyhow::Result<Option<&'static str>> {
        let ShardMessage { job: folder, shard: number, max_errors } = shard.clone();
        let store = Arc::clone(&self.store);
        let looked = spawn_blocking(move || look(&store, &folder, number, attempt)).await??;
        let mut plan = match looked {
            Looked::Compute(plan) => *plan,
            Looked::Nothing(outcome) => return Ok(Some(outcome)),
        };
        plan.job.max_errors = max_errors;
        let model = self.versions.pinned(&plan.job.model, &plan.model_version, stop).await?;
        let own_stop = stop.child_token();
        let watch = watch(Arc::clone(&self.store), plan.job.output.clone(), own_stop.clone());
        let run = Run {
            store: Arc::clone(&self.store),
            entry: Arc::clone(&self.entry),
            metrics: Arc::clone(&self.metrics),
            limit: Arc::clone(&self.limit),
            plan,
            model,
            number,
            attempt,
            stop: own_stop,
        };
        let mut running = spawn_blocking(move || run.run());
        let ended = tokio::select! {
            ended = &mut running => ended,
            () = watch => running.await,
        };
        let ended = ended??;
        Ok(if ended.is_none() && !stop.is_cancelled() { Some("stopped") } else { ended })
    }
}

/// True where no other attempt would end otherwise.
fn is_final(error: &anyhow::Error) -> bool {
    let is_final = |cause: &&(dyn std::error::Error + 'static)| {
        cause.is::<Refused>() || cause.is::<Forbidden>() || InputChanged::is_in(*cause)
    };
    causes(error).iter().any(is_final)
}
