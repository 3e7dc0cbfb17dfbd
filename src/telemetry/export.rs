//! OTLP over HTTP, as OpenTelemetry's standard variables configure it: where to, as whom, and which traces.
//!
//! The client is the one that Google's clients use, so that there is one TLS library; the exporter's own thread hands its calls
//! to the worker's runtime.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::BoxFuture;
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;

use super::sampling::Ids;

/// Of OTLP's specification, where no variable says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a variable says, if anything: an empty one counts as unset.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `OTEL_EXPORTER_OTLP_<SIGNAL>_<NAME>`, or what holds for all signals.
pub(super) fn of_signal(signal: &str, name: &str) -> Option<String> {
    variable(&format!("OTEL_EXPORTER_OTLP_{signal}_{name}"))
        .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
}

/// Whether a signal (`TRACES`, `METRICS`) is exported: an endpoint is set and nothing switches it off.
///
/// # Errors
/// A protocol is asked for that is not spoken.
pub(super) fn is_on(signal: &str) -> anyhow::Result<bool> {
    let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exporter = variable(&format!("OTEL_{signal}_EXPORTER"));
    if disabled || exporter.as_deref() == Some("none") || of_signal(signal, "ENDPOINT").is_none() {
        return Ok(false);
    }
    match of_signal(signal, "PROTOCOL").as_deref() {
        None | Some("http/protobuf") => Ok(true),
        Some(other) => bail!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is {other:?}, expected \"http/protobuf\" (a collector's port 4318)"
        ),
    }
}

pub(super) fn timeout(signal: &str) -> Duration {
    let given = of_signal(signal, "TIMEOUT").and_then(|milliseconds| milliseconds.parse().ok());
    given.map_or(DEFAULT_TIMEOUT, Duration::from_millis)
}

/// Who exports: `service.name` is predictd unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES says otherwise.
pub(super) fn resource() -> Resource {
    let own = [
        KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let named = variable("OTEL_SERVICE_NAME").map(|name| KeyValue::new("service.name", name));
    Resource::builder_empty()
        .with_attributes(own)
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())])
        .with_attributes(named)
        .build()
}

/// The provider of all spans; `None` when no endpoint is set. Sampler, limits and batches are what their variables say.
///
/// # Errors
/// A variable that cannot be followed.
pub(super) fn start() -> anyhow::Result<Option<SdkTracerProvider>> {
    if !is_on("TRACES")? {
        return Ok(None);
    }
    let client = Client::new("traces", timeout("TRACES"))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .build()
        .context("cannot set the OTLP exporter up")?;
    let provider = SdkTracerProvider::builder()
        .with_id_generator(Ids::default())
        .with_resource(resource())
        .with_batch_exporter(exporter);
    Ok(Some(provider.build()))
}

/// Sends from whatever thread asks, on the runtime that it was made on.
#[derive(Debug, Clone)]
pub(super) struct Client {
    what: &'static str,
    timeout: Duration,
    client: reqwest::Client,
    runtime: Arc<Handle>,
}

impl Client {
    /// For `what`, as failures name it.
    ///
    /// # Errors
    /// The machine's certificates cannot be used.
    pub(super) fn new(what: &'static str, timeout: Duration) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().build().context("cannot set an HTTP client up")?;
        Ok(Self { what, timeout, client, runtime: Arc::new(Handle::current()) })
    }

    pub(super) fn post(&self, url: &str) -> reqwest::RequestBuilder {
        self.client.post(url)
    }

    /// One call, whole, within the time limit. What goes wrong is logged.
    pub(super) async fn send(self, request: reqwest::Request) -> Result<Response<Bytes>, HttpError> {
        let call = async {
            let response = self.client.execute(request).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let mut whole = Response::new(response.bytes().await?);
            (*whole.status_mut(), *whole.headers_mut()) = (status, headers);
            Ok::<_, HttpError>(whole)
        };
        let answer = match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer in {:?}", self.timeout).into()),
        };
        let trouble = match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector answered {}", response.status())),
            Err(error) => Some(chain(&**error)),
        };
        if let Some(why) = trouble {
            tracing::warn!(what = self.what, why, "telemetry was not exported");
        }
        answer
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text += &format!(": {next}");
        cause = next.source();
    }
    text
}

impl HttpClient for Client {
    fn send_bytes<'client, 'call>(
        &'client self,
        request: Request<Bytes>,
    ) -> BoxFuture<'call, Result<Response<Bytes>, HttpError>>
    where
        'client: 'call,
        Self: 'call,
    {
        let (client, runtime) = (self.clone(), Arc::clone(&self.runtime));
        Box::pin(async move {
            let request = reqwest::Request::try_from(request)?;
            runtime.spawn(client.send(request)).await?
        })
    }
}
