//! The activations that `model.yaml` may declare for an output, over its innermost dimension.

use half::{bf16, f16};

use super::bundle::declaration::Activation;
use crate::tensor::{ElementType, Elements, View};

/// The type of an activation's results. Half floats become float32.
pub(super) fn element(element: ElementType) -> ElementType {
    match element {
        ElementType::F64 => ElementType::F64,
        _ => ElementType::F32,
    }
}

/// The results for rows of `width` scores; `None` without an activation.
pub(super) fn apply(activation: Activation, scores: View<'_>, width: usize) -> Option<Elements> {
    if activation == Activation::None {
        return None;
    }
    macro_rules! computed {
        ($scores:expr, $variant:ident, $float:ty, $convert:expr) => {{
            let mut all: Vec<$float> = $scores.iter().map($convert).collect();
            match activation {
                Activation::Softmax => {
                    for row in all.chunks_mut(width.max(1)) {
                        // Subtracts the largest score, so that no exponential overflows.
                        let largest = row.iter().copied().fold(<$float>::NEG_INFINITY, <$float>::max);
                        row.iter_mut().for_each(|score| *score = (*score - largest).exp());
                        let sum: $float = row.iter().sum();
                        row.iter_mut().for_each(|score| *score /= sum);
                    }
                }
                Activation::Sigmoid => {
                    all.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp()))
                }
                Activation::None => {}
            }
            Some(Elements::$variant(all))
        }};
    }
    match scores {
        View::F64(scores) => computed!(scores, F64, f64, |score: &f64| *score),
        View::F32(scores) => computed!(scores, F32, f32, |score: &f32| *score),
        View::F16(scores) => computed!(scores, F32, f32, |score: &f16| score.to_f32()),
        View::BF16(scores) => computed!(scores, F32, f32, |score: &bf16| score.to_f32()),
        // Other types are refused when the bundle is opened.
        _ => None,
    }
}
