//! Every protocol, every type, and the full text of every error.

mod binary;
mod envelopes;
mod errors;
mod forms;
mod memory;
mod padding;
mod pandas_split;
mod properties;
mod tables;
mod types;
mod values;

use std::collections::HashMap;

use super::envelope::open;
use super::{Failure, Id, Limits, Protocol, Request, RequestedOutput, decode};
use crate::headers::Headers;
use crate::tensor::signature::{Dim, Signature, TensorSpec, ValueKind};
use crate::tensor::{ElementType, Elements, Tensor};

fn spec(name: &str, element: ElementType, dims: &[usize]) -> TensorSpec {
    let shape =
        dims.iter().map(|n| if *n == 0 { Dim::Any("N".to_owned()) } else { Dim::Fixed(*n) }).collect();
    TensorSpec { name: name.to_owned(), element, shape, kind: ValueKind::Tensor }
}

/// A batched model; 0 stands for a symbolic dimension.
fn signature(inputs: &[(&str, ElementType, &[usize])]) -> Signature {
    Signature {
        inputs: inputs.iter().map(|(name, element, dims)| spec(name, *element, dims)).collect(),
        outputs: vec![spec("label", ElementType::I64, &[0]), spec("scores", ElementType::F32, &[0, 2])],
        batched: true,
        ..Signature::default()
    }
}

/// `x: float32[N, 2]`.
fn single() -> Signature {
    signature(&[("x", ElementType::F32, &[0, 2])])
}

/// `x: float32[N, 2]`, `n: int64[N]`.
fn several() -> Signature {
    signature(&[("x", ElementType::F32, &[0, 2]), ("n", ElementType::I64, &[0])])
}

/// `x: float32[N, 2]` with columns `a` and `b`.
fn table() -> Signature {
    Signature { columns: Some(vec!["a".to_owned(), "b".to_owned()]), ..single() }
}

/// `x: float32[2, 2]`, no batch dimension.
fn whole() -> Signature {
    Signature { batched: false, ..signature(&[("x", ElementType::F32, &[2, 2])]) }
}

fn read(body: &str, signature: &Signature) -> Result<Request, Failure> {
    decode(body.as_bytes(), signature, &Limits::DEFAULT)
}

fn good(body: &str, signature: &Signature) -> Request {
    read(body, signature).unwrap_or_else(|failure| panic!("{body}: {}", failure.rejection))
}

fn message(body: &str, signature: &Signature) -> String {
    match read(body, signature) {
        Ok(request) => panic!("{body} was read as {request:?}"),
        Err(failure) => failure.rejection.message.into_owned(),
    }
}

const CSV: (&str, &str) = ("content-type", "text/csv");
const RAW: (&str, &str) = ("content-type", "application/octet-stream");

fn attributes(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn decode_within(
    limits: &Limits,
    headers: &HashMap<String, String>,
    body: &[u8],
    signature: &Signature,
) -> Result<Request, Failure> {
    let content = open(Headers(headers), body, limits).content;
    content.map_err(|rejection| Failure { rejection, id: None })?.decode(signature, limits)
}

fn ask(pairs: &[(&str, &str)], body: &[u8], signature: &Signature) -> Result<Request, Failure> {
    decode_within(&Limits::DEFAULT, &attributes(pairs), body, signature)
}

fn asked(pairs: &[(&str, &str)], body: &[u8], signature: &Signature) -> Request {
    let shown = String::from_utf8_lossy(body);
    ask(pairs, body, signature).unwrap_or_else(|failure| panic!("{shown}: {}", failure.rejection))
}

fn refused(pairs: &[(&str, &str)], body: &[u8], signature: &Signature) -> String {
    let shown = String::from_utf8_lossy(body);
    match ask(pairs, body, signature) {
        Ok(request) => panic!("{shown} was read as {request:?}"),
        Err(failure) => failure.rejection.message.into_owned(),
    }
}

/// A v2 tensor in JSON.
fn v2_tensor(name: &str, shape: &str, datatype: &str, data: &str) -> String {
    format!(r#"{{"name": "{name}", "shape": {shape}, "datatype": "{datatype}", "data": {data}}}"#)
}

fn texts(texts: &[&str]) -> Elements {
    Elements::String(texts.iter().map(|text| (*text).to_owned()).collect())
}

/// The tensors of a request that leaves out no input.
fn inputs_of(request: &Request) -> Vec<&Tensor> {
    request.inputs.iter().map(|input| input.as_ref().expect("an input was left out")).collect()
}

/// A copy of the tensors of a request that leaves out no input.
fn given(request: &Request) -> Vec<Tensor> {
    inputs_of(request).into_iter().cloned().collect()
}

/// The first input.
fn first(request: &Request) -> &Tensor {
    inputs_of(request)[0]
}

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor { shape: shape.to_vec(), elements: Elements::F32(values.to_vec()) }
}

fn i64s(values: &[i64]) -> Tensor {
    Tensor { shape: vec![values.len()], elements: Elements::I64(values.to_vec()) }
}

fn string_id(value: &str) -> Option<Id> {
    Some(Id::String(value.to_owned()))
}
