//! `POST /predict`: every body that Pub/Sub takes, and uploads of files. Vertex AI's predict route is the same.

use axum::body::Body;
use axum::extract;
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use percent_encoding::percent_decode_str;

use super::respond::{ErrorForm, asked};
use super::route::{Reading, Route, Served};
use super::upload;
use crate::error::Rejection;

pub(super) async fn predict(
    extract::State(served): extract::State<Served>,
    request: Request<Body>,
) -> Response {
    let (model, version) = match target(request.uri().query().unwrap_or_default()) {
        Ok(target) => target,
        Err(rejection) => return served.refuse(rejection, &asked(request.headers(), ErrorForm::Predictd)),
    };
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if let Some(boundary) = kind.and_then(|kind| multer::parse_boundary(kind).ok()) {
        let upload = upload::predict(&served, request, &boundary, model.as_deref(), version.as_deref());
        return Box::pin(upload).await;
    }
    let route = Route {
        model: model.as_deref(),
        version: version.as_deref(),
        reading: Reading::ByType,
        errors: ErrorForm::Predictd,
    };
    served.predict(request, route).await
}

/// `model=M&version=V`.
pub(super) fn target(query: &str) -> Result<(Option<String>, Option<String>), Rejection> {
    let (mut model, mut version) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = match name {
            "model" => &mut model,
            "version" => &mut version,
            _ => {
                let message = format!("expected the parameters model and version, got {name:.40?}");
                return Err(Rejection::invalid(message));
            }
        };
        let value = value.replace('+', " ");
        *place = Some(percent_decode_str(&value).decode_utf8_lossy().into_owned());
    }
    Ok((model, version))
}
