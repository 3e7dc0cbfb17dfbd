//! The samples of a bundle: requests with known responses, which run before the version is served.

use serde_json::Value;

use crate::decode::{self, Limits, Request};
use crate::engine::predict;
use crate::error::Rejection;
use crate::model::Model;
use crate::model::batch_mode::BatchMode;
use crate::model::bundle::declaration::Sample;
use crate::model::made_up_rows::RowStack;
use crate::model::sharing::Evidence;
use crate::tensor::Tensor;

/// Runs every sample through the worker's own decoding, inference and encoding.
///
/// # Errors
/// A sentence for the first sample that fails: the place of the difference, the expected and the actual
/// value.
pub(crate) fn check(model: &Model, samples: &[Sample]) -> Result<(), String> {
    for (number, sample) in samples.iter().enumerate() {
        let about = |text: String| format!("samples[{number}]: {text}");
        let request =
            decode_sample(model, sample).map_err(|rejection| about(rejection.message.into_owned()))?;
        let (_, mut answers) = predict::predict(model, 0, vec![request], &mut || {});
        let answer = answers.pop().expect("one request has one answer");
        let response = answer.map_err(|rejection| about(rejection.message.into_owned()))?;
        let response: Value = serde_json::from_slice(&response.bytes)
            .map_err(|error| about(format!("the response is no JSON: {error}")))?;
        let got = response.get("predictions").or_else(|| response.get("outputs")).unwrap_or(&Value::Null);
        match &sample.expected {
            Some(expected) => compare(got, expected, sample.tolerance, "").map_err(about)?,
            None => no_nan(got, "").map_err(about)?,
        }
    }
    Ok(())
}

fn decode_sample(model: &Model, sample: &Sample) -> Result<Request, Rejection> {
    let body = sample.request.to_string();
    let decoded = decode::decode(body.as_bytes(), &model.signature, &Limits::default());
    decoded.map_err(|failure| failure.rejection)
}

/// Limit of the samples' rows in a trial.
const TRIED: usize = 16;

/// Tries with the samples' rows whether requests may share calls, if made-up rows did not show it.
pub(crate) fn try_rows(model: &mut Model) {
    if model.executor.batch_mode == BatchMode::Any
        && model.executor.sharing.evidence == Evidence::Unknown
        && let Some(stack) = rows(model)
    {
        model.executor.try_rows(&stack);
    }
}

/// The rows of the samples that fit into one call with those of the first sample, as the model takes them.
fn rows(model: &Model) -> Option<RowStack> {
    let mut joined: Option<Vec<Tensor>> = None;
    for sample in &model.declaration.samples {
        let mut request = decode_sample(model, sample).ok()?;
        model.executor.input_adapter.prepare_request(&mut request.inputs, request.rows).ok()?;
        let Some(mut tensors) = request.inputs.into_iter().collect::<Option<Vec<Tensor>>>() else {
            // Rows that leave out an input go with no others.
            match joined {
                Some(_) => continue,
                None => return None,
            }
        };
        let Some(all) = &mut joined else {
            joined = Some(tensors);
            continue;
        };
        let go_together = all.iter().zip(&tensors).all(|(all, more)| {
            !more.shape.is_empty() && all.shape.get(1..) == more.shape.get(1..) && all.shape[0] < TRIED
        });
        if go_together {
            for (all, more) in all.iter_mut().zip(&mut tensors) {
                all.shape[0] += more.shape[0];
                all.elements.append(&mut more.elements);
            }
        }
    }
    let joined = joined?;
    let views: Vec<_> = joined.iter().map(|tensor| Some(tensor.lend())).collect();
    let prepared = model.executor.input_adapter.prepare_batch(&views).ok()?.map(|tokens| tokens.tensors);
    Some(RowStack { inputs: prepared.unwrap_or(joined) })
}

/// Fails on a NaN, which [`crate::encode`] writes as a string.
fn no_nan(got: &Value, place: &str) -> Result<(), String> {
    match got {
        Value::String(text) if text == "NaN" => Err(format!("the model gives NaN at {place:?}")),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(index, item)| no_nan(item, &format!("{place}[{index}]")))
        }
        Value::Object(fields) => {
            fields.iter().try_for_each(|(key, field)| no_nan(field, &format!("{place}.{key}")))
        }
        _ => Ok(()),
    }
}

fn compare(got: &Value, expected: &Value, tolerance: f64, place: &str) -> Result<(), String> {
    let differs = || Err(format!("expected {expected} at {place:?}, got {got}"));
    match (got, expected) {
        (Value::Number(a), Value::Number(b)) => {
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else { return differs() };
            if (a - b).abs() <= tolerance * b.abs().max(1.0) { Ok(()) } else { differs() }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .try_for_each(|(index, (a, b))| compare(a, b, tolerance, &format!("{place}[{index}]"))),
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
            a.iter().try_for_each(|(key, a)| match b.get(key) {
                Some(b) => compare(a, b, tolerance, &format!("{place}.{key}")),
                None => differs(),
            })
        }
        (a, b) if a == b => Ok(()),
        _ => differs(),
    }
}
