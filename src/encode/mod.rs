//! Outputs to a response body: pure functions that mirror `decode`.
//!
//! Floats are written in the shortest form that reads back the same at their own width. JSON has neither NaN nor Infinity:
//! they become the strings `"NaN"`, `"Infinity"` and `"-Infinity"`. [`envelope`] then goes around the body.

mod binary;
pub mod envelope;
#[cfg(test)]
mod tests;
pub mod unpad;
mod v2;
mod value;

use std::borrow::Cow;

use crate::decode::{Id, Limits, Protocol, RequestedOutput, ResponseSpec};
use crate::error::{Code, Rejection};
use crate::tensor::{Output, Show, View};
use value::{estimate, push_key, push_nested, push_text};

/// Which model version computed the outputs.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    pub model: &'a str,
    pub version: &'a str,
    /// Whether the first dimension of every output counts rows.
    pub batched: bool,
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// Bytes of JSON before the outputs' binary data; none when it is JSON as a whole.
    pub json_length: Option<usize>,
}

impl From<Vec<u8>> for Body {
    fn from(json: Vec<u8>) -> Self {
        Self { bytes: json, json_length: None }
    }
}

/// Elements of all outputs of a response: as many as a request may have. Text of 200 MB, binary data of 64 MiB.
pub const MAX_ELEMENTS: usize = Limits::DEFAULT.max_elements;

/// More than [`MAX_ELEMENTS`].
pub fn too_large() -> Rejection {
    let message = format!(
        "the model's outputs have more than {MAX_ELEMENTS} elements for this request; send fewer rows"
    );
    Rejection::new(Code::ResponseTooLarge, message)
}

/// The body of a response, in the request's own protocol. `outputs` hold this request's rows only.
///
/// Fails with `RESPONSE_TOO_LARGE` where they have more than [`MAX_ELEMENTS`], with `INFERENCE_FAILED` where an output's elements do not fill its shape or its rows are not as many as the others',
/// and with `INVALID_INPUT` where v2 asks for an output that is not there.
pub fn response(spec: &ResponseSpec, outputs: &[Output<'_>], served: &Served<'_>) -> Result<Body, Rejection> {
    let rows = check(outputs, served.batched)?;
    let chosen = choose(spec, outputs)?;
    if chosen.iter().map(|output| output.count()).sum::<usize>() > MAX_ELEMENTS {
        return Err(too_large());
    }
    let mut out = Vec::with_capacity(capacity(spec, &chosen, served, rows));
    match &spec.protocol {
        Protocol::Rows => {
            out.extend_from_slice(b"{\"predictions\":[");
            push_rows(&mut out, &chosen, served.batched, rows);
            out.push(b']');
            push_served(&mut out, served);
        }
        Protocol::Columns => {
            out.extend_from_slice(b"{\"outputs\":");
            push_named(&mut out, &chosen);
            push_served(&mut out, served);
        }
        Protocol::V2 { outputs: wanted, binary } => {
            let is_binary = |index: usize| wanted.get(index).and_then(|one| one.binary).unwrap_or(*binary);
            out.extend_from_slice(b"{\"model_name\":");
            push_text(&mut out, served.model);
            out.extend_from_slice(b",\"model_version\":");
            push_text(&mut out, served.version);
            push_id(&mut out, spec.id.as_ref());
            out.extend_from_slice(b",\"outputs\":[");
            let json_length = v2::push(&mut out, &chosen, is_binary);
            return Ok(Body { bytes: out, json_length });
        }
    }
    push_id(&mut out, spec.id.as_ref());
    out.push(b'}');
    Ok(out.into())
}

/// The longest message of an error, in bytes. Escaped, and with the id, it fits into every transport's
/// message.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// `{"error": {"code": …, "message": …}, "id": …}`: the same in every protocol.
pub fn error(rejection: &Rejection, id: Option<&Id>) -> Vec<u8> {
    let message = match rejection.message.len() {
        ..=MAX_ERROR_BYTES => Cow::Borrowed(&*rejection.message),
        _ => {
            let end = rejection.message.floor_char_boundary(MAX_ERROR_BYTES);
            Cow::Owned(format!("{}…", &rejection.message[..end]))
        }
    };
    let mut out = Vec::with_capacity(64 + message.len() + id.map_or(0, |id| id.as_str().len()));
    out.extend_from_slice(b"{\"error\":{\"code\":");
    push_text(&mut out, rejection.code.as_str());
    out.extend_from_slice(b",\"message\":");
    push_text(&mut out, &message);
    out.push(b'}');
    push_id(&mut out, id);
    out.push(b'}');
    out
}

/// `{"dataref": "gs://…", "id": …}`: says where a response lies.
pub fn reference(address: &str, id: Option<&Id>) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + address.len() + id.map_or(0, |id| id.as_str().len()));
    out.extend_from_slice(b"{\"dataref\":");
    push_text(&mut out, address);
    push_id(&mut out, id);
    out.push(b'}');
    out
}

/// Lists in an output without elements: each is two bytes or more of a response, which has 10 MB at most.
const MAX_EMPTY_LISTS: usize = 5_000_000;

/// True where a response has room for the values and the lists of an output, or of its parts.
fn is_writable(output: &Output<'_>) -> bool {
    if let Show::Sequence(parts) | Show::PerRow(parts) = output.show {
        return parts.iter().all(is_writable);
    }
    let lists = output.shape.iter().try_fold(1_usize, |lists, length| lists.checked_mul((*length).max(1)));
    lists.is_some_and(|lists| lists <= output.elements.len().max(MAX_EMPTY_LISTS))
}

