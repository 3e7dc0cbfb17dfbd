//! Rows of different lengths, padded to one.

use crate::decode::error::{DecodeError, Decoded};
use crate::decode::limits::copy_weight;
use crate::tensor::Elements;
use crate::tensor::signature::{PadTo, Padding};

/// Pads every row to one length in the padded dimension, and sets that length in `shape`. `left`: elements
/// that the padded inputs of the request may still have.
pub(super) fn pad_rows(
    padding: &Padding,
    lengths: &[usize],
    shape: &mut [usize],
    elements: Elements,
    max_elements: usize,
    left: &mut usize,
) -> Decoded<Elements> {
    let axis = padding.axis;
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let Some(length) = padding.to.length(longest) else {
        let most = match &padding.to {
            PadTo::Buckets(buckets) => buckets.last().copied().unwrap_or(0),
            PadTo::Multiple(_) => max_elements,
        };
        return Err(DecodeError::too_large(format!(
            "expected at most {most} values in dimension {axis}, got {longest}"
        )));
    };
    shape[axis] = length;
    if lengths.iter().all(|own| *own == length) {
        return Ok(elements);
    }
    let outer: usize = shape[1..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let count = [lengths.len(), outer, length, inner].into_iter().try_fold(1, usize::checked_mul);
    let weighed = |count: &usize| count.checked_mul(copy_weight(&padding.value)).filter(|more| more <= left);
    let Some((count, more)) = count.and_then(|count| Some((count, weighed(&count)?))) else {
        return Err(DecodeError::too_large(format!(
            "expected at most {max_elements} elements when padded to {length}, got more"
        )));
    };
    *left -= more;
    let mut padded = Elements::with_capacity(elements.element(), count);
    let mut from = 0;
    for own in lengths {
        for _ in 0..outer {
            padded.extend_from(&elements, from..from + own * inner);
            padded.extend_repeated(&padding.value, (length - own) * inner);
            from += own * inner;
        }
    }
    Ok(padded)
}
