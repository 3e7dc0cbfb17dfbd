//! `text/csv`: one row a line. A header names the model's columns, or its inputs of shape `[batch]` or
//! `[batch, 1]`, in any order; without a header, cells are in the model's order.
//!
//! The content type's parameter `header` says if there is a header. Without it, the first line is a header if
//! it has names of the model and cannot be a row, and a row if it can be one and has no names; anything else
//! is refused. An empty cell is a missing value. It becomes the value that the bundle declares, or NaN for
//! floats; it is refused for other types and for declared columns without such a value. Blank lines are
//! allowed at the end only. A reader of our own, because numbers go straight from the body into typed
//! buffers.

mod cell;
mod reader;

use std::borrow::Cow;
use std::collections::HashSet;

use self::cell::{could_be, empty_cell, fill_one, fill_row};
use self::reader::Reader;
use super::error::{Decoded, Located, did_you_mean, one_of, quoted, refuse};
use super::inputs::Inputs;
use super::limits::{Limits, at_least_one_row};
use super::named_columns::NamedColumns;
use super::placement::Placement;
use super::request::{Request, ResponseSpec};
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, Signature, ValueKind};

/// The hint for a first line that may or may not be a header.
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
        return refuse("expected a table, got an empty body");
    }
    let first = reader.clone().header(limits.max_fields)?;
    let has_header = match header {
        Some(header) => header,
        None => is_header(&inputs, &first)?,
    };
    let placement = if has_header {
        let names: Vec<String> = first.iter().map(|name| name.trim().to_owned()).collect();
        let placement = place_by_header(&inputs, &names).within("line 1")?;
        reader.header(limits.max_fields)?;
        reader.names = names;
        placement
    } else {
        reader.names = column_names(&inputs);
        place_in_order(&inputs)
    };
    let rows = read_rows(&mut reader, &mut inputs, &placement, first.len())?;
    inputs.finish(Some(rows), ResponseSpec::rows())
}

fn place_by_header(inputs: &Inputs<'_>, names: &[String]) -> Decoded<Placement> {
    match Placement::of(inputs, names)? {
        // A DataFrame's only column may have any name, but a header must have the input's.
        Placement::Whole if !is_whole(inputs) => Placement::by_name(inputs, names),
        placement => Ok(placement),
    }
}

/// Refuses models that cannot take a table: each input must be one column, or the only input several.
fn check_inputs(inputs: &Inputs<'_>) -> Decoded<()> {
    if !inputs.signature.batched {
        return refuse("expected another form: the model has no batch dimension, so it takes no table");
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
            return refuse(format!(
                "content-type text/csv is for columns, and this input ({what}) is none; send JSON"
            ))
            .within(&format!("input {name}"));
        }
    }
    Ok(())
}

/// Names of the model's columns, or of its inputs if each is one column. Empty: columns without names.
fn column_names(inputs: &Inputs<'_>) -> Vec<String> {
    match NamedColumns::of(inputs) {
        Some(columns) => columns.names.to_vec(),
        None if is_whole(inputs) => Vec::new(),
        None => inputs.in_order().into_iter().map(|input| inputs.list[input].spec.name.clone()).collect(),
    }
}

/// True if cells are elements of the one `[batch, columns]` input, false if each cell is an input.
fn is_whole(inputs: &Inputs<'_>) -> bool {
    inputs.list.len() == 1
        && (inputs.signature.columns.is_some()
            || matches!(&inputs.list[0].spec.shape[..], [_, width] if *width != Dim::Fixed(1)))
}

fn place_in_order(inputs: &Inputs<'_>) -> Placement {
    if is_whole(inputs) {
        return Placement::Whole;
    }
    Placement::Inputs(inputs.in_order().into_iter().map(Some).collect())
}

