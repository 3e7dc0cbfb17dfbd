//! Requests that a model takes as they stand: of the right shape and zeros all over, so not of sense.

use base64::Engine as _;

use crate::model::Model;
use crate::tensor::{Dim, ElementType, Kind, Signature, TensorSpec};

/// A request for `predictd predict`, and for Pub/Sub.
#[derive(Debug, serde::Serialize)]
pub struct Sample {
    pub protocol: &'static str,
    pub content_type: &'static str,
    pub body: String,
}

/// One for each protocol that fits the model.
pub fn samples(model: &Model) -> Vec<Sample> {
    let signature = &model.signature;
    let picture =
        model.engine.sample_picture().map(|bytes| base64::engine::general_purpose::STANDARD.encode(bytes));
    let zero = |element: ElementType| zero(element, picture.as_deref());
    let json = |protocol, body| Sample { protocol, content_type: "application/json", body };
    let whole_input = |spec: &TensorSpec| match composite(spec) {
        Some(composite) => composite,
        None => value(&whole(spec), &zero(spec.element)),
    };
    // A bare map would be taken for inputs by name.
    let whole_inputs = match &signature.inputs[..] {
        [only] if matches!(only.kind, Kind::Map { .. }) => object(&signature.inputs, whole_input),
        _ => named(signature, whole_input),
    };
    let mut samples = vec![
        json(
            "rows",
            format!(
                "{{\"instances\": [{}]}}",
                named(signature, |spec| match composite(spec) {
                    Some(composite) => composite,
                    None => value(&row(spec, signature), &zero(spec.element)),
                })
            ),
        ),
        json("columns", format!("{{\"inputs\": {whole_inputs}}}")),
    ];
    let is_composite = |spec: &TensorSpec| spec.kind.is_composite();
    if !signature.inputs.is_empty() && !signature.inputs.iter().any(is_composite) {
        let tensors: Vec<String> =
            signature.inputs.iter().map(|spec| v2(spec, &zero(spec.element))).collect();
        samples.push(json("v2", format!("{{\"inputs\": [{}]}}", tensors.join(", "))));
    }
    if let Some(table) = csv(signature) {
        samples.push(Sample { protocol: "csv", content_type: "text/csv; header=present", body: table });
    }
    samples
}

/// A map of one zero, or a sequence of one tensor of zeros.
fn composite(spec: &TensorSpec) -> Option<String> {
    match &spec.kind {
        Kind::Tensor | Kind::Optional => None,
        Kind::Map { key, value } => {
            let key = if *key == ElementType::I64 { "0" } else { "a" };
            Some(format!("{{\"{key}\": {}}}", zero(*value, None)))
        }
        Kind::Sequence { element, shape } => {
            let shape: Vec<usize> = shape.iter().map(|dim| dim.fixed().unwrap_or(1)).collect();
            Some(format!("[{}]", value(&shape, &zero(*element, None))))
        }
    }
}

fn zero(element: ElementType, picture: Option<&str>) -> String {
    match element {
        ElementType::Bool => "false".to_owned(),
        ElementType::Text => "\"a\"".to_owned(),
        ElementType::Blob => format!("{{\"b64\": \"{}\"}}", picture.unwrap_or_default()),
        ElementType::F16 | ElementType::BF16 | ElementType::F32 | ElementType::F64 => "0.0".to_owned(),
        _ => "0".to_owned(),
    }
}

/// The bare value of a single input, else an object by name.
fn named(signature: &Signature, value: impl Fn(&TensorSpec) -> String) -> String {
    if let [only] = &signature.inputs[..] {
        return value(only);
    }
    object(&signature.inputs, value)
}

fn object(inputs: &[TensorSpec], value: impl Fn(&TensorSpec) -> String) -> String {
    let pair =
        |spec: &TensorSpec| format!("{}: {}", serde_json::Value::from(spec.name.as_str()), value(spec));
    let pairs: Vec<String> = inputs.iter().map(pair).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Free dimensions are 1 long.
fn whole(spec: &TensorSpec) -> Vec<usize> {
    spec.shape.iter().map(|dim| if let Dim::Fixed(n) = dim { *n } else { 1 }).collect()
}

fn row(spec: &TensorSpec, signature: &Signature) -> Vec<usize> {
    let rows = usize::from(signature.batched || signature.row_by_row);
    whole(spec).split_off(rows.min(spec.shape.len()))
}

fn value(shape: &[usize], zero: &str) -> String {
    shape.iter().rev().fold(zero.to_owned(), |inner, length| format!("[{}]", vec![inner; *length].join(", ")))
}

fn v2(spec: &TensorSpec, zero: &str) -> String {
    let shape = whole(spec);
    let data = value(&[shape.iter().product()], zero);
    let name = serde_json::Value::from(spec.name.as_str());
    format!(
        "{{\"name\": {name}, \"shape\": {shape:?}, \"datatype\": \"{}\", \"data\": {data}}}",
        spec.element.datatype()
    )
}

/// For models of named columns, or of inputs that are one column each.
fn csv(signature: &Signature) -> Option<String> {
    let is_column = |spec: &TensorSpec| {
        let is_narrow = matches!(&spec.shape[..], [_] | [_, Dim::Fixed(1)]);
        is_narrow && spec.element != ElementType::Blob
    };
    let (names, zeros): (Vec<String>, Vec<String>) = match &signature.columns {
        Some(columns) => (columns.clone(), vec!["0".to_owned(); columns.len()]),
        None if signature.batched
            && !signature.inputs.is_empty()
            && signature.inputs.iter().all(is_column) =>
        {
            let cell = |spec: &TensorSpec| match spec.element {
                ElementType::Text => "a".to_owned(),
                ElementType::Bool => "false".to_owned(),
                _ => "0".to_owned(),
            };
            signature.inputs.iter().map(|spec| (spec.name.clone(), cell(spec))).unzip()
        }
        None => return None,
    };
    let is_plain = |name: &String| !name.contains([',', '"', '\n', '\r']);
    names.iter().all(is_plain).then(|| format!("{}\n{}\n", names.join(","), zeros.join(",")))
}
