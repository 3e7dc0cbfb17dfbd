//! `application/octet-stream`: the little-endian rows of a model's one input of fixed type, side by side, and nothing else.

use super::inputs::{Inputs, check_rows};
use super::{Limits, Protocol, Request, ResponseSpec, binary};
use crate::decode::error::{DecodeError, Decoded, quoted};
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, Signature, ValueKind};

const ELSE: &str = "send JSON, or Open Inference Protocol v2 with inference-header-content-length";

pub(super) fn decode(body: &[u8], signature: &Signature, limits: &Limits) -> Decoded<Request> {
    let mut inputs = Inputs::new(signature, *limits, 0);
    let [input] = &*inputs.list else {
        let count = inputs.list.len();
        return Err(DecodeError::new(format!(
            "content-type application/octet-stream is for models with one input, this one has {count}; {ELSE}"
        )));
    };
    let spec = input.spec;
    if spec.element == ElementType::Bytes {
        return crate::decode::whole_body::decode_bytes(body, signature, limits);
    }
    let (name, what) = (quoted(&spec.name), spec.describe());
    let no_rows = |why: &str| {
        let message =
            format!("content-type application/octet-stream cannot carry rows of {what}: {why}; {ELSE}");
        DecodeError::new(message).within(&format!("input {name}"))
    };
    if spec.kind.is_composite() {
        return Err(no_rows("it is no tensor"));
    }
    if spec.kind == ValueKind::OpenRank {
        return Err(no_rows("the model leaves the shape open"));
    }
    let Some(width) = binary::width(spec.element) else {
        return Err(no_rows("strings have no fixed length"));
    };
    let row_dims = &spec.shape[usize::from(signature.batched)..];
    let Some(row_shape) = row_dims.iter().map(Dim::fixed).collect::<Option<Vec<usize>>>() else {
        return Err(no_rows("the model leaves the length of a row open"));
    };
    let row_bytes = row_shape.iter().try_fold(width, |product, length| product.checked_mul(*length));
    let Some(row_bytes) = row_bytes.filter(|bytes| *bytes > 0) else {
        return Err(no_rows("a row has no bytes"));
    };
    let (rows, rest) = (body.len() / row_bytes, body.len() % row_bytes);
    let place = |error: Box<DecodeError>| error.within(&format!("input {name}"));
    if rest != 0 || rows == 0 || (!signature.batched && rows > 1) {
        let whole = if signature.batched { "whole rows of" } else { "exactly" };
        let got = body.len();
        let hint = if body.starts_with(b"{") || body.starts_with(b"[") {
            "; JSON is sent as application/json"
        } else {
            ""
        };
        let message = format!("expected {whole} {row_bytes} bytes ({what}), got {got} bytes{hint}");
        return Err(place(DecodeError::new(message)));
    }
    let mut shape = row_shape;
    if signature.batched {
        check_rows(rows, limits.max_rows)?;
        shape.insert(0, rows);
    }
    inputs.read_binary(0, body, &shape).map_err(place)?;
    inputs.finish(signature.batched.then_some(rows), ResponseSpec { protocol: Protocol::Rows, id: None })
}
