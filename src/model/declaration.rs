//! `model.yaml`: what a bundle declares beyond what the model says of itself. Every part is optional.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::rows::Declared;

/// What turns requests into the model's inputs, and its outputs into responses.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Declaration {
    /// An ONNX graph beside the model that runs before it: its outputs feed the model's inputs of the same names.
    pub preprocess: Option<String>,
    /// An ONNX graph beside the model that runs after it: its inputs are the model's outputs of the same names.
    pub postprocess: Option<String>,
    /// Which outputs a response shows, in this order, and how; all of them as they come when left out.
    pub output: Vec<Shown>,
    /// Requests and what the model must answer; run before the version serves.
    pub samples: Vec<Sample>,
    /// Limits of this model's own, and how it takes rows.
    pub batching: Batching,
    /// How ONNX Runtime runs it.
    pub session: SessionOptions,
}

/// One output of the response.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// The model's output, or that of the postprocessing graph.
    pub from: String,
    /// Its name in the response; the output's own when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Applied to the innermost dimension.
    #[serde(default)]
    pub activation: Activation,
    /// The innermost dimension's names: a list, or a file in the bundle with one name a line.
    #[serde(default)]
    pub labels: Option<Labels>,
    /// Only so many of the best, from the best on, as `{"label", "score"}`.
    #[serde(default)]
    pub top: Option<usize>,
    /// Only scores of this value or more, from the best on, as `{"label", "score"}`.
    #[serde(default)]
    pub threshold: Option<f64>,
}

/// A function over the innermost dimension, computed in the output's own float type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    #[default]
    None,
    /// Scores to probabilities that add up to 1.
    Softmax,
    /// Each score to a probability of its own.
    Sigmoid,
}

/// The names of classes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Labels {
    List(Vec<String>),
    File(String),
}

/// A request and its answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// A JSON request, as it would be published.
    pub request: serde_json::Value,
    /// What must stand under `predictions` (or `outputs`) in the response.
    pub expected: serde_json::Value,
    /// Numbers may differ by so much, relative to the expected one where that is over 1.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
}

fn default_tolerance() -> f64 {
    1e-4
}

/// How a model's requests share a call.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// Rows in one call at most, where that is less than the configuration's `batching.max_rows`.
    pub max_rows: Option<usize>,
    /// Whether the first dimension counts rows.
    pub dimension: Declared,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionOptions {
    /// Threads that one call uses; 1 when left out, since several calls run side by side.
    pub intra_threads: Option<usize>,
    pub optimization: Optimization,
}

/// Graph optimisations at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Optimization {
    None,
    Basic,
    Extended,
    #[default]
    All,
}

impl Declaration {
    /// Reads a `model.yaml`.
    ///
    /// # Errors
    /// A sentence with the place and what was expected there.
    pub fn parse(text: &str) -> Result<Self, String> {
        // An empty document declares nothing.
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| format!("\"model.yaml\" is not understood: {error}"))
    }

    /// The files beside the model that must be there.
    pub fn files(&self) -> Vec<&str> {
        let graphs = [&self.preprocess, &self.postprocess].into_iter().flatten().map(String::as_str);
        let labels = self.output.iter().filter_map(|shown| match &shown.labels {
            Some(Labels::File(name)) => Some(name.as_str()),
            _ => None,
        });
        graphs.chain(labels).collect()
    }
}

impl Labels {
    /// The names, read from `folder` where they are in a file.
    pub(super) fn read(&self, folder: &Path) -> Result<Vec<String>, String> {
        match self {
            Self::List(names) => Ok(names.clone()),
            Self::File(name) => {
                let text = std::fs::read_to_string(folder.join(name))
                    .map_err(|error| format!("cannot read the labels {name:?}: {error}"))?;
                Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
            }
        }
    }
}
