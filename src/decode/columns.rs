//! Columns: `{"inputs": {"x": [[…]], "y": …}}`, by the names of inputs or of a table's columns, or the bare value of a single input.

use super::inputs::{Inputs, check_rows};
use super::nested::copy_element;
use super::rows::{Columns, first_key_is, is_bare_row, lists_rows};
use super::scanner::Scanner;
use crate::decode::error::{DecodeError, Decoded, quoted};
use crate::tensor::Elements;

/// Reads what stands under `inputs`: whole tensors.
pub(super) fn read(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Decoded<()> {
    if scanner.peek() != Some(b'{') {
        if inputs.list.len() != 1 {
            return Err(scanner.unexpected("an object with a value for every input").within("inputs"));
        }
        let start = scanner.clone();
        return inputs.read(0, scanner, 0).map_err(|error| {
            let error = error.within("inputs");
            if is_bare_row(&start, inputs, 1) { error.and(&lists_rows(inputs)) } else { error }
        });
    }
    if let Some(table) = Columns::of(inputs)
        && !first_key_is(scanner, |key| table.find(key, 0).is_none() && inputs.position(key, 0).is_some())
    {
        return by_column(scanner, inputs, table).map_err(|error| error.within("inputs"));
    }
    scanner.open(b'{')?;
    let mut keys = 0;
    while let Some(key) = scanner.key(keys == 0)? {
        keys += 1;
        let found = inputs.find_known(&key, keys - 1).map_err(|error| error.within("inputs"))?;
        let Some(input) = found else {
            scanner.skip()?;
            continue;
        };
        if inputs.list[input].times > 0 {
            return Err(DecodeError::new(format!("expected each key once, got {} twice", quoted(&key)))
                .within("inputs"));
        }
        inputs.read(input, scanner, 0).map_err(|error| error.within(&format!("input {}", quoted(&key))))?;
    }
    inputs.complete_whole().map_err(|error| error.within("inputs"))
}

/// Reads `{"alcohol": [13.2, …], …}`: the columns of the one input, as long as each other.
fn by_column(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>, table: Columns<'_>) -> Decoded<()> {
    scanner.open(b'{')?;
    let mut columns = WholeColumns::new(table);
    let mut keys = 0;
    while let Some(key) = scanner.key(keys == 0)? {
        keys += 1;
        let Some(place) = columns.table.find_known(&key, keys - 1)? else {
            scanner.skip()?;
            continue;
        };
        if columns.is_filled(place) {
            return Err(DecodeError::new(format!("expected each key once, got {} twice", quoted(&key))));
        }
        columns.read(place, scanner, inputs).map_err(|error| error.within(&format!("[{}]", quoted(&key))))?;
    }
    columns.finish(inputs)
}

/// The named columns of the one input, each of which comes as a whole.
pub(super) struct WholeColumns<'s> {
    pub(super) table: Columns<'s>,
    filled: Vec<bool>,
    /// How many values the first column had.
    rows: Option<usize>,
}

impl<'s> WholeColumns<'s> {
    pub(super) fn new(table: Columns<'s>) -> Self {
        Self { filled: vec![false; table.names.len()], table, rows: None }
    }

    fn width(&self) -> usize {
        self.filled.len()
    }

    pub(super) fn is_filled(&self, place: usize) -> bool {
        self.filled[place]
    }

    /// Whether a column has come.
    pub(super) fn has_any(&self) -> bool {
        self.rows.is_some()
    }

    /// Reads a list with a value for each row, which may have brackets of its own; answers how many there are.
    pub(super) fn read(
        &mut self,
        place: usize,
        scanner: &mut Scanner<'_>,
        inputs: &mut Inputs<'_>,
    ) -> Decoded<usize> {
        if !scanner.open(b'[')? {
            return Err(scanner.unexpected("a list of values, one a row"));
        }
        let mut count = 0;
        while scanner.another(count == 0, b']')? {
            let at = self.cell(place, count, inputs)?;
            cell(at, scanner, inputs).map_err(|error| error.at(count))?;
            count += 1;
        }
        self.end(place, count)?;
        Ok(count)
    }

    /// Takes a column's values, which are of the input's own type.
    pub(super) fn take(&mut self, place: usize, values: &Elements, inputs: &mut Inputs<'_>) -> Decoded<()> {
        for row in 0..values.len() {
            let at = self.cell(place, row, inputs)?;
            copy_element(inputs.elements(0), at, values, row);
        }
        self.end(place, values.len())
    }

    /// Where the column's value in this row goes. The first column makes the rows.
    fn cell(&self, place: usize, row: usize, inputs: &mut Inputs<'_>) -> Decoded<usize> {
        let width = self.width();
        match self.rows {
            None => {
                check_rows(row + 1, inputs.limits.max_rows)?;
                inputs.blank_row(width)?;
            }
            Some(rows) if row == rows => {
                return Err(DecodeError::new(format!("expected {rows} values as before it, got more")));
            }
            Some(_) => {}
        }
        Ok(row * width + place)
    }

    fn end(&mut self, place: usize, count: usize) -> Decoded<()> {
        let rows = *self.rows.get_or_insert(count);
        if count != rows {
            return Err(DecodeError::new(format!("expected {rows} values as before it, got {count}")));
        }
        self.filled[place] = true;
        Ok(())
    }

    /// Makes one tensor of them.
    pub(super) fn finish(self, inputs: &mut Inputs<'_>) -> Decoded<()> {
        let (width, rows) = (self.width(), self.rows.unwrap_or(0));
        for place in self.table.left_out(inputs.signature, &self.filled)? {
            for row in 0..rows {
                inputs.set_missing(row * width + place);
            }
        }
        inputs.are_whole(rows);
        Ok(())
    }
}

fn cell(at: usize, scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Decoded<()> {
    // The brackets of a column of shape [rows, 1].
    if !scanner.open(b'[')? {
        return inputs.set(at, scanner);
    }
    if !scanner.another(true, b']')? {
        return Err(DecodeError::new("expected 1 value, got none"));
    }
    inputs.set(at, scanner)?;
    if scanner.another(false, b']')? { Err(DecodeError::new("expected 1 value, got more")) } else { Ok(()) }
}
