//! `application/octet-stream`: the little-endian rows of a model's one input, side by side, and nothing else.

use super::binary;
use super::error::{Decoded, Located, refuse};
use super::inputs::Inputs;
use super::limits::Limits;
use super::request::{Request, ResponseSpec};
use super::whole_body::decode_bytes;
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, Signature, TensorSpec, ValueKind};

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
    let rows = read_rows(&mut inputs, spec, body).in_input(&spec.name)?;
    inputs.finish(rows, ResponseSpec::rows())
}

/// Reads the rows and returns their number, if the model has a batch dimension.
fn read_rows(inputs: &mut Inputs<'_>, spec: &TensorSpec, body: &[u8]) -> Decoded<Option<usize>> {
    let (what, batched) = (spec.describe(), inputs.signature.batched);
    let (mut shape, row_bytes) = match row_shape(spec, batched) {
        Ok(row) => row,
        Err(why) => {
            return refuse(format!(
                "content-type application/octet-stream cannot carry rows of {what}: {why}; {ALTERNATIVE}"
            ));
        }
    };
    let (rows, rest) = (body.len() / row_bytes, body.len() % row_bytes);
    if rest != 0 || rows == 0 || (!batched && rows > 1) {
        let whole = if batched { "whole rows of" } else { "exactly" };
        let got = body.len();
        let is_json = body.starts_with(b"{") || body.starts_with(b"[");
        let hint = if is_json { "; JSON is sent as application/json" } else { "" };
        return refuse(format!("expected {whole} {row_bytes} bytes ({what}), got {got} bytes{hint}"));
    }
    if batched {
        inputs.limits.check_rows(rows)?;
        shape.insert(0, rows);
    }
    inputs.read_binary(0, body, &shape)?;
    Ok(batched.then_some(rows))
}

/// The shape of a row and its bytes, or the reason why rows have no fixed length.
fn row_shape(spec: &TensorSpec, batched: bool) -> Result<(Vec<usize>, usize), &'static str> {
    if spec.kind.is_composite() {
        return Err("it is no tensor");
    }
    if spec.kind == ValueKind::OpenRank {
        return Err("the model leaves the shape open");
    }
    let width = binary::element_width(spec.element).ok_or("strings have no fixed length")?;
    let shape = spec.shape[usize::from(batched)..].iter().map(Dim::fixed).collect::<Option<Vec<usize>>>();
    let shape = shape.ok_or("the model leaves the length of a row open")?;
    let bytes = shape.iter().try_fold(width, |product, length| product.checked_mul(*length));
    let bytes = bytes.filter(|bytes| *bytes > 0).ok_or("a row has no bytes")?;
    Ok((shape, bytes))
}
