//! Outputs as JSON, for the protocols that nest values by row or by output name.

use super::ranking::ranking;
use super::value::{push_key, push_nested, push_text};
use crate::tensor::{Output, Show, View};

/// One entry a row: the bare value with one output, an object by output name with several.
pub(super) fn push_rows(out: &mut Vec<u8>, outputs: &[&Output<'_>], batched: bool, rows: usize) {
    if !batched {
        push_named(out, outputs);
        return;
    }
    let keys = escaped_keys(outputs);
    for row in 0..rows {
        if row > 0 {
            out.push(b',');
        }
        let value = |out: &mut Vec<u8>, output: &Output<'_>| {
            if let Show::PerRow(outputs) = output.show {
                let own = &outputs[row];
                return push_output(out, own, 0..own.elements.len(), own.shape);
            }
            if let Show::Missing = output.show {
                return out.extend_from_slice(b"null");
            }
            let shape = &output.shape[1..];
            let width = output.elements.len() / rows;
            push_output(out, output, row * width..(row + 1) * width, shape);
        };
        match outputs {
            [single] => value(out, single),
            _ => push_object(out, outputs, &keys, value),
        }
    }
}

/// The whole outputs: the bare value with one output, an object by output name with several.
pub(super) fn push_named(out: &mut Vec<u8>, outputs: &[&Output<'_>]) {
    let value = |out: &mut Vec<u8>, output: &Output<'_>| {
        push_output(out, output, 0..output.elements.len(), output.shape);
    };
    match outputs {
        [single] => value(out, single),
        _ => push_object(out, outputs, &escaped_keys(outputs), value),
    }
}

/// The elements of `range`, which have this `shape`, in the form of the output.
fn push_output(out: &mut Vec<u8>, output: &Output<'_>, range: std::ops::Range<usize>, shape: &[usize]) {
    match output.show {
        Show::Values => push_nested(out, output.elements.slice(range), shape),
        Show::Missing => out.extend_from_slice(b"null"),
        Show::Sequence(parts) | Show::PerRow(parts) => {
            out.push(b'[');
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                push_output(out, part, 0..part.elements.len(), part.shape);
            }
            out.push(b']');
        }
        Show::Named(_) | Show::Ranked { .. } => {
            let Some((width, outer)) = shape.split_last() else {
                return push_nested(out, output.elements.slice(range), shape);
            };
            push_innermost(out, output, range, *width, outer);
        }
    }
}

/// Lists nested by `outer`, with each innermost `width` elements as an object by name or as a ranking.
fn push_innermost(
    out: &mut Vec<u8>,
    output: &Output<'_>,
    range: std::ops::Range<usize>,
    width: usize,
    outer: &[usize],
) {
    let Some((length, outer)) = outer.split_first() else {
        let elements = output.elements.slice(range);
        return match output.show {
            Show::Ranked { labels, top, threshold } => push_ranking(out, elements, labels, top, threshold),
            Show::Named(names) => {
                out.push(b'{');
                for (index, name) in names.iter().enumerate().take(elements.len()) {
                    if index > 0 {
                        out.push(b',');
                    }
                    push_key(out, name);
                    push_nested(out, elements.slice(index..index + 1), &[]);
                }
                out.push(b'}');
            }
            _ => unreachable!("only named and ranked outputs have innermost objects"),
        };
    };
    out.push(b'[');
    let size = width * outer.iter().product::<usize>();
    for index in 0..*length {
        if index > 0 {
            out.push(b',');
        }
        let from = range.start + index * size;
        push_innermost(out, output, from..from + size, width, outer);
    }
    out.push(b']');
}

/// `[{"label": …, "score": …}]`, the best first; equal scores in the model's order.
fn push_ranking(out: &mut Vec<u8>, scores: View<'_>, labels: Option<&[String]>, top: usize, threshold: f64) {
    out.push(b'[');
    for (place, index) in ranking(scores, top, threshold).into_iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        match labels.and_then(|labels| labels.get(index)) {
            Some(label) => {
                out.extend_from_slice(b"{\"label\":");
                push_text(out, label);
            }
            None => {
                out.extend_from_slice(b"{\"index\":");
                out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
            }
        }
        out.extend_from_slice(b",\"score\":");
        push_nested(out, scores.slice(index..index + 1), &[]);
        out.push(b'}');
    }
    out.push(b']');
}

/// `"name":` for each output, escaped once for all rows.
fn escaped_keys(outputs: &[&Output<'_>]) -> Vec<Vec<u8>> {
    let key = |output: &&Output<'_>| {
        let mut key = Vec::with_capacity(output.name.len() + 3);
        push_key(&mut key, output.name);
        key
    };
    outputs.iter().map(key).collect()
}

fn push_object(
    out: &mut Vec<u8>,
    outputs: &[&Output<'_>],
    keys: &[Vec<u8>],
    value: impl Fn(&mut Vec<u8>, &Output<'_>),
) {
    out.push(b'{');
    for (index, (output, key)) in outputs.iter().zip(keys).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        value(out, output);
    }
    out.push(b'}');
}
