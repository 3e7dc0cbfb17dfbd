//! Elements that are set one at a time, for named columns and tables: rows of zeros are added first, then
//! filled.

use super::Inputs;
use super::read::read_boolean;
use crate::decode::error::Decoded;
use crate::decode::limits::element_weight;
use crate::decode::nested::{grow, set_element};
use crate::decode::scanner::Scanner;
use crate::tensor::Elements;

impl Inputs<'_> {
    /// Appends a row of `width` zeros to a `[batch, width]` input, or one zero to a `[batch]` input. Returns
    /// the index of the first one.
    pub(in crate::decode) fn add_zeros(&mut self, index: usize, width: usize) -> Decoded<usize> {
        let (input, context) = self.with_context(index);
        let begin = input.elements.len();
        if begin + width > context.limit {
            return Err(context.too_many());
        }
        if let Some(padding) = input.padding {
            input.dims[padding.axis] = None;
            input.lengths.push(width);
        }
        if let Some(length) = input.dims.get_mut(1)
            && let Some(expected) = length.replace(width)
            && expected != width
        {
            return Err(context.wrong_length(expected, 1, width));
        }
        grow(&mut input.elements, begin + width);
        input.values_read += 1;
        let weight = element_weight(input.spec.element);
        self.budget.take(weight, width)?;
        Ok(begin)
    }

    /// Appends a row of `width` zeros to the one input, with NaN at the places in `absent`.
    pub(in crate::decode) fn add_row(&mut self, width: usize, absent: &[usize]) -> Decoded<usize> {
        let begin = self.add_zeros(0, width)?;
        absent.iter().for_each(|place| self.set_nan(begin + place));
        Ok(begin)
    }

    /// The elements of an input, whose zeros the caller fills.
    pub(in crate::decode) fn elements(&mut self, index: usize) -> &mut Elements {
        &mut self.list[index].elements
    }

    /// Reads one element into place `at` of the one input, whose columns are named.
    pub(in crate::decode) fn set_cell(&mut self, at: usize, scanner: &mut Scanner<'_>) -> Decoded<()> {
        let rules = &self.signature.column_rules.rules;
        if !rules.is_empty()
            && self.signature.column_rules.is_boolean(at % rules.len())
            && let Some(digit) = read_boolean(scanner)
        {
            return set_element(&mut self.list[0].elements, at, &mut Scanner::new(digit)?);
        }
        set_element(&mut self.list[0].elements, at, scanner)
    }

    /// Sets element `at` of the one input, which has floats, to NaN: the value of a column that a row leaves
    /// out.
    pub(in crate::decode) fn set_nan(&mut self, at: usize) {
        let null =
            Scanner::new(b"null").and_then(|mut null| set_element(&mut self.list[0].elements, at, &mut null));
        debug_assert!(null.is_ok(), "columns of other types may not be left out");
    }

    /// Makes one whole tensor of the rows that [`Self::add_zeros`] added to the one input.
    pub(in crate::decode) fn set_whole(&mut self, rows: usize) {
        let input = &mut self.list[0];
        input.dims[0] = Some(rows);
        input.values_read = 1;
    }
}
