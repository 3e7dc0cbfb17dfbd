//! Requests of one row in a model's own form, for messages about bodies in another one. Long lists are cut.

use super::inputs::Inputs;
use super::rows::{Columns, level};
use crate::decode::error::quoted;
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};

/// Elements of a list, or names, that are shown at most.
const SHOWN: usize = 3;

/// `{"instances": [[0.0, 0.0]]}`
pub(super) fn instances(inputs: &Inputs<'_>) -> String {
    let row = |spec: &TensorSpec| match &spec.kind {
        ValueKind::Map { .. } => "{\"…\": …}".to_owned(),
        ValueKind::Sequence { .. } => "[…]".to_owned(),
        _ => value(spec.shape.get(level(inputs)..).unwrap_or_default(), spec.element),
    };
    let row = match &inputs.list[..] {
        [only] => row(only.spec),
        all => {
            let pairs = all.iter().map(|input| format!("{}: {}", quoted(&input.spec.name), row(input.spec)));
            format!("{{{}}}", cut(pairs))
        }
    };
    format!("{{\"instances\": [{row}]}}")
}

/// `{"dataframe_split": {"columns": ["a", "b"], "data": [[0.0, 0.0]]}}`, or the above for models that take no tables.
pub(super) fn frame(inputs: &Inputs<'_>) -> String {
    let (names, elements): (Vec<&str>, Vec<ElementType>) = match (Columns::of(inputs), &inputs.list[..]) {
        (Some(columns), [only]) => {
            columns.names.iter().map(|name| (name.as_str(), only.spec.element)).unzip()
        }
        (None, all)
            if !all.is_empty() && all.iter().all(|input| is_cell(input.spec)) && level(inputs) == 1 =>
        {
            all.iter().map(|input| (input.spec.name.as_str(), input.spec.element)).unzip()
        }
        _ => return instances(inputs),
    };
    let cells = elements.iter().map(|element| value(&[], *element));
    let names = names.iter().map(|name| quoted(name));
    format!("{{\"dataframe_split\": {{\"columns\": [{}], \"data\": [[{}]]}}}}", cut(names), cut(cells))
}

fn is_cell(spec: &TensorSpec) -> bool {
    !spec.kind.is_composite() && matches!(&spec.shape[..], [_] | [_, Dim::Fixed(1)])
}

fn value(shape: &[Dim], element: ElementType) -> String {
    let one = match element {
        ElementType::Bool => "false",
        ElementType::String => "\"text\"",
        ElementType::Bytes => "{\"b64\": \"…\"}",
        ElementType::F16 | ElementType::BF16 | ElementType::F32 | ElementType::F64 => "0.0",
        _ => "0",
    };
    shape.iter().rev().fold(one.to_owned(), |inner, dim| {
        let length = dim.fixed().unwrap_or(SHOWN + 1);
        format!("[{}]", cut(std::iter::repeat_n(inner, length)))
    })
}

fn cut(parts: impl Iterator<Item = String>) -> String {
    let mut parts: Vec<String> = parts.take(SHOWN + 1).collect();
    if let Some(last) = parts.get_mut(SHOWN) {
        *last = "…".to_owned();
    }
    parts.join(", ")
}
