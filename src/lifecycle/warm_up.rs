//! The first call of a version, before it is served.

use crate::model::Model;
use crate::model::onnx::sizes::{self, MAX_MADE_UP_BYTES};
use crate::model::run::{RunFailure, RunMode};
use crate::tensor::Tensor;
use crate::tensor::signature::TensorSpec;

/// Runs a version once on zeros, so that the first request does not pay for what ONNX Runtime sets up lazily.
pub(super) fn warm_up(model: &Model, thread: usize) -> Result<(), String> {
    let inputs = &model.executor.inputs;
    if sizes::bytes(inputs, 1).is_none_or(|bytes| bytes > MAX_MADE_UP_BYTES) {
        return Err("its inputs are too large to be made up".to_owned());
    }
    let zeros = |spec: &TensorSpec| {
        let shape: Vec<usize> = spec.shape.iter().map(|dim| dim.fixed().unwrap_or(1)).collect();
        Tensor { elements: spec.zeros(shape.iter().product()), shape }
    };
    let tensors: Vec<Tensor> = inputs.iter().map(zeros).collect();
    let inputs: Vec<_> = tensors.iter().map(|tensor| Some(tensor.lend())).collect();
    model.executor.run(thread, &inputs, 1, RunMode::Whole, &mut || {}, |_| ()).map_err(
        |failure| match failure {
            RunFailure::Failed(reason) => reason,
            RunFailure::NotRows { .. } | RunFailure::TooLarge => {
                "the model's outputs have no rows".to_owned()
            }
        },
    )
}
