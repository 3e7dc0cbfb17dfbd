//! Columns: `{"inputs": {"x": [[…]], "y": …}}`, by the names of inputs or of named columns, or the bare value
//! of a single input.

use super::error::{Decoded, Located, refuse, twice};
use super::inputs::Inputs;
use super::named_columns::NamedColumns;
use super::nested::copy_element;
use super::rows::{is_bare_row, list_hint};
use super::scanner::Scanner;
use crate::tensor::Elements;

/// Reads the value of `inputs`: whole tensors.
pub(super) fn read_columns(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Decoded<()> {
    if scanner.peek() != Some(b'{') {
        if inputs.list.len() != 1 {
            return Err(scanner.unexpected("an object with a value for every input").within("inputs"));
        }
        let start = scanner.clone();
        return inputs.read_value(0, scanner, 0).map_err(|error| {
            let error = error.within("inputs");
            if is_bare_row(&start, inputs, 1) { error.with_hint(&list_hint(inputs)) } else { error }
        });
    }
    if let Some(columns) = NamedColumns::of(inputs)
        && !columns.is_input_next(scanner, inputs)
    {
        return read_named_columns(scanner, inputs, columns).within("inputs");
    }
    let find = |inputs: &Inputs<'_>, key: &str, guess| inputs.find_known(key, guess).within("inputs");
    scanner.read_by_name(inputs, find, |inputs, input, key, scanner| {
        if inputs.list[input].values_read > 0 {
            return Err(twice("key", key).within("inputs"));
        }
        inputs.read_value(input, scanner, 0).in_input(key)
    })?;
    inputs.complete_tensors().within("inputs")
}

/// Reads `{"alcohol": [13.2, …], …}`: named columns, each as long as the others.
fn read_named_columns(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    columns: NamedColumns<'_>,
) -> Decoded<()> {
    let mut columns = WholeColumns::new(columns);
    let find = |columns: &WholeColumns<'_>, key: &str, guess| columns.named.find_known(key, guess);
    scanner.read_by_name(&mut columns, find, |columns, place, key, scanner| {
        if columns.is_filled(place) {
            return Err(twice("key", key));
        }
        columns.read_column(place, scanner, inputs).in_key(key).map(drop)
    })?;
    columns.finish(inputs)
}

/// The named columns of a request that gives each of them as a whole.
pub(super) struct WholeColumns<'s> {
    pub(super) named: NamedColumns<'s>,
    filled: Vec<bool>,
    /// Number of values of the first column.
    rows: Option<usize>,
}

impl<'s> WholeColumns<'s> {
    pub(super) fn new(named: NamedColumns<'s>) -> Self {
        Self { filled: vec![false; named.names.len()], named, rows: None }
    }

    fn width(&self) -> usize {
        self.filled.len()
    }

    pub(super) fn is_filled(&self, place: usize) -> bool {
        self.filled[place]
    }

    /// True if any column was read.
    pub(super) fn has_any(&self) -> bool {
        self.rows.is_some()
    }

    /// Reads a list with a value for each row, in brackets of its own or without; returns the number of
    /// values.
    pub(super) fn read_column(
        &mut self,
        place: usize,
        scanner: &mut Scanner<'_>,
        inputs: &mut Inputs<'_>,
    ) -> Decoded<usize> {
        scanner.enter(b'[', "a list of values, one a row")?;
        let mut count = 0;
        while scanner.another(b']')? {
            let at = self.cell(place, count, inputs)?;
            read_cell(at, scanner, inputs).at(count)?;
            count += 1;
        }
        self.end(place, count)?;
        Ok(count)
    }

    /// Copies a column's values, which have the input's type.
    pub(super) fn copy_column(
        &mut self,
        place: usize,
        values: &Elements,
        inputs: &mut Inputs<'_>,
    ) -> Decoded<()> {
        for row in 0..values.len() {
            let at = self.cell(place, row, inputs)?;
            copy_element(inputs.elements(0), at, values, row);
        }
        self.end(place, values.len())
    }

    /// The index of the element for a column's value in this row. The first column adds the rows.
    fn cell(&self, place: usize, row: usize, inputs: &mut Inputs<'_>) -> Decoded<usize> {
        let width = self.width();
        match self.rows {
            None => {
                inputs.limits.check_rows(row + 1)?;
                inputs.add_zeros(0, width)?;
            }
            Some(rows) if row == rows => {
                return refuse(format!("expected {rows} values as before, got more"));
            }
            Some(_) => {}
        }
        Ok(row * width + place)
    }

    fn end(&mut self, place: usize, count: usize) -> Decoded<()> {
        let rows = *self.rows.get_or_insert(count);
        if count != rows {
            return refuse(format!("expected {rows} values as before, got {count}"));
        }
        self.filled[place] = true;
        Ok(())
    }

    /// Makes one tensor of the columns.
    pub(super) fn finish(self, inputs: &mut Inputs<'_>) -> Decoded<()> {
        let (width, rows) = (self.width(), self.rows.unwrap_or(0));
        for place in self.named.absent(inputs.signature, &self.filled)? {
            for row in 0..rows {
                inputs.set_nan(row * width + place);
            }
        }
        inputs.set_whole(rows);
        Ok(())
    }
}

fn read_cell(at: usize, scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Decoded<()> {
    // A column of shape [rows, 1] has brackets around each value.
    if !scanner.open(b'[')? {
        return inputs.set_cell(at, scanner);
    }
    if !scanner.another(b']')? {
        return refuse("expected 1 value, got none");
    }
    inputs.set_cell(at, scanner)?;
    if scanner.another(b']')? { refuse("expected 1 value, got more") } else { Ok(()) }
}
