//! The part of a signature that clients rely on, compared between two versions of a model.

use crate::tensor::signature::{Signature, TensorSpec, ValueKind};

/// Inputs and outputs without the names of their free dimensions, and the columns of a row in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    inputs: String,
    outputs: String,
    columns: Option<Vec<String>>,
    /// The inputs in the order of MLflow's signature; empty for the model's own order.
    order: Vec<usize>,
}

impl Interface {
    pub fn of(signature: &Signature) -> Self {
        let list = |specs: &[TensorSpec], is_output: bool| {
            let one = |spec: &TensorSpec| {
                let mut spec = spec.unnamed();
                // Clients do not rely on an output's open rank.
                if is_output && spec.kind == ValueKind::OpenRank {
                    spec.kind = ValueKind::Tensor;
                }
                format!("{} {}", spec.name, spec.describe())
            };
            specs.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        Self {
            inputs: list(&signature.inputs, false),
            outputs: list(&signature.outputs, true),
            columns: signature.columns.clone(),
            order: signature.column_rules.order.clone(),
        }
    }

    /// The first difference from `expected`, the interface of `version`.
    pub fn difference(&self, expected: &Self, version: &str) -> Option<String> {
        let sides = [("input", &self.inputs, &expected.inputs), ("output", &self.outputs, &expected.outputs)];
        for (kind, own, expected) in sides {
            if own != expected {
                return Some(format!(
                    "it has another signature than version {version}: {kind} {own}, expected {expected}"
                ));
            }
        }
        if self.columns != expected.columns {
            return Some(format!(
                "its columns are {:?}, those of version {version} are {:?}",
                self.columns, expected.columns
            ));
        }
        (self.order != expected.order).then(|| {
            format!("its \"MLmodel\" has the inputs in another order than that of version {version}")
        })
    }
}