/// How many rows the outputs hold; 1 without a batch dimension.
fn check(outputs: &[Output<'_>], batched: bool) -> Result<usize, Rejection> {
    let mut rows = None;
    for output in outputs {
        let Output { name, shape, elements, show } = output;
        let failed = |message: String| Err(Rejection::new(Code::InferenceFailed, message));
        // A product of lengths may be too large for a number though one of them is 0.
        let count = if shape.contains(&0) { 0 } else { shape.iter().product() };
        if let Show::PerRow(each) = show {
            rows.get_or_insert(each.len());
        }
        // In nothing but its shape does a missing output tell how many rows miss it.
        if let (Show::Missing, true, Some(length)) = (show, batched, shape.first()) {
            rows.get_or_insert(*length);
        }
        if !is_writable(output) {
            let message = format!("output {name:?}: expected a shape that can be written, got {shape:?}");
            return Err(Rejection::new(Code::ResponseTooLarge, message));
        }
        if let Show::Sequence(_) | Show::PerRow(_) | Show::Missing = show {
            continue;
        }
        if count != elements.len() {
            return failed(format!(
                "output {name:?}: expected {count} elements for shape {shape:?}, got {}",
                elements.len()
            ));
        }
        if !batched {
            continue;
        }
        let Some(length) = shape.first() else {
            return failed(format!("output {name:?}: expected a dimension that counts rows, got a scalar"));
        };
        let expected = *rows.get_or_insert(*length);
        if *length != expected {
            return failed(format!(
                "output {name:?}: expected {expected} rows as in the first output, got {length}"
            ));
        }
    }
    Ok(rows.unwrap_or(1))
}

/// The outputs that the request asked for, in its order; all where it named none.
fn choose<'o, 'a>(spec: &ResponseSpec, outputs: &'o [Output<'a>]) -> Result<Vec<&'o Output<'a>>, Rejection> {
    match &spec.protocol {
        Protocol::V2 { outputs: wanted, .. } if !wanted.is_empty() => wanted
            .iter()
            .map(|RequestedOutput { name, .. }| {
                let found = outputs.iter().find(|output| output.name == *name);
                found.ok_or_else(|| {
                    Rejection::invalid(format!(
                        "outputs: expected names of the model's outputs, got {name:?}"
                    ))
                })
            })
            .collect(),
        _ => Ok(outputs.iter().collect()),
    }
}

/// An upper bound for almost every body, so that one allocation holds it.
fn capacity(spec: &ResponseSpec, outputs: &[&Output<'_>], served: &Served<'_>, rows: usize) -> usize {
    let fixed =
        96 + served.model.len() + served.version.len() + spec.id.as_ref().map_or(0, |id| id.as_str().len());
    let output = |output: &&Output<'_>| {
        // v2 writes flat data and the rest of an output's object once; the others repeat names and brackets each row.
        let frame = 64 + 20 * output.shape.len() + output.name.len();
        let inner = output.shape.split_last().map_or(0, |(_, outer)| outer.iter().product::<usize>());
        let each_row = rows * (output.name.len() + 8);
        estimate(output.elements) + frame + 3 * output.shape.len() * inner + each_row
    };
    fixed + outputs.iter().map(output).sum::<usize>()
}

fn push_rows(out: &mut Vec<u8>, outputs: &[&Output<'_>], batched: bool, rows: usize) {
    if !batched {
        push_named(out, outputs);
        return;
    }
    let keys = keys(outputs);
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

/// The whole outputs: bare with one, an object by name with several.
fn push_named(out: &mut Vec<u8>, outputs: &[&Output<'_>]) {
    let value = |out: &mut Vec<u8>, output: &Output<'_>| {
        push_output(out, output, 0..output.elements.len(), output.shape);
    };
    match outputs {
        [single] => value(out, single),
        _ => push_object(out, outputs, &keys(outputs), value),
    }
}

/// The elements of `range`, which have this `shape`, as the output is shown.
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

/// Lists nested by `outer`, each innermost `width` elements as an object by name or as a ranking.
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
            _ => unreachable!("only names and rankings come here"),
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

/// The positions of the `top` best scores of `threshold` or more. A NaN, which has no rank, stands before all, so that it is seen.
fn ranking(scores: View<'_>, top: usize, threshold: f64) -> Vec<usize> {
    let mut all: Vec<(usize, f64)> = scores.to_f64().into_iter().enumerate().collect();
    all.retain(|(_, score)| *score >= threshold || score.is_nan());
    // The sign of a NaN says nothing.
    all.iter_mut().filter(|(_, score)| score.is_nan()).for_each(|(_, score)| *score = f64::NAN);
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(top);
    all.into_iter().map(|(index, _)| index).collect()
}

/// `"name":` for each output, escaped once for all rows.
fn keys(outputs: &[&Output<'_>]) -> Vec<Vec<u8>> {
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

fn push_served(out: &mut Vec<u8>, served: &Served<'_>) {
    out.extend_from_slice(b",\"model\":");
    push_text(out, served.model);
    out.extend_from_slice(b",\"model_version\":");
    push_text(out, served.version);
}

fn push_id(out: &mut Vec<u8>, id: Option<&Id>) {
    let Some(id) = id else { return };
    out.extend_from_slice(b",\"id\":");
    match id {
        Id::String(text) => push_text(out, text),
        Id::Number(number) => out.extend_from_slice(number.as_bytes()),
    }
}
