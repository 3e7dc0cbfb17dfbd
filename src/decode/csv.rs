//! `text/csv`: a row a line. A header names the model's columns, or its inputs of shape `[batch]` or `[batch, 1]`, in any order;
//! without one, cells come in the model's order.
//!
//! The content type's parameter `header` says whether there is a header. Without it, the first line is a header if it holds names
//! of the model and could be no row, and a row if it could be one and holds none; anything else is refused.
//! An empty cell is a missing value: what the bundle declares, otherwise NaN for floats, an error for every other type and where
//! columns are declared. Blank lines are allowed at the end only.

use std::borrow::Cow;
use std::collections::HashSet;

use super::cell::{could_be, empty, fill_one, fill_row};
use super::inputs::{Inputs, check_rows, named};
use super::rows::Columns;
use super::table::Reader;
use super::{Limits, Protocol, Request, ResponseSpec};
use crate::decode::error::{DecodeError, Decoded, did_you_mean, quoted};
use crate::decode::pandas_split::Target;
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, Signature, ValueKind};

/// Sets what the message asks for.
const DECLARE: &str = "set content-type to \"text/csv; header=present\" or \"text/csv; header=absent\"";

pub(super) fn decode(
    body: &[u8],
    header: Option<bool>,
    signature: &Signature,
    limits: &Limits,
) -> Decoded<Request> {
    let mut inputs = Inputs::new(signature, *limits, body.len());
    check_inputs(&inputs)?;
    let mut reader = Reader::new(body)?;
    if reader.is_end() {
        return Err(DecodeError::new("expected a table, got an empty body"));
    }
    let first = reader.look_ahead(limits.max_fields)?;
    let has_header = match header {
        Some(header) => header,
        None => is_header(&inputs, &first)?,
    };
    let target = if has_header {
        let names: Vec<String> = first.iter().map(|name| name.trim().to_owned()).collect();
        let target = target(&inputs, &names).map_err(|error| error.within("line 1"))?;
        reader.header(limits.max_fields)?;
        reader.names = names;
        target
    } else {
        reader.names = names(&inputs);
        in_order(&inputs)
    };
    let rows = rows(&mut reader, &mut inputs, &target, first.len())?;
    inputs.finish(Some(rows), ResponseSpec { protocol: Protocol::Rows, id: None })
}

/// For a table with this header.
fn target(inputs: &Inputs<'_>, names: &[String]) -> Decoded<Target> {
    match Target::of(inputs, names)? {
        // The one column of a frame may have any name; a header is held against the input's.
        Target::Whole if !is_whole(inputs) => Target::by_name(inputs, names),
        target => Ok(target),
    }
}

/// Refuses models that no table is for: each input must be one column, or the only one several.
fn check_inputs(inputs: &Inputs<'_>) -> Decoded<()> {
    if !inputs.signature.batched {
        return Err(DecodeError::new(
            "expected another form: the model has no batch dimension, so it takes no table",
        ));
    }
    let single = inputs.list.len() == 1;
    for input in &inputs.list {
        let fits = match &*input.spec.shape {
            _ if input.spec.kind == ValueKind::OpenRank => false,
            [_] => true,
            [_, width] => single || *width == Dim::Fixed(1),
            _ => false,
        };
        if !fits {
            let (name, what) = (quoted(&input.spec.name), input.spec.describe());
            return Err(DecodeError::new(format!(
                "content-type text/csv is for columns, and this input ({what}) is none; send JSON"
            ))
            .within(&format!("input {name}")));
        }
    }
    Ok(())
}

/// The model's columns or, where it has several inputs or a single `[batch]`, its inputs. Empty: they have no names.
fn names(inputs: &Inputs<'_>) -> Vec<String> {
    match Columns::of(inputs) {
        Some(columns) => columns.names.to_vec(),
        None if is_whole(inputs) => Vec::new(),
        None => inputs.in_order().into_iter().map(|input| inputs.list[input].spec.name.clone()).collect(),
    }
}

/// Whether cells are elements of the one `[batch, columns]` input, and not inputs.
fn is_whole(inputs: &Inputs<'_>) -> bool {
    inputs.list.len() == 1
        && (inputs.signature.columns.is_some()
            || matches!(&inputs.list[0].spec.shape[..], [_, width] if *width != Dim::Fixed(1)))
}

fn in_order(inputs: &Inputs<'_>) -> Target {
    if is_whole(inputs) {
        return Target::Whole;
    }
    Target::Inputs(inputs.in_order().into_iter().map(Some).collect())
}

