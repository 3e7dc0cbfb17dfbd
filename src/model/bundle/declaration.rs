//! `model.yaml`: what a bundle declares beyond what the model says of itself. Every part is optional.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::batch_mode::Declared;
use crate::names::with_article;
use crate::prepare::image::Image;
use crate::prepare::text::Text;
use crate::tensor::Elements;
use crate::tensor::signature::{Dim, PadTo, Padding, TensorSpec};

/// What turns requests into the model's inputs, and its outputs into responses.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Declaration {
    /// Pictures (JPEG, PNG or WebP) as the model's input: how they are decoded, resized and normalised.
    pub image: Option<Image>,
    /// Texts as the model's inputs: how they are split into tokens.
    pub text: Option<Text>,
    /// An ONNX graph beside the model that runs before it: its outputs feed the model's inputs of the same names.
    pub preprocess: Option<String>,
    /// An ONNX graph beside the model that runs after it: its inputs are the model's outputs of the same names.
    pub postprocess: Option<String>,
    /// Named fields of a row, and which element of which input each of them is; a field that is only a name may be written as that,
    /// as in `columns: [age, fare]`. Inputs that are named here are sent as these fields, one by one.
    #[serde(deserialize_with = "columns")]
    #[schemars(with = "Vec<ColumnOrName>")]
    pub columns: Vec<Column>,
    /// Inputs whose rows may differ in length, as token sequences do, and how they are brought to one length. Outputs are cut back
    /// to each row's own length in the dimensions that the model calls as it calls the padded one.
    pub padding: Vec<Pad>,
    /// Which outputs a response shows, in this order, and how; all of them as they come when left out.
    pub output: Vec<Shown>,
    /// Requests and what the model must answer; run before the version serves.
    pub samples: Vec<Sample>,
    /// Limits of this model's own, and how it takes rows.
    pub batching: Batching,
    /// How ONNX Runtime runs it.
    pub session: SessionOptions,
    /// Set where this version takes or gives something else than the one before it, and clients are ready for
    /// that: a version with another signature is refused without it. `predictd push --new-signature` says the
    /// same in `manifest.json`.
    pub new_signature: bool,
}

/// A named field of a row.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// What requests call it.
    pub name: String,
    /// The input `[rows, columns]` or `[rows]` that it is part of; several columns fill one input in the order in which they are
    /// declared. May be left out where the model has one input.
    #[serde(default)]
    pub input: Option<String>,
    /// The texts that it may be; the model gets their position in this list, from 0 on.
    #[serde(default)]
    pub categories: Option<Vec<String>>,
    /// What the model gets for a text that is not in `categories`; such a row is refused when this is left out.
    #[serde(default, serialize_with = "number_if_any")]
    pub unknown: Option<f64>,
    /// What stands for it where a row leaves it out, has `null` or an empty cell: a number, `NaN` for floats, or a text for text
    /// and categories. Such a row is refused when this is left out.
    #[serde(default)]
    pub missing: Option<Missing>,
}

/// A field, or only its name.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum ColumnOrName {
    Name(String),
    Column(Column),
}

impl<'de> Deserialize<'de> for ColumnOrName {
    /// By what stands there, and not by trial as serde's untagged types are: mistakes inside a column are named.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Found;

        impl<'de> Visitor<'de> for Found {
            type Value = ColumnOrName;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a column's name (a number in quotes), or its `name` and more")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<ColumnOrName, E> {
                Ok(ColumnOrName::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnOrName, A::Error> {
                Column::deserialize(MapAccessDeserializer::new(map)).map(ColumnOrName::Column)
            }
        }

        deserializer.deserialize_any(Found)
    }
}

fn columns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Column>, D::Error> {
    let all = Vec::<ColumnOrName>::deserialize(deserializer)?;
    let column = |column| match column {
        ColumnOrName::Name(name) => {
            Column { name, input: None, categories: None, unknown: None, missing: None }
        }
        ColumnOrName::Column(column) => column,
    };
    Ok(all.into_iter().map(column).collect())
}

/// A value for a field that a row leaves out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number or a text")]
pub enum Missing {
    #[serde(serialize_with = "number")]
    Number(f64),
    Text(String),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// A dimension of an input that is filled up. Give `multiple` or `buckets`; neither: up to the longest row of the request.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// The input's name.
    pub input: String,
    /// Which of its dimensions, counted from 0, which are the rows.
    #[serde(default = "first_inner")]
    pub axis: usize,
    /// What it is filled up with.
    #[serde(default, serialize_with = "number")]
    pub value: f64,
    /// Up to the next multiple of this, so that requests of similar lengths share a call.
    #[serde(default)]
    pub multiple: Option<usize>,
    /// Up to the next of these lengths; longer rows are refused.
    #[serde(default)]
    pub buckets: Option<Vec<usize>>,
}

/// JSON, as which declarations are shown, has no non-finite numbers: they are texts.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { value.serialize(serializer) } else { value.to_string().serialize(serializer) }
}

fn number_if_any<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, serializer),
        None => serializer.serialize_none(),
    }
}

fn first_inner() -> usize {
    1
}

