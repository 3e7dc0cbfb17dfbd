//! Uploads over HTTP: media, multipart and resumable.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures::StreamExt;

use super::super::error::Kind;
use super::super::object::{Checksums, decode_md5};
use super::super::objects::Insert;
use super::super::uploads::{Chunk, Progress};
use super::super::{Attributes, Error, Result, Storage};
use super::fault::with_faults;
use super::objects::{attributes, parse_json};
use super::{Params, link_base, multipart};

type Shared = State<Arc<Storage>>;
type Bucket = axum::extract::Path<String>;

const METHOD: &str = "storage.objects.insert";

/// POST: a whole object, the opening of a resumable session, or (with `upload_id`) one of its chunks.
pub(super) async fn start(
    State(storage): Shared,
    axum::extract::Path(bucket): Bucket,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if params.text("upload_id").is_some() {
        return take_chunk(&storage, &params, &headers, body).await;
    }
    // Read first, so that a fault strikes a client that waits for the answer and not one that still sends.
    let (body, whole) = collect(body).await;
    let answer = async {
        if !whole {
            return Err(Error::invalid("The request body ended early."));
        }
        let open = params.required("uploadType")? == "resumable";
        let insert = parse_insert(bucket, &params, &headers, body)?;
        let base = link_base(&storage, &headers);
        if !open {
            return Ok(Json(storage.insert_object(insert)?.to_json(&base)).into_response());
        }
        let place = format!("{base}/upload/storage/v1/b/{}/o", insert.bucket);
        let id = storage.open_upload(insert)?;
        let location = format!("{place}?uploadType=resumable&upload_id={id}");
        Ok([(header::LOCATION.as_str(), location), ("x-guploader-uploadid", id)].into_response())
    };
    with_faults(&storage, METHOD, answer).await
}

/// PUT: a chunk of a session, or a question how far it got.
pub(super) async fn continue_upload(
    State(storage): Shared,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Response {
    take_chunk(&storage, &params, &headers, body).await
}

/// DELETE: ends a session. Google answers 499 to it.
pub(super) async fn cancel(State(storage): Shared, params: Params) -> Result<Response> {
    storage.cancel_upload(params.required("upload_id")?)?;
    Ok(StatusCode::from_u16(499).unwrap_or(StatusCode::NO_CONTENT).into_response())
}

async fn take_chunk(storage: &Storage, params: &Params, headers: &HeaderMap, body: Body) -> Response {
    let (data, whole) = collect(body).await;
    let answer = async {
        let id = params.required("upload_id")?;
        let range = text(headers, "content-range");
        let chunk = match &range {
            None => Some(Chunk::Data { start: 0, last: true, total: None }),
            Some(range) => Chunk::parse(range),
        };
        let chunk = chunk
            .ok_or_else(|| Error::invalid(format!("Failed to parse Content-Range header: {range:?}")))?;
        if let Some(hash) = text(headers, "x-goog-hash") {
            storage.expect_upload_hash(id, &hash)?;
        }
        match storage.continue_upload(id, chunk, &data, whole)? {
            Progress::Complete(version) => {
                Ok(Json(version.to_json(&link_base(storage, headers))).into_response())
            }
            Progress::Partial(kept) => Ok(incomplete(kept, headers)),
        }
    };
    with_faults::<Result<Response>>(storage, METHOD, answer).await
}

/// 308, or for clients that ask so a 200 that names it: many HTTP libraries take a 308 for a redirect.
fn incomplete(kept: usize, headers: &HeaderMap) -> Response {
    let no_308 = text(headers, "x-guploader-no-308").is_some_and(|value| value.eq_ignore_ascii_case("yes"));
    let mut response = if no_308 {
        [("x-http-status-code-override", "308")].into_response()
    } else {
        StatusCode::PERMANENT_REDIRECT.into_response()
    };
    if kept > 0
        && let Ok(range) = format!("bytes=0-{}", kept - 1).parse()
    {
        response.headers_mut().insert(header::RANGE, range);
    }
    response
}

/// The object that a request describes, with its bytes unless the upload is resumable.
fn parse_insert(bucket: String, params: &Params, headers: &HeaderMap, body: Bytes) -> Result<Insert> {
    let mut expected = Checksums::default();
    let mut resource = serde_json::json!({});
    let mut media = Bytes::new();
    let media_type;
    match params.required("uploadType")? {
        "media" => (media, media_type) = (body, text(headers, "content-type")),
        "resumable" => {
            resource = parse_json(&body)?;
            media_type = text(headers, "x-upload-content-type");
        }
        "multipart" => {
            let content_type = text(headers, "content-type").unwrap_or_default();
            let mut parts = multipart::parse(&content_type, &body)?.into_iter();
            let (Some(first), Some(second)) = (parts.next(), parts.next()) else {
                return Err(Error::invalid("Malformed multipart body: expected the resource and the media"));
            };
            resource = parse_json(&first.body)?;
            (media, media_type) = (second.body, second.content_type);
            if let Some(trailer) = parts.next() {
                expected.add_resource(&parse_json(&trailer.body)?)?;
            }
        }
        other => return Err(Error::invalid(format!("Invalid upload type: {other:?}"))),
    }
    expected.add_resource(&resource)?;
    if let Some(hash) = text(headers, "x-goog-hash") {
        expected.add_header(&hash)?;
    }
    if let Some(md5) = text(headers, "content-md5") {
        expected.md5 = Some(decode_md5(&md5)?);
    }
    let name = params.text("name").or(resource["name"].as_str()).map(str::to_owned);
    let name = name.ok_or_else(|| Error::new(Kind::Required, "Required parameter: name"))?;
    let mut attributes: Attributes = attributes(resource)?;
    attributes.content_type = attributes.content_type.or(media_type);
    if let Some(encoding) = params.text("contentEncoding") {
        attributes.content_encoding = Some(encoding.to_owned());
    }
    let conditions = params.conditions()?;
    Ok(Insert { bucket, name, attributes, body: media, expected, conditions })
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Part of a body that arrived, and whether it was all.
async fn collect(body: Body) -> (Bytes, bool) {
    let mut chunks = body.into_data_stream();
    let mut all = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) => all.extend_from_slice(&chunk),
            Err(_) => return (all.freeze(), false),
        }
    }
    (all.freeze(), true)
}
