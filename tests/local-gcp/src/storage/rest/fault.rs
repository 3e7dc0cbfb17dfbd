//! Faults over HTTP: failing, late, silent, broken or altered answers; and what is refused, into the history.

use std::convert::Infallible;
use std::pin::Pin;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, StreamExt};
use tonic::Code;

use super::super::Storage;
use super::super::error::{Refusal, error_response};
use crate::codes;
use crate::faults::{Fault, delay};
use crate::history::What;

/// Runs `call` as the next fault of `method` says, or plainly when there is none.
pub(super) async fn with_faults<R: IntoResponse>(
    storage: &Storage,
    method: &'static str,
    call: impl Future<Output = R>,
) -> Response {
    let fault = storage.faults.next(method);
    let response = match &fault {
        Some(Fault::Fail(code)) => fail(code),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::DelayMs(ms)) => {
            delay(*ms).await;
            call.await.into_response()
        }
        _ => call.await.into_response(),
    };
    if let Some(Refusal { code, message }) = response.extensions().get() {
        storage.history.record(|| What::Refused { method, code: *code, message: message.clone() });
    }
    match fault {
        None | Some(Fault::Fail(_) | Fault::Hang | Fault::DelayMs(_)) => response,
        Some(Fault::LoseReply) => fail("UNAVAILABLE"),
        Some(Fault::Corrupt) => change_body(response, |body| Body::from_stream(corrupt(body))),
        Some(Fault::ResetAfter(bytes)) => change_body(response, |body| {
            let broken = stream::once(async { Err(std::io::Error::other("connection reset by a fault")) });
            Body::from_stream(first(body, bytes).chain(broken))
        }),
        Some(Fault::StallAfter(bytes)) => {
            change_body(response, |body| Body::from_stream(first(body, bytes).chain(stream::pending())))
        }
        Some(other) => {
            let message = format!("the fault {other:?} does not apply to {method}");
            error_response(StatusCode::NOT_IMPLEMENTED, Code::Unimplemented, "notImplemented", &message)
        }
    }
}

/// The answer to a gRPC status name, with the HTTP status that Google pairs with it.
fn fail(code: &str) -> Response {
    let (status, reason) = match code {
        "INVALID_ARGUMENT" | "OUT_OF_RANGE" => (400, "invalid"),
        "UNAUTHENTICATED" => (401, "authError"),
        "PERMISSION_DENIED" => (403, "forbidden"),
        "NOT_FOUND" => (404, "notFound"),
        "ABORTED" | "ALREADY_EXISTS" => (409, "conflict"),
        "FAILED_PRECONDITION" => (412, "conditionNotMet"),
        "RESOURCE_EXHAUSTED" => (429, "rateLimitExceeded"),
        "CANCELLED" => (499, "clientClosedRequest"),
        "UNIMPLEMENTED" => (501, "notImplemented"),
        "UNAVAILABLE" => (503, "backendError"),
        "DEADLINE_EXCEEDED" => (504, "gatewayTimeout"),
        _ => (500, "internalError"),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error_response(status, codes::named_or_unknown(code), reason, &format!("fault: {code}"))
}

/// Replaces the body; a length that was announced stays announced.
fn change_body(response: Response, change: impl FnOnce(Body) -> Body) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = http_body_length(&body) {
        parts.headers.entry(header::CONTENT_LENGTH).or_insert(length.into());
    }
    Response::from_parts(parts, change(body))
}

fn http_body_length(body: &Body) -> Option<u64> {
    axum::body::HttpBody::size_hint(body).exact()
}

type Chunks = Pin<Box<dyn stream::Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// The first bytes of a body, and its end as the end.
fn first(body: Body, bytes: u64) -> Chunks {
    let chunks = body.into_data_stream();
    Box::pin(stream::unfold((chunks, bytes), |(mut chunks, left): (BodyDataStream, u64)| async move {
        if left == 0 {
            return None;
        }
        let mut chunk = chunks.next().await?.ok()?;
        chunk.truncate(left.min(chunk.len() as u64) as usize);
        let left = left - chunk.len() as u64;
        Some((Ok(chunk), (chunks, left)))
    }))
}

/// The body with the lowest bit of its first byte flipped.
fn corrupt(body: Body) -> impl stream::Stream<Item = Result<Bytes, Infallible>> {
    let chunks = body.into_data_stream().filter_map(async |chunk| chunk.ok());
    chunks
        .enumerate()
        .map(|(index, chunk)| {
            let mut head = chunk.slice(..chunk.len().min(1)).to_vec();
            if index > 0 || head.is_empty() {
                return vec![chunk];
            }
            head[0] ^= 1;
            vec![Bytes::from(head), chunk.slice(1..)]
        })
        .flat_map(stream::iter)
        .map(Ok)
}
