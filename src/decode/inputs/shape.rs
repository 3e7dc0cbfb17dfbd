//! Shapes that a request gives, validated against the declared one before memory is taken.

use std::borrow::Cow;

use super::{Input, Inputs};
use crate::decode::error::{DecodeError, Decoded, refuse};
use crate::decode::limits::element_weight;
use crate::tensor::signature::{Dim, ValueKind};

impl Input<'_> {
    /// Sets the shape of a whole tensor, which passed [`Inputs::check_shape`].
    pub(super) fn set_shape(&mut self, shape: &[usize]) {
        self.dims = shape.iter().map(|length| Some(*length)).collect();
        if let Some(padding) = self.padding {
            self.lengths = vec![shape[padding.axis]; shape[0]];
        }
    }
}

impl Inputs<'_> {
    /// The shape in the model's rank: a client may send `[rows]` for `[rows, 1]`, and the reverse.
    pub(super) fn as_declared<'a>(&self, index: usize, shape: &'a [usize]) -> Cow<'a, [usize]> {
        let spec = self.list[index].spec;
        match shape {
            _ if spec.kind == ValueKind::OpenRank => shape.into(),
            [rest @ .., 1] if !rest.is_empty() && rest.len() == spec.shape.len() => rest.into(),
            [_, ..] if shape.len() + 1 == spec.shape.len() && spec.shape.last() == Some(&Dim::Fixed(1)) => {
                [shape, &[1]].concat().into()
            }
            _ => shape.into(),
        }
    }

    /// The number of elements of a tensor with this shape, which must fit the declared shape and the limits.
    pub(super) fn check_shape(&self, index: usize, shape: &[usize]) -> Decoded<usize> {
        let declared = self.list[index].spec;
        let fits = |(dim, length): (&Dim, &usize)| matches!(dim, Dim::Any(_)) || *dim == Dim::Fixed(*length);
        let has_rank = match declared.kind {
            ValueKind::OpenRank => shape.len() >= declared.shape.len(),
            _ => shape.len() == declared.shape.len(),
        };
        if !has_rank || !declared.shape.iter().zip(shape).all(fits) {
            return refuse(format!("expected a shape that fits {}, got {shape:?}", declared.describe()));
        }
        let most = self.limits.max_elements;
        let product = |each: fn(usize) -> usize| {
            let weight = element_weight(declared.element);
            let product = shape.iter().try_fold(weight, |product, length| product.checked_mul(each(*length)));
            product.filter(|product| *product <= most).map(|product| product / weight)
        };
        let count = if shape.contains(&0) { Some(0) } else { product(|length| length) };
        let count = count.ok_or_else(|| {
            DecodeError::too_large(format!("expected at most {most} elements, got shape {shape:?}"))
        })?;
        // A shape without elements still has rows, whose lengths are stored, and lists, which a response
        // writes.
        if product(|length| length.max(1)).is_none() {
            return Err(DecodeError::too_large(format!(
                "expected at most {most} lists without elements, got shape {shape:?}"
            )));
        }
        Ok(count)
    }
}
