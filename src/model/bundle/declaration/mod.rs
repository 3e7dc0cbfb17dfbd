//! `model.yaml`: the bundle's declarations about the model. Every part is optional.

mod column;
mod json_number;
mod output;
mod padding;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::column::{Column, Missing};
use self::column::{ColumnOrName, columns};
pub use self::output::{Activation, Labels, OutputDeclaration};
pub use self::padding::Pad;
use crate::model::batch_mode::BatchDimension;
use crate::prepare::image::ImageDeclaration;
use crate::prepare::text::TextDeclaration;

/// The steps from requests to the model's inputs, and from its outputs to responses.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Declaration {
    /// Takes images (JPEG, PNG or WebP) as the model's input.
    pub image: Option<ImageDeclaration>,
    /// Takes texts as the model's inputs, split into tokens.
    pub text: Option<TextDeclaration>,
    /// An ONNX graph beside the model that runs before it: its outputs feed the model's inputs of the same
    /// names.
    pub preprocess: Option<String>,
    /// An ONNX graph beside the model that runs after it: its inputs are the model's outputs of the same
    /// names.
    pub postprocess: Option<String>,
    /// Named fields of a row, each of them one element of one input. Requests send these fields in place of
    /// the input. A field without further keys may be written as its name, as in `columns: [age, fare]`.
    #[serde(deserialize_with = "columns")]
    #[schemars(with = "Vec<ColumnOrName>")]
    pub columns: Vec<Column>,
    /// Pads inputs whose rows differ in length, such as token sequences. Outputs are cut back to each row's
    /// own length in the dimensions that have the name of the padded one.
    pub padding: Vec<Pad>,
    /// The outputs of a response, in this order. Default: all outputs of the model, unchanged.
    pub output: Vec<OutputDeclaration>,
    /// Requests with their expected responses, which run before the version is served.
    pub samples: Vec<Sample>,
    /// Rules for requests that share calls of the model.
    pub batching: Batching,
    /// Options of ONNX Runtime.
    pub session: SessionOptions,
    /// Allows this version to have another signature than the one before it, which is refused otherwise. Set
    /// it once clients are ready for it. `predictd push --new-signature` sets it in `manifest.json` instead.
    pub new_signature: bool,
}

/// A request and its expected response.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// A JSON request.
    pub request: serde_json::Value,
    /// The expected `predictions` (or `outputs`) of the response. Default: anything without a NaN.
    #[serde(default)]
    pub expected: Option<serde_json::Value>,
    /// The allowed difference of numbers, relative to the expected number if that is over 1. Default: 0.0001.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
}

fn default_tolerance() -> f64 {
    1e-4
}

/// Rules for requests that share calls of the model.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// The largest number of rows in one call, if that is less than the configuration's `batching.max_rows`.
    /// A request of more rows runs in several calls, unless its rows are known to depend on each other; 1
    /// runs each row alone.
    pub max_rows: Option<usize>,
    /// The meaning of the first dimension.
    pub dimension: BatchDimension,
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionOptions {
    /// Threads of one call, 256 at most. Default: 1, since several calls run in parallel.
    #[schemars(range(min = 1, max = 256))]
    pub intra_threads: Option<usize>,
    pub optimization: Optimization,
}

/// Graph optimisations at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// A sentence with the place and the expected value.
    pub fn parse(text: &str) -> Result<Self, String> {
        // An empty document declares nothing.
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        crate::yaml::parse(text).map_err(|error| format!("\"model.yaml\" is not understood: {error}"))
    }

    /// The files that must exist beside the model.
    pub fn files(&self) -> Vec<&str> {
        let graphs = [&self.preprocess, &self.postprocess].into_iter().flatten().map(String::as_str);
        let labels = self.output.iter().filter_map(|shown| match &shown.labels {
            Some(Labels::File(name)) => Some(name.as_str()),
            _ => None,
        });
        let tokenizer = self.text.iter().map(|text| text.tokenizer.as_str());
        graphs.chain(labels).chain(tokenizer).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Editors complete model.yaml from the committed schema; UPDATE_SNAPSHOTS=1 writes it anew.
    #[test]
    fn the_committed_schema_is_the_one_of_these_types() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/model.schema.json");
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(Declaration)).unwrap() + "\n";
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &schema).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == schema,
            "config/model.schema.json is out of date: run the tests with UPDATE_SNAPSHOTS=1"
        );
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let problem = |text: &str| Declaration::parse(text).unwrap_err();
        assert!(problem("ouput: []").contains("unknown field `ouput`"));
        assert!(problem("batching: {max_rows: many}").contains("max_rows"));
        assert!(problem("image: {resize: {filter: cubic}}").contains("unknown variant `cubic`"));
        let labels = problem("output: [{from: scores, labels: [0, 1]}]");
        assert!(
            labels.contains("expected a list of strings (numbers, true, false and null in quotes)"),
            "{labels}"
        );
        let missing = problem("columns: [{name: a, missing: []}]");
        assert!(missing.contains("expected a number or a string"), "{missing}");
        let number = problem("columns: [a, 1]");
        assert!(number.contains("expected a column's name (a number in quotes)"), "{number}");
        let negative = problem("batching: {max_rows: -1}");
        assert!(
            negative.contains("expected a whole number, 0 or more") && !negative.contains("u64"),
            "{negative}"
        );
        let twice = problem("batching: {}\nbatching: {}");
        assert!(twice.contains("expected each key once, got `batching` twice"), "{twice}");
        assert!(!twice.contains("DuplicateKeyPolicy"), "{twice}");
        assert!(Declaration::parse("# nothing\n").unwrap().output.is_empty());
    }

    #[test]
    fn a_column_may_be_its_name_alone() {
        let read = |text: &str| serde_json::to_value(Declaration::parse(text).unwrap().columns).unwrap();
        assert_eq!(
            read("columns: [age, {name: port, missing: S}, yes]"),
            read("columns: [{name: age}, {name: port, missing: S}, {name: yes}]")
        );
    }

    #[test]
    fn words_are_strings_but_true_and_false() {
        let read = |text: &str| Declaration::parse(text).unwrap();
        let declaration = read("output: [{from: y, labels: [yes, no, y, on]}]");
        let Some(Labels::List(labels)) = &declaration.output[0].labels else { panic!("a list expected") };
        assert_eq!(labels, &["yes", "no", "y", "on"]);
        let declaration = read("samples: [{request: {instances: [{c: yes, d: true, y: .inf}]}}]");
        let expected = serde_json::json!({"instances": [{"c": "yes", "d": true, "y": ".inf"}]});
        assert_eq!(declaration.samples[0].request, expected, "infinity is no null");
    }
}
