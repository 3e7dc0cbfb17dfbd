//! `/info`: the models, their versions and signatures, and why other versions are not in service.

use std::collections::BTreeMap;

use serde::Serialize;

use super::state::State;
use crate::lifecycle::listing::IgnoredPath;
use crate::lifecycle::not_served::NotServed;
use crate::model::Model;
use crate::rfc3339;
use crate::tensor::signature::{TensorSpec, ValueKind};

#[derive(Serialize)]
struct Info {
    name: &'static str,
    version: &'static str,
    ready: bool,
    not_ready_because: Vec<String>,
    models: BTreeMap<String, ModelInfo>,
    /// Files and folders of the models' source that are no part of a version.
    ignored: Vec<IgnoredPath>,
}

#[derive(Serialize, Default)]
struct ModelInfo {
    serving: Option<VersionInfo>,
    #[serde(flatten)]
    not_served: NotServed,
}

/// A loaded version in `/info` and `inspect --json`.
#[derive(Debug, Serialize)]
pub struct VersionInfo {
    version: String,
    from: String,
    /// RFC 3339, in UTC.
    loaded_at: String,
    inputs: Vec<TensorInfo>,
    outputs: Vec<TensorInfo>,
    columns: Option<Vec<String>>,
    /// The reason why requests share calls, or why they do not.
    batching: String,
    sessions: String,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct TensorInfo {
    name: String,
    datatype: &'static str,
    /// Lengths; free dimensions are -1, as in the Open Inference Protocol.
    shape: Vec<i64>,
    /// The type of a value that is no plain tensor, such as `map(string, float32)`; `datatype` is that of its
    /// values.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}

impl VersionInfo {
    pub fn of(model: &Model) -> Self {
        let tensors = |specs: &[TensorSpec]| specs.iter().map(TensorInfo::of).collect();
        Self {
            version: model.version.to_string(),
            from: model.from.clone(),
            loaded_at: rfc3339::format(model.loaded_at),
            inputs: tensors(&model.signature.inputs),
            outputs: tensors(&model.signature.outputs),
            columns: model.signature.columns.clone(),
            batching: model.executor.batching(),
            sessions: model.executor.sessions(),
            metadata: model.metadata.clone(),
        }
    }
}

impl TensorInfo {
    fn of(spec: &TensorSpec) -> Self {
        Self {
            name: spec.name.clone(),
            datatype: spec.datatype(),
            kind: (spec.kind != ValueKind::Tensor).then(|| spec.describe()),
            shape: spec.lengths(),
        }
    }
}

/// Renders the page.
pub(super) fn render(state: &State) -> String {
    let mut models: BTreeMap<String, ModelInfo> = BTreeMap::new();
    for (name, model) in &*state.models.serving() {
        models.entry(name.to_string()).or_default().serving = Some(VersionInfo::of(model));
    }
    for (name, not_served) in state.not_served.by_model() {
        let info = models.entry(name).or_default();
        info.not_served = not_served;
        // The two are read one after the other: a version taken into service in between is no longer refused.
        if let Some(serving) = &info.serving {
            info.not_served.refused.retain(|refusal| refusal.version != serving.version);
        }
    }
    let troubles = state.health.troubles();
    let info = Info {
        name: "predictd",
        version: env!("CARGO_PKG_VERSION"),
        ready: troubles.is_empty(),
        not_ready_because: troubles,
        models,
        ignored: state.not_served.ignored(),
    };
    serde_json::to_string_pretty(&info).expect("plain data is always JSON") + "\n"
}