fn is_header(inputs: &Inputs<'_>, first: &[Cow<'_, str>]) -> Decoded<bool> {
    let names: Vec<String> = names(inputs);
    let known: HashSet<&str> = names.iter().map(String::as_str).collect();
    let unknown = first.iter().map(|cell| cell.trim()).find(|cell| !known.contains(cell));
    // A name in another case is no name of the model, but neither is it a value.
    let in_lower_case: HashSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
    let has_names = first.iter().any(|cell| in_lower_case.contains(&cell.trim().to_lowercase()));
    let order = inputs.in_order();
    let is_row = first.iter().enumerate().all(|(column, cell)| {
        let place = if is_whole(inputs) { Some(&0) } else { order.get(column) };
        let rule = if is_whole(inputs) { Some(&column) } else { place };
        let is_boolean = rule.is_some_and(|rule| inputs.signature.column_rules.is_boolean(*rule));
        place.is_none_or(|place| could_be(inputs.list[*place].spec.element, is_boolean, cell))
    });
    match (has_names, is_row, unknown) {
        (true, true, _) => {
            Err(DecodeError::new(format!("line 1 may be a header or a row of values; {DECLARE}")))
        }
        // Names that it should not have are said where the header is read.
        (true, false, _) => Ok(true),
        (false, true, _) => Ok(false),
        (false, false, Some(unknown)) if !names.is_empty() => {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let (expected, hint) = (named("column", &known), did_you_mean(unknown, &known));
            Err(DecodeError::new(format!(
                "line 1 is neither a header (expected {expected}, got {}{hint}) nor a row of values; {DECLARE} to learn which \
                 cell is wrong",
                quoted(unknown)
            )))
        }
        (false, false, _) => Err(DecodeError::new(format!(
            "line 1 is no row of values, and the model's columns have no names for a header to hold; {DECLARE} to pass over it or \
             to learn which cell is wrong"
        ))),
    }
}

fn rows(reader: &mut Reader<'_>, inputs: &mut Inputs<'_>, target: &Target, width: usize) -> Decoded<usize> {
    let mut rows = 0;
    let begin = reader.scanner.at;
    while !reader.is_end() {
        if rows == 1 {
            // One allocation for all rows, if they are as long as the first one.
            let length = (reader.scanner.at - begin).max(1);
            inputs.expect_times((reader.scanner.bytes.len() - reader.scanner.at) / length + 1);
        }
        check_rows(rows + 1, inputs.limits.max_rows)?;
        reader.row = rows + 1;
        if matches!(reader.scanner.bytes.get(reader.scanner.at), Some(b'\n' | b'\r')) {
            return Err(DecodeError::new("expected a row, got a blank line").within(&reader.here()));
        }
        row(reader, inputs, target, width)?;
        rows += 1;
    }
    if rows == 0 {
        return Err(DecodeError::new("expected at least one row, got none"));
    }
    Ok(rows)
}

/// Reads one line; `width` is how many cells the first one had.
fn row(reader: &mut Reader<'_>, inputs: &mut Inputs<'_>, target: &Target, width: usize) -> Decoded<()> {
    let here = |reader: &Reader<'_>, error: Box<DecodeError>| error.within(&reader.here());
    let rules = &inputs.signature.column_rules;
    let expected = match target {
        Target::Elements { width, places, left_out } => {
            let begin = inputs.blank(0, *width).map_err(|error| here(reader, error))?;
            left_out.iter().for_each(|place| inputs.set_missing(begin + place));
            fill_row(inputs.elements(0), begin, places.len(), Some(places), rules, reader)?;
            places.len()
        }
        Target::Whole => {
            let width = inputs.list[0].spec.shape[1].fixed().unwrap_or(width);
            let begin = inputs.blank(0, width).map_err(|error| here(reader, error))?;
            fill_row(inputs.elements(0), begin, width, None, rules, reader)?;
            width
        }
        Target::Inputs(places) => {
            for (column, input) in places.iter().enumerate() {
                if column > 0 && !reader.comma() {
                    return Err(reader.too_few(places.len(), column));
                }
                let Some(input) = input else {
                    reader.cell().map_err(|error| reader.place(error, column))?;
                    continue;
                };
                let may_be_missing = inputs.has_missing(*input) || inputs.is_never_missing(*input);
                if may_be_missing
                    && reader.takes_empty(inputs.list[*input].spec.element == ElementType::String)
                {
                    if inputs.take_missing(*input).map_err(|error| here(reader, error))? {
                        continue;
                    }
                    return Err(reader.place(empty("a number"), column));
                }
                let begin = inputs.blank(*input, 1).map_err(|error| here(reader, error))?;
                let is_boolean = rules.is_boolean(*input);
                let read = fill_one(inputs.elements(*input), begin, is_boolean, reader);
                read.map_err(|error| reader.place(error, column))?;
            }
            inputs.complete(reader.row).map_err(|error| here(reader, error))?;
            places.len()
        }
    };
    if !reader.line_end() && reader.scanner.at < reader.scanner.bytes.len() {
        return Err(reader.too_many(expected));
    }
    Ok(())
}
