//! Export of traces by OTLP. The SDK exports from a thread of its own, which passes the calls to the worker's
//! runtime.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tokio::runtime::Handle;

use super::collector::Collector;
use super::variables::{self, Signal};
use crate::ops::sampling::Ids;

/// The resource of all telemetry: `service.name` is predictd unless OTEL_SERVICE_NAME or
/// OTEL_RESOURCE_ATTRIBUTES names another.
pub(super) fn resource() -> Resource {
    let own = [
        KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let named = variables::value("OTEL_SERVICE_NAME").map(|name| KeyValue::new("service.name", name));
    Resource::builder_empty()
        .with_attributes(own)
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())])
        .with_attributes(named)
        .build()
}

/// The provider of all spans; `None` when traces are not exported. The SDK reads sampler, limits and batch
/// sizes from their variables.
///
/// # Errors
/// A variable has a bad value.
pub(in crate::ops) fn start() -> anyhow::Result<Option<SdkTracerProvider>> {
    let Some(collector) = Collector::from_variables(Signal::Traces)? else { return Ok(None) };
    let exporter = Exporter {
        collector: Arc::new(collector),
        runtime: Handle::current(),
        resource: ResourceAttributesWithSchema::default(),
    };
    let provider = SdkTracerProvider::builder()
        .with_id_generator(Ids::default())
        .with_resource(resource())
        .with_batch_exporter(exporter);
    Ok(Some(provider.build()))
}

#[derive(Debug)]
struct Exporter {
    collector: Arc<Collector>,
    runtime: Handle,
    resource: ResourceAttributesWithSchema,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let collector = Arc::clone(&self.collector);
        let call = async move { collector.send(ExportTraceServiceRequest { resource_spans }).await };
        let sent = self.runtime.spawn(call).await.unwrap_or_else(|error| Err(error.to_string()));
        sent.map_err(OTelSdkError::InternalFailure)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}
