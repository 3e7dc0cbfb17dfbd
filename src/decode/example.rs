//! Requests of one row in a model's own form, for messages about bodies in another form. Long lists are
//! shortened.

use super::error::quoted;
use super::inputs::Inputs;
use super::named_columns::NamedColumns;
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};

/// Elements of a list, or names, that an example has at most.
const MAX_SHOWN: usize = 3;

/// `{"instances": [[0.0, 0.0]]}`
pub(super) fn instances(inputs: &Inputs<'_>) -> String {
    let row = |spec: &TensorSpec| match &spec.kind {
        ValueKind::Map { .. } => "{\"…\": …}".to_owned(),
        ValueKind::Sequence { .. } => "[…]".to_owned(),
        _ => value(spec.shape.get(inputs.row_level()..).unwrap_or_default(), spec.element),
    };
    let row = match &inputs.list[..] {
        [only] => row(only.spec),
        all => {
            let pairs = all.iter().map(|input| format!("{}: {}", quoted(&input.spec.name), row(input.spec)));
            format!("{{{}}}", joined(pairs))
        }
    };
    format!("{{\"instances\": [{row}]}}")
}

/// `{"dataframe_split": {"columns": ["a", "b"], "data": [[0.0, 0.0]]}}`, or `instances` for models that take
/// no tables.
pub(super) fn dataframe(inputs: &Inputs<'_>) -> String {
    let all = &inputs.list;
    let are_columns = !all.is_empty() && all.iter().all(|input| is_column(input.spec));
    let columns: Vec<(&str, ElementType)> = match NamedColumns::of(inputs) {
        Some(columns) => columns.names.iter().map(|name| (name.as_str(), all[0].spec.element)).collect(),
        None if are_columns && inputs.row_level() == 1 => {
            all.iter().map(|input| (input.spec.name.as_str(), input.spec.element)).collect()
        }
        None => return instances(inputs),
    };
    let names = joined(columns.iter().map(|(name, _)| quoted(name)));
    let cells = joined(columns.iter().map(|(_, element)| value(&[], *element)));
    format!("{{\"dataframe_split\": {{\"columns\": [{names}], \"data\": [[{cells}]]}}}}")
}

fn is_column(spec: &TensorSpec) -> bool {
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
        let length = dim.fixed().unwrap_or(MAX_SHOWN + 1);
        format!("[{}]", joined(std::iter::repeat_n(inner, length)))
    })
}

/// The first parts with commas between them, and `…` for the others.
fn joined(parts: impl Iterator<Item = String>) -> String {
    let mut parts: Vec<String> = parts.take(MAX_SHOWN + 1).collect();
    if let Some(last) = parts.get_mut(MAX_SHOWN) {
        *last = "…".to_owned();
    }
    parts.join(", ")
}
