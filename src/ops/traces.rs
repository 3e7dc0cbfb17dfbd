//! The spans of requests and batches, by OpenTelemetry's conventions for messaging and for HTTP.
//!
//! A sampled message has three spans, each the parent of the next: `receive` (until it is decoded), `process`
//! (until its response is accepted) and `publish`, which the response's `traceparent` names. A batch has one,
//! `predict`: its parent is the span of its first sampled message, and the batch and its sampled messages
//! link each other. A nacked message ends its spans with an error. A request over HTTP has one span of kind
//! server in place of the three.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};

use super::sampling::Gate;
use super::trace_context;
use crate::error::Code;
use crate::ops::metrics::Exemplar;

static TRACES: OnceLock<Traces> = OnceLock::new();

/// The process's tracer, and the names of spans.
#[derive(Debug)]
pub(super) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    gate: Gate,
    root: Context,
    subscription: &'static str,
    topic: &'static str,
    receive: &'static str,
    process: &'static str,
    publish: &'static str,
}

/// Starts to record spans, until the process ends.
pub(super) fn start(provider: SdkTracerProvider, subscription: &str, topic: &str) {
    // Leaked once, so that no message allocates the names of its spans.
    let leak = |text: String| &*Box::leak(text.into_boxed_str());
    let short_name = |full: &str| leak(full.rsplit('/').next().unwrap_or(full).to_owned());
    let (subscription, topic) = (short_name(subscription), short_name(topic));
    let traces = Traces {
        tracer: provider.tracer(env!("CARGO_PKG_NAME")),
        provider,
        gate: Gate::new(),
        root: Context::new(),
        subscription,
        topic,
        receive: leak(format!("receive {subscription}")),
        process: leak(format!("process {subscription}")),
        publish: leak(format!("publish {topic}")),
    };
    let _ = TRACES.set(traces);
}

/// Exports what is not exported yet, within `limit`. Blocks.
pub(super) fn shut_down(limit: Duration) {
    if let Some(traces) = TRACES.get() {
        // A failure is logged by the collector.
        let _ = traces.provider.shutdown_with_timeout(limit);
    }
}

/// The process's tracer, if traces are exported.
pub(super) fn tracer() -> Option<&'static SdkTracer> {
    TRACES.get().map(|traces| &traces.tracer)
}

/// The spans of a message, if it is sampled. Moves with its ticket; dropping it unsettled means that the
/// message is nacked.
#[derive(Debug, Default)]
pub struct MessageTrace(Option<Box<Spans>>);

#[derive(Debug)]
struct Spans {
    traces: &'static Traces,
    message_id: String,
    /// None for a request over HTTP, whose one span is `process`.
    receive: Option<Span>,
    process: Option<Span>,
    publish: Option<Span>,
    is_settled: bool,
}

/// The properties of a message that its span shows.
#[derive(Debug)]
pub struct ReceivedMessage<'a> {
    pub message_id: &'a str,
    pub ordering_key: &'a str,
    /// Length of the body.
    pub bytes: usize,
    /// The number of this delivery, where a dead-letter policy counts them.
    pub attempt: Option<i32>,
}

/// Begins the trace of a message, or continues the one that its headers name; no spans if it is not sampled.
/// Moves the context that was found to the header `traceparent`.
pub fn received(headers: &mut HashMap<String, String>, message: &ReceivedMessage<'_>) -> MessageTrace {
    let Some(traces) = TRACES.get() else { return MessageTrace(None) };
    let incoming = trace_context::incoming(headers);
    if !matches!(incoming, Some((_, true))) && !headers.is_empty() {
        trace_context::replace(headers, incoming.as_ref().map(|(context, _)| context));
    }
    if !traces.gate.admits(incoming.as_ref().map(|(context, _)| context)) {
        return MessageTrace(None);
    }
    let builder = SpanBuilder::from_name(traces.receive).with_kind(SpanKind::Client);
    let mut receive = match incoming {
        Some((context, _)) => traces.build(builder, context),
        None => traces.tracer.build_with_context(builder, &traces.root),
    };
    if !receive.is_recording() {
        return MessageTrace(None);
    }
    let ReceivedMessage { message_id, ordering_key, bytes, attempt } = *message;
    receive.set_attributes(traces.of_subscription("receive", message_id));
    receive.set_attribute(body_size(bytes));
    receive.set_attributes(
        attempt.map(|attempt| {
            KeyValue::new("messaging.gcp_pubsub.message.delivery_attempt", i64::from(attempt))
        }),
    );
    if !ordering_key.is_empty() {
        let key = ordering_key.to_owned();
        receive.set_attribute(KeyValue::new("messaging.gcp_pubsub.message.ordering_key", key));
    }
    let message_id = message_id.to_owned();
    let receive = Some(receive);
    let spans = Spans { traces, message_id, receive, process: None, publish: None, is_settled: false };
    MessageTrace(Some(Box::new(spans)))
}

