//! pandas' `{"dataframe_split": {"columns": […], "index": […], "data": [[…], …]}}`, as MLflow's clients send
//! it.

use super::error::{DecodeError, Decoded, key_twice};
use super::inputs::Inputs;
use super::placement::{Placement, read_cells};
use super::scanner::Scanner;

/// Reads the object and returns its number of rows. Its columns are the model's named columns, or its inputs
/// if it has several; a single input without column names takes them in the order given.
pub(super) fn read_split(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Decoded<usize> {
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
                let names = read_names(scanner, inputs.limits.max_fields);
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
            return Err(key_twice(&key));
        }
    }
    let missing = |key: &str| DecodeError::new(format!("expected columns and data, got no {key}"));
    let columns = columns.ok_or_else(|| missing("columns"))?;
    let mut data = data.ok_or_else(|| missing("data"))?;
    let placement = Placement::of(inputs, &columns).map_err(|error| error.within(".columns"))?;
    read_data(&mut data, inputs, &placement).map_err(|error| error.within(".data"))
}

fn read_names(scanner: &mut Scanner<'_>, most: usize) -> Decoded<Vec<String>> {
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected("a list of column names"));
    }
    let mut names = Vec::new();
    while scanner.another(names.is_empty(), b']')? {
        if names.len() == most {
            return Err(DecodeError::too_large(format!("expected at most {most} columns, got more")));
        }
        if scanner.peek() != Some(b'"') {
            // pandas writes numbers for columns without names.
            let begin = scanner.at;
            scanner.skip()?;
            names.push(scanner.text[begin..scanner.at].to_owned());
            continue;
        }
        names.push(scanner.string()?.into_owned());
    }
    Ok(names)
}

fn read_data(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>, placement: &Placement) -> Decoded<usize> {
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected("a list of rows"));
    }
    let mut rows = 0;
    while scanner.another(rows == 0, b']')? {
        inputs.limits.check_rows(rows + 1)?;
        let read = match placement {
            Placement::Whole => inputs.read_value(0, scanner, 1),
            Placement::Elements { width, places, absent } => inputs.add_zeros(0, *width).and_then(|begin| {
                absent.iter().for_each(|place| inputs.set_nan(begin + place));
                read_cells(scanner, places, |place, scanner| inputs.set_cell(begin + place, scanner))
            }),
            Placement::Inputs(places) => {
                read_cells(scanner, places, |place, scanner| inputs.read_value(place, scanner, 1))
                    .and_then(|()| inputs.complete(rows + 1))
            }
        };
        read.map_err(|error| error.at(rows))?;
        rows += 1;
    }
    if rows == 0 {
        return Err(DecodeError::new("expected at least one row, got none"));
    }
    Ok(rows)
}
