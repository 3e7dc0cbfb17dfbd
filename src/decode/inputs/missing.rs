//! Missing values: `null`, an empty cell, or a name that a row leaves out. The bundle declares what replaces
//! them.

use super::Inputs;
use crate::decode::element::DECLARE_MISSING;
use crate::decode::error::Decoded;
use crate::decode::limits::copy_weight;
use crate::decode::scanner::Scanner;

impl Inputs<'_> {
    /// Consumes `null` and adds the declared value for it; returns false if no `null` comes next, or none is
    /// declared.
    #[inline(always)]
    pub(super) fn takes_null(&mut self, index: usize, scanner: &mut Scanner<'_>) -> Decoded<bool> {
        if !self.has_missing_rule(index) || !scanner.clone().word("null") {
            return Ok(false);
        }
        if !self.add_missing(index)? {
            return Err(scanner.unexpected("a number").with_hint(DECLARE_MISSING));
        }
        Ok(scanner.word("null"))
    }

    /// True if the bundle decides on this input's missing values: it declares a value for them, or refuses
    /// them.
    pub(in crate::decode) fn has_missing_rule(&self, index: usize) -> bool {
        let input = &self.list[index];
        input.missing.is_some() || input.never_missing
    }

    /// Appends the declared value for a row without one; returns false if none is declared.
    pub(in crate::decode) fn add_missing(&mut self, index: usize) -> Decoded<bool> {
        let Some(value) = self.list[index].missing else { return Ok(false) };
        self.budget.take(copy_weight(value), 1)?;
        let input = &mut self.list[index];
        input.elements.extend_from_view(value.view());
        input.values_read += 1;
        Ok(true)
    }

    /// Fills the whole tensors that the request leaves out with the declared value, as many as the others
    /// have rows.
    pub(super) fn add_missing_tensors(&mut self) -> Decoded<()> {
        let rows =
            self.list.iter().find(|input| input.values_read > 0).and_then(|input| *input.dims.first()?);
        for index in 0..self.list.len() {
            let input = &self.list[index];
            if let (Some(value), Some(rows), 0) = (input.missing, rows, input.values_read) {
                self.limits.check_rows(rows)?;
                self.budget.take(copy_weight(value), rows)?;
                let input = &mut self.list[index];
                input.elements.extend_repeated(value, rows);
                input.dims[0] = Some(rows);
                input.values_read = 1;
            }
        }
        Ok(())
    }
}
