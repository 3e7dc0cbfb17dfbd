//! Decides whether requests share calls of a model. They do only where the model is known to treat rows independently: by a
//! trial at load, by the bundle's declaration, or by its samples. Otherwise each request runs alone.

use super::made_up::Made;
use super::probe::{self, Precision, Trial, Verdict};
use crate::model::batch_mode::{Declared, Rows};
use crate::model::onnx::categories::Encoder;
use crate::model::onnx::chain::Chain;
use crate::model::onnx::graph_io::RowKind;
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, TensorSpec};

/// The decision if requests share calls, and its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharing {
    pub evidence: Evidence,
    /// A clause for people.
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Rows are known to be independent.
    Independent,
    /// They are known not to be, or there are none.
    Dependent,
    /// Nothing shows it: the model could not be tried, or its declared names contradict the trial.
    Unknown,
}

impl Sharing {
    fn new(evidence: Evidence, why: impl Into<String>) -> Self {
        Self { evidence, why: why.into() }
    }

    pub fn shares_calls(&self) -> bool {
        self.evidence == Evidence::Independent
    }

    /// The decision by the rows of the bundle's samples.
    pub(crate) fn by_samples(verdict: Verdict, rows: usize) -> Self {
        match verdict {
            Verdict::Apart => Self::new(
                Evidence::Independent,
                format!("the {rows} rows of its samples gave the same alone and together"),
            ),
            Verdict::Mixed(why) | Verdict::OneRow(why) | Verdict::NotRows(why) => {
                Self::new(Evidence::Dependent, format!("with the rows of its samples, {why}"))
            }
        }
    }
}

/// The trial's finding.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) rows: Rows,
    pub(crate) sharing: Sharing,
    /// For each output, whether its first dimension counts rows in a call of one row, so that it is left out of that row's result.
    pub(crate) counts_rows: Vec<bool>,
}

/// Declarations of a model.
pub(crate) struct Declarations<'a> {
    pub(crate) inputs: &'a [TensorSpec],
    pub(crate) outputs: &'a [TensorSpec],
    pub(crate) row_kinds: &'a [RowKind],
    pub(crate) dimension: Declared,
    pub(crate) precision: Precision,
    pub(crate) encoders: &'a [Encoder],
}

