//! Rows: `instances`, a bare list and `dataframe_records`; each row a value, an object by input or column name, or a list of cells
//! where each input is one column.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::example;
use super::inputs::{Inputs, check_rows, named};
use super::scanner::Scanner;
use crate::decode::error::{DecodeError, Decoded, did_you_mean, quoted};
use crate::decode::pandas_split::cells;
use crate::tensor::signature::{Dim, Signature, ValueKind};

/// Reads the list of rows that comes next; answers how many there are. For a model without a batch dimension each is a
/// whole input, and they run one after the other.
pub(super) fn read(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Decoded<usize> {
    let (begin, start) = (scanner.at, scanner.clone());
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected("a list of rows"));
    }
    let columns = Columns::of(inputs);
    let order: Vec<Option<usize>> =
        if are_cells(inputs) { inputs.in_order().into_iter().map(Some).collect() } else { Vec::new() };
    let mut rows = 0;
    while scanner.another(rows == 0, b']')? {
        if rows == 1 {
            // One allocation for all rows, if they are as long as the first one.
            inputs.expect_times((scanner.bytes.len() - scanner.at) / (scanner.at - begin) + 1);
        }
        check_rows(rows + 1, inputs.limits.max_rows)?;
        row(scanner, inputs, columns.as_ref(), &order, rows).map_err(|error| {
            let error = error.at(rows);
            if rows == 0 && is_bare_row(&start, inputs, level(inputs)) {
                error.and(&lists_rows(inputs))
            } else {
                error
            }
        })?;
        rows += 1;
    }
    if rows == 0 {
        return Err(DecodeError::new("expected at least one row, got none"));
    }
    Ok(rows)
}

/// The dimension where one row's value begins.
pub(super) fn level(inputs: &Inputs<'_>) -> usize {
    usize::from(inputs.signature.batched || inputs.signature.row_by_row)
}

fn row(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    columns: Option<&Columns<'_>>,
    order: &[Option<usize>],
    index: usize,
) -> Decoded<()> {
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
        && matches!(inputs.list[0].spec.kind, ValueKind::Map { .. })
        && !is_named_object(scanner, &inputs.list[0].spec.name)
    {
        return inputs.read(0, scanner, level(inputs));
    }
    if single
        && inputs.is_text(0)
        && first_key_is(scanner, |key| key == "b64")
        && inputs.position("b64", 0).is_none()
    {
        return inputs.read(0, scanner, level(inputs));
    }
    if let Some(columns) = columns
        && !first_key_is(scanner, |key| columns.find(key, 0).is_none() && inputs.position(key, 0).is_some())
    {
        return columns.read_object(scanner, inputs);
    }
    by_name(scanner, inputs, index)
}

/// Whether a list that comes next is a row where a list of rows must be: its first element has no brackets, though the elements
/// of the list have the one input's dimensions from `level` on.
pub(super) fn is_bare_row(scanner: &Scanner<'_>, inputs: &Inputs<'_>, level: usize) -> bool {
    let mut ahead = scanner.clone();
    let takes_scalars = match &inputs.list[..] {
        [only] => only.spec.shape.iter().skip(level).all(|dim| *dim == Dim::Fixed(1)),
        _ => false,
    };
    !takes_scalars && ahead.take(b'[') && !matches!(ahead.peek(), None | Some(b'[' | b'{' | b']'))
}

/// A hint for a row that stands where a list of rows must be.
#[cold]
pub(super) fn lists_rows(inputs: &Inputs<'_>) -> String {
    format!("a list of rows is expected, also for one row: {}", example::instances(inputs))
}

