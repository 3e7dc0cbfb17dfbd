//! Rows: `instances`, a bare list and `dataframe_records`; each row a value, an object by input or column name, or a list of cells
//! where each input is one column.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::fault::{Fault, Read, shown};
use super::frame::cells;
use super::inputs::{Inputs, check_rows, named};
use super::scanner::Scanner;
use crate::signature::{Dim, Kind, Signature};

/// Reads the list of rows that comes next; answers how many there are. For a model without a batch dimension each is a
/// whole input, and they run one after the other.
pub(super) fn read(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Read<usize> {
    let begin = scanner.at;
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected("a list of rows"));
    }
    let columns = Columns::of(inputs);
    let order = if are_cells(inputs) { inputs.in_order() } else { Vec::new() };
    let mut rows = 0;
    while scanner.another(rows == 0, b']')? {
        if rows == 1 {
            // One allocation for all rows, if they are as long as the first one.
            inputs.expect_times((scanner.bytes.len() - scanner.at) / (scanner.at - begin) + 1);
        }
        check_rows(rows + 1, inputs.limits.max_rows)?;
        row(scanner, inputs, columns.as_ref(), &order, rows).map_err(|fault| fault.at(rows))?;
        rows += 1;
    }
    if rows == 0 {
        return Err(Fault::new("expected at least one row, got none"));
    }
    Ok(rows)
}

/// The dimension where one row's value begins.
fn level(inputs: &Inputs<'_>) -> usize {
    usize::from(inputs.signature.batched || inputs.signature.row_by_row)
}

fn row(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    columns: Option<&Columns<'_>>,
    order: &[usize],
    index: usize,
) -> Read<()> {
    let is_object = scanner.peek() == Some(b'{');
    let single = inputs.list.len() == 1;
    if !is_object && single {
        return inputs.read(0, scanner, level(inputs));
    }
    if !is_object && !order.is_empty() {
        cells(scanner, order, |place, scanner| inputs.read(place, scanner, 1))?;
        return inputs.complete(index + 1);
    }
    if !is_object {
        return Err(scanner.unexpected("an object with a value for every input"));
    }
    if single
        && matches!(inputs.list[0].spec.kind, Kind::Map { .. })
        && !is_named_object(scanner, &inputs.list[0].spec.name)
    {
        return inputs.read(0, scanner, level(inputs));
    }
    if single
        && inputs.is_text(0)
        && first_key_is(scanner, |key| key == "b64")
        && inputs.find("b64", 0).is_err()
    {
        return inputs.read(0, scanner, level(inputs));
    }
    if let Some(columns) = columns
        && !first_key_is(scanner, |key| columns.find(key, 0).is_none() && inputs.find(key, 0).is_ok())
    {
        return columns.read_object(scanner, inputs);
    }
    by_name(scanner, inputs, index)
}

/// Whether a row may be a list with one value for each of several inputs.
fn are_cells(inputs: &Inputs<'_>) -> bool {
    let is_cell = |shape: &[Dim]| matches!(shape, [_] | [_, Dim::Fixed(1)]);
    level(inputs) == 1
        && inputs.list.len() > 1
        && inputs.list.iter().all(|input| input.spec.kind == Kind::Tensor && is_cell(&input.spec.shape))
}

pub(super) fn first_key_is(scanner: &Scanner<'_>, test: impl FnOnce(&str) -> bool) -> bool {
    let mut ahead = scanner.clone();
    matches!(ahead.open(b'{'), Ok(true)) && matches!(ahead.key(true), Ok(Some(key)) if test(&key))
}

/// Whether an object comes whose first value has this name and is an object: no map has such values.
fn is_named_object(scanner: &Scanner<'_>, name: &str) -> bool {
    let mut ahead = scanner.clone();
    matches!(ahead.open(b'{'), Ok(true))
        && matches!(ahead.key(true), Ok(Some(key)) if key == name)
        && ahead.peek() == Some(b'{')
}

/// Reads `{"x": …, "y": …}` as row `index`.
fn by_name(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>, index: usize) -> Read<()> {
    scanner.open(b'{')?;
    let mut keys = 0;
    while let Some(key) = scanner.key(keys == 0)? {
        let input = inputs.find(&key, keys)?;
        if inputs.list[input].times > index {
            return Err(Fault::new(format!("expected each key once, got {} twice", shown(&key))));
        }
        let level = level(inputs);
        inputs.read(input, scanner, level).map_err(|fault| fault.within(&format!("[{}]", shown(&key))))?;
        keys += 1;
    }
    inputs.complete(index + 1)
}

/// The named columns of the one `[batch, columns]` input.
pub(super) struct Columns<'s> {
    pub(super) names: &'s [String],
    /// Made when a key first comes out of order.
    places: OnceCell<HashMap<&'s str, usize>>,
}

impl<'s> Columns<'s> {
    pub(super) fn of(inputs: &Inputs<'s>) -> Option<Self> {
        let names = inputs.signature.columns.as_deref()?;
        let is_table =
            inputs.signature.batched && inputs.list.len() == 1 && inputs.list[0].spec.shape.len() == 2;
        is_table.then(|| Self { names, places: OnceCell::new() })
    }

    pub(super) fn find(&self, name: &str, guess: usize) -> Option<usize> {
        if self.names.get(guess).is_some_and(|column| column == name) {
            return Some(guess);
        }
        let places = || self.names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        self.places.get_or_init(places).get(name).copied()
    }

    pub(super) fn unknown(&self, name: &str) -> Box<Fault> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        Fault::new(format!("expected {}, got unknown column {}", named("column", &names), shown(name)))
    }

    /// Reads `{"alcohol": 13.2, …}`, its keys in any order.
    fn read_object(&self, scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Read<()> {
        scanner.open(b'{')?;
        let begin = inputs.blank_row(self.names.len())?;
        let mut filled = vec![false; self.names.len()];
        let mut keys = 0;
        while let Some(key) = scanner.key(keys == 0)? {
            let place = self.find(&key, keys).ok_or_else(|| self.unknown(&key))?;
            if std::mem::replace(&mut filled[place], true) {
                return Err(Fault::new(format!("expected each key once, got {} twice", shown(&key))));
            }
            inputs
                .set(begin + place, scanner)
                .map_err(|fault| fault.within(&format!("[{}]", shown(&key))))?;
            keys += 1;
        }
        for place in self.left_out(inputs.signature, &filled)? {
            inputs.set_missing(begin + place);
        }
        Ok(())
    }

    /// The columns that were not filled and may be left out; fails, naming it, where there is another one.
    pub(super) fn left_out(&self, signature: &Signature, filled: &[bool]) -> Read<Vec<usize>> {
        let may_be = |place: usize| signature.frame.is_optional(place);
        let not_filled = || (0..filled.len()).filter(|place| !filled[*place]);
        match not_filled().find(|place| !may_be(*place)) {
            None => Ok(not_filled().collect()),
            Some(place) => {
                let name = shown(&self.names[place]);
                Err(Fault::new(format!(
                    "expected a value for each of {} columns, got none for {name}",
                    filled.len()
                )))
            }
        }
    }
}
