//! Outputs to a response body: pure functions that mirror `decode`.
//!
//! Floats are written in the shortest form that reads back the same at their own width. JSON has neither NaN nor Infinity:
//! they become the strings `"NaN"`, `"Infinity"` and `"-Infinity"`.

#[cfg(test)]
mod tests;
mod value;

use crate::decode::{Answer, Form, Id};
use crate::error::{Code, Rejection};
use crate::tensor::{Elements, Output, Show, View};
use value::{estimate, push_key, push_nested, push_text};

/// Which model version computed the outputs.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    pub model: &'a str,
    pub version: &'a str,
    /// Whether the first dimension of every output counts rows.
    pub batched: bool,
}

/// The body of a response, in the request's own protocol. `outputs` hold this request's rows only.
///
/// Fails with `INFERENCE_FAILED` where an output's elements do not fill its shape or its rows are not as many as the others',
/// and with `INVALID_INPUT` where v2 asks for an output that is not there.
pub fn response(answer: &Answer, outputs: &[Output<'_>], served: &Served<'_>) -> Result<Vec<u8>, Rejection> {
    let rows = check(outputs, served.batched)?;
    let chosen = choose(answer, outputs)?;
    let mut out = Vec::with_capacity(capacity(answer, &chosen, served, rows));
    match answer.form {
        Form::Rows => {
            out.extend_from_slice(b"{\"predictions\":[");
            push_rows(&mut out, &chosen, served.batched, rows);
            out.push(b']');
            push_served(&mut out, served);
        }
        Form::Columns => {
            out.extend_from_slice(b"{\"outputs\":");
            push_named(&mut out, &chosen);
            push_served(&mut out, served);
        }
        Form::V2 { .. } => {
            out.extend_from_slice(b"{\"model_name\":");
            push_text(&mut out, served.model);
            out.extend_from_slice(b",\"model_version\":");
            push_text(&mut out, served.version);
            push_id(&mut out, answer.id.as_ref());
            out.extend_from_slice(b",\"outputs\":[");
            push_v2(&mut out, &chosen);
            out.extend_from_slice(b"]}");
            return Ok(out);
        }
    }
    push_id(&mut out, answer.id.as_ref());
    out.push(b'}');
    Ok(out)
}

/// `{"error": {"code": …, "message": …}, "id": …}`: the same in every protocol.
pub fn error(rejection: &Rejection, id: Option<&Id>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + rejection.message.len() + id.map_or(0, |id| id.as_str().len()));
    out.extend_from_slice(b"{\"error\":{\"code\":");
    push_text(&mut out, rejection.code.as_str());
    out.extend_from_slice(b",\"message\":");
    push_text(&mut out, &rejection.message);
    out.push(b'}');
    push_id(&mut out, id);
    out.push(b'}');
    out
}

