//! Reading of whole values: one row of an input, or a whole tensor.

use super::{Input, Inputs};
use crate::decode::binary;
use crate::decode::composite::{next_rank, read_composite};
use crate::decode::error::{Decoded, Located, plural, refuse};
use crate::decode::limits::element_weight;
use crate::decode::nested::{read_nested, reserve};
use crate::decode::scanner::Scanner;
use crate::tensor::Elements;
use crate::tensor::signature::{Dim, ValueKind};

impl Input<'_> {
    /// True if the rows of a whole tensor must be read one by one.
    fn is_read_by_row(&self) -> bool {
        let is_list = !self.spec.shape.is_empty();
        is_list && (self.padding.is_some() || self.missing.is_some() || self.never_missing || self.is_boolean)
    }
}

impl Inputs<'_> {
    /// Appends one value, whose shape is the input's from dimension `level` on: 1 for a row, 0 for a whole
    /// tensor.
    pub(in crate::decode) fn read_value(
        &mut self,
        index: usize,
        scanner: &mut Scanner<'_>,
        level: usize,
    ) -> Decoded<()> {
        match self.list[index].spec.kind {
            ValueKind::Tensor => {}
            ValueKind::OpenRank => self.learn_rank(index, scanner, level),
            ValueKind::Optional => {
                if scanner.word("null") {
                    self.list[index].nulls += 1;
                    return Ok(());
                }
            }
            ValueKind::Map { .. } | ValueKind::Sequence { .. } => {
                return self.read_composite_value(index, scanner);
            }
        }
        if level == 0 && self.list[index].is_read_by_row() {
            return self.read_by_row(index, scanner);
        }
        if self.takes_null(index, scanner)? {
            return Ok(());
        }
        if self.list[index].is_boolean
            && let Some(digit) = read_boolean(scanner)
        {
            return self.read_value(index, &mut Scanner::new(digit)?, level);
        }
        let (input, context) = self.with_context(index);
        let before = input.elements.len();
        if let Some(padding) = input.padding {
            input.dims[padding.axis] = None;
        }
        let dims = input.dims.get_mut(level..).unwrap_or_default();
        read_nested(&mut input.elements, scanner, dims, &context)?;
        if let Some(padding) = input.padding {
            input.lengths.push(input.dims[padding.axis].unwrap_or(0));
        }
        input.values_read += 1;
        let input = &self.list[index];
        self.budget.take(element_weight(input.spec.element), input.elements.len() - before)
    }

    /// Takes the rank from the first value, if the model leaves it open.
    fn learn_rank(&mut self, index: usize, scanner: &Scanner<'_>, level: usize) {
        let input = &mut self.list[index];
        if input.values_read == 0 {
            input.dims.resize(input.dims.len().max(level + next_rank(scanner)), None);
        }
    }

    /// Appends a map or a sequence of tensors.
    fn read_composite_value(&mut self, index: usize, scanner: &mut Scanner<'_>) -> Decoded<()> {
        let input = &mut self.list[index];
        let composite = read_composite(input.spec, scanner, &mut self.budget)?;
        let Elements::Composite(all) = &mut input.elements else {
            unreachable!("the elements of such an input are composites")
        };
        all.push(composite);
        input.values_read += 1;
        Ok(())
    }

    /// Reads a whole tensor whose rows may differ in length, or be missing.
    fn read_by_row(&mut self, index: usize, scanner: &mut Scanner<'_>) -> Decoded<()> {
        if !scanner.open(b'[')? {
            return Err(scanner.unexpected(&format!("an array ({})", self.list[index].spec.describe())));
        }
        let mut rows = 0;
        while scanner.another(b']')? {
            self.limits.check_rows(rows + 1)?;
            self.read_value(index, scanner, 1).at(rows)?;
            rows += 1;
        }
        let (input, context) = self.with_context(index);
        if let Some(expected) = input.spec.shape[0].fixed()
            && expected != rows
        {
            return Err(context.wrong_length(expected, input.dims.len(), rows));
        }
        input.dims[0] = Some(rows);
        input.values_read = 1;
        Ok(())
    }

    /// Takes a whole tensor from bytes: little-endian elements side by side, strings with their lengths
    /// before them.
    pub(in crate::decode) fn read_binary(
        &mut self,
        index: usize,
        bytes: &[u8],
        shape: &[usize],
    ) -> Decoded<()> {
        let shape = &*self.as_declared(index, shape);
        let count = self.check_shape(index, shape)?;
        let (input, context) = self.with_context(index);
        if count > context.limit {
            return Err(context.too_many());
        }
        input.elements = binary::read_elements(input.spec.element, bytes, count)?;
        input.set_shape(shape);
        input.values_read += 1;
        self.budget.take(element_weight(self.list[index].spec.element), count)
    }

    /// Reads the data of a tensor whose shape the request gives: nested as the shape says, or flat.
    pub(in crate::decode) fn read_shaped(
        &mut self,
        index: usize,
        scanner: &mut Scanner<'_>,
        shape: &[usize],
    ) -> Decoded<()> {
        let declared = self.as_declared(index, shape);
        let count = self.check_shape(index, &declared)?;
        let (input, mut context) = self.with_context(index);
        context.has_shape = true;
        let mut ahead = scanner.clone();
        let is_flat = !(ahead.take(b'[') && ahead.peek() == Some(b'['));
        let mut dims: Vec<Option<usize>> =
            if is_flat { vec![None] } else { shape.iter().map(|length| Some(*length)).collect() };
        // The shape is only a claim; the body's length bounds the elements (a digit and a comma each).
        reserve(&mut input.elements, count.min(context.limit).min(scanner.bytes.len() / 2));
        let is_column =
            matches!(shape, [_] | [_, 1]) && matches!(&input.spec.shape[..], [_] | [_, Dim::Fixed(1)]);
        if is_flat && is_column && input.padding.is_none() && input.is_read_by_row() {
            self.read_by_row(index, scanner)?;
            self.list[index].values_read = 0;
        } else {
            read_nested(&mut input.elements, scanner, &mut dims, &context)?;
            let (weight, count) = (element_weight(input.spec.element), input.elements.len());
            self.budget.take(weight, count)?;
        }
        let input = &mut self.list[index];
        let got = input.elements.len();
        if got != count {
            let plural = plural(count);
            return refuse(format!("expected {count} value{plural} for shape {shape:?}, got {got}"));
        }
        input.set_shape(&declared);
        input.values_read += 1;
        Ok(())
    }
}

/// Consumes `true` or `false`; returns the digit that replaces it.
pub(super) fn read_boolean(scanner: &mut Scanner<'_>) -> Option<&'static [u8]> {
    if scanner.word("true") {
        return Some(b"1");
    }
    scanner.word("false").then_some(b"0")
}
