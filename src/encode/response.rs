//! Bodies of responses: predictions in the request's protocol, errors, and references to stored responses.

use std::borrow::Cow;

use super::outputs::{push_lines, push_named, push_rows};
use super::v2;
use super::value::{estimate, push_member};
use crate::decode::{Id, Limits, Protocol, RequestedOutput, ResponseSpec};
use crate::error::{Code, Rejection};
use crate::tensor::{Output, Show};

/// The model version that computed the outputs.
#[derive(Debug, Clone, Copy)]
pub struct ServedModel<'a> {
    pub model: &'a str,
    pub version: &'a str,
    /// True if the first dimension of every output counts rows.
    pub batched: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// Bytes of JSON before the outputs' binary data; `None` if the whole body is JSON.
    pub json_length: Option<usize>,
}

impl From<Vec<u8>> for Body {
    fn from(json: Vec<u8>) -> Self {
        Self { bytes: json, json_length: None }
    }
}

/// Limit of the elements of all outputs of a response, the same as for a request: 200 MB of JSON, 64 MiB of
/// binary data.
pub const MAX_ELEMENTS: usize = Limits::DEFAULT.max_elements;

/// Limit of the lists in an output without elements. Each is at least two bytes of a response, which has 10
/// MB at most.
const MAX_EMPTY_LISTS: usize = 5_000_000;

/// Limit of an error's message, in bytes. With its escapes and the id it fits into a message of every
/// transport.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// The refusal of more than [`MAX_ELEMENTS`].
pub fn too_large() -> Rejection {
    let message = format!(
        "the model's outputs have more than {MAX_ELEMENTS} elements for this request; send fewer rows"
    );
    Rejection::new(Code::ResponseTooLarge, message)
}

/// The body of a response, in the request's protocol. `outputs` have this request's rows only.
///
/// # Errors
/// `RESPONSE_TOO_LARGE` beyond [`MAX_ELEMENTS`]; `INFERENCE_FAILED` if an output's elements do not fill its
/// shape, or outputs differ in their number of rows; `INVALID_INPUT` if a v2 request asks for an unknown
/// output.
pub fn response(
    spec: &ResponseSpec,
    outputs: &[Output<'_>],
    served: &ServedModel<'_>,
) -> Result<Body, Rejection> {
    let rows = count_rows(outputs, served.batched)?;
    let chosen = requested(spec, outputs)?;
    if chosen.iter().map(|output| output.count()).sum::<usize>() > MAX_ELEMENTS {
        return Err(too_large());
    }
    let mut out = Vec::with_capacity(capacity(spec, &chosen, served, rows));
    match &spec.protocol {
        Protocol::Rows => {
            out.extend_from_slice(b"{\"predictions\":");
            push_rows(&mut out, &chosen, served.batched, rows);
            push_served(&mut out, served);
        }
        Protocol::Lines => {
            push_lines(&mut out, &chosen, served.batched, rows);
            return Ok(out.into());
        }
        Protocol::Columns | Protocol::ColumnsAsPredictions => {
            let is_columns = spec.protocol == Protocol::Columns;
            out.extend_from_slice(if is_columns { b"{\"outputs\":" } else { b"{\"predictions\":" });
            push_named(&mut out, &chosen);
            push_served(&mut out, served);
        }
        Protocol::V2 { outputs: requested, binary } => {
            let is_binary = |index: usize| requested.get(index).and_then(|one| one.binary).unwrap_or(*binary);
            push_member(&mut out, "{\"model_name\":", served.model);
            push_member(&mut out, ",\"model_version\":", served.version);
            push_id(&mut out, spec.id.as_ref());
            out.extend_from_slice(b",\"outputs\":");
            let json_length = v2::push_outputs(&mut out, &chosen, is_binary);
            return Ok(Body { bytes: out, json_length });
        }
    }
    push_id(&mut out, spec.id.as_ref());
    out.push(b'}');
    Ok(out.into())
}

/// `{"error": {"code": …, "message": …}, "id": …}`: the same in every protocol.
pub fn error(rejection: &Rejection, id: Option<&Id>) -> Vec<u8> {
    let message = match rejection.message.len() {
        ..=MAX_ERROR_BYTES => Cow::Borrowed(&*rejection.message),
        _ => {
            let end = rejection.message.floor_char_boundary(MAX_ERROR_BYTES);
            Cow::Owned(format!("{}…", &rejection.message[..end]))
        }
    };
    let mut out = Vec::with_capacity(64 + message.len() + id.map_or(0, |id| id.as_str().len()));
    push_member(&mut out, "{\"error\":{\"code\":", rejection.code.as_str());
    push_member(&mut out, ",\"message\":", &message);
    out.push(b'}');
    push_id(&mut out, id);
    out.push(b'}');
    out
}

/// `{"dataref": "gs://…", "id": …}`: the address of a response that was stored in a bucket.
pub fn reference(address: &str, id: Option<&Id>) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + address.len() + id.map_or(0, |id| id.as_str().len()));
    push_member(&mut out, "{\"dataref\":", address);
    push_id(&mut out, id);
    out.push(b'}');
    out
}