/// Whether a row may be a list with one value for each of several inputs.
fn are_cells(inputs: &Inputs<'_>) -> bool {
    let is_cell = |shape: &[Dim]| matches!(shape, [_] | [_, Dim::Fixed(1)]);
    level(inputs) == 1
        && inputs.list.len() > 1
        && inputs.list.iter().all(|input| input.spec.kind == ValueKind::Tensor && is_cell(&input.spec.shape))
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
fn by_name(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>, index: usize) -> Decoded<()> {
    scanner.open(b'{')?;
    let mut keys = 0;
    while let Some(key) = scanner.key(keys == 0)? {
        keys += 1;
        let Some(input) = inputs.find_known(&key, keys - 1)? else {
            scanner.skip()?;
            continue;
        };
        if inputs.list[input].times > index {
            return Err(DecodeError::new(format!("expected each key once, got {} twice", quoted(&key))));
        }
        let level = level(inputs);
        inputs.read(input, scanner, level).map_err(|error| error.within(&format!("[{}]", quoted(&key))))?;
    }
    inputs.complete(index + 1)
}

/// The named columns of the one `[batch, columns]` input.
pub(super) struct Columns<'s> {
    pub(super) names: &'s [String],
    ignores_unknown: bool,
    /// Made when a key first comes out of order.
    places: OnceCell<HashMap<&'s str, usize>>,
}

impl<'s> Columns<'s> {
    pub(super) fn of(inputs: &Inputs<'s>) -> Option<Self> {
        let names = inputs.signature.columns.as_deref()?;
        let is_table =
            inputs.signature.batched && inputs.list.len() == 1 && inputs.list[0].spec.shape.len() == 2;
        let ignores_unknown = inputs.signature.column_rules.ignores_unknown;
        is_table.then(|| Self { names, ignores_unknown, places: OnceCell::new() })
    }

    pub(super) fn find(&self, name: &str, guess: usize) -> Option<usize> {
        if self.names.get(guess).is_some_and(|column| column == name) {
            return Some(guess);
        }
        let places = || self.names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        self.places.get_or_init(places).get(name).copied()
    }

    /// The same; `None` for a column that is passed over, an error for one that must not be there.
    pub(super) fn find_known(&self, name: &str, guess: usize) -> Decoded<Option<usize>> {
        match self.find(name, guess) {
            None if !self.ignores_unknown => Err(self.unknown(name)),
            found => Ok(found),
        }
    }

    #[cold]
    fn unknown(&self, name: &str) -> Box<DecodeError> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        DecodeError::new(format!(
            "expected {}, got unknown column {}{}",
            named("column", &names),
            quoted(name),
            did_you_mean(name, &names)
        ))
    }

    /// Reads `{"alcohol": 13.2, …}`, its keys in any order.
    fn read_object(&self, scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Decoded<()> {
        scanner.open(b'{')?;
        let begin = inputs.blank_row(self.names.len())?;
        let mut filled = vec![false; self.names.len()];
        let mut keys = 0;
        while let Some(key) = scanner.key(keys == 0)? {
            keys += 1;
            let Some(place) = self.find_known(&key, keys - 1)? else {
                scanner.skip()?;
                continue;
            };
            if std::mem::replace(&mut filled[place], true) {
                return Err(DecodeError::new(format!("expected each key once, got {} twice", quoted(&key))));
            }
            inputs
                .set(begin + place, scanner)
                .map_err(|error| error.within(&format!("[{}]", quoted(&key))))?;
        }
        for place in self.left_out(inputs.signature, &filled)? {
            inputs.set_missing(begin + place);
        }
        Ok(())
    }

    /// The columns that were not filled and may be left out; fails, naming it, where there is another one.
    pub(super) fn left_out(&self, signature: &Signature, filled: &[bool]) -> Decoded<Vec<usize>> {
        let may_be = |place: usize| signature.column_rules.is_optional(place);
        let not_filled = || (0..filled.len()).filter(|place| !filled[*place]);
        match not_filled().find(|place| !may_be(*place)) {
            None => Ok(not_filled().collect()),
            Some(place) => {
                let name = quoted(&self.names[place]);
                Err(DecodeError::new(format!(
                    "expected a value for each of {} columns, got none for {name}",
                    filled.len()
                )))
            }
        }
    }
}
