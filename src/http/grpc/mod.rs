//! gRPC on the same port: the six unary calls of the Open Inference Protocol, and gRPC's health checks.
//!
//! A unary call is one message each way, framed by a byte and four (gRPC over HTTP/2, "Length-Prefixed-Message"),
//! so that no server of a gRPC library is needed beside the HTTP one.

mod infer;
mod messages;

use std::time::Instant;

use axum::body::Body;
use axum::extract::{self, Path};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Request};
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::bufread::{GzDecoder, ZlibDecoder};
use http_body_util::StreamBody;
use hyper::body::Frame;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message;

use self::messages::{
    Empty, HealthCheckRequest, HealthCheckResponse, ModelMetadata, ModelName, ServerMetadata, TensorMetadata,
    Verdict,
};
use super::open_inference::{EXTENSIONS, PLATFORM};
use super::predictions::Predictions;
use super::route::Served;
use crate::engine::budget::Room;
use crate::error::{Code, Rejection};
use crate::tensor::signature::TensorSpec;

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
const TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
/// Characters of a message's text that are percent-encoded, beside those beyond ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');
/// The path of health checks, which has no token.
pub(super) const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Status of a call that failed.
#[derive(Debug)]
pub(super) struct Status {
    code: u8,
    message: String,
}

const NOT_FOUND: u8 = 5;
const UNIMPLEMENTED: u8 = 12;

impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        let code = match rejection.code {
            Code::InvalidInput | Code::UnsupportedType | Code::InputTooLarge => 3,
            Code::DeadlineExceeded => 4,
            Code::ModelNotFound => NOT_FOUND,
            Code::InputForbidden => 7,
            Code::Overloaded => 8,
            Code::ResponseTooLarge | Code::InferenceFailed => 13,
            Code::Unavailable => 14,
        };
        Self { code, message: rejection.message.into_owned() }
    }
}

type Answered = Result<Bytes, Status>;

/// `/inference.GRPCInferenceService/METHOD`.
pub(super) async fn inference(
    extract::State(served): extract::State<Served>,
    Path(method): Path<String>,
    request: Request<Body>,
) -> Response {
    if method == "ModelInfer" {
        return infer::infer(&served, request).await;
    }
    respond(match read(&served, request).await {
        Ok(message) => answer(&served, &method, message),
        Err(rejection) => Err(rejection.into()),
    })
}

/// `/grpc.health.v1.Health/METHOD`.
pub(super) async fn health(
    extract::State(served): extract::State<Served>,
    Path(method): Path<String>,
    request: Request<Body>,
) -> Response {
    respond(match read(&served, request).await {
        Ok(message) if method == "Check" => check(&served, message),
        Ok(_) => Err(unimplemented(&method)),
        Err(rejection) => Err(rejection.into()),
    })
}

/// Reads the message of a call that is no prediction.
async fn read(served: &Served, request: Request<Body>) -> Result<Bytes, Rejection> {
    let (parts, body) = request.into_parts();
    let until = served.predictions.deadline(&parts.headers)?;
    let (message, _room) = message(&served.predictions, &parts.headers, body, until).await?;
    Ok(message)
}

fn answer(served: &Served, method: &str, message: Bytes) -> Answered {
    let is_ready = served.state.health.troubles().is_empty();
    let find = |message: Bytes| {
        let ModelName { name, version } = parse(message)?;
        let model = served.state.models.resolve(Some(&name))?;
        model.check_version(Some(&*version).filter(|version| !version.is_empty()))?;
        Ok::<_, Status>(model)
    };
    match method {
        "ServerLive" => encode(&Verdict { is_good: true }),
        "ServerReady" => encode(&Verdict { is_good: is_ready }),
        "ModelReady" => match find(message) {
            Ok(_) => encode(&Verdict { is_good: is_ready }),
            Err(Status { code: NOT_FOUND, .. }) => encode(&Verdict { is_good: false }),
            Err(status) => Err(status),
        },
        "ServerMetadata" => {
            let Empty {} = parse(message)?;
            encode(&ServerMetadata {
                name: "predictd".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                extensions: EXTENSIONS.map(str::to_owned).to_vec(),
            })
        }
        "ModelMetadata" => {
            let model = find(message)?;
            encode(&ModelMetadata {
                name: model.name.to_string(),
                versions: vec![model.version.to_string()],
                platform: PLATFORM.to_owned(),
                inputs: model.signature.inputs.iter().map(tensor).collect(),
                outputs: model.signature.outputs.iter().map(tensor).collect(),
            })
        }
        _ => Err(unimplemented(method)),
    }
}

