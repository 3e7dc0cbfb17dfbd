//! TensorFlow Serving's `classify` and `regress`: a list of examples in, labels and scores or values out.
//! Answered where each row has one prediction that is a score a label, or a single number.

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::predictions::{Answer, Call};
use super::respond::{ErrorForm, asked, not_implemented, respond};
use super::route::{Received, Served};
use crate::encode;
use crate::error::{Code, Rejection};
use crate::headers::CONTENT_TYPE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Classify,
    Regress,
}

impl Verb {
    /// # Errors
    /// `MODEL_NOT_FOUND`: the path is none of TensorFlow Serving's.
    pub(super) fn parse(verb: &str) -> Result<Self, Rejection> {
        match verb {
            "classify" => Ok(Self::Classify),
            "regress" => Ok(Self::Regress),
            _ => {
                let message = format!("expected :predict, :classify or :regress, got {verb:.40?}");
                Err(Rejection::new(Code::ModelNotFound, message))
            }
        }
    }
}

/// `{"examples": […], "context": {…}}`. The features of the context stand in every example.
#[derive(serde::Deserialize)]
struct Examples {
    #[serde(default)]
    context: Map<String, Value>,
    examples: Vec<Map<String, Value>>,
}

pub(super) async fn answer(
    served: &Served,
    request: Request<Body>,
    verb: Verb,
    model: &str,
    version: Option<&str>,
) -> Response {
    let (parts, body) = request.into_parts();
    let asked = asked(&parts.headers, ErrorForm::Text);
    let unanswered = served.unanswered();
    let response = match predict(served, &parts.headers, body, (model, version)).await {
        Ok(mut answer) => {
            let predictions = answer.outcome.as_ref().ok().and_then(|body| predictions(&body.bytes));
            match predictions.map(|rows| rows.iter().map(|row| result(row, verb)).collect::<Option<Vec<_>>>())
            {
                Some(None) => {
                    let response =
                        not_implemented("not supported for the outputs of this model; use :predict");
                    answer.trace.responded(response.status().as_u16(), Ok(()));
                    response
                }
                Some(Some(results)) => {
                    answer.outcome =
                        Ok(encode::Body::from(json!({"results": results}).to_string().into_bytes()));
                    respond(answer, &asked, &served.state.metrics)
                }
                None => respond(answer, &asked, &served.state.metrics),
            }
        }
        Err(rejection) => served.refuse(rejection, &asked),
    };
    unanswered.answered(&response);
    response
}

async fn predict(
    served: &Served,
    all: &HeaderMap,
    body: Body,
    (model, version): (&str, Option<&str>),
) -> Result<Answer, Rejection> {
    let Received { mut headers, body, room, until } = served.receive(all, body, Some(model)).await?;
    let Examples { context, examples } = serde_json::from_slice(&body).map_err(|error| {
        Rejection::invalid(format!("expected {{\"examples\": [{{…}}, …]}}, got an error: {error}"))
    })?;
    let rows: Vec<Value> = examples.into_iter().map(|example| row(&context, example)).collect();
    headers.insert(CONTENT_TYPE.to_owned(), "application/json".to_owned());
    let body = json!({"instances": rows}).to_string().into();
    let call = Call {
        model: Some(model),
        version,
        headers: &mut headers,
        body,
        until,
        route: "/v1/models/{model}:classify",
    };
    Ok(served.predictions.answer(call, room, |_| Ok(())).await)
}

/// An example with the features of the context.
fn row(context: &Map<String, Value>, example: Map<String, Value>) -> Value {
    let mut row = context.clone();
    row.extend(example);
    Value::Object(row)
}

fn predictions(body: &[u8]) -> Option<Vec<Value>> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    match body["predictions"].take() {
        Value::Array(rows) => Some(rows),
        _ => None,
    }
}

/// The result of one row: `[[label, score], …]` or a number; `None` where its prediction has another form.
fn result(prediction: &Value, verb: Verb) -> Option<Value> {
    match verb {
        Verb::Regress => number(prediction),
        Verb::Classify => classes(prediction).or_else(|| {
            // The scores are the one output that is a map or a list.
            let mut scores = prediction.as_object()?.values().filter_map(classes);
            scores.next().filter(|_| scores.next().is_none())
        }),
    }
}

fn number(prediction: &Value) -> Option<Value> {
    match prediction {
        Value::Number(_) => Some(prediction.clone()),
        Value::Array(one) if one.len() == 1 => number(&one[0]),
        Value::Object(one) if one.len() == 1 => number(one.values().next()?),
        _ => None,
    }
}

fn classes(scores: &Value) -> Option<Value> {
    let pair = |label: &str, score: &Value| score.is_number().then(|| json!([label, score]));
    let pairs: Option<Vec<Value>> = match scores {
        Value::Object(scores) => scores.iter().map(|(label, score)| pair(label, score)).collect(),
        Value::Array(scores) => {
            scores.iter().enumerate().map(|(index, score)| pair(&index.to_string(), score)).collect()
        }
        _ => None,
    };
    pairs.filter(|pairs| !pairs.is_empty()).map(Value::from)
}
