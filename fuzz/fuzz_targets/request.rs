//! Any body under any of the content types, for models of every kind, gives a request, which is answered, or
//! an error, never a panic.
#![no_main]

mod signatures;

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use predictd::decode::Limits;
use predictd::decode::envelope::open;
use predictd::headers::Headers;
use predictd::encode::{ServedModel, response, unpad};
use predictd::tensor::{Output, Show};

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

fuzz_target!(|data: &[u8]| {
    let [kind, which, body @ ..] = data else { return };
    let (name, value) = TYPES[usize::from(*kind) % TYPES.len()];
    let attributes = HashMap::from([(name.to_owned(), value.to_owned())]);
    let limits = Limits { max_elements: 1 << 16, max_body_bytes: 1 << 20, ..Limits::DEFAULT };
    if let Ok(content) = open(Headers(&attributes), body, &limits).content {
        let signature = signatures::signature(*which);
        let Ok(request) = content.decode(&signature, &limits) else { return };
        let served = ServedModel { model: "m", version: "1", batched: signature.batched };
        let Some(input) = request.inputs.iter().flatten().next().filter(|_| signature.batched) else { return };
        // The first input is the output: padded, then unpadded.
        let echo = Output {
            name: "label",
            shape: &input.shape,
            elements: input.elements.view(),
            show: Show::Values,
        };
        let (protocol, lengths) = (&request.response.protocol, unpad::Lengths::of(&request, &signature));
        unpad::lend_unpadded(protocol, &signature.unpads, &lengths, &[echo], |outputs| {
            response(&request.response, outputs, &served).ok()
        });
    }
});
