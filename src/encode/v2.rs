//! The outputs of an Open Inference Protocol v2 response, in JSON and as binary data behind it.

use std::borrow::Cow;

use super::binary;
use super::ranking::ranked_tensors;
use super::value::{push_list, push_member, push_nested};
use crate::tensor::{Elements, Output, Show, View};

/// One tensor of the response.
struct ResponseTensor<'a> {
    name: Cow<'a, str>,
    shape: Cow<'a, [usize]>,
    elements: TensorData<'a>,
    /// Names of the values of the innermost dimension.
    labels: Option<&'a [String]>,
    is_binary: bool,
}

enum TensorData<'a> {
    Borrowed(View<'a>),
    Computed(Elements),
}

impl TensorData<'_> {
    fn view(&self) -> View<'_> {
        match self {
            Self::Borrowed(view) => *view,
            Self::Computed(elements) => elements.view(),
        }
    }
}

/// Writes the tensors, the end of the JSON, and the binary data behind it. Returns the length of the JSON if
/// there is such data.
pub(super) fn push_outputs(
    out: &mut Vec<u8>,
    outputs: &[&Output<'_>],
    is_binary: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut tensors = Vec::with_capacity(outputs.len());
    for (index, output) in outputs.iter().enumerate() {
        push_expanded(&mut tensors, Cow::Borrowed(output.name), output, is_binary(index));
    }
    push_list(out, b"[]", &tensors, push_tensor);
    out.push(b'}');
    let json_length = out.len();
    let binary = || tensors.iter().filter(|tensor| tensor.is_binary);
    out.reserve_exact(binary().map(|tensor| binary::size(tensor.elements.view())).sum());
    binary().for_each(|tensor| binary::push_elements(out, tensor.elements.view()));
    binary().next().map(|_| json_length)
}

/// Adds the tensors of one output: none if it is missing, `name.0`, `name.1` and so on for a sequence, and
/// two for a ranking, the scores and their labels (`name.labels`) or positions (`name.indices`). All other
/// outputs are one tensor.
fn push_expanded<'a>(
    tensors: &mut Vec<ResponseTensor<'a>>,
    name: Cow<'a, str>,
    output: &Output<'a>,
    is_binary: bool,
) {
    match output.show {
        Show::Missing => {}
        Show::Sequence(parts) | Show::PerRow(parts) => {
            for (index, part) in parts.iter().enumerate() {
                push_expanded(tensors, format!("{name}.{index}").into(), part, is_binary);
            }
        }
        Show::Values | Show::Named(_) => {
            let labels = if let Show::Named(names) = output.show { Some(names) } else { None };
            let elements = TensorData::Borrowed(output.elements);
            let shape = Cow::Borrowed(output.shape);
            tensors.push(ResponseTensor { name, shape, elements, labels, is_binary });
        }
        Show::Ranked { labels, top, threshold } => {
            let (shape, scores, places) = ranked_tensors(output, labels, top, threshold);
            let suffix = if labels.is_some() { "labels" } else { "indices" };
            let place_name = format!("{name}.{suffix}").into();
            let shape: Cow<'a, [usize]> = shape.into();
            for (name, elements) in [(name, scores), (place_name, places)] {
                let (shape, elements) = (shape.clone(), TensorData::Computed(elements));
                tensors.push(ResponseTensor { name, shape, elements, labels: None, is_binary });
            }
        }
    }
}

fn push_tensor(out: &mut Vec<u8>, tensor: &ResponseTensor<'_>) {
    let elements = tensor.elements.view();
    push_member(out, "{\"name\":", &tensor.name);
    push_member(out, ",\"datatype\":", elements.element().datatype());
    out.extend_from_slice(b",\"shape\":");
    push_list(out, b"[]", &*tensor.shape, |out, length| {
        out.extend_from_slice(itoa::Buffer::new().format(*length).as_bytes());
    });
    push_parameters(out, tensor);
    if !tensor.is_binary {
        out.extend_from_slice(b",\"data\":");
        push_nested(out, elements, &[elements.len()]);
    }
    out.push(b'}');
}

fn push_parameters(out: &mut Vec<u8>, tensor: &ResponseTensor<'_>) {
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