/// True if a response has room for the values and the lists of an output, or of its parts.
fn is_writable(output: &Output<'_>) -> bool {
    if let Show::Sequence(parts) | Show::PerRow(parts) = output.show {
        return parts.iter().all(is_writable);
    }
    let lists = output.shape.iter().try_fold(1_usize, |lists, length| lists.checked_mul((*length).max(1)));
    lists.is_some_and(|lists| lists <= output.elements.len().max(MAX_EMPTY_LISTS))
}

/// The number of rows that all outputs have; 1 without a batch dimension. Validates shapes on the way.
fn count_rows(outputs: &[Output<'_>], batched: bool) -> Result<usize, Rejection> {
    let mut rows = None;
    for output in outputs {
        let Output { name, shape, elements, show } = output;
        let failed = |message: String| Err(Rejection::new(Code::InferenceFailed, message));
        // The product may overflow though one of the lengths is 0.
        let count = if shape.contains(&0) { 0 } else { shape.iter().product() };
        if let Show::PerRow(each) = show {
            rows.get_or_insert(each.len());
        }
        // The shape of a missing output has the number of rows that miss it.
        if let (Show::Missing, true, Some(length)) = (show, batched, shape.first()) {
            rows.get_or_insert(*length);
        }
        if !is_writable(output) {
            let message = format!("output {name:?}: expected a shape that can be written, got {shape:?}");
            return Err(Rejection::new(Code::ResponseTooLarge, message));
        }
        if let Show::Sequence(_) | Show::PerRow(_) | Show::Missing = show {
            continue;
        }
        if count != elements.len() {
            return failed(format!(
                "output {name:?}: expected {count} elements for shape {shape:?}, got {}",
                elements.len()
            ));
        }
        if !batched {
            continue;
        }
        let Some(length) = shape.first() else {
            return failed(format!("output {name:?}: expected a dimension that counts rows, got a scalar"));
        };
        let expected = *rows.get_or_insert(*length);
        if *length != expected {
            return failed(format!(
                "output {name:?}: expected {expected} rows as in the first output, got {length}"
            ));
        }
    }
    Ok(rows.unwrap_or(1))
}

/// The outputs that the request asks for, in its order; all if it names none.
fn requested<'o, 'a>(
    spec: &ResponseSpec,
    outputs: &'o [Output<'a>],
) -> Result<Vec<&'o Output<'a>>, Rejection> {
    let find = |RequestedOutput { name, .. }: &RequestedOutput| {
        let found = outputs.iter().find(|output| output.name == *name);
        let unknown = || format!("outputs: expected names of the model's outputs, got {name:?}");
        found.ok_or_else(|| Rejection::invalid(unknown()))
    };
    match &spec.protocol {
        Protocol::V2 { outputs: requested, .. } if !requested.is_empty() => {
            requested.iter().map(find).collect()
        }
        _ => Ok(outputs.iter().collect()),
    }
}

/// An upper bound of the length of almost every body, so that one allocation is enough.
pub(super) fn capacity(
    spec: &ResponseSpec,
    outputs: &[&Output<'_>],
    served: &ServedModel<'_>,
    rows: usize,
) -> usize {
    let fixed =
        96 + served.model.len() + served.version.len() + spec.id.as_ref().map_or(0, |id| id.as_str().len());
    let output = |output: &&Output<'_>| {
        // v2 writes flat data, and the keys of an output once; the other protocols repeat names and brackets
        // for each row.
        let keys = 64 + 20 * output.shape.len() + output.name.len();
        let inner = output.shape.split_last().map_or(0, |(_, outer)| outer.iter().product::<usize>());
        let each_row = rows * (output.name.len() + 8);
        estimate(output.elements) + keys + 3 * output.shape.len() * inner + each_row
    };
    fixed + outputs.iter().map(output).sum::<usize>()
}

fn push_served(out: &mut Vec<u8>, served: &ServedModel<'_>) {
    push_member(out, ",\"model\":", served.model);
    push_member(out, ",\"model_version\":", served.version);
}

fn push_id(out: &mut Vec<u8>, id: Option<&Id>) {
    match id {
        None => {}
        Some(Id::String(text)) => push_member(out, ",\"id\":", text),
        Some(Id::Number(number)) => {
            out.extend_from_slice(b",\"id\":");
            out.extend_from_slice(number.as_bytes());
        }
    }
}