/// Begins the span of a request over HTTP, or continues the trace that its headers name; no span if it is not
/// sampled. `route`: the path with its parameters' names in place of their values.
pub fn requested(headers: &HashMap<String, String>, route: &'static str) -> MessageTrace {
    let Some(traces) = TRACES.get() else { return MessageTrace(None) };
    let incoming = trace_context::incoming(headers);
    if !traces.gate.admits(incoming.as_ref().map(|(context, _)| context)) {
        return MessageTrace(None);
    }
    let builder = SpanBuilder::from_name(format!("POST {route}")).with_kind(SpanKind::Server);
    let mut server = match incoming {
        Some((context, _)) => traces.build(builder, context),
        None => traces.tracer.build_with_context(builder, &traces.root),
    };
    if !server.is_recording() {
        return MessageTrace(None);
    }
    server.set_attributes([KeyValue::new("http.request.method", "POST"), KeyValue::new("http.route", route)]);
    MessageTrace(Some(Box::new(Spans {
        traces,
        message_id: String::new(),
        receive: None,
        process: Some(server),
        publish: None,
        is_settled: false,
    })))
}

impl MessageTrace {
    /// Records that the request is decoded: its processing begins.
    pub fn decoded(&mut self) {
        if let Some(spans) = &mut self.0 {
            spans.process();
        }
    }

    /// The `process` span, if the message is sampled.
    fn processing(&mut self) -> Option<&mut Span> {
        self.0.as_mut().map(|spans| spans.process())
    }

    /// Begins the `publish` span, and names it in the `attributes` of the response.
    pub fn publishing(
        &mut self,
        attributes: &mut HashMap<String, String>,
        bytes: usize,
        outcome: Result<(), Code>,
    ) {
        let Some(spans) = &mut self.0 else { return };
        let process = spans.process();
        for (key, attribute) in [("predictd.model", "model"), ("predictd.model_version", "model_version")] {
            // Only of a prediction: an error response may repeat a name of the request that no model has.
            if outcome.is_ok()
                && let Some(value) = attributes.get(attribute)
            {
                process.set_attribute(KeyValue::new(key, value.clone()));
            }
        }
        if let Err(code) = outcome {
            process.set_attribute(KeyValue::new("error.type", code.as_str()));
            process.set_status(Status::error(code.as_str()));
        }
        let parent = process.span_context().clone();
        let traces = spans.traces;
        let builder = SpanBuilder::from_name(traces.publish).with_kind(SpanKind::Producer);
        let mut publish = traces.build(builder, parent);
        publish.set_attributes(operation("publish", "send", traces.topic));
        publish.set_attribute(body_size(bytes));
        trace_context::replace(attributes, Some(publish.span_context()));
        spans.publish = Some(publish);
    }

    /// Records that the response was accepted, with its message id.
    pub fn published(&mut self, id: &str) {
        if let Some(publish) = self.0.as_mut().and_then(|spans| spans.publish.as_mut()) {
            publish.set_attribute(KeyValue::new("messaging.message.id", id.to_owned()));
            publish.end();
        }
    }

