//! The sizes of a model's inputs, checked before memory is allocated for them: a file of a hundred bytes may
//! declare any size.

use crate::tensor::signature::{Dim, TensorSpec, ValueKind};

/// Limit of the bytes of all inputs of a made-up call, for the warm-up and for trials of the model.
pub(crate) const MAX_MADE_UP_BYTES: usize = 128 << 20;
/// Limit of the bytes of all inputs of a call by the dimensions that the model fixes: every call needs them,
/// since a smaller batch is padded.
const MAX_CALL_BYTES: usize = 1 << 30;

/// Bytes of one call's inputs if all free dimensions have the length `free`; `None` on overflow.
pub(crate) fn bytes(inputs: &[TensorSpec], free: usize) -> Option<usize> {
    inputs.iter().try_fold(0, |sum: usize, spec| sum.checked_add(input_bytes(spec, free)?))
}

fn input_bytes(spec: &TensorSpec, free: usize) -> Option<usize> {
    let count = |shape: &[Dim]| {
        shape.iter().try_fold(1, |product: usize, dim| product.checked_mul(dim.fixed().unwrap_or(free)))
    };
    let inner = match &spec.kind {
        ValueKind::Sequence { element, shape } => count(shape)?.checked_mul(element.size())?,
        ValueKind::Map { key, value } => key.size() + value.size(),
        ValueKind::Tensor | ValueKind::Optional | ValueKind::OpenRank => 0,
    };
    count(&spec.shape)?.checked_mul(spec.element.size().checked_add(inner)?)
}

/// Checks that a worker can hold the inputs of one call.
///
/// # Errors
/// Names the largest input.
pub(crate) fn check(inputs: &[TensorSpec]) -> Result<(), String> {
    if bytes(inputs, 1).is_some_and(|bytes| bytes <= MAX_CALL_BYTES) {
        return Ok(());
    }
    // An input whose size overflows is larger than all others.
    let largest = inputs.iter().max_by_key(|spec| input_bytes(spec, 1).unwrap_or(usize::MAX));
    let largest = largest.map(|spec| format!("{:?} ({})", spec.name, spec.describe())).unwrap_or_default();
    Err(format!(
        "the inputs of one call may take {} MiB, and by the dimensions that it declares they take more; the \
         largest is {largest}",
        MAX_CALL_BYTES >> 20
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ElementType;

    fn input(element: ElementType, dims: &[usize]) -> TensorSpec {
        let mut shape = vec![Dim::Any("N".to_owned())];
        shape.extend(dims.iter().map(|length| Dim::Fixed(*length)));
        TensorSpec::tensor("x", element, shape)
    }

    #[test]
    fn declared_sizes_are_counted_without_overflow() {
        let floats = |dims: &[usize]| input(ElementType::F32, dims);
        assert_eq!(bytes(&[floats(&[3, 4])], 1), Some(48));
        assert_eq!(bytes(&[floats(&[3]), input(ElementType::F64, &[2])], 5), Some(5 * 12 + 5 * 16));
        assert_eq!(bytes(&[floats(&[usize::MAX, 2])], 1), None);
        assert_eq!(bytes(&[floats(&[usize::MAX / 4]), floats(&[1])], 1), None);
        let kind = ValueKind::Sequence { element: ElementType::F32, shape: vec![Dim::Fixed(1 << 40); 2] };
        assert_eq!(bytes(&[TensorSpec { shape: Vec::new(), kind, ..floats(&[]) }], 1), None);
    }

    #[test]
    fn inputs_too_large_for_a_call_are_refused_by_name() {
        let fits = input(ElementType::F32, &[1 << 14, 1 << 14]);
        assert_eq!(check(std::slice::from_ref(&fits)), Ok(()));
        let refused = check(&[fits, input(ElementType::U8, &[1])]).unwrap_err();
        assert!(
            refused.contains("1024 MiB") && refused.contains("\"x\" (float32[N, 16384, 16384])"),
            "{refused}"
        );
        let refused = check(&[input(ElementType::F32, &[1_000_000, 1_000_000])]).unwrap_err();
        assert!(refused.contains("float32[N, 1000000, 1000000]"), "{refused}");
    }
}
