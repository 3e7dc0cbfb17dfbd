//! pandas' `{"dataframe_split": {"columns": […], "index": […], "data": [[…], …]}}`, as MLflow's clients send
//! it.

use super::error::{DecodeError, Decoded, Located, refuse, set_once};
use super::inputs::Inputs;
use super::limits::at_least_one_row;
use super::placement::{Placement, read_cells};
use super::scanner::Scanner;

/// Reads the object and returns its number of rows. Its columns are the model's named columns, or its inputs
/// if it has several; a single input without column names takes them in the order given.
pub(super) fn read_split(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Decoded<usize> {
    scanner.enter(b'{', "an object with columns and data")?;
    if !inputs.signature.batched && !inputs.signature.row_by_row {
        return refuse("expected another form: the model has no batch dimension, so it takes no table");
    }
    let (mut columns, mut data) = (None, None);
    while let Some(key) = scanner.key()? {
        match &*key {
            "columns" => {
                let names = read_names(scanner, inputs.limits.max_fields);
                set_once(&mut columns, names.within(".columns")?, &key)?;
            }
            "data" => set_once(&mut data, scanner.set_aside()?, &key)?,
            _ => scanner.skip()?,
        }
    }
    let missing = |key: &str| DecodeError::new(format!("expected columns and data, got no {key}"));
    let columns = columns.ok_or_else(|| missing("columns"))?;
    let mut data = data.ok_or_else(|| missing("data"))?;
    let placement = Placement::of(inputs, &columns).within(".columns")?;
    read_data(&mut data, inputs, &placement).within(".data")
}

fn read_names(scanner: &mut Scanner<'_>, most: usize) -> Decoded<Vec<String>> {
    scanner.enter(b'[', "a list of column names")?;
    let mut names = Vec::new();
    while scanner.another(b']')? {
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
    scanner.enter(b'[', "a list of rows")?;
    let mut rows = 0;
    while scanner.another(b']')? {
        inputs.limits.check_rows(rows + 1)?;
        let read = match placement {
            Placement::Whole => inputs.read_value(0, scanner, 1),
            Placement::Elements { width, places, absent } => {
                inputs.add_row(*width, absent).and_then(|begin| {
                    read_cells(scanner, places, |place, scanner| inputs.set_cell(begin + place, scanner))
                })
            }
            Placement::Inputs(places) => {
                read_cells(scanner, places, |place, scanner| inputs.read_value(place, scanner, 1))
                    .and_then(|()| inputs.complete(rows + 1))
            }
        };
        read.at(rows)?;
        rows += 1;
    }
    at_least_one_row(rows)
}
