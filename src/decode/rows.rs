//! Rows: `instances`, a bare list and `dataframe_records`. Each row is a value, an object by input or column
//! name, or a list of cells if each input is one column.

use std::ops::Range;

use super::error::{Decoded, Located, twice};
use super::example;
use super::inputs::Inputs;
use super::limits::at_least_one_row;
use super::named_columns::NamedColumns;
use super::placement::{Places, read_cells};
use super::scanner::Scanner;
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};

/// Reads a list of rows and returns their number. For a model without a batch dimension each row is a whole
/// input, and they run one after the other.
pub(super) fn read_rows(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Decoded<usize> {
    let (begin, start) = (scanner.at, scanner.clone());
    scanner.enter(b'[', "a list of rows")?;
    let columns = NamedColumns::of(inputs);
    let order: Places =
        if takes_cells(inputs) { inputs.in_order().into_iter().map(Some).collect() } else { Vec::new() };
    let mut rows = 0;
    while scanner.another(b']')? {
        if rows == 1 {
            // One allocation for all rows, if they are as long as the first one.
            inputs.reserve_times((scanner.bytes.len() - scanner.at) / (scanner.at - begin) + 1);
        }
        inputs.limits.check_rows(rows + 1)?;
        read_row(scanner, inputs, columns.as_ref(), &order, rows).map_err(|error| {
            let error = error.at(rows);
            if rows == 0 && is_bare_row(&start, inputs, inputs.row_level()) {
                error.with_hint(&list_hint(inputs))
            } else {
                error
            }
        })?;
        rows += 1;
    }
    at_least_one_row(rows)
}

/// Reads one row from each of `lines`, which are parts of the body. None may reach into the next line.
pub(super) fn read_lines(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    lines: &[Range<usize>],
) -> Decoded<()> {
    let columns = NamedColumns::of(inputs);
    let order: Places =
        if takes_cells(inputs) { inputs.in_order().into_iter().map(Some).collect() } else { Vec::new() };
    for (row, line) in lines.iter().enumerate() {
        scanner.at = line.start;
        read_row(scanner, inputs, columns.as_ref(), &order, row)?;
        // A row that was read into the next line was completed by it.
        let rest = scanner.at.min(line.end)..scanner.at.max(line.end);
        if !scanner.bytes[rest].iter().all(u8::is_ascii_whitespace) {
            return Err(scanner.unexpected("the end of the line"));
        }
        if row == 0 {
            inputs.reserve_times(lines.len() - 1);
        }
    }
    Ok(())
}

fn read_row(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    columns: Option<&NamedColumns<'_>>,
    order: &[Option<usize>],
    index: usize,
) -> Decoded<()> {
    if let [only] = &inputs.list[..]
        && is_value(scanner, only.spec)
    {
        return inputs.read_value(0, scanner, inputs.row_level());
    }
    if scanner.peek() != Some(b'{') {
        if order.is_empty() {
            return Err(scanner.unexpected("an object with a value for every input"));
        }
        read_cells(scanner, order, |place, scanner| inputs.read_value(place, scanner, 1))?;
        return inputs.complete(index + 1);
    }
    if let Some(columns) = columns
        && !columns.is_input_next(scanner, inputs)
    {
        return columns.read_row(scanner, inputs);
    }
    read_row_by_input(scanner, inputs, index)
}

/// True if the next row is the value of the one input, not an object by input or column name.
fn is_value(scanner: &mut Scanner<'_>, spec: &TensorSpec) -> bool {
    if scanner.peek() != Some(b'{') {
        return true;
    }
    match spec.element {
        ElementType::String | ElementType::Bytes => {
            spec.name != "b64" && scanner.first_key_is(|key| key == "b64")
        }
        _ => matches!(spec.kind, ValueKind::Map { .. }) && !is_named_object(scanner, &spec.name),
    }
}

/// Reads `{"x": …, "y": …}` as row `index`.
fn read_row_by_input(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>, index: usize) -> Decoded<()> {
    let level = inputs.row_level();
    scanner.read_by_name(inputs, Inputs::find_known, |inputs, input, key, scanner| {
        if inputs.list[input].values_read > index {
            return Err(twice("key", key));
        }
        inputs.read_value(input, scanner, level).in_key(key)
    })?;
    inputs.complete(index + 1)
}

/// True if a row may be a list with one value for each of several inputs.
fn takes_cells(inputs: &Inputs<'_>) -> bool {
    let is_cell = |shape: &[Dim]| matches!(shape, [_] | [_, Dim::Fixed(1)]);
    inputs.row_level() == 1
        && inputs.list.len() > 1
        && inputs.list.iter().all(|input| input.spec.kind == ValueKind::Tensor && is_cell(&input.spec.shape))
}

/// True if the next list is probably one row in place of a list of rows: its first element is no list, though
/// rows of the one input have dimensions from `level` on.
pub(super) fn is_bare_row(scanner: &Scanner<'_>, inputs: &Inputs<'_>, level: usize) -> bool {
    let mut ahead = scanner.clone();
    let takes_scalars = match &inputs.list[..] {
        [only] => only.spec.shape.iter().skip(level).all(|dim| *dim == Dim::Fixed(1)),
        _ => false,
    };
    !takes_scalars && ahead.take(b'[') && !matches!(ahead.peek(), None | Some(b'[' | b'{' | b']'))
}

/// The hint for one row in place of a list of rows.
#[cold]
pub(super) fn list_hint(inputs: &Inputs<'_>) -> String {
    format!("a list of rows is expected, also for one row: {}", example::instances(inputs))
}

/// True if an object comes next whose first value has this name and is an object, which no value of a map is.
fn is_named_object(scanner: &Scanner<'_>, name: &str) -> bool {
    let mut ahead = scanner.clone();
    matches!(ahead.open(b'{'), Ok(true))
        && matches!(ahead.key(), Ok(Some(key)) if key == name)
        && ahead.peek() == Some(b'{')
}
