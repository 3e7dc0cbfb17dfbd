//! Cloud Storage's JSON API.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Query as UrlQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::notify::Notification;
use super::upload::{self, Chunk, Session};
use super::{Object, Precondition, Query, Storage};
use crate::faults::Fault;
use crate::pubsub::grpc::before;

const MAX_BODY: usize = 4 << 30;
/// Bodies are sent in pieces of this size, so that faults can hit in between.
const PIECE: usize = 256 << 10;

pub fn router(storage: Arc<Storage>) -> Router {
    Router::new()
        .route("/storage/v1/{*path}", any(handle))
        .route("/upload/storage/v1/{*path}", any(handle))
        .route("/download/storage/v1/{*path}", any(handle))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(storage)
}

/// Percent-encodes an object's name as one path segment.
pub(super) fn escape(name: &str) -> String {
    name.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

fn unescape(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let hex = behind
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn handle(
    State(storage): State<Arc<Storage>>,
    method: Method,
    uri: Uri,
    UrlQuery(query): UrlQuery<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = Call { storage: &storage, query: &query, headers: &headers, body: &body };
    let path = uri.path();
    let (is_upload, path) = match path.strip_prefix("/upload") {
        Some(path) => (true, path),
        None => (false, path.strip_prefix("/download").unwrap_or(path)),
    };
    let parts: Vec<String> = path.trim_start_matches("/storage/v1/").split('/').map(unescape).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let answer =
        if is_upload { call.upload(&method, &parts).await } else { call.answer(&method, &parts).await };
    answer.unwrap_or_else(|status| error(&status))
}

/// <https://cloud.google.com/storage/docs/json_api/v1/status-codes>
fn error(status: &Status) -> Response {
    let (code, reason) = match status.code() {
        Code::FailedPrecondition => (StatusCode::PRECONDITION_FAILED, "conditionNotMet"),
        Code::NotFound => (StatusCode::NOT_FOUND, "notFound"),
        Code::AlreadyExists | Code::Aborted => (StatusCode::CONFLICT, "conflict"),
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "invalid"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "forbidden"),
        Code::OutOfRange => (StatusCode::RANGE_NOT_SATISFIABLE, "requestedRangeNotSatisfiable"),
        other => (crate::rest::http(other), "backendError"),
    };
    let message = status.message();
    let body = json!({"error": {
        "code": code.as_u16(),
        "message": message,
        "errors": [{"message": message, "domain": "global", "reason": reason}],
    }});
    (code, axum::Json(body)).into_response()
}

fn no_such_method(method: &Method, parts: &[&str]) -> Status {
    Status::unimplemented(format!("not part of this local server: {method} {}", parts.join("/")))
}

struct Call<'a> {
    storage: &'a Arc<Storage>,
    query: &'a HashMap<String, String>,
    headers: &'a HeaderMap,
    body: &'a Bytes,
}

