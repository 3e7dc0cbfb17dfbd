//! `ModelInfer`: a message becomes a request of the Open Inference Protocol with binary data, and its response
//! a message again, so that decoding, checks and errors are those of REST.

use std::collections::HashMap;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::messages::{
    Contents, InferRequest, InferResponse, InputTensor, TensorMetadata, Value as Parameter,
};
use super::{Answered, Status, encode, parse};
use crate::decode::Protocol;
use crate::encode::Body as Encoded;
use crate::error::{Code, Rejection};
use crate::headers::{CONTENT_TYPE, HEADER_LENGTH};
use crate::http::predictions::Call;
use crate::http::respond::{Asked, ErrorForm, asked, count, count_refused};
use crate::http::route::Served;

pub(super) async fn infer(served: &Served, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let asked = asked(&parts.headers, ErrorForm::Text);
    let unanswered = served.unanswered();
    let answered = answer(served, &parts.headers, body, &asked).await;
    let status = answered.as_ref().err().map_or(200, |(_, http)| *http);
    let response = super::respond(answered.map_err(|(status, _)| status));
    unanswered.answered_with(status);
    response
}

/// The response, or the status of gRPC and the one that HTTP would have.
async fn answer(
    served: &Served,
    headers: &HeaderMap,
    body: Body,
    asked: &Asked,
) -> Result<Bytes, (Status, u16)> {
    let metrics = &served.state.metrics;
    let refused = |rejection: Rejection| {
        let status = crate::http::status::status(rejection.code).as_u16();
        (Status::from(rejection), status)
    };
    let unrouted = |rejection: Rejection| {
        count_refused(&rejection, asked, metrics);
        refused(rejection)
    };
    let predictions = &served.predictions;
    let until = predictions.deadline(headers).map_err(unrouted)?;
    let (message, room) = super::message(predictions, headers, body, until).await.map_err(unrouted)?;
    let request: InferRequest = parse(message).map_err(unrouted)?;
    predictions.admit(Some(&request.model_name), until).map_err(unrouted)?;
    let (body, json_length) = to_rest(&request).map_err(unrouted)?;
    let mut known = HashMap::from([
        (CONTENT_TYPE.to_owned(), "application/json".to_owned()),
        (HEADER_LENGTH.to_owned(), json_length.to_string()),
    ]);
    let call = Call {
        model: Some(&request.model_name),
        version: Some(&*request.model_version).filter(|version| !version.is_empty()),
        headers: &mut known,
        body,
        until,
        route: "/inference.GRPCInferenceService/ModelInfer",
    };
    let is_v2 = |protocol: &Protocol| matches!(protocol, Protocol::V2 { .. });
    let check = |decoded: &mut crate::decode::Request| {
        let message = "expected at least one input, got none";
        if is_v2(&decoded.response.protocol) { Ok(()) } else { Err(Rejection::invalid(message)) }
    };
    let mut answer = predictions.answer(call, room, check).await;
    count(&answer, asked, metrics);
    let code = answer.code();
    let answered = answer.outcome.and_then(|body| from_rest(body, request.id)).map_err(refused);
    answer.trace.responded(answered.as_ref().err().map_or(200, |(_, status)| *status), code);
    answered
}

