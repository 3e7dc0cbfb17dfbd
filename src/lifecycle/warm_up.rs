//! The first call of a version, before it is served.

use crate::model::Model;
use crate::model::made_up_rows::zeros;
use crate::model::run::{RunFailure, RunMode};

/// Runs a version once on zeros, so that the first request does not pay for what ONNX Runtime sets up lazily.
pub(super) fn warm_up(model: &Model, thread: usize) -> Result<(), String> {
    let inputs = &model.executor.inputs;
    let tensors = zeros(inputs, 1, 1).ok_or("its inputs are too large to be made up")?;
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