impl Declarations<'_> {
    /// Decides by the rule that the shapes allow, and by a trial where the bundle does not decide.
    pub(crate) fn decide(&self, rule: Rows, chain: &mut Chain) -> Decision {
        use Evidence::{Dependent, Independent};
        let decision = |rows, evidence, why: &str| Decision {
            rows,
            sharing: Sharing::new(evidence, why),
            counts_rows: self.declared_to_count_rows(None),
        };
        match rule {
            Rows::One if self.dimension == Declared::None => {
                decision(rule, Dependent, "model.yaml declares batching.dimension: none")
            }
            Rows::One => decision(rule, Dependent, "the inputs have no dimension that counts rows"),
            Rows::Fixed(1) => decision(rule, Independent, "each row runs in a call of its own"),
            Rows::Any | Rows::Fixed(_) if self.dimension == Declared::Rows => {
                decision(rule, Independent, "model.yaml declares batching.dimension: rows")
            }
            Rows::Fixed(length) if probe::fixed_rows(chain, self.inputs, length) => {
                decision(rule, Independent, "made-up rows gave the same in every place and company")
            }
            Rows::Fixed(_) => decision(
                Rows::One,
                Dependent,
                "made-up rows changed each other's outputs, or an output has no rows",
            ),
            Rows::Any | Rows::Single => {
                let is_free =
                    self.inputs.iter().all(|spec| spec.shape.first().is_none_or(|dim| dim.fixed().is_none()));
                let trial = probe::free_rows(
                    chain,
                    Made { inputs: self.inputs, encoders: self.encoders },
                    is_free,
                    self.precision,
                );
                let trial = trial.map_err(|reason| {
                    let reason: String =
                        reason.lines().next().unwrap_or_default().chars().take(200).collect();
                    format!("it could not be tried with made-up rows: {reason}")
                });
                let counts_rows = self.declared_to_count_rows(trial.as_ref().ok());
                let (rows, sharing) = if is_free {
                    self.decide_free(rule, trial)
                } else {
                    (
                        Rows::Single,
                        Sharing::new(
                            Dependent,
                            "its inputs take one row, its outputs have no dimension for rows",
                        ),
                    )
                };
                Decision { rows, sharing, counts_rows }
            }
        }
    }

    fn decide_free(&self, rule: Rows, trial: Result<Trial, String>) -> (Rows, Sharing) {
        use Evidence::{Dependent, Independent, Unknown};
        // A string is a whole thing to say; numbers in a row may be one.
        let is_vector = |spec: &TensorSpec| spec.shape.len() == 1 && spec.element != ElementType::String;
        let contradiction = self.contradiction();
        match (trial.map(|trial| trial.verdict), contradiction) {
            (Ok(Verdict::Apart), None) => {
                let why = match self.precision {
                    Precision::Rounding => "made-up rows gave the same alone and together",
                    Precision::Quantized => {
                        "made-up rows gave about the same alone and together; the model quantizes dynamically \
                         (DynamicQuantizeLinear), with one scale for all rows of a call, so that other rows change a \
                         row's values a little: batching.max_rows: 1 in model.yaml runs each row alone"
                    }
                };
                (Rows::Any, Sharing::new(Independent, why))
            }
            (Ok(Verdict::Apart), Some(contradiction)) => (Rows::Any, Sharing::new(Unknown, contradiction)),
            (Ok(Verdict::Mixed(why)), _) if self.inputs.iter().all(is_vector) => {
                (Rows::One, Sharing::new(Dependent, why))
            }
            (Ok(Verdict::Mixed(why)), _) => (Rows::Any, Sharing::new(Dependent, why)),
            (Ok(Verdict::NotRows(why) | Verdict::OneRow(why)), _) => {
                (Rows::Single, Sharing::new(Dependent, why))
            }
            (Err(reason), Some(contradiction)) => {
                (Rows::Single, Sharing::new(Unknown, format!("{contradiction}, and {reason}")))
            }
            (Err(reason), None) => (rule, Sharing::new(Unknown, reason)),
        }
    }

    /// Names of the inputs' and outputs' first dimensions that cannot all mean rows.
    fn contradiction(&self) -> Option<String> {
        let named = |spec: &TensorSpec| match spec.shape.first() {
            Some(Dim::Any(name)) if !is_generated(name) => Some(name.clone()),
            _ => None,
        };
        let rows = self.inputs.iter().find_map(|spec| named(spec).map(|name| (&spec.name, name)));
        let (input, rows) = rows?;
        let tensors = self.outputs.iter().zip(self.row_kinds).filter(|(_, kind)| **kind == RowKind::Tensor);
        let specs = self.inputs.iter().map(|spec| ("input", spec));
        specs.chain(tensors.map(|(spec, _)| ("output", spec))).find_map(|(side, spec)| {
            let name = named(spec).filter(|name| *name != rows)?;
            Some(format!(
                "the first dimension of the input {input:?} is called {rows:?}, that of the {side} {:?} {name:?}",
                spec.name
            ))
        })
    }

    /// True for each output whose first dimension counts rows in a call of one: by its declaration, else by the trial.
    fn declared_to_count_rows(&self, trial: Option<&Trial>) -> Vec<bool> {
        let contradicts = |name: &String| {
            let rows = self.inputs.iter().filter_map(|spec| spec.shape.first());
            !is_generated(name) && !rows.into_iter().any(|dim| matches!(dim, Dim::Any(rows) if rows == name))
        };
        let tried = |at: usize| trial.is_some_and(|trial| trial.counts_rows[at]);
        let counts = |(at, (spec, kind)): (usize, (&TensorSpec, &RowKind))| match (kind, spec.shape.first()) {
            (RowKind::Maps, _) => true,
            (RowKind::Inseparable, _) => tried(at),
            (RowKind::Tensor, Some(Dim::Fixed(length))) => *length == 1,
            (RowKind::Tensor, Some(Dim::Any(name))) => !contradicts(name) && tried(at),
            (RowKind::Tensor, None) => tried(at),
        };
        self.outputs.iter().zip(self.row_kinds).enumerate().map(counts).collect()
    }
}

/// True when an exporter made up a dimension's name, a new one for each: tf2onnx `unk__6`, Paddle2ONNX `DynamicDimension.1`,
/// PyTorch and ONNX Runtime `Softmaxoutput_dim_0`. Such names say nothing.
fn is_generated(name: &str) -> bool {
    let ends_in_number = |prefix: &str| {
        name.rsplit_once(prefix)
            .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    name.is_empty()
        || name == "?"
        || name == "None"
        || ["unk__", "DynamicDimension.", "_dim_"].into_iter().any(ends_in_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_known() {
        for name in ["", "?", "unk__6", "DynamicDimension.1", "Softmaxoutput_dim_0"] {
            assert!(is_generated(name), "{name}");
        }
        for name in ["batch", "N", "num_dets", "unk", "batch_dim", "s0"] {
            assert!(!is_generated(name), "{name}");
        }
    }
}