impl Pad {
    /// Held against the model's inputs; adds every problem that it finds to `problems`.
    pub(crate) fn check(
        &self,
        number: usize,
        inputs: &[TensorSpec],
        problems: &mut Vec<String>,
    ) -> Option<Padding> {
        let mut problem = |text: String| {
            problems.push(format!("padding[{number}]: {text}"));
            None
        };
        let Some(input) = inputs.iter().position(|input| input.name == self.input) else {
            let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            return problem(format!("input: expected one of {names:?}, got {:?}", self.input));
        };
        let spec = &inputs[input];
        if self.axis == 0 || !matches!(spec.shape.get(self.axis), Some(Dim::Any(_))) {
            return problem(format!(
                "axis: expected a free dimension of {:?} ({}) that does not count rows, got {}",
                spec.name,
                spec.describe(),
                self.axis
            ));
        }
        let Some(value) = Elements::of_number(spec.element, self.value) else {
            let wanted = with_article(&spec.element.to_string());
            return problem(format!("value: expected {wanted}, got {}", self.value));
        };
        let to = match (self.multiple, &self.buckets) {
            (Some(_), Some(_)) => return problem("expected multiple or buckets, got both".to_owned()),
            (Some(0), None) => return problem("multiple: expected 1 or more, got 0".to_owned()),
            (Some(multiple), None) => PadTo::Multiple(multiple),
            (None, Some(buckets)) if !buckets.is_empty() && buckets.is_sorted() && buckets[0] > 0 => {
                PadTo::Buckets(buckets.clone())
            }
            (None, Some(buckets)) => {
                return problem(format!("buckets: expected lengths in ascending order, got {buckets:?}"));
            }
            (None, None) => PadTo::Multiple(1),
        };
        Some(Padding { input, axis: self.axis, value, to })
    }
}

/// One output of the response.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// The model's output, or that of the postprocessing graph.
    pub from: String,
    /// Its name in the response; the output's own when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Applied to the innermost dimension; softmax needs one beside that of the rows.
    #[serde(default)]
    pub activation: Activation,
    /// The innermost dimension's names: a list, or a file in the bundle with one name a line. Where a row is one whole number, a
    /// class's position from 0 on, its name stands in the number's place.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    #[default]
    None,
    /// Scores to probabilities that add up to 1.
    Softmax,
    /// Each score to a probability of its own.
    Sigmoid,
}

/// The names of classes: a list, or a file with one a line, in which white space counts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a list of texts (numbers, true, false and null in quotes), or the name of a file with one a line"
)]
pub enum Labels {
    List(Vec<String>),
    File(String),
}

/// A request and its answer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// A JSON request, as it would be published.
    pub request: serde_json::Value,
    /// What must stand under `predictions` (or `outputs`) in the response. Left out: anything without a NaN.
    #[serde(default)]
    pub expected: Option<serde_json::Value>,
    /// Numbers may differ by so much, relative to the expected one where that is over 1.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
}

fn default_tolerance() -> f64 {
    1e-4
}

/// How a model's requests share a call.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// Rows in one call at most, where that is less than the configuration's `batching.max_rows`. A request of more rows runs in
    /// several calls, unless its rows are known to depend on each other; 1 runs each row alone.
    pub max_rows: Option<usize>,
    /// Whether the first dimension counts rows.
    pub dimension: Declared,
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionOptions {
    /// Threads that one call uses, 256 at most; 1 when left out, since several calls run side by side.
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
    /// A sentence with the place and what was expected there.
    pub fn parse(text: &str) -> Result<Self, String> {
        // An empty document declares nothing.
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        super::yaml::parse(text).map_err(|error| format!("\"model.yaml\" is not understood: {error}"))
    }

    /// The files beside the model that must be there.
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

impl Labels {
    /// The names, read from `folder` where they are in a file.
    pub(crate) fn read(&self, folder: &Path) -> Result<Vec<String>, String> {
        match self {
            Self::List(names) => Ok(names.clone()),
            Self::File(name) => {
                let text = std::fs::read_to_string(folder.join(name))
                    .map_err(|error| format!("cannot read the labels {name:?}: {error}"))?;
                // Editors leave a byte order mark before the first one. Lines of white space are labels, too.
                let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                Ok(text.lines().map(str::to_owned).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
            labels.contains("expected a list of texts (numbers, true, false and null in quotes)"),
            "{labels}"
        );
        let missing = problem("columns: [{name: a, missing: []}]");
        assert!(missing.contains("expected a number or a text"), "{missing}");
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
    fn words_are_texts_but_true_and_false() {
        let read = |text: &str| Declaration::parse(text).unwrap();
        let declaration = read("output: [{from: y, labels: [yes, no, y, on]}]");
        let Some(Labels::List(labels)) = &declaration.output[0].labels else { panic!("a list expected") };
        assert_eq!(labels, &["yes", "no", "y", "on"]);
        let declaration = read("samples: [{request: {instances: [{c: yes, d: true, y: .inf}]}}]");
        let expected = serde_json::json!({"instances": [{"c": "yes", "d": true, "y": ".inf"}]});
        assert_eq!(declaration.samples[0].request, expected, "infinity is no null");
    }

    #[test]
    fn a_file_of_labels_has_one_a_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("labels.txt"), "\u{feff}cat\r\ndog \n\n\u{3000}\r\n\t\n \r\n")
            .unwrap();
        let read = || Labels::File("labels.txt".to_owned()).read(folder.path()).unwrap();
        assert_eq!(read(), ["cat", "dog ", "", "\u{3000}", "\t", " "]);
        std::fs::write(folder.path().join("labels.txt"), "cat\n ").unwrap();
        assert_eq!(read(), ["cat", " "], "without a line end behind the last");
    }
}
