//! Any body under any of the content types, against models of every kind: a request, which is answered, or an error; never a panic.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use predictd::decode::Limits;
use predictd::decode::envelope::{Headers, open};
use predictd::encode::{Served, cut, response};
use predictd::signature::{Cut, Dim, Kind, PadTo, Padding, Signature, TensorSpec};
use predictd::tensor::{ElementType, Elements, Output, Show};

const TYPES: [(&str, &str); 9] = [
    ("", ""),
    ("content-type", "application/json"),
    ("content-type", "text/csv"),
    ("content-type", "text/csv; header=present"),
    ("content-type", "application/octet-stream"),
    ("content-type", "application/cloudevents+json"),
    ("content-encoding", "gzip"),
    ("inference-header-content-length", "40"),
    ("content-type", "image/png"),
];

fn input(name: &str, element: ElementType, dims: &[usize]) -> TensorSpec {
    let dim = |n: &usize| if *n == 0 { Dim::Any(String::new()) } else { Dim::Fixed(*n) };
    TensorSpec { name: name.to_owned(), element, shape: dims.iter().map(dim).collect(), kind: Kind::Tensor }
}

fn composite(kind: Kind) -> TensorSpec {
    TensorSpec { kind, ..input("x", ElementType::Composite, &[]) }
}

fn signature(which: u8) -> Signature {
    let elements = ElementType::ALL;
    let element = elements[usize::from(which) % elements.len()];
    let inputs = match which % 4 {
        0 => vec![input("x", element, &[0, 3])],
        1 => {
            let kind = if which % 8 == 1 { Kind::Optional } else { Kind::Tensor };
            vec![input("x", element, &[0]), TensorSpec { kind, ..input("y", ElementType::Text, &[0, 1]) }]
        }
        2 => vec![input("ids", ElementType::I64, &[0, 0])],
        _ => vec![match which / 4 % 4 {
            0 => input("x", element, &[2, 2]),
            1 => composite(Kind::Map { key: ElementType::Text, value: ElementType::F32 }),
            2 => composite(Kind::Map { key: ElementType::I64, value: ElementType::Text }),
            _ => composite(Kind::Sequence { element, shape: Vec::new() }),
        }],
    };
    let padding = Padding { input: 0, axis: 1, value: Elements::I64(vec![0]), to: PadTo::Multiple(4) };
    Signature {
        inputs,
        outputs: vec![input("label", ElementType::I64, &[0])],
        columns: (which % 8 == 0).then(|| ["a", "b", "c"].map(str::to_owned).to_vec()),
        padding: if which % 4 == 2 { vec![padding] } else { Vec::new() },
        cuts: if which % 4 == 2 { vec![Cut { output: 0, axis: 1, padding: 0 }] } else { Vec::new() },
        defaults: Vec::new(),
        missing: Vec::new(),
        batched: which % 4 != 3,
        frame: predictd::signature::Frame::default(),
        row_by_row: false,
    }
}

fuzz_target!(|data: &[u8]| {
    let [kind, which, body @ ..] = data else { return };
    let (name, value) = TYPES[usize::from(*kind) % TYPES.len()];
    let attributes = HashMap::from([(name.to_owned(), value.to_owned())]);
    let limits = Limits { max_elements: 1 << 16, max_body_bytes: 1 << 20, ..Limits::DEFAULT };
    if let Ok(content) = open(Headers(&attributes), body, &limits).content {
        let signature = signature(*which);
        let Ok(request) = content.decode(&signature, &limits) else { return };
        let served = Served { model: "m", version: "1", batched: signature.batched };
        let Some(input) = request.inputs.first().filter(|_| signature.batched) else { return };
        // Its first input comes back as it went in: padded, then cut.
        let echo = Output {
            name: "label",
            shape: &input.shape,
            elements: input.elements.view(),
            show: Show::Values,
        };
        let (form, lengths) = (&request.answer.form, cut::Lengths::of(&request, &signature));
        cut::lend(form, &signature.cuts, &lengths, &[echo], |outputs| {
            response(&request.answer, outputs, &served).ok()
        });
    }
});
