//! The way to an OTLP collector, one for each signal: over HTTP or over gRPC, as OpenTelemetry's standard variables say.
//!
//! Owns the calls: their headers, their compression and their time limit, which holds for all attempts of one export together.
//! What is not accepted in the end is logged once, here. TLS is the one of Google's clients: the platform's roots, and the
//! cryptography that main chose.

use std::time::Duration;

use anyhow::Context as _;
use axum::http::uri::PathAndQuery;
use backoff::Retryable as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Extensions, Request, Status};
use tonic_prost::ProstCodec;

use super::variables::{self, Protocol, Signal};

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// What both signals' replies look like on the wire: how many spans, or points, were refused, and why.
type Reply = ExportTraceServiceResponse;

/// Where one signal goes. Several tasks may send at once.
#[derive(Debug)]
pub(super) struct Collector {
    signal: Signal,
    timeout: Duration,
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Http { client: reqwest::Client, url: Url, headers: HeaderMap, gzip: bool },
    Grpc { client: Grpc<Channel>, headers: MetadataMap },
}

/// Why an attempt came to nothing.
#[derive(Debug)]
struct Failure {
    why: String,
    /// Whether another attempt may do better, as OTLP's specification has it.
    is_transient: bool,
    /// How long the collector asks to be left alone.
    wait: Option<Duration>,
}

impl Collector {
    /// `None` when the signal is not exported. Nothing is connected yet; belongs to the runtime that it is made on.
    ///
    /// # Errors
    /// A variable that cannot be followed, or the machine's certificates cannot be used.
    pub(super) fn of(signal: Signal) -> anyhow::Result<Option<Self>> {
        let Some(target) = variables::target(signal)? else { return Ok(None) };
        let timeout = variables::timeout(signal);
        let gzip = variables::is_compressed(signal)?;
        let headers = variables::headers(signal)?;
        let transport = match target.protocol {
            Protocol::Http => Transport::http(target.url, headers, gzip)?,
            Protocol::Grpc => Transport::grpc(&target.url, headers, gzip, timeout)
                .with_context(|| format!("cannot set gRPC to {} up", target.url))?,
        };
        Ok(Some(Self { signal, timeout, transport }))
    }

    /// Exports `message`, within the time limit.
    ///
    /// # Errors
    /// Why it was not accepted, for the exporter's own account: it is logged already.
    pub(super) async fn send<M>(&self, message: M) -> Result<(), String>
    where
        M: Message + Clone + 'static,
    {
        let attempts = (|| self.attempt(&message))
            .retry(
                backoff::ExponentialBuilder::default()
                    .with_min_delay(Duration::from_millis(100))
                    .with_jitter(),
            )
            .when(|failure: &Failure| failure.is_transient)
            .adjust(|failure, own| own.map(|own| failure.wait.unwrap_or(own)));
        let reply = match tokio::time::timeout(self.timeout, attempts).await {
            Ok(answer) => answer.map_err(|failure| failure.why),
            Err(_) => Err(format!("not accepted within {:?}", self.timeout)),
        };
        let what = self.signal.name();
        match reply {
            Ok(reply) => {
                let refused = reply.partial_success.unwrap_or_default();
                if refused.rejected_spans > 0 || !refused.error_message.is_empty() {
                    let (count, why) = (refused.rejected_spans, refused.error_message);
                    tracing::warn!(what, count, why, "the collector refused a part of the telemetry");
                }
                Ok(())
            }
            Err(why) => {
                tracing::warn!(what, why, "telemetry was not exported");
                Err(why)
            }
        }
    }

    async fn attempt<M>(&self, message: &M) -> Result<Reply, Failure>
    where
        M: Message + Clone + 'static,
    {
        match &self.transport {
            Transport::Http { client, url, headers, gzip } => {
                let mut body = message.encode_to_vec();
                if *gzip {
                    body = crate::gzip::compress(&body);
                }
                let request = client.post(url.clone()).headers(headers.clone()).body(body);
                let response = request.send().await.map_err(Failure::of_http)?;
                if !response.status().is_success() {
                    return Err(Failure::of_answer(&response));
                }
                let reply = response.bytes().await.map_err(Failure::of_http)?;
                // It was accepted, whatever the answer says of it.
                Ok(Reply::decode(reply).unwrap_or_default())
            }
            Transport::Grpc { client, headers } => {
                let mut client = client.clone();
                client.ready().await.map_err(|error| Failure::of_transport(&error))?;
                let request = Request::from_parts(headers.clone(), Extensions::default(), message.clone());
                let method = PathAndQuery::from_static(self.signal.method());
                let codec = ProstCodec::<M, Reply>::default();
                let reply =
                    client.unary(request, method, codec).await.map_err(|status| Failure::of_call(&status))?;
                Ok(reply.into_inner())
            }
        }
    }
}

impl Transport {
    fn http(url: Url, mut headers: HeaderMap, gzip: bool) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().user_agent(USER_AGENT).build();
        let client = client.context("cannot set an HTTP client up")?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self::Http { client, url, headers, gzip })
    }

    fn grpc(url: &Url, headers: HeaderMap, gzip: bool, timeout: Duration) -> anyhow::Result<Self> {
        // A collector that vanished without a word is found out within the time of a call.
        let patience = (timeout / 4).max(Duration::from_secs(1));
        let mut endpoint = Endpoint::from_shared(url.to_string())?
            .user_agent(USER_AGENT)?
            .connect_timeout(timeout)
            .http2_keep_alive_interval(patience)
            .keep_alive_timeout(patience);
        if url.scheme() == "https" {
            endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?;
        }
        let mut client = Grpc::new(endpoint.connect_lazy());
        if gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        Ok(Self::Grpc { client, headers: MetadataMap::from_headers(headers) })
    }
}

impl Failure {
    fn of_http(error: reqwest::Error) -> Self {
        Self::of_transport(&error.without_url())
    }

    fn of_transport(error: &dyn std::error::Error) -> Self {
        Self { why: chain(error), is_transient: true, wait: None }
    }

    fn of_answer(response: &reqwest::Response) -> Self {
        let status = response.status();
        let is_transient = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        );
        let wait = response.headers().get(RETRY_AFTER).and_then(|text| text.to_str().ok()?.parse().ok());
        let why = format!("the collector answered {status}");
        Self { why, is_transient, wait: wait.map(Duration::from_secs) }
    }

    fn of_call(status: &Status) -> Self {
        let is_transient = matches!(
            status.code(),
            Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unavailable
                | Code::DataLoss
        );
        let why = match std::error::Error::source(status) {
            // Never got there; the message is one of the causes'.
            Some(cause) => chain(cause),
            None => format!("the collector answered {:?}: {}", status.code(), status.message()),
        };
        Self { why, is_transient, wait: None }
    }
}

/// An error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.ends_with(&next_text) {
            text += &format!(": {next_text}");
        }
        cause = next.source();
    }
    text
}