/// The request as REST has it, and the length of its JSON.
fn to_rest(request: &InferRequest) -> Result<(Bytes, usize), Rejection> {
    let InferRequest { id, parameters, inputs, outputs, raw_input_contents: raw, .. } = request;
    let has_contents =
        |input: &InputTensor| input.contents.as_ref().is_some_and(|all| *all != Contents::default());
    if !raw.is_empty() && inputs.iter().any(has_contents) {
        return Err(Rejection::invalid("expected raw_input_contents or contents, got both"));
    }
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(Rejection::invalid(format!(
            "expected raw_input_contents for each of {} inputs, got {}",
            inputs.len(),
            raw.len()
        )));
    }
    let mut data = Vec::new();
    let mut tensors = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        let begin = data.len();
        match (raw.get(index), &input.contents) {
            (Some(raw), _) => data.extend_from_slice(raw),
            (None, Some(contents)) => flatten(&input.datatype, contents, &mut data),
            (None, None) => {}
        }
        tensors.push(json!({
            "name": input.name,
            "datatype": input.datatype,
            "shape": input.shape,
            "parameters": {"binary_data_size": data.len() - begin},
        }));
    }
    let mut all = json!({"inputs": tensors, "parameters": {"binary_data_output": true}});
    if !id.is_empty() {
        all["id"] = json!(id);
    }
    if !outputs.is_empty() {
        all["outputs"] = outputs.iter().map(|output| json!({"name": output.name})).collect();
    }
    let timeout = parameters.get("timeout").and_then(|parameter| parameter.value.as_ref());
    match timeout {
        Some(Parameter::Int64(microseconds)) => all["parameters"]["timeout"] = json!(microseconds),
        Some(Parameter::Uint64(microseconds)) => all["parameters"]["timeout"] = json!(microseconds),
        None => {}
    }
    let mut body = all.to_string().into_bytes();
    let json_length = body.len();
    body.append(&mut data);
    Ok((body.into(), json_length))
}

/// Elements as the bytes of a tensor, little-endian. A wrong number of them is found by the decoder.
fn flatten(datatype: &str, contents: &Contents, out: &mut Vec<u8>) {
    let Contents { bools, ints, int64s, uints, uint64s, floats, doubles, bytes } = contents;
    match datatype {
        "BOOL" => out.extend(bools.iter().map(|value| u8::from(*value))),
        // Narrow types travel as wider ones; what does not fit is cut, as in Triton.
        "INT8" => out.extend(ints.iter().map(|value| *value as u8)),
        "INT16" => out.extend(ints.iter().flat_map(|value| (*value as i16).to_le_bytes())),
        "INT32" => out.extend(ints.iter().flat_map(|value| value.to_le_bytes())),
        "INT64" => out.extend(int64s.iter().flat_map(|value| value.to_le_bytes())),
        "UINT8" => out.extend(uints.iter().map(|value| *value as u8)),
        "UINT16" => out.extend(uints.iter().flat_map(|value| (*value as u16).to_le_bytes())),
        "UINT32" => out.extend(uints.iter().flat_map(|value| value.to_le_bytes())),
        "UINT64" => out.extend(uint64s.iter().flat_map(|value| value.to_le_bytes())),
        "FP32" => out.extend(floats.iter().flat_map(|value| value.to_le_bytes())),
        "FP64" => out.extend(doubles.iter().flat_map(|value| value.to_le_bytes())),
        _ => {
            for value in bytes {
                out.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
                out.extend_from_slice(value);
            }
        }
    }
}

/// The JSON of a response whose tensors are behind it.
#[derive(serde::Deserialize)]
struct Rest {
    model_name: String,
    model_version: String,
    outputs: Vec<RestOutput>,
}

#[derive(serde::Deserialize)]
struct RestOutput {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: HashMap<String, Value>,
}

fn from_rest(body: Encoded, id: String) -> Result<Bytes, Rejection> {
    let Encoded { bytes, json_length } = body;
    let bytes = Bytes::from(bytes);
    let json_length = json_length.unwrap_or(bytes.len());
    let failed = |why: String| Rejection::new(Code::InferenceFailed, why);
    let Rest { model_name, model_version, outputs } =
        serde_json::from_slice(&bytes[..json_length]).map_err(|error| failed(error.to_string()))?;
    let (mut at, mut tensors, mut raw) = (json_length, Vec::new(), Vec::new());
    for RestOutput { name, datatype, shape, parameters } in outputs {
        let size = parameters.get("binary_data_size").and_then(Value::as_u64);
        let end = size.and_then(|size| at.checked_add(usize::try_from(size).ok()?));
        let end = end.filter(|end| *end <= bytes.len());
        let Some(end) = end else { return Err(failed(format!("output {name:?} has no bytes"))) };
        raw.push(bytes.slice(at..end));
        tensors.push(TensorMetadata { name, datatype, shape });
        at = end;
    }
    let response =
        InferResponse { model_name, model_version, id, outputs: tensors, raw_output_contents: raw };
    let answered: Answered = encode(&response);
    answered.map_err(|status| failed(status.message))
}
