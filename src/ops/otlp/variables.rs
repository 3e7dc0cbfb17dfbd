//! OpenTelemetry's standard variables for OTLP: endpoint, protocol, headers, compression, time limit.
//!
//! A variable of one signal (`OTEL_EXPORTER_OTLP_TRACES_…`) wins over that of all signals
//! (`OTEL_EXPORTER_OTLP_…`). An empty one counts as unset.

use std::time::Duration;

use anyhow::{Context as _, bail};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

/// Time limit where no variable sets one, as OTLP specifies.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A kind of telemetry that OTLP exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

/// Destination of a signal. The path of the URL counts over HTTP only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) protocol: Protocol,
    pub(super) url: Url,
}

impl Signal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    /// The gRPC method that exports it.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    /// Name and value of its own variable, else of that for all signals.
    fn variable(self, name: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{name}", self.name().to_uppercase());
        [own, format!("OTEL_EXPORTER_OTLP_{name}")]
            .into_iter()
            .find_map(|variable| value(&variable).map(|value| (variable, value)))
    }
}

/// The value of a variable, unless it is unset or empty.
pub(super) fn value(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The destination of a signal; `None` when it has no endpoint or is switched off.
///
/// # Errors
/// The protocol is unknown, or the endpoint is no URL.
pub(super) fn target(signal: Signal) -> anyhow::Result<Option<Target>> {
    let disabled = value("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exporter = value(&format!("OTEL_{}_EXPORTER", signal.name().to_uppercase()));
    let Some((variable, endpoint)) = signal.variable("ENDPOINT") else { return Ok(None) };
    if disabled || exporter.as_deref() == Some("none") {
        return Ok(None);
    }
    let protocol = match signal.variable("PROTOCOL") {
        None => Protocol::Http,
        Some((_, value)) if value == "http/protobuf" => Protocol::Http,
        Some((_, value)) if value == "grpc" => Protocol::Grpc,
        Some((variable, other)) => bail!(
            "{variable} is {other:?}, expected \"http/protobuf\" (a collector's port 4318) or \"grpc\" (4317)"
        ),
    };
    let is_of_all = variable == "OTEL_EXPORTER_OTLP_ENDPOINT";
    let is_insecure =
        signal.variable("INSECURE").is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"));
    let url = url(&endpoint, protocol, is_of_all.then_some(signal), is_insecure);
    let url = url.with_context(|| format!("{variable} is {endpoint:?}"))?;
    Ok(Some(Target { protocol, url }))
}

/// The URL of an endpoint. Over HTTP the path of the signal is appended to an endpoint `of_all` signals,
/// while that of one signal is the whole URL. Over gRPC the endpoint may be a host and a port, with TLS
/// unless `is_insecure`.
fn url(endpoint: &str, protocol: Protocol, of_all: Option<Signal>, is_insecure: bool) -> anyhow::Result<Url> {
    let text = match (protocol, of_all) {
        (Protocol::Http, Some(signal)) => format!("{}/v1/{}", endpoint.trim_end_matches('/'), signal.name()),
        (Protocol::Grpc, _) if !endpoint.contains("://") => {
            format!("{}://{endpoint}", if is_insecure { "http" } else { "https" })
        }
        _ => endpoint.to_owned(),
    };
    let expected = match protocol {
        Protocol::Http => "expected a URL such as http://localhost:4318",
        Protocol::Grpc => "expected a URL such as http://localhost:4317",
    };
    let url = Url::parse(&text).context(expected)?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!(expected);
    }
    Ok(url)
}

/// Time limit of one export, retries included.
pub(super) fn timeout(signal: Signal) -> Duration {
    let given = signal.variable("TIMEOUT").and_then(|(_, milliseconds)| milliseconds.parse().ok());
    given.map_or(DEFAULT_TIMEOUT, Duration::from_millis)
}

/// True when requests are compressed by gzip.
///
/// # Errors
/// Another compression is asked for.
pub(super) fn is_compressed(signal: Signal) -> anyhow::Result<bool> {
    match signal.variable("COMPRESSION") {
        None => Ok(false),
        Some((_, value)) if value == "none" => Ok(false),
        Some((_, value)) if value == "gzip" => Ok(true),
        Some((variable, other)) => bail!("{variable} is {other:?}, expected \"gzip\" or \"none\""),
    }
}

/// Headers of every call, such as a key of the collector.
///
/// # Errors
/// A header cannot be sent. The error does not contain its value, which may be secret.
pub(super) fn headers(signal: Signal) -> anyhow::Result<HeaderMap> {
    let Some((variable, list)) = signal.variable("HEADERS") else { return Ok(HeaderMap::new()) };
    read_headers(&list).with_context(|| format!("{variable} cannot be sent"))
}

/// Reads `name=value,…` with percent-encoded values, the format of W3C Baggage.
fn read_headers(list: &str) -> anyhow::Result<HeaderMap> {
    let pairs = list.split(',').filter_map(|pair| pair.split_once('='));
    let headers = pairs.map(|(name, value)| {
        let header = HeaderName::from_bytes(name.trim().as_bytes());
        let header = header.with_context(|| format!("expected the name of a header, got {name:?}"))?;
        let value = HeaderValue::from_bytes(&percent_decode_str(value.trim()).collect::<Vec<_>>());
        Ok((header, value.with_context(|| format!("expected visible characters as the value of {name:?}"))?))
    });
    headers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_in_the_format_of_baggage() {
        let read = read_headers("Authorization=Bearer%20t%3D1, x-scope = a,broken").unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(
            (&read["authorization"], &read["x-scope"]),
            (&"Bearer t=1".parse().unwrap(), &"a".parse().unwrap())
        );
        for (list, names) in
            [("a b=1", "expected the name of a header, got \"a b\""), ("a=%0Asecret", "the value of \"a\"")]
        {
            let error = format!("{:#}", read_headers(list).unwrap_err());
            assert!(error.contains(names) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_protocol_decides_how_an_endpoint_is_read() {
        use Protocol::{Grpc, Http};
        for (endpoint, protocol, below, is_insecure, expected) in [
            ("http://c:4318", Http, Some(Signal::Traces), false, "http://c:4318/v1/traces"),
            ("https://c/otlp/", Http, Some(Signal::Metrics), false, "https://c/otlp/v1/metrics"),
            ("http://c:4318/own", Http, None, false, "http://c:4318/own"),
            ("http://c:4317", Grpc, Some(Signal::Traces), false, "http://c:4317/"),
            ("https://c:4317", Grpc, None, true, "https://c:4317/"),
            ("c:4317", Grpc, Some(Signal::Traces), false, "https://c:4317/"),
            ("c:4317", Grpc, None, true, "http://c:4317/"),
        ] {
            assert_eq!(url(endpoint, protocol, below, is_insecure).unwrap().as_str(), expected);
        }
        for (endpoint, protocol) in [("c:4318", Http), ("unix:///run/otlp.sock", Grpc), ("http://", Grpc)] {
            let error = format!("{:#}", url(endpoint, protocol, None, false).unwrap_err());
            assert!(error.contains("expected a URL such as http://localhost:431"), "{error}");
        }
    }
}
