//! The `padding` part of a `model.yaml`: as data, and validated against the model's inputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::json_number;
use crate::names::with_article;
use crate::tensor::Elements;
use crate::tensor::signature::{Dim, PadTo, Padding, TensorSpec};

/// A dimension of an input that is padded: to `multiple`, to `buckets`, or by default to the longest row of
/// the request.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// The input's name.
    pub input: String,
    /// The padded dimension, counted from 0, which is the dimension of rows.
    #[serde(default = "first_inner")]
    pub axis: usize,
    /// The padding value.
    #[serde(default, serialize_with = "json_number::serialize")]
    pub value: f64,
    /// Pads to the next multiple of this, so that requests of similar lengths share a call.
    #[serde(default)]
    pub multiple: Option<usize>,
    /// Pads to the next of these lengths; longer rows are refused.
    #[serde(default)]
    pub buckets: Option<Vec<usize>>,
}

fn first_inner() -> usize {
    1
}

impl Pad {
    /// Validates the declaration against the model's inputs and adds every problem to `problems`.
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
