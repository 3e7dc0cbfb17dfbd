//! Outputs to a response body, in the request's own protocol: pure functions that mirror `decode`.
//!
//! Floats take the shortest form that reads back as the same number at their own width (float16's 0.1 is `0.1`);
//! what JSON cannot write are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`, which `decode` takes too.
//! 64-bit integers are plain numbers: a reader that keeps numbers as float64 loses their last digits.

mod element;
mod nest;

use crate::decode::{Answer, Form};
use crate::error::{Code, Rejection};
use crate::tensor::{Output, View};
use element::text;

/// The body of a response.
///
/// `outputs` holds this request's rows only. `rows`: with `Some`, dimension 0 of every output counts these rows; with
/// `None`, outputs are whole, and `{"predictions": […]}` has the one entry. Version 2 gives the outputs that the request
/// asked for, in its order.
///
/// # Errors
///
/// `INFERENCE_FAILED` when an output's shape does not begin with `rows` or an output asked for is not there.
pub fn response(
    answer: &Answer,
    outputs: &[Output<'_>],
    rows: Option<usize>,
    model: &str,
    version: &str,
) -> Result<Vec<u8>, Rejection> {
    for output in outputs {
        check(output, rows)?;
    }
    let mut body = Vec::with_capacity(estimate(outputs, model, version, answer));
    match &answer.form {
        Form::Rows => {
            body.extend_from_slice(b"{\"predictions\":[");
            nest::rows(&mut body, outputs, rows);
            body.push(b']');
            trailer(&mut body, "model", model, "model_version", version, answer);
        }
        Form::Columns => {
            body.extend_from_slice(b"{\"outputs\":");
            nest::columns(&mut body, outputs);
            trailer(&mut body, "model", model, "model_version", version, answer);
        }
        Form::V2 { outputs: wanted } => {
            body.extend_from_slice(b"{\"outputs\":[");
            v2(&mut body, outputs, wanted)?;
            body.push(b']');
            trailer(&mut body, "model_name", model, "model_version", version, answer);
        }
    }
    Ok(body)
}

/// The body of an error, alike in every protocol: `{"error": {"code": …, "message": …}, "id": …}`.
pub fn error(rejection: &Rejection, id: Option<&str>) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + rejection.message.len() + id.map_or(0, str::len));
    body.extend_from_slice(b"{\"error\":{\"code\":");
    text(&mut body, rejection.code.as_str());
    body.extend_from_slice(b",\"message\":");
    text(&mut body, &rejection.message);
    body.push(b'}');
    if let Some(id) = id {
        member(&mut body, "id", id);
    }
    body.push(b'}');
    body
}

fn check(output: &Output<'_>, rows: Option<usize>) -> Result<(), Rejection> {
    let count = output.shape.iter().try_fold(1usize, |count, length| count.checked_mul(*length));
    if count == Some(output.elements.len()) && rows.is_none_or(|rows| output.shape.first() == Some(&rows)) {
        return Ok(());
    }
    let expected = rows.map_or("a whole tensor".to_owned(), |rows| format!("{rows} rows"));
    Err(Rejection::new(
        Code::InferenceFailed,
        format!(
            "output \"{}\": expected {expected}, got {} elements in shape {:?}",
            output.name,
            output.elements.len(),
            output.shape
        ),
    ))
}

fn v2(body: &mut Vec<u8>, outputs: &[Output<'_>], wanted: &[String]) -> Result<(), Rejection> {
    if wanted.is_empty() {
        separated(body, outputs, v2_output);
        return Ok(());
    }
    let find = |name: &String| {
        outputs.iter().find(|output| output.name == name).ok_or_else(|| {
            Rejection::new(
                Code::InferenceFailed,
                format!("output \"{name}\" was asked for, but the model gave none"),
            )
        })
    };
    let chosen = wanted.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    separated(body, chosen, v2_output);
    Ok(())
}

fn v2_output(body: &mut Vec<u8>, output: &Output<'_>) {
    body.extend_from_slice(b"{\"name\":");
    text(body, output.name);
    body.extend_from_slice(b",\"datatype\":");
    text(body, output.elements.element().datatype());
    body.extend_from_slice(b",\"shape\":[");
    separated(body, output.shape, |body, length| {
        body.extend_from_slice(itoa::Buffer::new().format(*length).as_bytes());
    });
    body.extend_from_slice(b"],\"data\":[");
    element::list(body, output.elements);
    body.extend_from_slice(b"]}");
}

/// The members that end every response.
fn trailer(
    body: &mut Vec<u8>,
    model_key: &str,
    model: &str,
    version_key: &str,
    version: &str,
    answer: &Answer,
) {
    member(body, model_key, model);
    member(body, version_key, version);
    if let Some(id) = &answer.id {
        member(body, "id", id);
    }
    body.push(b'}');
}

fn member(body: &mut Vec<u8>, key: &str, value: &str) {
    body.push(b',');
    text(body, key);
    body.push(b':');
    text(body, value);
}

/// Writes each item, commas between.
fn separated<T>(
    body: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write(body, item);
    }
}

/// Room for most bodies, so that there is one allocation: typical lengths, not the longest.
fn estimate(outputs: &[Output<'_>], model: &str, version: &str, answer: &Answer) -> usize {
    let outputs: usize = outputs
        .iter()
        .map(|output| {
            let elements = match output.elements {
                View::Text(texts) => texts.iter().map(|text| text.len() + 3).sum(),
                View::F64(values) => values.len() * 21,
                View::F32(values) => values.len() * 13,
                View::U64(_) | View::I64(_) => output.elements.len() * 8,
                _ => output.elements.len() * 6,
            };
            let rows = output.shape.first().copied().unwrap_or(1);
            elements + rows * (output.name.len() + 8) + 64
        })
        .sum();
    96 + outputs + model.len() + version.len() + answer.id.as_ref().map_or(0, String::len)
}

#[cfg(test)]
mod tests;
