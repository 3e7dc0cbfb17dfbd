//! pandas' `{"dataframe_split": {"columns": […], "index": […], "data": [[…], …]}}`, as MLflow's clients send it.

use super::inputs::{Inputs, check_rows};
use super::rows::Columns;
use super::scanner::Scanner;
use crate::decode::error::{DecodeError, Decoded, quoted};

/// Reads the object that comes next; answers how many rows it holds. Its columns are the model's named columns, or its
/// inputs when it has several; a single input without column names takes them in the order given.
pub(super) fn read(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Decoded<usize> {
    if !scanner.open(b'{')? {
        return Err(scanner.unexpected("an object with columns and data"));
    }
    if !inputs.signature.batched && !inputs.signature.row_by_row {
        return Err(DecodeError::new(
            "expected another form: the model has no batch dimension, so it takes no table",
        ));
    }
    let (mut columns, mut data) = (None, None);
    let mut first = true;
    while let Some(key) = scanner.key(first)? {
        first = false;
        scanner.peek();
        let seen = match &*key {
            "columns" => {
                let names = names(scanner, inputs.limits.max_fields);
                columns.replace(names.map_err(|error| error.within(".columns"))?).is_some()
            }
            "data" => {
                let seen = data.replace(scanner.clone()).is_some();
                scanner.skip()?;
                seen
            }
            _ => {
                scanner.skip()?;
                false
            }
        };
        if seen {
            return Err(DecodeError::new(format!("expected each key once, got {} twice", quoted(&key))));
        }
    }
    let missing = |key: &str| DecodeError::new(format!("expected columns and data, got no {key}"));
    let columns = columns.ok_or_else(|| missing("columns"))?;
    let mut data = data.ok_or_else(|| missing("data"))?;
    let target = Target::of(inputs, &columns).map_err(|error| error.within(".columns"))?;
    table(&mut data, inputs, &target).map_err(|error| error.within(".data"))
}

fn names(scanner: &mut Scanner<'_>, most: usize) -> Decoded<Vec<String>> {
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected("a list of column names"));
    }
    let mut names = Vec::new();
    while scanner.another(names.is_empty(), b']')? {
        if names.len() == most {
            return Err(DecodeError::too_large(format!("expected at most {most} columns, got more")));
        }
        if scanner.peek() != Some(b'"') {
            // A frame without names has whole numbers for them.
            let begin = scanner.at;
            scanner.skip()?;
            names.push(scanner.text[begin..scanner.at].to_owned());
            continue;
        }
        names.push(scanner.string()?.into_owned());
    }
    Ok(names)
}

/// Where each cell goes; `None` for one that is passed over.
type Places = Vec<Option<usize>>;

/// Where the cells of a row go.
pub(super) enum Target {
    /// Cell i is element `places[i]` of the row of `width` elements, of which those in `left_out` have no cell.
    Elements { width: usize, places: Places, left_out: Vec<usize> },
    /// Cell i is a row of input `inputs[i]`.
    Inputs(Places),
    /// The row is the single input's, as it stands.
    Whole,
}

impl Target {
    /// For columns called so, in this order.
    pub(super) fn of(inputs: &Inputs<'_>, names: &[String]) -> Decoded<Self> {
        let is_whole =
            Columns::of(inputs).is_none() && matches!(&inputs.list[..], [only] if only.spec.shape.len() == 2);
        if is_whole { Ok(Self::Whole) } else { Self::by_name(inputs, names) }
    }

    /// For columns that have the names of the model's columns or inputs.
    pub(super) fn by_name(inputs: &Inputs<'_>, names: &[String]) -> Decoded<Self> {
        let table = Columns::of(inputs);
        let mut places = Vec::with_capacity(names.len());
        let count = table.as_ref().map_or(inputs.list.len(), |table| table.names.len());
        let mut filled = vec![false; count];
        for (position, name) in names.iter().enumerate() {
            let place = match &table {
                Some(table) => table.find_known(name, position)?,
                None => inputs.find_known(name, position)?,
            };
            if place.is_some_and(|place| std::mem::replace(&mut filled[place], true)) {
                return Err(DecodeError::new(format!(
                    "expected each column once, got {} twice",
                    quoted(name)
                )));
            }
            places.push(place);
        }
        match table {
            Some(table) => {
                let left_out = table.left_out(inputs.signature, &filled)?;
                Ok(Self::Elements { width: count, places, left_out })
            }
            // What is missing shows when the first row is complete.
            None => Ok(Self::Inputs(places)),
        }
    }
}

fn table(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>, target: &Target) -> Decoded<usize> {
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected("a list of rows"));
    }
    let mut rows = 0;
    while scanner.another(rows == 0, b']')? {
        check_rows(rows + 1, inputs.limits.max_rows)?;
        let read = match target {
            Target::Whole => inputs.read(0, scanner, 1),
            Target::Elements { width, places, left_out } => inputs.blank_row(*width).and_then(|begin| {
                left_out.iter().for_each(|place| inputs.set_missing(begin + place));
                cells(scanner, places, |place, scanner| inputs.set(begin + place, scanner))
            }),
            Target::Inputs(places) => cells(scanner, places, |place, scanner| inputs.read(place, scanner, 1))
                .and_then(|()| inputs.complete(rows + 1)),
        };
        read.map_err(|error| error.at(rows))?;
        rows += 1;
    }
    if rows == 0 {
        return Err(DecodeError::new("expected at least one row, got none"));
    }
    Ok(rows)
}

/// Reads a list with a cell for each of `places`.
pub(super) fn cells<'a>(
    scanner: &mut Scanner<'a>,
    places: &[Option<usize>],
    mut read: impl FnMut(usize, &mut Scanner<'a>) -> Decoded<()>,
) -> Decoded<()> {
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected("a list of cells"));
    }
    let mut count = 0;
    while scanner.another(count == 0, b']')? {
        match places.get(count) {
            Some(Some(place)) => read(*place, scanner).map_err(|error| error.at(count))?,
            Some(None) | None => scanner.skip()?,
        }
        count += 1;
    }
    if count != places.len() {
        return Err(DecodeError::new(format!("expected {} cells, one a column, got {count}", places.len())));
    }
    Ok(())
}
