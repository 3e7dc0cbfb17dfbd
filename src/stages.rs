//! The tasks and threads of the pipeline: each under its name, so that one that fails is known.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::telemetry;

/// Of the grace, what the forced end takes: nacks are flushed every tenth of a second.
const NACK_TIME: Duration = Duration::from_secs(1);

/// Each ends by itself once its input has closed.
#[derive(Default)]
pub struct Stages(JoinSet<(String, anyhow::Result<()>)>);

impl Stages {
    pub fn spawn(&mut self, name: &str, stage: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let name = name.to_owned();
        // A panic is caught in a task of its own, so that it is known whose it was.
        self.0.spawn(async move {
            let task = AbortOnDrop(tokio::spawn(stage));
            let ended = task.await;
            (name, ended.unwrap_or_else(|error| Err(anyhow!("panicked: {error}"))))
        });
    }

    pub fn spawn_thread(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
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
    pub async fn supervise(mut self, stop: &CancellationToken, grace: Duration) -> anyhow::Result<()> {
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

/// What a task came to, `None` for one that was aborted; a panic goes on in the caller.
pub fn pass_panic_on<T>(ended: Result<T, JoinError>) -> Option<T> {
    match ended {
        Ok(value) => Some(value),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

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
