//! Bodies that are one element as a whole: an image, or a text.

use super::error::{DecodeError, Decoded, quoted, refuse};
use super::request::{Request, ResponseSpec};
use crate::tensor::signature::Signature;
use crate::tensor::{Elements, Tensor};

/// The body as the one row of an input that takes images.
pub(super) fn decode_bytes(body: &[u8], signature: &Signature) -> Decoded<Request> {
    if body.is_empty() {
        return refuse("expected the bytes of an image, got an empty body");
    }
    let images = Elements::Bytes(vec![body.to_vec()]);
    one_row(signature, images, "images (its bundle declares no `image`)")
}

/// The body as the one row of an input that takes text.
pub(super) fn decode_text(body: &[u8], signature: &Signature) -> Decoded<Request> {
    let text = str::from_utf8(body).map_err(|error| {
        DecodeError::new(format!("expected UTF-8, got an invalid sequence at byte {}", error.valid_up_to()))
    })?;
    one_row(signature, Elements::String(vec![text.to_owned()]), "one text a row")
}

fn one_row(signature: &Signature, elements: Elements, what: &str) -> Decoded<Request> {
    let [input] = &signature.inputs[..] else {
        let count = signature.inputs.len();
        return refuse(format!(
            "expected JSON: the model has {count} inputs, and this content type is for models with one"
        ));
    };
    let rows = usize::from(signature.batched || signature.row_by_row);
    if input.element != elements.element()
        || input.shape.get(rows..).unwrap_or_default().iter().any(|dim| dim.fixed() != Some(1))
    {
        return refuse(format!(
            "expected another content-type: the model does not take {what}, its input {} is {}",
            quoted(&input.name),
            input.describe()
        ));
    }
    let inputs = vec![Some(Tensor { shape: vec![1; input.shape.len()], elements })];
    Ok(Request { inputs, rows: 1, lengths: Vec::new(), timeout: None, response: ResponseSpec::rows() })
}
