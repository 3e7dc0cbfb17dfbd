//! A body that is one element as it stands: an image, or a text.

use super::{Answer, Form, Limits, Request};
use crate::decode::error::{Fault, Read, shown};
use crate::tensor::signature::Signature;
use crate::tensor::{ElementType, Elements, Tensor};

/// One row of the model's one input, which takes images or other bytes.
pub(super) fn decode_bytes(body: &[u8], signature: &Signature, _: &Limits) -> Read<Request> {
    if body.is_empty() {
        return Err(Fault::new("expected the bytes of an image, got an empty body"));
    }
    request(
        signature,
        ElementType::Blob,
        "images (its bundle declares no `image`)",
        Elements::Blob(vec![body.to_vec()]),
    )
}

/// One row of the model's one input, which takes text.
pub(super) fn decode_text(body: &[u8], signature: &Signature, _: &Limits) -> Read<Request> {
    let text = str::from_utf8(body).map_err(|error| {
        Fault::new(format!("expected UTF-8, got an invalid sequence at byte {}", error.valid_up_to()))
    })?;
    request(signature, ElementType::Text, "one text a row", Elements::Text(vec![text.to_owned()]))
}

fn request(signature: &Signature, element: ElementType, what: &str, elements: Elements) -> Read<Request> {
    let [input] = &signature.inputs[..] else {
        let count = signature.inputs.len();
        return Err(Fault::new(format!(
            "expected JSON: the model has {count} inputs, and such a body is for models with one"
        )));
    };
    let rows = usize::from(signature.batched || signature.row_by_row);
    if input.element != element
        || input.shape.get(rows..).unwrap_or_default().iter().any(|dim| dim.fixed() != Some(1))
    {
        return Err(Fault::new(format!(
            "expected another content-type: the model does not take {what}, its input {} is {}",
            shown(&input.name),
            input.describe()
        )));
    }
    let inputs = vec![Tensor { shape: vec![1; input.shape.len()], elements }];
    Ok(Request { inputs, rows: 1, lengths: Vec::new(), answer: Answer { form: Form::Rows, id: None } })
}
