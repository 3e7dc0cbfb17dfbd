//! The first thing that every request meets: its token, and the headers that every response has.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;

use super::console;
use super::grpc;
use super::tokens::Tokens;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Paths of probes, which have no tokens.
pub(super) const OPEN: [&str; 4] = ["/health", "/ready", "/ping", grpc::HEALTH];

/// See the module. Cloned for each connection.
#[derive(Clone)]
pub(super) struct Front {
    router: TowerToHyperService<Router>,
    tokens: Option<Arc<Tokens>>,
    /// The path that Vertex AI probes.
    own_probe: Option<Arc<str>>,
    has_console: bool,
    stop: CancellationToken,
}

impl Front {
    pub(super) fn new(
        router: Router,
        tokens: Option<Arc<Tokens>>,
        has_console: bool,
        stop: CancellationToken,
    ) -> Self {
        let own_probe = std::env::var("AIP_HEALTH_ROUTE").ok().map(Arc::from);
        Self { router: TowerToHyperService::new(router), tokens, own_probe, has_console, stop }
    }

    /// Cancelled once the worker stops.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    pub(super) fn answer(
        &self,
        request: hyper::Request<Incoming>,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        let id = request.headers().get(REQUEST_ID).cloned();
        let is_allowed = self.allows(&request);
        let answer = is_allowed.then(|| self.router.call(request));
        let stop = self.stop.clone();
        async move {
            let mut response = match answer {
                Some(answer) => answer.await?,
                None => unauthorized(),
            };
            let headers = response.headers_mut();
            if let Some(id) = id {
                headers.insert(REQUEST_ID, id);
            }
            if stop.is_cancelled() {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    }

    fn allows(&self, request: &hyper::Request<Incoming>) -> bool {
        let Some(tokens) = &self.tokens else { return true };
        let path = request.uri().path();
        if OPEN.contains(&path) || self.own_probe.as_deref() == Some(path) {
            return true;
        }
        if self.has_console && console::is_page(path, request.headers()) {
            return true;
        }
        let given = request.headers().get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        given.is_some_and(|token| tokens.allow(token))
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn unauthorized() -> Response {
    let body = "{\"error\":{\"code\":\"UNAUTHORIZED\",\"message\":\"expected the header authorization: Bearer TOKEN with a token \
                that this server knows\"}}";
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
