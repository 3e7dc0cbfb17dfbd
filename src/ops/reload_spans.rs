//! The spans of a reload: one for each look at the source, and below it one for each phase: list, fetch,
//! load, check, swap.
//!
//! Phases are recorded below a reload only: the one-shot commands load models without spans.

use std::fmt::Display;

use opentelemetry::trace::{FutureExt as _, SpanBuilder, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};

use super::traces;

/// One look at the source, with all the loads that it leads to. Dropping it ends its span.
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
        let Some(context) = &self.0 else { return work.await };
        let outcome = work.with_context(context.clone()).await;
        fail(context, &outcome);
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
    let Some(context) = begin(name, of) else { return work.await };
    let outcome = work.with_context(context.clone()).await;
    end(&context, &outcome);
    outcome
}

/// Like [`phase`], for work that blocks its thread.
pub fn blocking_phase<T, E: Display>(
    name: &'static str,
    of: Option<(&str, &str)>,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let Some(context) = begin(name, of) else { return work() };
    let attached = context.clone().attach();
    let outcome = work();
    drop(attached);
    end(&context, &outcome);
    outcome
}

/// Carries the current reload along with `work` to another thread.
pub fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let context = Context::current();
    move || {
        let _attached = context.attach();
        work()
    }
}

fn begin(name: &'static str, of: Option<(&str, &str)>) -> Option<Context> {
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

fn end<T, E: Display>(context: &Context, outcome: &Result<T, E>) {
    fail(context, outcome);
    context.span().end();
}

fn fail<T, E: Display>(context: &Context, outcome: &Result<T, E>) {
    if let Err(error) = outcome {
        context.span().set_status(Status::error(error.to_string()));
    }
}
