//! Observability: logs, health, metrics and traces.
//!
//! Logs, health and `/metrics` are always on. [`otlp`] exports metrics and the spans of [`traces`] and
//! [`reload_spans`] once OpenTelemetry's standard variables name an endpoint. Without one a message costs one
//! load of a flag: no clock is read and nothing is allocated.

pub mod health;
pub mod log_limits;
pub mod logs;
pub mod metrics;
pub mod openmetrics;
pub mod otlp;
pub mod recent;
pub mod reload_spans;
pub mod request_log;
mod sampling;
pub mod trace_context;
pub mod traces;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Sets traces up, after [`logs`]. Spans bear the names of the subscription and the topic.
pub fn init(subscription: &str, topic: &str) {
    match otlp::spans::start() {
        Ok(Some(provider)) => traces::start(provider, subscription, topic),
        Ok(None) => {}
        // The worker runs without traces: predictions matter more.
        Err(error) => tracing::error!(error = format!("{error:#}"), "no traces will be exported"),
    }
}

/// The shutdown grace, from the moment when the worker is asked to stop: the last export gets what is left of
/// it.
#[derive(Debug)]
pub struct Grace {
    stop: CancellationToken,
    end: tokio::task::JoinHandle<Instant>,
}

impl Grace {
    /// Counts `grace` from `stop`.
    pub fn from(stop: CancellationToken, grace: Duration) -> Self {
        let stopped = stop.clone().cancelled_owned();
        let end = tokio::spawn(async move {
            stopped.await;
            Instant::now() + grace
        });
        Self { stop, end }
    }

    /// Exports what is not exported yet, within the rest of the grace. Nothing is recorded afterwards.
    pub async fn flush(self) {
        self.stop.cancel();
        let end = self.end.await;
        flush(end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()))).await;
    }
}

/// Exports what is not exported yet, within `limit`. Traces are exported by the first call only.
pub async fn flush(limit: Duration) {
    // After `limit` the blocking thread is abandoned; it ends with the process.
    let traces = tokio::task::spawn_blocking(move || traces::shut_down(limit));
    let _ = tokio::time::timeout(limit, futures::future::join(traces, otlp::metrics::push_now())).await;
}