    /// The exemplar of the request's duration, if the message is sampled: its trace and its `process` span.
    pub fn exemplar(&self) -> Option<Exemplar> {
        let spans = self.0.as_deref()?;
        let context = spans.process.as_ref().or(spans.receive.as_ref())?.span_context();
        Some(Exemplar { trace_id: context.trace_id().to_string(), span_id: context.span_id().to_string() })
    }

    /// Records the response to a request over HTTP.
    pub fn responded(&mut self, status: u16, outcome: Result<(), Code>) {
        let Some(span) = self.processing() else { return };
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if let Err(code) = outcome {
            span.set_attribute(KeyValue::new("error.type", code.as_str()));
            // The convention: what the client did wrong is no error of the server.
            if status >= 500 {
                span.set_status(Status::error(code.as_str()));
            }
        }
        self.settled();
    }

    /// Records that the request was acknowledged.
    pub fn settled(&mut self) {
        if let Some(mut spans) = self.0.take() {
            spans.is_settled = true;
        }
    }
}

impl Spans {
    /// The `process` span, which begins now unless it did before.
    fn process(&mut self) -> &mut Span {
        let Self { traces, message_id, receive, process, .. } = self;
        process.get_or_insert_with(|| {
            let receive = receive.as_mut().expect("a message is received before it is processed");
            receive.end();
            let builder = SpanBuilder::from_name(traces.process).with_kind(SpanKind::Consumer);
            let mut process = traces.build(builder, receive.span_context().clone());
            process.set_attributes(traces.of_subscription("process", message_id));
            process
        })
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        if !self.is_settled {
            let why = if self.receive.is_some() {
                "the message was nacked"
            } else {
                "nobody waited for the response"
            };
            for span in self.publish.iter_mut().chain(&mut self.process).chain(&mut self.receive) {
                span.set_status(Status::error(why));
            }
        }
    }
}

impl Traces {
    /// Begins a span below `parent`.
    fn build(&self, builder: SpanBuilder, parent: SpanContext) -> Span {
        self.tracer.build_with_context(builder, &Context::new().with_remote_span_context(parent))
    }

    fn of_subscription(
        &self,
        name: &'static str,
        message_id: &str,
    ) -> impl Iterator<Item = KeyValue> + use<> {
        let own = [
            KeyValue::new("messaging.destination.subscription.name", self.subscription),
            KeyValue::new("messaging.message.id", message_id.to_owned()),
        ];
        operation(name, name, self.subscription).into_iter().chain(own)
    }
}

fn operation(name: &'static str, kind: &'static str, destination: &'static str) -> [KeyValue; 4] {
    [
        KeyValue::new("messaging.system", "gcp_pubsub"),
        KeyValue::new("messaging.operation.name", name),
        KeyValue::new("messaging.operation.type", kind),
        KeyValue::new("messaging.destination.name", destination),
    ]
}

fn body_size(bytes: usize) -> KeyValue {
    KeyValue::new("messaging.message.body.size", i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// Starts the span of a batch of `rows`, which ends when it is dropped; `None` when none of its messages is
/// sampled.
pub fn batch<'a>(
    (model, version): (&str, &str),
    rows: usize,
    messages: impl ExactSizeIterator<Item = &'a mut MessageTrace>,
) -> Option<Span> {
    let traces = TRACES.get()?;
    let message_count = messages.len();
    let mut sampled: Vec<&mut Span> = messages.filter_map(MessageTrace::processing).collect();
    let contexts: Vec<SpanContext> = sampled.iter().map(|span| span.span_context().clone()).collect();
    let parent = contexts.first()?.clone();
    let links = contexts.into_iter().map(|context| Link::new(context, Vec::new(), 0)).collect();
    let builder = SpanBuilder::from_name(format!("predict {model}")).with_links(links);
    let mut span = traces.build(builder, parent);
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    span.set_attributes([
        KeyValue::new("predictd.model", model.to_owned()),
        KeyValue::new("predictd.model_version", version.to_owned()),
        KeyValue::new("predictd.batch.rows", count(rows)),
        KeyValue::new("messaging.batch.message_count", count(message_count)),
    ]);
    for message in &mut sampled {
        message.add_link(span.span_context().clone(), Vec::new());
    }
    Some(span)
}
