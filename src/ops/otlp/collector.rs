//! Client of an OTLP collector, one for each signal, over HTTP or gRPC as OpenTelemetry's standard variables
//! say.
//!
//! Owns the headers, the compression, the retries and the time limit, which covers all attempts of one
//! export. A failed export is logged once, here. TLS is that of Google's clients: the platform's roots, and
//! the cryptography provider that `main` installs.

use std::time::Duration;

use ::backoff::Retryable as _;
use anyhow::Context as _;
use axum::http::uri::PathAndQuery;
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
use crate::backoff;

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// The reply to either signal, as both have the same wire format: how many spans or points were rejected, and
/// why.
type Reply = ExportTraceServiceResponse;

/// The collector of one signal. Several tasks may send at once.
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

/// A failed attempt.
#[derive(Debug)]
struct Failure {
    why: String,
    /// True when OTLP's specification allows another attempt.
    is_transient: bool,
    /// The pause that the collector asks for.
    retry_after: Option<Duration>,
}

impl Collector {
    /// Reads the variables; `None` when the signal is not exported. Connects lazily, on the runtime that this
    /// is called on.
    ///
    /// # Errors
    /// A variable has a bad value, or the machine's certificates cannot be used.
    pub(super) fn from_variables(signal: Signal) -> anyhow::Result<Option<Self>> {
        let Some(target) = variables::target(signal)? else { return Ok(None) };
        let timeout = variables::timeout(signal);
        let gzip = variables::is_compressed(signal)?;
        let headers = variables::headers(signal)?;
        let transport = match target.protocol {
            Protocol::Http => Transport::http(target.url, headers, gzip)?,
            Protocol::Grpc => Transport::grpc(&target.url, headers, gzip, timeout)
                .with_context(|| format!("cannot set up gRPC to {}", target.url))?,
        };
        Ok(Some(Self { signal, timeout, transport }))
    }

    /// Exports `message`, within the time limit.
    ///
    /// # Errors
    /// The reason of the failure, which is logged already.
    pub(super) async fn send<M>(&self, message: M) -> Result<(), String>
    where
        M: Message + Clone + 'static,
    {
        let attempts = (|| self.attempt(&message))
            .retry(backoff::export())
            .when(|failure: &Failure| failure.is_transient)
            .adjust(|failure, pause| pause.map(|pause| failure.retry_after.unwrap_or(pause)));
        let reply = match tokio::time::timeout(self.timeout, attempts).await {
            Ok(answer) => answer.map_err(|failure| failure.why),
            Err(_) => Err(format!("not accepted within {:?}", self.timeout)),
        };
        let signal = self.signal.name();
        match reply {
            Ok(reply) => {
                let rejected = reply.partial_success.unwrap_or_default();
                if rejected.rejected_spans > 0 || !rejected.error_message.is_empty() {
                    let (count, why) = (rejected.rejected_spans, rejected.error_message);
                    tracing::warn!(signal, count, why, "the collector rejected a part of the telemetry");
                }
                Ok(())
            }
            Err(why) => {
                tracing::warn!(signal, why, "telemetry was not exported");
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
                // The status counts, even where the body cannot be decoded.
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
        let client = client.context("cannot set up an HTTP client")?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self::Http { client, url, headers, gzip })
    }

    fn grpc(url: &Url, headers: HeaderMap, gzip: bool, timeout: Duration) -> anyhow::Result<Self> {
        // Pings find a collector that vanished without closing its connection, within the time limit of a
        // call.
        let ping = (timeout / 4).max(Duration::from_secs(1));
        let mut endpoint = Endpoint::from_shared(url.to_string())?
            .user_agent(USER_AGENT)?
            .connect_timeout(timeout)
            .http2_keep_alive_interval(ping)
            .keep_alive_timeout(ping);
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
        Self { why: chain(error), is_transient: true, retry_after: None }
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
        let seconds = response.headers().get(RETRY_AFTER).and_then(|text| text.to_str().ok()?.parse().ok());
        let why = format!("the collector answered {status}");
        Self { why, is_transient, retry_after: seconds.map(Duration::from_secs) }
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
            // The call did not reach the collector; its causes say why.
            Some(cause) => chain(cause),
            None => format!("the collector answered {:?}: {}", status.code(), status.message()),
        };
        Self { why, is_transient, retry_after: None }
    }
}

/// The messages of an error and its causes, each once.
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
