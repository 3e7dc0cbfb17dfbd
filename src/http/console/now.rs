//! `/console/now.json`: the last ten minutes, and whether the models are still the same.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Instant;

use serde::Serialize;

use crate::http::state::State;
use crate::ops::recent::{OfVersion, STEP, Summary};

#[derive(Serialize)]
pub(super) struct Now {
    build: &'static str,
    /// Name of the machine or container: several replicas may answer behind one address.
    replica: String,
    predictions: bool,
    not_ready_because: Vec<String>,
    /// Changes when a model does; the page then reads `/info` again.
    models: String,
    /// Seconds of a step.
    step: u64,
    /// Complete steps of what was asked for, oldest first.
    steps: Vec<Summary>,
    queue_seconds: f64,
    in_flight: i64,
    versions: Vec<OfVersion>,
}

pub(super) fn now(state: &State, predictions: bool, model: Option<&str>, version: Option<&str>) -> Now {
    let (now, recent) = (Instant::now(), &state.metrics.recent);
    Now {
        build: env!("CARGO_PKG_VERSION"),
        replica: replica(),
        predictions,
        not_ready_because: state.health.troubles(),
        models: fingerprint(state),
        step: STEP.as_secs(),
        steps: recent.steps(model, version, now),
        queue_seconds: state.metrics.queue_seconds.get(),
        in_flight: state.metrics.messages_in_flight.get(),
        versions: recent.versions(now),
    }
}

fn replica() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn fingerprint(state: &State) -> String {
    let mut hasher = DefaultHasher::new();
    for (name, model) in &*state.models.serving() {
        (name, &model.version, model.loaded_at).hash(&mut hasher);
    }
    format!("{:?}", state.not_served.by_model()).hash(&mut hasher);
    format!("{:x}", hasher.finish())
}
