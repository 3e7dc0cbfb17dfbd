//! Owns the tensors of a request while its body is read: typed buffers that fill in the body's order, and
//! their shapes.
//!
//! Values are added by [`read`] (whole values), [`cells`] (one element at a time) and [`missing`] (declared
//! values for what a request leaves out). [`shape`] validates shapes that a request gives, and [`finish`]
//! makes the [`Request`](super::Request).

mod cells;
mod column_rules;
mod finish;
mod missing;
mod padding;
mod read;
mod shape;

use super::error::{DecodeError, Decoded, quoted, unknown};
use super::limits::{ElementBudget, Limits, element_weight};
use super::nested::{ValueContext, reserve};
use crate::tensor::Elements;
use crate::tensor::signature::{Dim, Padding, Signature, TensorSpec};

/// One input with the values that were read so far.
pub(super) struct Input<'s> {
    pub(super) spec: &'s TensorSpec,
    /// The length of each dimension: declared, else that of the first array, else not yet known.
    dims: Vec<Option<usize>>,
    elements: Elements,
    /// Number of values that were read: rows, or 1 for a whole tensor.
    pub(super) values_read: usize,
    padding: Option<&'s Padding>,
    /// The declared value for a missing one.
    missing: Option<&'s Elements>,
    /// Floats that refuse a missing value.
    never_missing: bool,
    /// Takes `true` and `false` for 1 and 0.
    is_boolean: bool,
    /// Each row's own length in the padded dimension.
    lengths: Vec<usize>,
    /// Number of rows with `null` for an optional value.
    nulls: usize,
}

pub(super) struct Inputs<'s> {
    pub(super) signature: &'s Signature,
    pub(super) limits: Limits,
    pub(super) list: Vec<Input<'s>>,
    budget: ElementBudget,
}

impl<'s> Inputs<'s> {
    /// Empty inputs for a body of `length` bytes, each with room for one row of the declared shape.
    pub(super) fn new(signature: &'s Signature, limits: Limits, length: usize) -> Self {
        // A body has at most half as many elements as bytes: a digit and a comma each.
        let mut left = (length / 2).min(limits.max_elements);
        let mut room = |spec: &TensorSpec| {
            let row = spec.shape.iter().filter_map(Dim::fixed).try_fold(1_usize, usize::checked_mul);
            let row = row.unwrap_or(usize::MAX).min(left / element_weight(spec.element));
            left -= row * element_weight(spec.element);
            row
        };
        let start = |(index, spec): (usize, &'s TensorSpec)| Input {
            spec,
            padding: signature.padding.iter().find(|padding| padding.input == index),
            missing: signature.missing.iter().find(|(input, _)| *input == index).map(|(_, value)| value),
            never_missing: signature.column_rules.never_missing.contains(&index),
            is_boolean: signature.columns.is_none() && signature.column_rules.is_boolean(index),
            lengths: Vec::new(),
            nulls: 0,
            dims: spec.shape.iter().map(Dim::fixed).collect(),
            elements: Elements::with_capacity(spec.element, room(spec)),
            values_read: 0,
        };
        let list = signature.inputs.iter().enumerate().map(start).collect();
        let max_elements = limits.max_elements;
        Self { signature, limits, list, budget: ElementBudget { left: max_elements, max_elements } }
    }

    /// The dimension of a tensor at which the value of one row begins.
    pub(super) fn row_level(&self) -> usize {
        usize::from(self.signature.batched || self.signature.row_by_row)
    }

    /// The position of the input called `name`. Tries `guess` first, since most clients keep the model's
    /// order.
    pub(super) fn position(&self, name: &str, guess: usize) -> Option<usize> {
        if self.list.get(guess).is_some_and(|input| input.spec.name == name) {
            return Some(guess);
        }
        self.list.iter().position(|input| input.spec.name == name)
    }

    /// Like `position`, with an error for an unknown input, or `None` if the bundle ignores unknown ones.
    pub(super) fn find_known(&self, name: &str, guess: usize) -> Decoded<Option<usize>> {
        match self.position(name, guess) {
            None if !self.signature.column_rules.ignores_unknown => Err(self.unknown(name)),
            found => Ok(found),
        }
    }

    #[cold]
    fn unknown(&self, name: &str) -> Box<DecodeError> {
        if self.signature.defaults.iter().any(|input| input == name) {
            let name = quoted(name);
            return DecodeError::new(format!(
                "input {name} has a value of its own in the model, which is always taken; leave it out"
            ));
        }
        unknown("input", name, self.list.iter().map(|input| input.spec.name.as_str()))
    }

    /// Positions of the inputs in the order of a row without names.
    pub(super) fn in_order(&self) -> Vec<usize> {
        if self.signature.column_rules.order.is_empty() {
            return (0..self.list.len()).collect();
        }
        self.signature.column_rules.order.clone()
    }

    /// Reserves room for `times` the elements that are there, within the limits.
    pub(super) fn reserve_times(&mut self, times: usize) {
        let mut left = self.budget.left;
        for input in &mut self.list {
            let weight = element_weight(input.spec.element);
            let more = input.elements.len().saturating_mul(times).min(left / weight);
            left -= more * weight;
            reserve(&mut input.elements, more);
        }
    }

    /// An input, and the context in which its next value is read.
    fn with_context(&mut self, index: usize) -> (&mut Input<'s>, ValueContext<'s>) {
        let input = &mut self.list[index];
        let limit = input.elements.len() + self.budget.left / element_weight(input.spec.element);
        let mut context = ValueContext::new(input.spec, limit, &self.budget);
        context.may_be_padded = self.signature.batched;
        (input, context)
    }
}