fn is_header(inputs: &Inputs<'_>, first: &[Cow<'_, str>]) -> Decoded<bool> {
    let names: Vec<String> = column_names(inputs);
    let known: HashSet<&str> = names.iter().map(String::as_str).collect();
    let unknown = first.iter().map(|cell| cell.trim()).find(|cell| !known.contains(cell));
    // A name in another case is unknown to the model, but it is no value either.
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
        (true, true, _) => refuse(format!("line 1 may be a header or a row of values; {DECLARE}")),
        // `place_by_header` refuses unknown names.
        (true, false, _) => Ok(true),
        (false, true, _) => Ok(false),
        (false, false, Some(unknown)) if !names.is_empty() => {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let (expected, hint) = (one_of("column", &known), did_you_mean(unknown, &known));
            refuse(format!(
                "line 1 is neither a header (expected {expected}, got {}{hint}) nor a row \
                 of values; {DECLARE} to learn which cell is wrong",
                quoted(unknown)
            ))
        }
        (false, false, _) => refuse(format!(
            "line 1 is no row of values, and the model's columns have no names for a header to hold; \
             {DECLARE} to ignore it or to learn which cell is wrong"
        )),
    }
}

fn read_rows(
    reader: &mut Reader<'_>,
    inputs: &mut Inputs<'_>,
    placement: &Placement,
    width: usize,
) -> Decoded<usize> {
    let mut rows = 0;
    let begin = reader.scanner.at;
    while !reader.is_end() {
        if rows == 1 {
            // One allocation for all rows, if they are as long as the first one.
            let length = (reader.scanner.at - begin).max(1);
            inputs.reserve_times((reader.scanner.bytes.len() - reader.scanner.at) / length + 1);
        }
        inputs.limits.check_rows(rows + 1)?;
        reader.row = rows + 1;
        if matches!(reader.scanner.bytes.get(reader.scanner.at), Some(b'\n' | b'\r')) {
            return refuse("expected a row, got a blank line").within(&reader.here());
        }
        read_row(reader, inputs, placement, width)?;
        rows += 1;
    }
    at_least_one_row(rows)
}

/// Reads one line; `width` is the number of cells of the first one.
fn read_row(
    reader: &mut Reader<'_>,
    inputs: &mut Inputs<'_>,
    placement: &Placement,
    width: usize,
) -> Decoded<()> {
    let rules = &inputs.signature.column_rules;
    let expected = match placement {
        Placement::Elements { width, places, absent } => {
            let begin = inputs.add_row(*width, absent).map_err(|error| error.within(&reader.here()))?;
            fill_row(inputs.elements(0), begin, places.len(), Some(places), rules, reader)?;
            places.len()
        }
        Placement::Whole => {
            let width = inputs.list[0].spec.shape[1].fixed().unwrap_or(width);
            let begin = inputs.add_zeros(0, width).map_err(|error| error.within(&reader.here()))?;
            fill_row(inputs.elements(0), begin, width, None, rules, reader)?;
            width
        }
        Placement::Inputs(places) => {
            for (column, input) in places.iter().enumerate() {
                if column > 0 && !reader.comma() {
                    return Err(reader.wrong_count(places.len(), column));
                }
                let Some(input) = input else {
                    reader.cell().map_err(|error| reader.place(error, column))?;
                    continue;
                };
                let may_be_missing = inputs.has_missing_rule(*input);
                if may_be_missing
                    && reader.takes_empty(inputs.list[*input].spec.element == ElementType::String)
                {
                    if inputs.add_missing(*input).map_err(|error| error.within(&reader.here()))? {
                        continue;
                    }
                    return Err(reader.place(empty_cell("a number"), column));
                }
                let begin = inputs.add_zeros(*input, 1).map_err(|error| error.within(&reader.here()))?;
                let is_boolean = rules.is_boolean(*input);
                let read = fill_one(inputs.elements(*input), begin, is_boolean, reader);
                read.map_err(|error| reader.place(error, column))?;
            }
            inputs.complete(reader.row).map_err(|error| error.within(&reader.here()))?;
            places.len()
        }
    };
    if !reader.line_end() && reader.scanner.at < reader.scanner.bytes.len() {
        return Err(reader.wrong_count(expected, "more"));
    }
    Ok(())
}
