//! Pages that are expensive to render, shared by the clients that ask for them at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::state::State;

/// Age up to which a page that is still being sent is sent to further clients.
const SHARED: Duration = Duration::from_secs(1);

/// A page that takes time to render and memory to send.
///
/// Clients that wait for it get the same text, and so do clients that ask within [`SHARED`] while it is still
/// being sent to others. Many clients, or slow ones, cost no more than a few.
#[derive(Debug)]
pub(super) struct Page {
    content_type: &'static str,
    render: fn(&State) -> String,
    last: Mutex<Option<(Instant, Bytes)>>,
}

impl Page {
    /// The route of a page, which `render` writes.
    pub(super) fn route(content_type: &'static str, render: fn(&State) -> String) -> MethodRouter<State> {
        let page = Arc::new(Self { content_type, render, last: Mutex::default() });
        get(|extract::State(state)| async move { page.answer(state).await })
    }

    async fn answer(&self, state: State) -> Response {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        let is_fresh = |(at, body): &&(Instant, Bytes)| {
            *at >= asked || !body.is_unique() && asked.saturating_duration_since(*at) < SHARED
        };
        let body = match last.as_ref().filter(is_fresh) {
            Some((_, body)) => body.clone(),
            None => {
                let (render, now) = (self.render, Instant::now());
                // On another thread, since this one answers probes.
                let text = match tokio::task::spawn_blocking(move || render(&state)).await {
                    Ok(text) => Bytes::from(text),
                    Err(error) => {
                        return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response();
                    }
                };
                last.insert((now, text)).1.clone()
            }
        };
        ([(header::CONTENT_TYPE, self.content_type)], body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::model::Models;
    use crate::ops::health::Health;
    use crate::ops::metrics::Metrics;

    #[tokio::test]
    async fn a_page_that_is_still_being_sent_is_not_rendered_again() {
        static RENDERED: AtomicUsize = AtomicUsize::new(0);
        let render = |_: &State| format!("rendered {} times", RENDERED.fetch_add(1, Ordering::Relaxed) + 1);
        let page = Page { content_type: "text/plain", render, last: Mutex::default() };
        let state = State {
            health: Arc::new(Health::starting(CancellationToken::new())),
            metrics: Metrics::new(),
            models: Models::new(None),
            not_served: Arc::default(),
        };
        let being_sent = [page.answer(state.clone()).await, page.answer(state.clone()).await];
        assert_eq!(RENDERED.load(Ordering::Relaxed), 1);
        drop(being_sent);
        page.answer(state).await;
        assert_eq!(RENDERED.load(Ordering::Relaxed), 2);
    }
}