fn tensor(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata { name: spec.name.clone(), datatype: spec.datatype().to_owned(), shape: spec.lengths() }
}

fn check(served: &Served, message: Bytes) -> Answered {
    let HealthCheckRequest { service } = parse(message)?;
    if !["", "inference.GRPCInferenceService"].contains(&&*service) {
        return Err(Status { code: NOT_FOUND, message: format!("unknown service {service:.100?}") });
    }
    let is_ready = served.state.health.troubles().is_empty();
    encode(&HealthCheckResponse { status: if is_ready { 1 } else { 2 } })
}

fn unimplemented(method: &str) -> Status {
    Status { code: UNIMPLEMENTED, message: format!("the method {method:.100?} is not supported") }
}

/// Reads the one message of a call, and keeps room for it.
///
/// # Errors
/// `INVALID_INPUT` for another number of messages, or a compression that is not supported; those of
/// [`Predictions::raw_body`] and [`Predictions::decompress`].
async fn message(
    predictions: &Predictions,
    headers: &HeaderMap,
    body: Body,
    until: Instant,
) -> Result<(Bytes, Room), Rejection> {
    let (mut body, mut room) = predictions.raw_body(headers, body, until).await?;
    let length = body.get(1..).and_then(|rest| rest.first_chunk());
    let length = length.map(|length| u32::from_be_bytes(*length) as usize);
    if length.is_none_or(|length| length != body.len() - PREFIX) {
        return Err(Rejection::invalid("expected one message of gRPC, got another number of bytes"));
    }
    let (message, compressed) = (body.split_off(PREFIX), body.len());
    if body[0] == 0 {
        return Ok((message, room));
    }
    let message = match headers.get("grpc-encoding").map_or(&b""[..], |encoding| encoding.as_bytes()) {
        b"gzip" => predictions.decompress(GzDecoder::new(&*message), compressed, &mut room)?,
        b"deflate" => predictions.decompress(ZlibDecoder::new(&*message), compressed, &mut room)?,
        _ => {
            let message = "expected grpc-encoding gzip or deflate for a compressed message";
            return Err(Rejection::invalid(message));
        }
    };
    Ok((message, room))
}

fn parse<M: Message + Default>(message: Bytes) -> Result<M, Rejection> {
    M::decode(message).map_err(|error| Rejection::invalid(format!("cannot read the message: {error}")))
}

/// Frames a message.
#[expect(clippy::unnecessary_wraps, reason = "the last step of every answer")]
fn encode(message: &impl Message) -> Answered {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode(&mut out).expect("the buffer has room for the message");
    Ok(out.freeze())
}

fn respond(answered: Answered) -> Response {
    let (frame, status) = match answered {
        Ok(frame) => (Some(frame), Status { code: 0, message: String::new() }),
        Err(status) => (None, status),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(status.code)));
    let text = utf8_percent_encode(&status.message, ENCODED).to_string();
    if let Ok(text) = HeaderValue::try_from(text)
        && !text.is_empty()
    {
        trailers.insert("grpc-message", text);
    }
    let mut response = match frame {
        Some(frame) => {
            let frames =
                [Ok::<_, std::convert::Infallible>(Frame::data(frame)), Ok(Frame::trailers(trailers))];
            Response::new(Body::new(StreamBody::new(futures::stream::iter(frames))))
        }
        // Without a message, the trailers are the headers.
        None => {
            let mut response = Response::new(Body::empty());
            *response.headers_mut() = trailers;
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, TYPE);
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,deflate,gzip"));
    response
}
