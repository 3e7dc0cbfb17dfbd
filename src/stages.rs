//! The tasks and threads of the pipeline: each under its name, so that one that fails is known.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::ops;

/// Share of the shutdown grace reserved for flushing nacks, which the client sends every tenth of a second.
const NACK_TIME: Duration = Duration::from_secs(1);

/// Each ends by itself once its input has closed.
#[derive(Default)]
pub struct Stages {
    running: JoinSet<(String, anyhow::Result<()>)>,
    at_forced_end: Option<Box<dyn FnOnce() + Send>>,
}

impl Stages {
    pub fn spawn(&mut self, name: &str, stage: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let name = name.to_owned();
        // A panic is caught in a task of its own, so that it is known whose it was.
        self.running.spawn(async move {
            let task = AbortOnDropHandle::new(tokio::spawn(stage));
            let ended = task.await;
            (name, ended.unwrap_or_else(|error| Err(lost(error))))
        });
    }

    /// Nacks what threads hold, which no task can end.
    pub fn at_forced_end(&mut self, give_up: impl FnOnce() + Send + 'static) {
        self.at_forced_end = Some(Box::new(give_up));
    }

    pub fn spawn_thread(&mut self, name: String, body: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
        let (done, ended) = tokio::sync::oneshot::channel();
        let run = move || {
            // The body's senders are dropped before this is sent: the stages behind see their channels close.
            let _ = done.send(catch_unwind(AssertUnwindSafe(body)).map_err(|panic| panicked(&*panic)));
        };
        std::thread::Builder::new().name(name.clone()).spawn(run).context("cannot start a thread")?;
        self.running
            .spawn(async move { (name, ended.await.unwrap_or_else(|_| Err(anyhow!("its thread is gone")))) });
        Ok(())
    }

    /// Waits for every stage, from the first failure or stop on for `grace` at most.
    pub async fn supervise(mut self, stop: &CancellationToken, grace: Duration) -> anyhow::Result<()> {
        let (mut failed, mut ended_early) = (Ok(()), Ok(()));
        let drain_time = grace.saturating_sub(NACK_TIME.min(grace / 2));
        let deadline = async {
            stop.cancelled().await;
            tracing::info!("stopping: requests in flight are finished, nothing more is received");
            tokio::time::sleep(drain_time).await;
        };
        tokio::pin!(deadline);
        loop {
            let ended = tokio::select! {
                ended = self.running.join_next() => ended,
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
        if !self.running.is_empty() {
            tracing::warn!("the grace is over: requests still in flight are nacked");
            self.running.abort_all();
            while self.running.join_next().await.is_some() {}
            // After the tasks, which feed the threads.
            if let Some(give_up) = self.at_forced_end.take() {
                give_up();
            }
            let rest = NACK_TIME.min(grace / 2);
            tokio::join!(tokio::time::sleep(rest), ops::flush(rest));
        }
        // One that ended by itself may only have noticed first that another had failed.
        failed.and(ended_early)
    }
}

fn lost(error: JoinError) -> anyhow::Error {
    match error.try_into_panic() {
        Ok(panic) => panicked(&*panic),
        Err(error) => error.into(),
    }
}

/// The message of a panic: `panic!` gives a string, `panic_any` may give anything.
pub fn panicked(panic: &(dyn Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<&str>().copied();
    match text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)) {
        // On one line, since it becomes the one line that says why the worker ended.
        Some(text) => anyhow!("panicked: {}", text.split_whitespace().collect::<Vec<_>>().join(" ")),
        None => anyhow!("panicked without a text"),
    }
}

fn stage_outcome(ended: Result<(String, anyhow::Result<()>), JoinError>) -> (String, anyhow::Result<()>) {
    let (name, result) = match ended {
        Ok(ended) => ended,
        Err(error) => return (String::new(), Err(lost(error)).context("a stage was lost")),
    };
    let result = match name.as_str() {
        "receive" | "models" | "infer" => result,
        _ => result.with_context(|| format!("the stage `{name}` failed")),
    };
    (name, result)
}

/// The value of a task; `None` for one that was aborted. A panic continues in the caller.
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
        assert_eq!(
            format!("{error:#}"),
            "the stage `infer-0` failed: panicked: a fault injected by the test"
        );
        assert!(stop.is_cancelled());
        assert_eq!((done_in.recv().await, done_in.recv().await), (Some(1), None));
    }

    /// The error of `supervise` when a task that a stage waits for ends so.
    async fn last_words(end: fn(u32)) -> String {
        let mut stages = Stages::default();
        stages.spawn("publish", async move {
            pass_panic_on(tokio::spawn(async move { end(7) }).await);
            Ok(())
        });
        let ended = stages.supervise(&CancellationToken::new(), Duration::from_secs(10)).await;
        format!("{:#}", ended.unwrap_err())
    }

    #[tokio::test]
    async fn the_words_of_a_panic_are_told_on_one_line() {
        assert_eq!(
            last_words(|_| panic!("a plain text")).await,
            "the stage `publish` failed: panicked: a plain text"
        );
        assert_eq!(
            last_words(|number| assert_eq!(number, 8, "of lines")).await,
            "the stage `publish` failed: panicked: assertion `left == right` failed: of lines left: 7 right: 8"
        );
        assert_eq!(
            last_words(|number| std::panic::panic_any(number)).await,
            "the stage `publish` failed: panicked without a text"
        );
    }

    #[tokio::test]
    async fn a_stage_that_ends_by_itself_is_a_failure() {
        let mut stages = Stages::default();
        stages.spawn("batch", async { Ok(()) });
        let ended = stages.supervise(&CancellationToken::new(), Duration::from_secs(10)).await;
        assert_eq!(ended.unwrap_err().to_string(), "the stage `batch` ended by itself");
    }
}
