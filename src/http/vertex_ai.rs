//! The routes that Vertex AI chooses for a container, by the variables `AIP_HEALTH_ROUTE` and
//! `AIP_PREDICT_ROUTE`. Its health route means that the worker is ready.

use std::collections::BTreeMap;

use axum::Router;
use axum::routing::{MethodRouter, get, post};

use super::predict::predict;
use super::ready;
use super::route::Served;

/// Paths with a protocol of their own, which stay with it.
const PROTOCOLS: [&str; 4] = ["/predict", "/invocations", "/v1/models/", "/v2/models/"];

/// `all`, behind the chosen routes: a health route may be a page of the worker, such as `/health`.
pub(super) fn routes(all: Router, served: Served) -> Router {
    let mut chosen: BTreeMap<String, MethodRouter> = BTreeMap::new();
    if let Some(path) = path("AIP_HEALTH_ROUTE") {
        chosen.insert(path, get(ready).with_state(served.state.clone()));
    }
    let has_protocol = |path: &String| PROTOCOLS.iter().any(|protocol| path.starts_with(protocol));
    if let Some(path) = path("AIP_PREDICT_ROUTE").filter(|path| !has_protocol(path)) {
        let methods = chosen.remove(&path).unwrap_or_default();
        chosen.insert(path, methods.merge(post(predict).with_state(served)));
    }
    let add = |router: Router, (path, methods): (String, MethodRouter)| {
        router.route(&path, methods.fallback_service(all.clone()))
    };
    chosen.into_iter().fold(Router::new(), add).fallback_service(all.clone())
}

/// A path that is taken to the letter: braces would be a pattern.
fn path(variable: &str) -> Option<String> {
    let path = std::env::var(variable).ok().filter(|path| !path.is_empty())?;
    let is_plain =
        path.starts_with('/') && !path.contains(['{', '}']) && !path.contains("/:") && !path.contains("/*");
    if !is_plain {
        tracing::warn!(
            variable,
            path,
            "expected a path that begins with a slash, without braces; it is not served"
        );
    }
    is_plain.then_some(path)
}
