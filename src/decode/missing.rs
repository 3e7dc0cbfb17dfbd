//! Values that a row does not have: `null`, an empty cell, or a name that does not come. What is declared stands for them.

use super::element::DECLARE_MISSING;
use super::inputs::{Inputs, check_rows};
use super::nested::set_element;
use super::scanner::Scanner;
use super::weight;
use crate::decode::error::Decoded;
use crate::tensor::Elements;

/// Numbers that each repetition of a declared value takes the memory of.
pub(super) fn weight_of(value: &Elements) -> usize {
    let text = if let Elements::String(texts) = value { texts.first().map_or(0, String::len) } else { 0 };
    weight(value.element()) + text / 8
}

impl Inputs<'_> {
    /// Consumes a `null` where one comes in place of a row's value and something is declared for that.
    #[inline(always)]
    pub(super) fn is_taken_as_missing(&mut self, index: usize, scanner: &mut Scanner<'_>) -> Decoded<bool> {
        let input = &self.list[index];
        if !(input.missing.is_some() || input.never_missing) || !scanner.clone().word("null") {
            return Ok(false);
        }
        if !self.take_missing(index)? {
            return Err(scanner.unexpected("a number").and(DECLARE_MISSING));
        }
        Ok(scanner.word("null"))
    }

    /// Makes element `at` of the one input, which takes floats, NaN: a column that may be left out, and was.
    pub(super) fn set_missing(&mut self, at: usize) {
        let null =
            Scanner::new(b"null").and_then(|mut null| set_element(&mut self.list[0].elements, at, &mut null));
        debug_assert!(null.is_ok(), "columns of other types may not be left out");
    }

    /// Whether a missing value is refused though the input takes floats.
    pub(super) fn is_never_missing(&self, index: usize) -> bool {
        self.list[index].never_missing
    }

    /// Whether something is declared for this input's missing values.
    pub(super) fn has_missing(&self, index: usize) -> bool {
        self.list[index].missing.is_some()
    }

    /// The value that was declared for a row without one; false where none was.
    pub(super) fn take_missing(&mut self, index: usize) -> Decoded<bool> {
        let Some(value) = self.list[index].missing else { return Ok(false) };
        self.count(weight_of(value), 1)?;
        let input = &mut self.list[index];
        input.elements.extend_from_view(value.view());
        input.times += 1;
        Ok(true)
    }

    /// The same for whole tensors: as many values as the others have rows.
    pub(super) fn complete_whole(&mut self) -> Decoded<()> {
        let rows = self.list.iter().find(|input| input.times > 0).and_then(|input| *input.dims.first()?);
        for index in 0..self.list.len() {
            if let (Some(value), Some(rows), 0) = (self.list[index].missing, rows, self.list[index].times) {
                check_rows(rows, self.limits.max_rows)?;
                self.count(weight_of(value), rows)?;
                let input = &mut self.list[index];
                input.elements.extend_repeated(value, rows);
                input.dims[0] = Some(rows);
                input.times = 1;
            }
        }
        self.complete(1)
    }
}
