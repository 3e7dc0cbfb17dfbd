//! The spans of a reload: one for each look at the source, and below it one for each phase: list, fetch,
//! load, check, swap.
//!
//! Phases are recorded below a reload only: the one-shot commands load models without spans.

use std::fmt::Display;

use opentelemetry::trace::{FutureExt as _, SpanBuilder, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};

use super::traces;

/// One look at the source with all the loads that it leads to, or one phase of it. Dropping it ends its span.
#[derive(Debug)]
pub struct Reload(Option<Context>);

impl Reload {
    pub fn begin() -> Self {
        Self(traces::tracer().map(|tracer| {
            let span = tracer.build_with_context(SpanBuilder::from_name("reload"), &Context::new());
            Context::new().with_span(span)
        }))
    }

    /// Runs a part of the reload, so that phases find their parent span.
    pub async fn run<T, E: Display>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        match &self.0 {
            Some(context) => self.record(work.with_context(context.clone()).await),
            None => work.await,
        }
    }

    /// Marks the span of a failure.
    fn record<T, E: Display>(&self, outcome: Result<T, E>) -> Result<T, E> {
        if let (Some(context), Err(error)) = (&self.0, &outcome) {
            context.span().set_status(Status::error(error.to_string()));
        }
        outcome
    }
}

impl Drop for Reload {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// Runs one phase; `of` is the model and its version, where the phase has one.
pub async fn phase<T, E: Display>(
    name: &'static str,
    of: Option<(&str, &str)>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    Reload(begin_phase(name, of)).run(work).await
}

/// Like [`phase`], for work that blocks its thread.
pub fn blocking_phase<T, E: Display>(
    name: &'static str,
    of: Option<(&str, &str)>,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let phase = Reload(begin_phase(name, of));
    let _attached = phase.0.clone().map(Context::attach);
    phase.record(work())
}

/// Carries the current reload along with `work` to another thread.
pub fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let context = Context::current();
    move || {
        let _attached = context.attach();
        work()
    }
}

fn begin_phase(name: &'static str, of: Option<(&str, &str)>) -> Option<Context> {
    let tracer = traces::tracer()?;
    let parent = Context::current();
    if !parent.span().span_context().is_sampled() {
        return None;
    }
    let attributes = of.into_iter().flat_map(|(model, version)| {
        [
            KeyValue::new("predictd.model", model.to_owned()),
            KeyValue::new("predictd.model_version", version.to_owned()),
        ]
    });
    let builder = SpanBuilder::from_name(name).with_attributes(attributes);
    let span = tracer.build_with_context(builder, &parent);
    Some(parent.with_span(span))
}