impl Call<'_> {
    fn number(&self, key: &str) -> Result<Option<i64>, Status> {
        self.query
            .get(key)
            .map(|text| {
                text.parse()
                    .map_err(|_| Status::invalid_argument(format!("Invalid value for {key}: {text:?}")))
            })
            .transpose()
    }

    fn precondition(&self) -> Result<Precondition, Status> {
        Ok(Precondition {
            generation_match: self.number("ifGenerationMatch")?,
            generation_not_match: self.number("ifGenerationNotMatch")?,
        })
    }

    fn json(&self) -> Result<Value, Status> {
        if self.body.is_empty() {
            return Ok(json!({}));
        }
        serde_json::from_slice(self.body)
            .map_err(|error| Status::invalid_argument(format!("Parse Error: {error}")))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    async fn answer(&self, method: &Method, parts: &[&str]) -> Result<Response, Status> {
        match (method.as_str(), parts) {
            ("GET", ["b"]) => {
                let buckets = self.storage.lock();
                let items: Vec<Value> =
                    buckets.iter().map(|(name, bucket)| bucket_json(name, &bucket.settings)).collect();
                Ok(axum::Json(json!({"kind": "storage#buckets", "items": items})).into_response())
            }
            ("POST", ["b"]) => {
                let settings = self.json()?.as_object().cloned().unwrap_or_default();
                let name = settings.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                self.storage.insert_bucket(&name, settings.clone())?;
                Ok(axum::Json(bucket_json(&name, &settings)).into_response())
            }
            ("GET", ["b", name]) => {
                let settings = self.storage.with_bucket(name, |bucket| Ok(bucket.settings.clone()))?;
                Ok(axum::Json(bucket_json(name, &settings)).into_response())
            }
            ("DELETE", ["b", name]) => {
                self.storage.delete_bucket(name)?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            ("GET", ["b", bucket, "o"]) => self.list(bucket).await,
            ("GET", ["b", bucket, "o", object]) => self.get(bucket, object).await,
            ("DELETE", ["b", bucket, "o", object]) => {
                before(self.storage.faults.next("storage.objects.delete").as_ref()).await?;
                self.storage.delete(bucket, object, self.number("generation")?, self.precondition()?)?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            (_, ["b", bucket, "notificationConfigs", rest @ ..]) => self.notifications(method, bucket, rest),
            _ => Err(no_such_method(method, parts)),
        }
    }

    fn notifications(&self, method: &Method, bucket: &str, rest: &[&str]) -> Result<Response, Status> {
        let find = |id: &str| {
            self.storage.with_bucket(bucket, |bucket| {
                let found = bucket.notifications.iter().find(|notification| notification.id == id);
                found.cloned().ok_or_else(|| Status::not_found("Not Found"))
            })
        };
        match (method.as_str(), rest) {
            ("POST", []) => {
                let added = self.storage.add_notification(bucket, Notification::from_json(&self.json()?))?;
                Ok(axum::Json(added.resource()).into_response())
            }
            ("GET", []) => {
                let all = self.storage.with_bucket(bucket, |bucket| Ok(bucket.notifications.clone()))?;
                let items: Vec<Value> = all.iter().map(Notification::resource).collect();
                Ok(axum::Json(json!({"kind": "storage#notifications", "items": items})).into_response())
            }
            ("GET", [id]) => Ok(axum::Json(find(id)?.resource()).into_response()),
            ("DELETE", [id]) => {
                find(id)?;
                self.storage.with_bucket(bucket, |bucket| {
                    bucket.notifications.retain(|notification| notification.id != *id);
                    Ok(())
                })?;
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            _ => Err(no_such_method(method, rest)),
        }
    }

    async fn list(&self, bucket: &str) -> Result<Response, Status> {
        before(self.storage.faults.next("storage.objects.list").as_ref()).await?;
        let text = |key: &str| self.query.get(key).cloned().unwrap_or_default();
        let most =
            self.number("maxResults")?.and_then(|most| usize::try_from(most).ok()).filter(|most| *most > 0);
        let query = Query {
            prefix: text("prefix"),
            delimiter: text("delimiter"),
            after: text("pageToken"),
            most: most.unwrap_or(1000).min(1000),
        };
        let page = self.storage.list(bucket, &query)?;
        let mut shown = json!({"kind": "storage#objects"});
        if !page.objects.is_empty() {
            shown["items"] = page.objects.iter().map(Object::resource).collect();
        }
        if !page.prefixes.is_empty() {
            shown["prefixes"] = json!(page.prefixes);
        }
        if let Some(next) = page.next {
            shown["nextPageToken"] = next.into();
        }
        Ok(axum::Json(shown).into_response())
    }

    async fn get(&self, bucket: &str, name: &str) -> Result<Response, Status> {
        let is_media = self.query.get("alt").is_some_and(|alt| alt == "media");
        let fault = self.storage.faults.next(if is_media {
            "storage.objects.get.media"
        } else {
            "storage.objects.get"
        });
        before(fault.as_ref()).await?;
        let object = self.storage.get(bucket, name, self.number("generation")?, self.precondition()?)?;
        if !is_media {
            return Ok(axum::Json(object.resource()).into_response());
        }
        let total = object.data.len();
        let range = self.header("range").map(|range| parse_range(range, total)).transpose()?;
        let span = range.clone().unwrap_or(0..total);
        let mut response = Response::builder()
            .status(if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK })
            .header(header::CONTENT_TYPE, &object.content_type)
            .header(header::CONTENT_LENGTH, span.len())
            .header("x-goog-generation", object.generation)
            .header("x-goog-metageneration", 1)
            .header("x-goog-stored-content-length", total)
            .header("x-goog-stored-content-encoding", "identity")
            .header("x-goog-storage-class", "STANDARD")
            .header("x-goog-hash", format!("crc32c={}", super::base64_crc32c(object.crc32c)));
        if range.is_some() {
            let last = span.end.saturating_sub(1);
            response = response.header(header::CONTENT_RANGE, format!("bytes {}-{last}/{total}", span.start));
        }
        response
            .body(media(object.data.slice(span), fault))
            .map_err(|error| Status::internal(error.to_string()))
    }

    async fn upload(&self, method: &Method, parts: &[&str]) -> Result<Response, Status> {
        let ["b", bucket, "o"] = parts else { return Err(no_such_method(method, parts)) };
        let fault = self.storage.faults.next("storage.objects.insert");
        before(fault.as_ref()).await?;
        if let Some(id) = self.number("upload_id")? {
            return self.chunk(id.unsigned_abs());
        }
        let kind = self.query.get("uploadType").map_or("media", String::as_str);
        let content_type = self.header("content-type").unwrap_or("application/octet-stream");
        let name = self.query.get("name");
        let named = |mut metadata: Value| {
            if let Some(name) = name {
                metadata["name"] = name.clone().into();
            }
            metadata
        };
        let object = match kind {
            "media" => {
                let metadata = named(json!({}));
                self.storage.insert_described(
                    bucket,
                    &metadata,
                    self.body.clone(),
                    Some(content_type),
                    self.precondition()?,
                )?
            }
            "multipart" => {
                let (metadata, media, content_type) = upload::multipart(content_type, self.body)?;
                self.storage.insert_described(
                    bucket,
                    &named(metadata),
                    media,
                    content_type.as_deref(),
                    self.precondition()?,
                )?
            }
            "resumable" => {
                self.storage.with_bucket(bucket, |_| Ok(()))?;
                let (metadata, precondition) = (named(self.json()?), self.precondition()?);
                let session =
                    Session { bucket: (*bucket).to_owned(), metadata, precondition, ..Default::default() };
                let id = self.storage.sessions().begin(session);
                let host = self.header("host").unwrap_or("127.0.0.1");
                let location = format!(
                    "http://{host}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={id}"
                );
                return Ok([(header::LOCATION, location)].into_response());
            }
            other => return Err(Status::invalid_argument(format!("Invalid uploadType: {other:?}"))),
        };
        if fault == Some(Fault::LoseReply) {
            return Err(Status::unavailable("injected fault: the reply was lost"));
        }
        Ok(axum::Json(object.resource()).into_response())
    }

    fn chunk(&self, id: u64) -> Result<Response, Status> {
        match self.storage.chunk(id, self.header("content-range"), self.body)? {
            Chunk::Complete(object) => Ok(axum::Json(object.resource()).into_response()),
            Chunk::More(bytes) => {
                // Some clients cannot see a 308 and ask for another form of it.
                let no_308 = self.header("x-guploader-no-308").is_some();
                let mut response = Response::builder().status(if no_308 { 200 } else { 308 });
                if no_308 {
                    response = response.header("x-http-status-code-override", "308");
                }
                if bytes > 0 {
                    response = response.header(header::RANGE, format!("bytes=0-{}", bytes - 1));
                }
                response.body(Body::empty()).map_err(|error| Status::internal(error.to_string()))
            }
        }
    }
}

fn bucket_json(name: &str, settings: &serde_json::Map<String, Value>) -> Value {
    let mut shown = json!({
        "kind": "storage#bucket",
        "id": name,
        "name": name,
        "location": "US",
        "storageClass": "STANDARD",
        "metageneration": "1",
    });
    for (key, value) in settings {
        shown[key] = value.clone();
    }
    if let Some(location) = settings.get("location").and_then(Value::as_str) {
        shown["location"] = location.to_uppercase().into();
    }
    shown
}

/// One range of RFC 9110, section 14.1.2: `bytes=a-b`, `bytes=a-`, `bytes=-n`.
fn parse_range(text: &str, total: usize) -> Result<std::ops::Range<usize>, Status> {
    let invalid = || Status::out_of_range(format!("The requested range cannot be satisfied: {text}"));
    let (from, to) =
        text.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or_else(invalid)?;
    let number = |text: &str| text.parse::<usize>().map_err(|_| invalid());
    let range = match (from, to) {
        ("", last) => total.saturating_sub(number(last)?)..total,
        (from, "") => number(from)?..total,
        (from, to) => number(from)?..number(to)?.saturating_add(1).min(total),
    };
    if range.start < total && range.start < range.end { Ok(range) } else { Err(invalid()) }
}

/// The body, as its fault lets it come.
fn media(data: Bytes, fault: Option<Fault>) -> Body {
    let data = match fault {
        Some(Fault::Corrupt) if !data.is_empty() => {
            let mut corrupt = data.to_vec();
            corrupt[data.len() / 2] ^= 1;
            Bytes::from(corrupt)
        }
        _ => data,
    };
    let end = match fault {
        Some(Fault::ResetAfter(n) | Fault::StallAfter(n)) => {
            usize::try_from(n).unwrap_or(usize::MAX).min(data.len())
        }
        _ => data.len(),
    };
    let pieces = futures::stream::unfold(0, move |at: usize| {
        let (data, fault) = (data.clone(), fault.clone());
        async move {
            if at < end {
                let next = (at + PIECE).min(end);
                return Some((Ok(data.slice(at..next)), next));
            }
            match fault {
                Some(Fault::ResetAfter(_)) if at < usize::MAX => {
                    Some((Err(std::io::Error::other("injected fault")), usize::MAX))
                }
                Some(Fault::StallAfter(_)) => std::future::pending().await,
                _ => None,
            }
        }
    });
    Body::from_stream(pieces)
}
