//! Uploads of files by `multipart/form-data`: one request a file, each by its own type, and one response.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::future::join_all;
use multer::Multipart;
use serde_json::value::RawValue;

use super::predictions::{Answer, Call, Predictions};
use super::respond::{Asked, ErrorForm, asked, count, error_response, json_response};
use super::route::{Received, Served};
use super::status::status;
use crate::decode::Protocol;
use crate::engine::budget::Room;
use crate::error::{Code, Rejection};
use crate::headers::CONTENT_TYPE;

/// Files of one upload. More of them would be a batch job.
const MAX_FILES: usize = 100;
/// Times that files are asked for again because another version was taken into service between them.
const ATTEMPTS: usize = 3;

/// One field `file`.
struct File {
    name: String,
    content_type: Option<String>,
    body: Bytes,
}

/// The part of a response to one file that the common one repeats.
#[derive(serde::Deserialize)]
struct OfFile<'a> {
    #[serde(borrow)]
    predictions: &'a RawValue,
}

pub(super) async fn predict(
    served: &Served,
    request: Request<Body>,
    boundary: &str,
    model: Option<&str>,
    version: Option<&str>,
) -> Response {
    let (parts, body) = request.into_parts();
    let asked = asked(&parts.headers, ErrorForm::Upload);
    let unanswered = served.unanswered();
    let response = match answer(served, &parts.headers, body, boundary, (model, version), &asked).await {
        Ok(response) => response,
        Err(rejection) => served.refuse(rejection, &asked),
    };
    unanswered.answered(&response);
    response
}

async fn answer(
    served: &Served,
    all: &HeaderMap,
    body: Body,
    boundary: &str,
    (model, version): (Option<&str>, Option<&str>),
    asked: &Asked,
) -> Result<Response, Rejection> {
    let predictions = &served.predictions;
    let Received { body, room: _room, until, .. } = served.receive(all, body, model).await?;
    let files = files(body, boundary).await?;
    let mut answers = ask(predictions, &files, (model, version), until).await?;
    // All files are answered by one version: a new one came between them.
    for _ in 0..ATTEMPTS {
        let version_of = |answer: &Answer| answer.model.as_ref().map(|model| Arc::clone(&model.version));
        if answers.iter().map(version_of).is_sorted_by(|a, b| a == b) {
            break;
        }
        answers = ask(predictions, &files, (model, version), until).await?;
    }
    for answer in &mut answers {
        count(answer, asked, &served.state.metrics);
        let code = answer.code();
        answer.trace.responded(code.map_or_else(|code| status(code).as_u16(), |()| 200), code);
    }
    Ok(joined(&files, &answers).unwrap_or_else(|rejection| error_response(&rejection, ErrorForm::Upload)))
}

async fn ask(
    predictions: &Predictions,
    files: &[File],
    (model, version): (Option<&str>, Option<&str>),
    until: Instant,
) -> Result<Vec<Answer>, Rejection> {
    let rooms: Vec<Room> =
        files.iter().map(|file| predictions.room(file.body.len())).collect::<Result<_, _>>()?;
    let answers = files.iter().zip(rooms).map(|(file, room)| async {
        let kind = file.content_type.clone().map(|kind| (CONTENT_TYPE.to_owned(), kind));
        let mut headers = kind.into_iter().collect();
        let (body, route) = (file.body.clone(), "/predict");
        let call = Call { model, version, headers: &mut headers, body, until, route };
        predictions.answer(call, room, |request| is_rows(&request.response.protocol)).await
    });
    Ok(join_all(answers).await)
}

/// The response to all files; their rows stand one after the other.
fn joined(files: &[File], answers: &[Answer]) -> Result<Response, Rejection> {
    let mut rows: Vec<&str> = Vec::new();
    for (file, answer) in files.iter().zip(answers) {
        let body = answer.outcome.as_ref().map_err(|rejection| in_file(file, rejection))?;
        let OfFile { predictions } = serde_json::from_slice(&body.bytes).map_err(|error| {
            Rejection::new(Code::InferenceFailed, format!("file {:?}: {error}", file.name))
        })?;
        let list = predictions.get();
        let own = list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(list);
        rows.extend((!own.is_empty()).then_some(own));
    }
    let rows = rows.join(",");
    let model = answers.first().and_then(|answer| answer.model.as_deref());
    let (name, version) = model.map_or(("", ""), |model| (&*model.name, &*model.version));
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let body = format!(
        "{{\"predictions\":[{rows}],\"prediction\":[{rows}],\"model\":{},\"model_version\":{}}}",
        text(name),
        text(version)
    );
    Ok(json_response(StatusCode::OK, body.into_bytes(), None))
}

async fn files(body: Bytes, boundary: &str) -> Result<Vec<File>, Rejection> {
    let whole = futures::stream::once(async { Ok::<_, std::convert::Infallible>(body) });
    let mut fields = Multipart::new(whole, boundary);
    let broken = |error: multer::Error| {
        Rejection::invalid(format!("expected a body of multipart/form-data, got an error: {error}"))
    };
    let (mut files, mut others) = (Vec::new(), Vec::new());
    while let Some(field) = fields.next_field().await.map_err(broken)? {
        if field.name() != Some("file") {
            others.push(field.name().unwrap_or_default().to_owned());
            continue;
        }
        if files.len() == MAX_FILES {
            return Err(Rejection::invalid(format!("expected at most {MAX_FILES} files, got more")));
        }
        let name = field.file_name().unwrap_or("file").to_owned();
        let content_type = field.content_type().map(ToString::to_string).filter(|kind| {
            // Given to files whose type the client does not know: the bytes tell more.
            kind != "application/octet-stream"
        });
        files.push(File { name, content_type, body: field.bytes().await.map_err(broken)? });
    }
    if files.is_empty() {
        let got = if others.is_empty() { "no field".to_owned() } else { format!("{others:?}") };
        return Err(Rejection::invalid(format!("expected one or more fields \"file\", got {got}")));
    }
    Ok(files)
}

/// Files are answered by rows, so that the rows of several stand in one list.
fn is_rows(protocol: &Protocol) -> Result<(), Rejection> {
    match protocol {
        Protocol::Rows => Ok(()),
        _ => Err(Rejection::invalid(
            "expected a file with rows: an image, a table, a text or {\"instances\": […]}, got another form; \
             send it as the body of the request",
        )),
    }
}

/// An unknown type of a file is a mistake in the body, not the type of the body: 400, which FastAPI's clients
/// expect.
fn in_file(file: &File, rejection: &Rejection) -> Rejection {
    let code = if rejection.code == Code::UnsupportedType { Code::InvalidInput } else { rejection.code };
    Rejection::new(code, format!("file {:.100?}: {rejection}", file.name))
}
