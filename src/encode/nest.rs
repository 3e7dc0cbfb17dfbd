//! Flat elements to nested JSON lists, by rows and by columns.

use super::element::{list, text};
use super::separated;
use crate::tensor::{Output, View};

/// The entries of `predictions`: bare values with one output, else objects by output name. Shapes were checked.
pub(super) fn rows(body: &mut Vec<u8>, outputs: &[Output<'_>], rows: Option<usize>) {
    let keys = keys(outputs);
    let row = |body: &mut Vec<u8>, row: usize| {
        let value = |body: &mut Vec<u8>, output: &Output<'_>| match rows {
            None => nested(body, output.shape, output.elements),
            Some(rows) => {
                let length = output.elements.len() / rows;
                nested(body, &output.shape[1..], output.elements.slice(row * length..(row + 1) * length));
            }
        };
        entry(body, outputs, &keys, value);
    };
    separated(body, 0..rows.unwrap_or(1), row);
}

/// The value of `outputs`: one output's whole tensor, or an object of them.
pub(super) fn columns(body: &mut Vec<u8>, outputs: &[Output<'_>]) {
    let value = |body: &mut Vec<u8>, output: &Output<'_>| nested(body, output.shape, output.elements);
    entry(body, outputs, &keys(outputs), value);
}

/// Every output's `"name":`, escaped once for all rows.
fn keys(outputs: &[Output<'_>]) -> Vec<Vec<u8>> {
    let key = |output: &Output<'_>| {
        let mut key = Vec::with_capacity(output.name.len() + 3);
        text(&mut key, output.name);
        key.push(b':');
        key
    };
    if outputs.len() == 1 { Vec::new() } else { outputs.iter().map(key).collect() }
}

fn entry(
    body: &mut Vec<u8>,
    outputs: &[Output<'_>],
    keys: &[Vec<u8>],
    value: impl Fn(&mut Vec<u8>, &Output<'_>),
) {
    if let [only] = outputs {
        return value(body, only);
    }
    body.push(b'{');
    separated(body, outputs.iter().zip(keys), |body, (output, key)| {
        body.extend_from_slice(key);
        value(body, output);
    });
    body.push(b'}');
}

fn nested(body: &mut Vec<u8>, shape: &[usize], elements: View<'_>) {
    let Some((length, inner)) = shape.split_first() else { return list(body, elements) };
    body.push(b'[');
    if inner.is_empty() {
        list(body, elements);
    } else {
        let size: usize = inner.iter().product();
        separated(body, 0..*length, |body, index| {
            nested(body, inner, elements.slice(index * size..(index + 1) * size));
        });
    }
    body.push(b']');
}