/// How many rows the outputs hold; 1 without a batch dimension.
fn check(outputs: &[Output<'_>], batched: bool) -> Result<usize, Rejection> {
    let mut rows = None;
    for output in outputs {
        let Output { name, shape, elements, show } = output;
        let failed = |message: String| Err(Rejection::new(Code::InferenceFailed, message));
        let count: usize = shape.iter().product();
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
fn choose<'o, 'a>(answer: &Answer, outputs: &'o [Output<'a>]) -> Result<Vec<&'o Output<'a>>, Rejection> {
    match &answer.form {
        Form::V2 { outputs: wanted } if !wanted.is_empty() => wanted
            .iter()
            .map(|name| {
                let found = outputs.iter().find(|output| output.name == name);
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
fn capacity(answer: &Answer, outputs: &[&Output<'_>], served: &Served<'_>, rows: usize) -> usize {
    let fixed =
        96 + served.model.len() + served.version.len() + answer.id.as_ref().map_or(0, |id| id.as_str().len());
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

/// The positions of the `top` best scores of `threshold` or more. NaN is never among them.
fn ranking(scores: View<'_>, top: usize, threshold: f64) -> Vec<usize> {
    let mut all: Vec<(usize, f64)> = scores.to_f64().into_iter().enumerate().collect();
    all.retain(|(_, score)| *score >= threshold);
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

fn push_v2(out: &mut Vec<u8>, outputs: &[&Output<'_>]) {
    let mut is_first = true;
    for output in outputs {
        push_v2_output(out, output.name, output, &mut is_first);
    }
}

/// One tensor; a sequence as `name.0`, `name.1` and so on, a missing optional output as none, a ranking as two: the scores,
/// and their labels (`name.labels`) or positions (`name.indices`).
fn push_v2_output(out: &mut Vec<u8>, name: &str, output: &Output<'_>, is_first: &mut bool) {
    match output.show {
        Show::Missing => {}
        Show::Sequence(parts) | Show::PerRow(parts) => {
            for (index, part) in parts.iter().enumerate() {
                push_v2_output(out, &format!("{name}.{index}"), part, is_first);
            }
        }
        Show::Values => push_v2_tensor(out, name, output.shape, output.elements, None, is_first),
        Show::Named(names) => push_v2_tensor(out, name, output.shape, output.elements, Some(names), is_first),
        Show::Ranked { labels, top, threshold } => {
            let ranked = Ranked::of(output, labels, top, threshold);
            push_v2_tensor(out, name, &ranked.shape, ranked.scores.view(), None, is_first);
            let (suffix, places) = match &ranked.places {
                Elements::Text(_) => ("labels", ranked.places.view()),
                _ => ("indices", ranked.places.view()),
            };
            push_v2_tensor(out, &format!("{name}.{suffix}"), &ranked.shape, places, None, is_first);
        }
    }
}

fn push_v2_tensor(
    out: &mut Vec<u8>,
    name: &str,
    shape: &[usize],
    elements: View<'_>,
    labels: Option<&[String]>,
    is_first: &mut bool,
) {
    if !std::mem::take(is_first) {
        out.push(b',');
    }
    out.extend_from_slice(b"{\"name\":");
    push_text(out, name);
    out.extend_from_slice(b",\"datatype\":");
    push_text(out, elements.element().datatype());
    out.extend_from_slice(b",\"shape\":[");
    for (place, length) in shape.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(itoa::Buffer::new().format(*length).as_bytes());
    }
    out.push(b']');
    if let Some(labels) = labels {
        out.extend_from_slice(b",\"parameters\":{\"labels\":");
        push_nested(out, View::Text(labels), &[labels.len()]);
        out.push(b'}');
    }
    out.extend_from_slice(b",\"data\":");
    push_nested(out, elements, &[elements.len()]);
    out.push(b'}');
}

/// A ranking as tensors: every row as long as the longest, the rest filled with score 0 and no label (or -1).
struct Ranked {
    shape: Vec<usize>,
    scores: Elements,
    places: Elements,
}

impl Ranked {
    fn of(output: &Output<'_>, labels: Option<&[String]>, top: usize, threshold: f64) -> Self {
        let (width, outer) = output.shape.split_last().map_or((1, &[][..]), |(width, outer)| (*width, outer));
        let rows = output.elements.len() / width.max(1);
        let rankings: Vec<Vec<usize>> = (0..rows)
            .map(|row| ranking(output.elements.slice(row * width..(row + 1) * width), top, threshold))
            .collect();
        let longest = rankings.iter().map(Vec::len).max().unwrap_or(0);
        let all = output.elements.to_f64();
        let (mut scores, mut names, mut indices) = (Vec::new(), Vec::new(), Vec::new());
        for (row, ranking) in rankings.iter().enumerate() {
            for place in 0..longest {
                let index = ranking.get(place);
                scores.push(index.map_or(0.0, |index| all[row * width + index]));
                let label = index.and_then(|index| labels.and_then(|labels| labels.get(*index)));
                names.push(label.cloned().unwrap_or_default());
                indices.push(index.map_or(-1, |index| i64::try_from(*index).unwrap_or(i64::MAX)));
            }
        }
        let scores = match output.elements {
            View::F64(_) => Elements::F64(scores),
            _ => Elements::F32(scores.into_iter().map(|score| score as f32).collect()),
        };
        let places = if labels.is_some() { Elements::Text(names) } else { Elements::I64(indices) };
        Self { shape: [outer, &[longest]].concat(), scores, places }
    }
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
        Id::Text(text) => push_text(out, text),
        Id::Number(number) => out.extend_from_slice(number.as_bytes()),
    }
}
