//! Completion of a request: every input must have its values, all must have as many rows, and their elements
//! must fill their shapes.

use super::column_rules::check_columns;
use super::padding::pad_rows;
use super::{Input, Inputs};
use crate::decode::error::{DecodeError, Decoded, Located, quoted, refuse};
use crate::decode::limits::at_least_one_row;
use crate::decode::request::{Request, ResponseSpec};
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};
use crate::tensor::{Elements, Tensor};

impl Input<'_> {
    #[cold]
    fn in_some_rows(&self) -> Box<DecodeError> {
        let (name, what) = (quoted(&self.spec.name), self.spec.describe());
        DecodeError::new(format!(
            "expected input {name} ({what}) in all rows or in none, got it in some; send them in separate requests"
        ))
    }
}

impl<'s> Inputs<'s> {
    /// Checks that every input has `count` values, after adding declared ones for those that the row leaves
    /// out.
    pub(in crate::decode) fn complete(&mut self, count: usize) -> Decoded<()> {
        for index in 0..self.list.len() {
            if self.list[index].values_read < count {
                self.add_missing(index)?;
            }
        }
        let is_complete = |input: &&Input<'_>| {
            let is_left_out = input.spec.kind == ValueKind::Optional && input.values_read == 0;
            input.values_read >= count || is_left_out
        };
        match self.list.iter().find(|input| !is_complete(input)) {
            None => Ok(()),
            Some(input) if input.spec.kind == ValueKind::Optional => Err(input.in_some_rows()),
            Some(input) => {
                let (name, what) = (quoted(&input.spec.name), input.spec.describe());
                refuse(format!("expected a value for every input, got none for {name} ({what})"))
            }
        }
    }

    /// Like [`Self::complete`], for whole tensors.
    pub(in crate::decode) fn complete_tensors(&mut self) -> Decoded<()> {
        self.add_missing_tensors()?;
        self.complete(1)
    }

    /// Makes the request. `rows` is given if the body listed rows one by one.
    pub(in crate::decode) fn finish(self, rows: Option<usize>, response: ResponseSpec) -> Decoded<Request> {
        let Self { signature, limits, list, .. } = self;
        let mut own_lengths = Vec::new();
        if !signature.unpads.is_empty() {
            own_lengths.resize(signature.padding.len(), Vec::new());
        }
        let mut left = limits.max_elements;
        let mut first: Option<FirstRows<'s>> = None;
        let mut tensors = Vec::with_capacity(list.len());
        for (index, input) in list.into_iter().enumerate() {
            if input.spec.kind == ValueKind::Optional && input.values_read == 0 {
                tensors.push(None);
                continue;
            }
            if input.nulls > 0 {
                return Err(input.in_some_rows());
            }
            let Input { spec, dims, mut elements, padding, lengths, .. } = input;
            check_strings(&elements).in_input(&spec.name)?;
            // A length that is not known belongs to an array inside an empty one.
            let mut shape: Vec<usize> = dims.into_iter().map(|length| length.unwrap_or(0)).collect();
            if signature.row_by_row
                && let (Some(rows), Some(length)) = (rows, shape.first_mut())
            {
                limits.check_rows(rows)?;
                *length = rows;
            }
            if signature.batched
                && let (Some(length), Some(dim)) = (shape.first_mut(), spec.shape.first())
            {
                *length = rows.unwrap_or(*length);
                limits.check_rows(*length)?;
                check_row_count(spec, dim, *length, &mut first).in_input(&spec.name)?;
            }
            if let Some(padding) = padding {
                elements = pad_rows(padding, &lengths, &mut shape, elements, limits.max_elements, &mut left)
                    .in_input(&spec.name)?;
                let place = signature.padding.iter().position(|padding| padding.input == index);
                if let Some(own) = place.and_then(|place| own_lengths.get_mut(place)) {
                    *own = lengths;
                }
            }
            let instances = rows.filter(|_| !signature.batched && !signature.row_by_row).unwrap_or(1);
            let (count, expected) = (elements.len(), shape.iter().product::<usize>() * instances);
            if count != expected {
                // In a batch with others a wrong count would end the worker.
                let message = format!(
                    "expected {expected} elements for shape {shape:?}, got {count}, which is an error in \
                     predictd"
                );
                return refuse(message).in_input(&spec.name);
            }
            tensors.push(Some(Tensor { shape, elements }));
        }
        let rows = first.map_or(rows.unwrap_or(1), |first| first.rows);
        check_columns(signature, &tensors)?;
        Ok(Request { inputs: tensors, rows, lengths: own_lengths, timeout: None, response })
    }
}

/// The first input that counts rows, with which the others must agree.
struct FirstRows<'s> {
    input: &'s str,
    rows: usize,
}

fn check_row_count<'s>(
    spec: &'s TensorSpec,
    dim: &Dim,
    rows: usize,
    first: &mut Option<FirstRows<'s>>,
) -> Decoded<()> {
    at_least_one_row(rows)?;
    if matches!(dim, Dim::Fixed(n) if *n != rows) {
        return refuse(format!("expected {dim} rows ({}), got {rows}", spec.describe()));
    }
    let first = first.get_or_insert(FirstRows { input: &spec.name, rows });
    if rows != first.rows {
        let (expected, name) = (first.rows, quoted(first.input));
        return refuse(format!("expected {expected} rows as in input {name}, got {rows}"));
    }
    Ok(())
}

/// ONNX Runtime takes strings that end with NUL: one inside a string would silently cut it.
fn check_strings(elements: &Elements) -> Decoded<()> {
    match elements {
        Elements::String(strings) if strings.iter().any(|string| string.contains('\0')) => {
            refuse("expected strings without NUL (U+0000), at which ONNX Runtime ends them, got one")
        }
        _ => Ok(()),
    }
}
