//! `application/octet-stream`: the little-endian rows of a model's one input, side by side, and nothing else.

use super::binary;
use super::error::{DecodeError, Decoded, quoted, refuse};
use super::inputs::Inputs;
use super::limits::Limits;
use super::request::{Request, ResponseSpec};
use super::whole_body::decode_bytes;
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, Signature, ValueKind};

/// The hint for models that raw rows cannot serve.
const ALTERNATIVE: &str = "send JSON, or Open Inference Protocol v2 with inference-header-content-length";

pub(super) fn decode(body: &[u8], signature: &Signature, limits: &Limits) -> Decoded<Request> {
    let mut inputs = Inputs::new(signature, *limits, 0);
    let [input] = &*inputs.list else {
        let count = inputs.list.len();
        return refuse(format!(
            "content-type application/octet-stream is for models with one input, this one has {count}; \
             {ALTERNATIVE}"
        ));
    };
    let spec = input.spec;
    if spec.element == ElementType::Bytes {
        return decode_bytes(body, signature);
    }
    let (name, what) = (quoted(&spec.name), spec.describe());
    let no_rows = |why: &str| {
        let message = format!(
            "content-type application/octet-stream cannot carry rows of {what}: {why}; {ALTERNATIVE}"
        );
        DecodeError::new(message).within(&format!("input {name}"))
    };
    if spec.kind.is_composite() {
        return Err(no_rows("it is no tensor"));
    }
    if spec.kind == ValueKind::OpenRank {
        return Err(no_rows("the model leaves the shape open"));
    }
    let Some(width) = binary::element_width(spec.element) else {
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
        limits.check_rows(rows)?;
        shape.insert(0, rows);
    }
    inputs.read_binary(0, body, &shape).map_err(place)?;
    inputs.finish(signature.batched.then_some(rows), ResponseSpec::rows())
}
