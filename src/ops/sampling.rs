//! Decides if a message is sampled, before a span is made for it.
//!
//! The sampler is the SDK's, as the standard variables say. Asking it through a span that is then dropped
//! would add some percent to the work of every message. Instead the trace id is drawn first, and kept for
//! the span of a sampled message.

use std::cell::Cell;

use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry_sdk::trace::{Config, IdGenerator, RandomIdGenerator, SamplingDecision, ShouldSample};

thread_local! {
    /// The trace id of the next trace that this thread begins.
    static DRAWN: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// The id generator of the provider: uses the trace id that was drawn, else a new one.
#[derive(Debug, Default)]
pub(super) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        DRAWN.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

#[derive(Debug)]
pub(super) struct Gate {
    sampler: Box<dyn ShouldSample>,
    ids: RandomIdGenerator,
    /// True when a message that its sender did not sample never is.
    follows_sender: bool,
}

impl Gate {
    /// Uses the sampler of the standard variables.
    pub(super) fn new() -> Self {
        Self::with(Config::default().sampler)
    }

    fn with(sampler: Box<dyn ShouldSample>) -> Self {
        // Every ratio above zero samples the lowest trace id. A sampler that does not then follows the
        // sender.
        let (trace, span) = (TraceId::from(1), SpanId::from(1));
        let unsampled = SpanContext::new(trace, span, TraceFlags::default(), true, TraceState::default());
        let parent = Context::new().with_remote_span_context(unsampled);
        let follows_sender = !samples(&*sampler, Some(&parent), trace);
        Self { sampler, ids: RandomIdGenerator::default(), follows_sender }
    }

    /// True when a message with this context is to get a span. If it has no context, the next span without a
    /// parent that this thread begins has the trace id that was drawn here.
    pub(super) fn admits(&self, incoming: Option<&SpanContext>) -> bool {
        if let Some(context) = incoming {
            return context.is_sampled() || !self.follows_sender;
        }
        let trace = self.ids.new_trace_id();
        let is_sampled = samples(&*self.sampler, None, trace);
        if is_sampled {
            DRAWN.set(Some(trace));
        }
        is_sampled
    }
}

fn samples(sampler: &dyn ShouldSample, parent: Option<&Context>, trace: TraceId) -> bool {
    let result = sampler.should_sample(parent, trace, "receive", &SpanKind::Client, &[], &[]);
    result.decision == SamplingDecision::RecordAndSample
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::Sampler;

    use super::*;

    fn context(flags: TraceFlags) -> SpanContext {
        SpanContext::new(TraceId::from(7), SpanId::from(7), flags, true, TraceState::default())
    }

    #[test]
    fn a_sender_is_followed_where_the_sampler_follows_it() {
        let (sampled, unsampled) = (context(TraceFlags::SAMPLED), context(TraceFlags::default()));
        let by_parent = |root| Gate::with(Box::new(Sampler::ParentBased(Box::new(root))));
        for gate in [by_parent(Sampler::AlwaysOn), by_parent(Sampler::TraceIdRatioBased(0.5))] {
            assert!(gate.admits(Some(&sampled)) && !gate.admits(Some(&unsampled)));
        }
        for sampler in [Sampler::AlwaysOn, Sampler::TraceIdRatioBased(0.01)] {
            assert!(Gate::with(Box::new(sampler)).admits(Some(&unsampled)), "the sampler itself must decide");
        }
    }

    #[test]
    fn a_share_of_messages_without_a_context_is_sampled_with_the_id_that_was_drawn() {
        let gate = Gate::with(Box::new(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(0.1)))));
        let ids = Ids::default();
        let mut admitted = 0;
        for _ in 0..20_000 {
            if gate.admits(None) {
                admitted += 1;
                let begun = ids.new_trace_id();
                assert!(samples(&*gate.sampler, None, begun), "{begun} would not be sampled");
            }
        }
        // 2000 expected, with a standard deviation of 42.
        assert!((1600..2400).contains(&admitted), "{admitted}");
        assert_ne!(ids.new_trace_id(), ids.new_trace_id());
    }
}
