//! gRPC on the same port: the six unary calls of the Open Inference Protocol, and gRPC's health checks.
//!
//! A unary call is one message each way, framed by a byte and four (gRPC over HTTP/2, "Length-Prefixed-Message"),
//! so that no server of a gRPC library is needed beside the HTTP one.

mod infer;
mod messages;

use std::io::Read as _;

use axum::body::Body;
use axum::extract::{self, Path};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Request};
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::StreamBody;
use hyper::body::Frame;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message;

use self::messages::{
    Empty, HealthCheckRequest, HealthCheckResponse, ModelMetadata, ModelName, ServerMetadata, TensorMetadata,
    Verdict,
};
use super::open_inference::{EXTENSIONS, PLATFORM};
use super::route::Served;
use crate::decode::Limits;
use crate::error::{Code, Rejection};
use crate::tensor::signature::TensorSpec;

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
    let (parts, body) = request.into_parts();
    let answered = match message(&served, &parts.headers, body).await {
        Ok(message) => answer(&served, &method, message),
        Err(status) => Err(status),
    };
    respond(answered)
}

/// `/grpc.health.v1.Health/METHOD`.
pub(super) async fn health(
    extract::State(served): extract::State<Served>,
    Path(method): Path<String>,
    request: Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    respond(match message(&served, &parts.headers, body).await {
        Ok(message) if method == "Check" => check(&served, message),
        Ok(_) => Err(unimplemented(&method)),
        Err(status) => Err(status),
    })
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

/// Reads the one message of a call that is no prediction.
async fn message(served: &Served, headers: &HeaderMap, body: Body) -> Result<Bytes, Status> {
    let until = served.predictions.deadline(headers)?;
    let (body, _room) = served.predictions.raw_body(headers, body, until).await?;
    Ok(unframe(headers, body)?)
}

/// The message of a unary call.
///
/// # Errors
/// `INVALID_INPUT` for another number of messages, or a compression that is not supported.
fn unframe(headers: &HeaderMap, mut body: Bytes) -> Result<Bytes, Rejection> {
    let frame = |length: Option<&[u8; 4]>| length.map(|length| u32::from_be_bytes(*length) as usize);
    let is_whole = body.len() >= 5 && frame(body[1..].first_chunk()) == Some(body.len() - 5);
    if !is_whole {
        return Err(Rejection::invalid("expected one message of gRPC, got another number of bytes"));
    }
    let message = body.split_off(5);
    if body[0] == 0 {
        return Ok(message);
    }
    let encoding = headers.get("grpc-encoding").map_or(&b""[..], |encoding| encoding.as_bytes());
    let most = Limits::DEFAULT.max_body_bytes;
    let mut out = Vec::new();
    let room = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = match encoding {
        b"gzip" => flate2::bufread::GzDecoder::new(&*message).take(room).read_to_end(&mut out),
        b"deflate" => flate2::bufread::ZlibDecoder::new(&*message).take(room).read_to_end(&mut out),
        _ => {
            return Err(Rejection::invalid(
                "expected grpc-encoding gzip or deflate for a compressed message",
            ));
        }
    };
    read.map_err(|error| Rejection::invalid(format!("cannot decompress the message: {error}")))?;
    if out.len() > most {
        let message = format!("expected at most {most} bytes after decompression, got more");
        return Err(Rejection::new(Code::InputTooLarge, message));
    }
    Ok(out.into())
}

fn parse<M: Message + Default>(message: Bytes) -> Result<M, Rejection> {
    M::decode(message).map_err(|error| Rejection::invalid(format!("cannot read the message: {error}")))
}

/// Frames a message.
#[expect(clippy::unnecessary_wraps, reason = "the last step of every answer")]
fn encode(message: &impl Message) -> Answered {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(5 + length);
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
