//! Decides whether requests share calls of a model. They do only if the model is known to treat rows
//! independently: by a trial at load, by the bundle's declaration, or by its samples. Otherwise each request
//! runs alone.

use super::made_up_rows::RowMaker;
use super::probe::{self, Precision, Trial, TrialVerdict};
use crate::model::batch_mode::{BatchDimension, BatchMode};
use crate::model::onnx::categories::OneHotEncoder;
use crate::model::onnx::chain::Chain;
use crate::model::onnx::graph_io::RowKind;
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, TensorSpec};

/// The decision whether requests share calls, and its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharing {
    pub evidence: Evidence,
    /// The reason, as a clause for operators.
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Rows are known to be independent.
    Independent,
    /// Rows are known to depend on each other, or the inputs have none.
    Dependent,
    /// Neither is known: the model could not be tried, or its declared names contradict the trial.
    Unknown,
}

impl Sharing {
    fn new(evidence: Evidence, why: impl Into<String>) -> Self {
        Self { evidence, why: why.into() }
    }

    pub fn shares_calls(&self) -> bool {
        self.evidence == Evidence::Independent
    }

    /// The decision by a trial with the rows of the bundle's samples.
    pub(crate) fn by_samples(verdict: TrialVerdict, rows: usize) -> Self {
        match verdict {
            TrialVerdict::Independent => Self::new(
                Evidence::Independent,
                format!("the {rows} rows of its samples gave the same alone and together"),
            ),
            TrialVerdict::Dependent(why) | TrialVerdict::OneRow(why) | TrialVerdict::NotRows(why) => {
                Self::new(Evidence::Dependent, format!("with the rows of its samples, {why}"))
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct SharingDecision {
    pub(crate) mode: BatchMode,
    pub(crate) sharing: Sharing,
    /// For each output: true when its first dimension counts rows in a call of one row, so that the row's
    /// result omits that dimension.
    pub(crate) counts_rows: Vec<bool>,
}

/// The facts about a model that decide whether its requests share calls.
pub(crate) struct SharingQuestion<'a> {
    pub(crate) inputs: &'a [TensorSpec],
    pub(crate) outputs: &'a [TensorSpec],
    pub(crate) row_kinds: &'a [RowKind],
    pub(crate) dimension: BatchDimension,
    pub(crate) precision: Precision,
    pub(crate) encoders: &'a [OneHotEncoder],
}

impl SharingQuestion<'_> {
    /// Decides by the mode that the shapes allow, and by a trial if the bundle does not decide.
    pub(crate) fn decide(&self, shapes_allow: BatchMode, chain: &mut Chain) -> SharingDecision {
        use Evidence::{Dependent, Independent};
        let mut mode = shapes_allow;
        let (evidence, why) = match shapes_allow {
            BatchMode::Unbatched if self.dimension == BatchDimension::None => {
                (Dependent, "model.yaml declares batching.dimension: none")
            }
            BatchMode::Unbatched => (Dependent, "the inputs have no dimension that counts rows"),
            BatchMode::Fixed(1) => (Independent, "each row runs in a call of its own"),
            BatchMode::Any | BatchMode::Fixed(_) if self.dimension == BatchDimension::Rows => {
                (Independent, "model.yaml declares batching.dimension: rows")
            }
            BatchMode::Fixed(length) if probe::fixed_rows(chain, self.inputs, length) => {
                (Independent, "made-up rows gave the same in every place and beside any others")
            }
            BatchMode::Fixed(_) => {
                mode = BatchMode::Unbatched;
                (Dependent, "made-up rows changed each other's outputs, or an output has no rows")
            }
            BatchMode::Any | BatchMode::PerRow => return self.decide_by_trial(shapes_allow, chain),
        };
        let counts_rows = self.outputs_count_rows(None);
        SharingDecision { mode, sharing: Sharing::new(evidence, why), counts_rows }
    }

    fn decide_by_trial(&self, shapes_allow: BatchMode, chain: &mut Chain) -> SharingDecision {
        let is_free =
            self.inputs.iter().all(|spec| spec.shape.first().is_none_or(|dim| dim.fixed().is_none()));
        let maker = RowMaker { inputs: self.inputs, encoders: self.encoders };
        let trial = probe::free_rows(chain, maker, is_free, self.precision).map_err(|reason| {
            let reason: String = reason.lines().next().unwrap_or_default().chars().take(200).collect();
            format!("it could not be tried with made-up rows: {reason}")
        });
        let counts_rows = self.outputs_count_rows(trial.as_ref().ok());
        let (mode, sharing) = if is_free {
            self.decide_free(shapes_allow, trial)
        } else {
            let why = "its inputs take one row, its outputs have no dimension for rows";
            (BatchMode::PerRow, Sharing::new(Evidence::Dependent, why))
        };
        SharingDecision { mode, sharing, counts_rows }
    }

    fn decide_free(&self, shapes_allow: BatchMode, trial: Result<Trial, String>) -> (BatchMode, Sharing) {
        use Evidence::{Dependent, Independent, Unknown};
        // A string is one value of its own. Numbers may be parts of one vector.
        let is_vector = |spec: &TensorSpec| spec.shape.len() == 1 && spec.element != ElementType::String;
        let contradiction = self.contradiction();
        match (trial.map(|trial| trial.verdict), contradiction) {
            (Ok(TrialVerdict::Independent), None) => {
                let why = match self.precision {
                    Precision::Rounding => "made-up rows gave the same alone and together",
                    Precision::Quantized => {
                        "made-up rows gave about the same alone and together; the model quantizes \
                         dynamically (DynamicQuantizeLinear), with one scale for all rows of a call, so that \
                         other rows change a row's values a little: batching.max_rows: 1 in model.yaml runs \
                         each row alone"
                    }
                };
                (BatchMode::Any, Sharing::new(Independent, why))
            }
            (Ok(TrialVerdict::Independent), Some(contradiction)) => {
                (BatchMode::Any, Sharing::new(Unknown, contradiction))
            }
            (Ok(TrialVerdict::Dependent(why)), _) if self.inputs.iter().all(is_vector) => {
                (BatchMode::Unbatched, Sharing::new(Dependent, why))
            }
            (Ok(TrialVerdict::Dependent(why)), _) => (BatchMode::Any, Sharing::new(Dependent, why)),
            (Ok(TrialVerdict::NotRows(why) | TrialVerdict::OneRow(why)), _) => {
                (BatchMode::PerRow, Sharing::new(Dependent, why))
            }
            (Err(reason), Some(contradiction)) => {
                (BatchMode::PerRow, Sharing::new(Unknown, format!("{contradiction}, and {reason}")))
            }
            (Err(reason), None) => (shapes_allow, Sharing::new(Unknown, reason)),
        }
    }

    /// Says which names of first dimensions differ, so that they cannot all mean rows.
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
                "the first dimension of the input {input:?} is called {rows:?}, that of the {side} {:?} \
                 {name:?}",
                spec.name
            ))
        })
    }

    /// True for each output whose first dimension counts rows in a call of one row: by its declaration,
    /// otherwise by the trial.
    fn outputs_count_rows(&self, trial: Option<&Trial>) -> Vec<bool> {
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

/// True when an exporter generated the name, a different one for each dimension, so that it means nothing:
/// tf2onnx `unk__6`, Paddle2ONNX `DynamicDimension.1`, PyTorch and ONNX Runtime `Softmaxoutput_dim_0`.
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
    fn generated_names_are_recognised() {
        for name in ["", "?", "unk__6", "DynamicDimension.1", "Softmaxoutput_dim_0"] {
            assert!(is_generated(name), "{name}");
        }
        for name in ["batch", "N", "num_dets", "unk", "batch_dim", "s0"] {
            assert!(!is_generated(name), "{name}");
        }
    }
}
