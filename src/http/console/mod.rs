//! The console: a page to try models, and to see what the worker does.
//!
//! The page is one file of HTML with its style inside, so that the first answer is enough to paint, and one
//! JavaScript module. It has no secret and no data: both come from [`now`], [`sample`], `/info` and
//! `/predict`, which ask for the token where there is one.

mod now;
mod sample;

use std::sync::LazyLock;

use axum::Router;
use axum::extract;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::predict;
use super::respond::{ErrorForm, error_response};
use super::state::State;
use crate::error::Rejection;

const SCRIPT: &str = "/console/page.js";
const ICON: &str = "/console/icon.svg";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// A file of the page, and its checksum.
struct File {
    text: String,
    etag: String,
}

static PAGE: LazyLock<File> = LazyLock::new(|| {
    // The policy allows no other style. The element contains nothing beside the file: its checksum is that of
    // the file.
    let style = format!("<style>{STYLE}</style>");
    File::new(include_str!("page.html").replace("<link rel=\"stylesheet\" href=\"page.css\">", &style))
});
static MODULE: LazyLock<File> = LazyLock::new(|| File::new(include_str!("page.js").to_owned()));
const STYLE: &str = include_str!("page.css");
static MARK: LazyLock<File> = LazyLock::new(|| {
    let circle = "<circle cx=\"8\" cy=\"8\" r=\"5.5\" fill=\"none\" stroke=\"#0b8a97\" stroke-width=\"4\" \
                  stroke-dasharray=\"26 9\"/>";
    File::new(format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\">{circle}</svg>"))
});
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'sha256-{}'; img-src 'self' blob:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        checksum(STYLE)
    )
});

impl File {
    fn new(text: String) -> Self {
        let etag = format!("\"{}\"", checksum(&text));
        Self { text, etag }
    }

    fn answer(&'static self, headers: &HeaderMap, content_type: &'static str) -> Response {
        let all = [
            (CONTENT_TYPE, content_type),
            (CONTENT_SECURITY_POLICY, &**POLICY),
            (REFERRER_POLICY, "no-referrer"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (CACHE_CONTROL, "no-cache"),
            (VARY, "accept"),
            (ETAG, &*self.etag),
        ];
        if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == self.etag.as_bytes()) {
            return (StatusCode::NOT_MODIFIED, all).into_response();
        }
        (all, &*self.text).into_response()
    }
}

fn checksum(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}

/// True for requests that have no token: for the page itself.
pub(super) fn is_page(path: &str, headers: &HeaderMap) -> bool {
    [SCRIPT, ICON].contains(&path) || path == "/" && is_browser(headers)
}

/// True for a client that shows HTML. Others ask `/` for the routes.
pub(super) fn is_browser(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().windows(9).any(|part| part == b"text/html"))
}

/// The page.
pub(super) fn page(headers: &HeaderMap) -> Response {
    PAGE.answer(headers, HTML)
}

/// The routes beside `/`. `predictions`: the worker answers requests over HTTP.
pub(super) fn routes(predictions: bool) -> Router<State> {
    let now = move |extract::State(state): extract::State<State>, uri: Uri| async move {
        answer(&uri, |model, version| Ok(now::now(&state, predictions, model, version)))
    };
    let sample = |extract::State(state): extract::State<State>, uri: Uri| async move {
        answer(&uri, |model, _| sample::sample(&state.models, model))
    };
    Router::new()
        .route(SCRIPT, get(|headers: HeaderMap| async move { MODULE.answer(&headers, JAVASCRIPT) }))
        .route(ICON, get(|headers: HeaderMap| async move { MARK.answer(&headers, "image/svg+xml") }))
        .route("/console/now.json", get(now))
        .route("/console/sample.json", get(sample))
}

/// Answers a request for data about a model and a version, as `/predict` names them.
fn answer<T: Serialize>(
    uri: &Uri,
    data: impl FnOnce(Option<&str>, Option<&str>) -> Result<T, Rejection>,
) -> Response {
    let target = predict::target(uri.query().unwrap_or_default());
    let data = target.and_then(|(model, version)| data(model.as_deref(), version.as_deref()));
    match data {
        Ok(data) => {
            let body = serde_json::to_vec(&data).expect("plain data is always JSON");
            ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response()
        }
        Err(rejection) => error_response(&rejection, ErrorForm::Predictd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_has_its_style_inside() {
        assert!(PAGE.text.contains(STYLE) && !PAGE.text.contains("page.css"));
        let all = PAGE.text.len() + MODULE.text.len();
        assert!(all < 100_000, "{all} bytes");
    }

    #[test]
    fn browsers_alone_get_the_page() {
        let accept = |value: &str| is_browser(&HeaderMap::from_iter([(ACCEPT, value.parse().unwrap())]));
        assert!(accept("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        assert!(!accept("*/*") && !accept("application/json") && !is_browser(&HeaderMap::new()));
    }
}
