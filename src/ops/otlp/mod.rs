//! Export of traces and metrics by OTLP, once OpenTelemetry's standard variables name an endpoint.

mod collector;
pub mod metrics;
pub(super) mod spans;
mod variables;
