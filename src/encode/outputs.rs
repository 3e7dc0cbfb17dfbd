//! Outputs as JSON, for the protocols that nest values by row or by output name.

use super::ranking::ranking;
use super::value::{push_key, push_list, push_member, push_nested};
use crate::tensor::{Output, Show, View};

/// A list with one entry a row, or of the whole outputs without a batch dimension.
pub(super) fn push_rows(out: &mut Vec<u8>, outputs: &[&Output<'_>], batched: bool, rows: usize) {
    if !batched {
        return push_list(out, b"[]", [outputs], push_named);
    }
    let keys = escaped_keys(outputs);
    push_list(out, b"[]", 0..rows, |out, row| push_row(out, outputs, &keys, rows, row));
}

/// Like [`push_rows`], with a line for each entry.
pub(super) fn push_lines(out: &mut Vec<u8>, outputs: &[&Output<'_>], batched: bool, rows: usize) {
    let keys = escaped_keys(outputs);
    for row in 0..if batched { rows } else { 1 } {
        if batched {
            push_row(out, outputs, &keys, rows, row);
        } else {
            push_by_name(out, outputs, &keys, push_output);
        }
        out.push(b'\n');
    }
}

fn push_row(out: &mut Vec<u8>, outputs: &[&Output<'_>], keys: &[Vec<u8>], rows: usize, row: usize) {
    push_by_name(out, outputs, keys, |out, output| match output.show {
        Show::PerRow(parts) => push_output(out, &parts[row]),
        Show::Missing => out.extend_from_slice(b"null"),
        show => {
            let width = output.elements.len() / rows;
            let own = output.elements.slice(row * width..(row + 1) * width);
            push_value(out, show, own, &output.shape[1..]);
        }
    });
}

/// The whole outputs.
pub(super) fn push_named(out: &mut Vec<u8>, outputs: &[&Output<'_>]) {
    push_by_name(out, outputs, &escaped_keys(outputs), push_output);
}

/// The bare value with one output, an object by output name with several.
fn push_by_name(
    out: &mut Vec<u8>,
    outputs: &[&Output<'_>],
    keys: &[Vec<u8>],
    push: impl Fn(&mut Vec<u8>, &Output<'_>),
) {
    if let [single] = outputs {
        return push(out, single);
    }
    push_list(out, b"{}", outputs.iter().zip(keys), |out, (output, key)| {
        out.extend_from_slice(key);
        push(out, output);
    });
}

/// `"name":` for each of several outputs, escaped once for all rows.
fn escaped_keys(outputs: &[&Output<'_>]) -> Vec<Vec<u8>> {
    let key = |output: &&Output<'_>| {
        let mut key = Vec::with_capacity(output.name.len() + 3);
        push_key(&mut key, output.name);
        key
    };
    if outputs.len() == 1 { Vec::new() } else { outputs.iter().map(key).collect() }
}

fn push_output(out: &mut Vec<u8>, output: &Output<'_>) {
    push_value(out, output.show, output.elements, output.shape);
}

/// Elements of this `shape`: nested lists whose innermost ones are lists, objects by name or rankings.
fn push_value(out: &mut Vec<u8>, show: Show<'_>, elements: View<'_>, shape: &[usize]) {
    match (show, shape) {
        (Show::Missing, _) => out.extend_from_slice(b"null"),
        (Show::Sequence(parts) | Show::PerRow(parts), _) => push_list(out, b"[]", parts, push_output),
        (Show::Values, _) | (_, []) => push_nested(out, elements, shape),
        (Show::Named(names), [width]) => {
            push_list(out, b"{}", names.iter().take(*width).enumerate(), |out, (index, name)| {
                push_key(out, name);
                push_nested(out, elements.slice(index..index + 1), &[]);
            });
        }
        (Show::Ranked { labels, top, threshold }, [_]) => push_ranking(out, elements, labels, top, threshold),
        (Show::Named(_) | Show::Ranked { .. }, [length, inner @ ..]) => {
            let size = inner.iter().product::<usize>();
            push_list(out, b"[]", 0..*length, |out, index| {
                push_value(out, show, elements.slice(index * size..(index + 1) * size), inner);
            });
        }
    }
}

/// `[{"label": …, "score": …}]`, the best first; equal scores in the model's order.
fn push_ranking(out: &mut Vec<u8>, scores: View<'_>, labels: Option<&[String]>, top: usize, threshold: f64) {
    push_list(out, b"[]", ranking(scores, top, threshold), |out, index| {
        match labels.and_then(|labels| labels.get(index)) {
            Some(label) => push_member(out, "{\"label\":", label),
            None => {
                out.extend_from_slice(b"{\"index\":");
                out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
            }
        }
        out.extend_from_slice(b",\"score\":");
        push_nested(out, scores.slice(index..index + 1), &[]);
        out.push(b'}');
    });
}
