//! Values that a row does not have: `null`, an empty cell, or a name that does not come. What is declared stands for them.

use super::element::DECLARE_MISSING;
use super::fault::Read;
use super::inputs::{Input, Inputs};
use super::nested::set_element;
use super::scanner::Scanner;

impl Inputs<'_> {
    /// Consumes a `null` where one comes in place of a row's value and something is declared for that.
    #[inline(always)]
    pub(super) fn is_taken_as_missing(&mut self, index: usize, scanner: &mut Scanner<'_>) -> Read<bool> {
        let input = &self.list[index];
        if !(input.missing.is_some() || input.never_missing) || !scanner.clone().word("null") {
            return Ok(false);
        }
        if !self.take_missing(index) {
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
    pub(super) fn take_missing(&mut self, index: usize) -> bool {
        let input = &mut self.list[index];
        let Some(value) = input.missing else { return false };
        input.elements.extend_from_view(value.view());
        input.times += 1;
        self.total += 1;
        true
    }

    /// The same for whole tensors: as many values as the others have rows.
    pub(super) fn complete_whole(&mut self) -> Read<()> {
        let rows = self.list.iter().find(|input| input.times > 0).and_then(|input| *input.dims.first()?);
        for index in 0..self.list.len() {
            let Input { missing, times, dims, elements, .. } = &mut self.list[index];
            if let (Some(value), Some(rows), 0) = (missing, rows, &times) {
                elements.extend_repeated(value, rows);
                dims[0] = Some(rows);
                *times = 1;
                self.total += rows;
            }
        }
        self.complete(1)
    }
}
