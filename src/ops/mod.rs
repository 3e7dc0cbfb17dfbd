//! What operators see of the worker from outside, beside `/metrics`: logs, and by OTLP traces and metrics.
//!
//! [`logs`] always; [`traces`], [`reload`] and [`push`] once an endpoint is set by OpenTelemetry's standard variables. Without one
//! a message costs a single load of a flag: no clock is read and nothing allocated.

mod collector;
pub mod context;
mod export;
pub mod health;
pub mod log_limits;
pub mod logs;
pub mod metrics;
mod openmetrics;
pub mod push;
pub mod reload;
pub mod requests;
mod sampling;
pub mod traces;
mod variables;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Sets traces up, after [`logs`]. The names of the subscription and the topic are those of the spans.
pub fn init(subscription: &str, topic: &str) {
    match export::start() {
        Ok(Some(provider)) => traces::start(provider, subscription, topic),
        Ok(None) => {}
        // Predictions matter more than the view of them.
        Err(error) => tracing::error!(error = format!("{error:#}"), "no traces will be exported"),
    }
}

/// When the worker was asked to stop, and so how much of its grace is left for the last export.
#[derive(Debug)]
pub struct Grace {
    stop: CancellationToken,
    over: tokio::task::JoinHandle<Instant>,
}

impl Grace {
    /// Watches `stop`, from which on `grace` counts.
    pub fn from(stop: CancellationToken, grace: Duration) -> Self {
        let stopped = stop.clone().cancelled_owned();
        let over = tokio::spawn(async move {
            stopped.await;
            Instant::now() + grace
        });
        Self { stop, over }
    }

    /// Exports what is still held, within what is left of the grace. Nothing is recorded afterwards.
    pub async fn flush(self) {
        self.stop.cancel();
        let over = self.over.await;
        flush(over.map_or(Duration::ZERO, |over| over.saturating_duration_since(Instant::now()))).await;
    }
}

/// Exports what is still held, within `limit`. The first call counts.
pub async fn flush(limit: Duration) {
    // Past the limit the thread that exports is left behind; it ends with the process.
    let traces = tokio::task::spawn_blocking(move || traces::shut_down(limit));
    let _ = tokio::time::timeout(limit, futures::future::join(traces, push::last())).await;
}
