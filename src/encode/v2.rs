//! The outputs of an Open Inference Protocol v2 response, in JSON and behind it.

use std::borrow::Cow;

use super::value::{push_nested, push_text};
use super::{binary, ranking};
use crate::tensor::{Elements, Output, Show, View};

/// One tensor of the response.
struct Tensor<'a> {
    name: Cow<'a, str>,
    shape: Cow<'a, [usize]>,
    elements: Data<'a>,
    /// What the innermost dimension's values are called.
    labels: Option<&'a [String]>,
    is_binary: bool,
}

enum Data<'a> {
    Lent(View<'a>),
    Computed(Elements),
}

impl Data<'_> {
    fn view(&self) -> View<'_> {
        match self {
            Self::Lent(view) => *view,
            Self::Computed(elements) => elements.view(),
        }
    }
}

/// Writes the tensors, the end of the body, and the binary data behind it; how long the JSON is where there is such data.
pub(super) fn push(
    out: &mut Vec<u8>,
    outputs: &[&Output<'_>],
    is_binary: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut tensors = Vec::with_capacity(outputs.len());
    for (index, output) in outputs.iter().enumerate() {
        expand(&mut tensors, Cow::Borrowed(output.name), output, is_binary(index));
    }
    for (index, tensor) in tensors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_tensor(out, tensor);
    }
    out.extend_from_slice(b"]}");
    let json_length = out.len();
    let binary = || tensors.iter().filter(|tensor| tensor.is_binary);
    out.reserve_exact(binary().map(|tensor| binary::size(tensor.elements.view())).sum());
    binary().for_each(|tensor| binary::push(out, tensor.elements.view()));
    binary().next().map(|_| json_length)
}

/// One tensor; a sequence as `name.0`, `name.1` and so on, a missing optional output as none, a ranking as two: the scores,
/// and their labels (`name.labels`) or positions (`name.indices`).
fn expand<'a>(tensors: &mut Vec<Tensor<'a>>, name: Cow<'a, str>, output: &Output<'a>, is_binary: bool) {
    let shape = Cow::Borrowed(output.shape);
    let lent = Data::Lent(output.elements);
    match output.show {
        Show::Missing => {}
        Show::Sequence(parts) | Show::PerRow(parts) => {
            for (index, part) in parts.iter().enumerate() {
                expand(tensors, format!("{name}.{index}").into(), part, is_binary);
            }
        }
        Show::Values => tensors.push(Tensor { name, shape, elements: lent, labels: None, is_binary }),
        Show::Named(names) => {
            tensors.push(Tensor { name, shape, elements: lent, labels: Some(names), is_binary })
        }
        Show::Ranked { labels, top, threshold } => {
            let (shape, scores, places) = ranked(output, labels, top, threshold);
            let suffix = if labels.is_some() { "labels" } else { "indices" };
            let place_name = format!("{name}.{suffix}").into();
            let shape: Cow<'a, [usize]> = shape.into();
            for (name, elements) in [(name, scores), (place_name, places)] {
                let (shape, elements) = (shape.clone(), Data::Computed(elements));
                tensors.push(Tensor { name, shape, elements, labels: None, is_binary });
            }
        }
    }
}

fn push_tensor(out: &mut Vec<u8>, tensor: &Tensor<'_>) {
    let elements = tensor.elements.view();
    out.extend_from_slice(b"{\"name\":");
    push_text(out, &tensor.name);
    out.extend_from_slice(b",\"datatype\":");
    push_text(out, elements.element().datatype());
    out.extend_from_slice(b",\"shape\":[");
    for (place, length) in tensor.shape.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(itoa::Buffer::new().format(*length).as_bytes());
    }
    out.push(b']');
    push_parameters(out, tensor);
    if !tensor.is_binary {
        out.extend_from_slice(b",\"data\":");
        push_nested(out, elements, &[elements.len()]);
    }
    out.push(b'}');
}

fn push_parameters(out: &mut Vec<u8>, tensor: &Tensor<'_>) {
    if tensor.labels.is_none() && !tensor.is_binary {
        return;
    }
    out.extend_from_slice(b",\"parameters\":{");
    if let Some(labels) = tensor.labels {
        out.extend_from_slice(b"\"labels\":");
        push_nested(out, View::String(labels), &[labels.len()]);
    }
    if tensor.is_binary {
        if tensor.labels.is_some() {
            out.push(b',');
        }
        out.extend_from_slice(b"\"binary_data_size\":");
        let size = binary::size(tensor.elements.view());
        out.extend_from_slice(itoa::Buffer::new().format(size).as_bytes());
    }
    out.push(b'}');
}

/// A ranking as tensors (shape, scores, labels or positions): every row as long as the longest, the rest filled with score 0
/// and no label (or -1).
fn ranked(
    output: &Output<'_>,
    labels: Option<&[String]>,
    top: usize,
    threshold: f64,
) -> (Vec<usize>, Elements, Elements) {
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
    let places = if labels.is_some() { Elements::String(names) } else { Elements::I64(indices) };
    ([outer, &[longest]].concat(), scores, places)
}
