//! An OTLP collector on a free port, which speaks one protocol: HTTP with protobuf, or gRPC as OTLP's own
//! definition generates it.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::support::harness::PATIENCE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::Http => "http/protobuf",
            Self::Grpc => "grpc",
        }
    }
}

/// Answer to an export that is not taken as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    NotNow,
    Never,
    /// It is taken, but for one span.
    InPart,
}

#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) services: BTreeSet<String>,
    pub(crate) spans: Vec<Span>,
    /// Metrics of the latest export.
    pub(crate) metrics: Vec<Metric>,
    /// Key and compression of every call.
    pub(crate) calls: BTreeSet<(Option<String>, Option<String>)>,
}

#[derive(Debug, Clone, Default)]
struct Taken {
    received: Arc<watch::Sender<Received>>,
    /// From the last to the first.
    answers: Arc<Mutex<Vec<Answer>>>,
}

pub(crate) struct Collector {
    /// Scheme, host and port.
    pub(crate) endpoint: String,
    protocol: Protocol,
    pub(crate) received: Arc<watch::Sender<Received>>,
}

impl Collector {
    pub(crate) async fn start(protocol: Protocol) -> Self {
        Self::start_with(protocol, &[], None).await
    }

    /// The first exports get these `answers`; with an identity over TLS.
    pub(crate) async fn start_with(protocol: Protocol, answers: &[Answer], tls: Option<Identity>) -> Self {
        let taken = Taken::default();
        taken.answers.lock().unwrap().extend(answers.iter().rev());
        let received = Arc::clone(&taken.received);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = match tls {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        match protocol {
            Protocol::Http => {
                assert!(tls.is_none(), "only gRPC is served over TLS here");
                let traces = taken.clone();
                let router = Router::new()
                    .route(
                        "/v1/traces",
                        post(async move |headers, body| traces.over_http(&headers, body, Taken::traces)),
                    )
                    .route(
                        "/v1/metrics",
                        post(async move |headers, body| taken.over_http(&headers, body, Taken::metrics)),
                    );
                tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
            }
            Protocol::Grpc => {
                let mut server = Server::builder();
                if let Some(identity) = tls {
                    server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
                }
                let gzip = CompressionEncoding::Gzip;
                let router = server
                    .add_service(TraceServiceServer::new(taken.clone()).accept_compressed(gzip))
                    .add_service(MetricsServiceServer::new(taken).accept_compressed(gzip));
                let incoming = TcpIncoming::from(listener);
                tokio::spawn(async move { router.serve_with_incoming(incoming).await.unwrap() });
            }
        }
        Self { endpoint, protocol, received }
    }

    /// The variables that send both signals here.
    pub(crate) fn variables(&self) -> [(&str, &str); 2] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", self.protocol.variable()),
        ]
    }

    /// The endpoint of one signal alone (`traces`, `metrics`).
    pub(crate) fn endpoint_of(&self, signal: &str) -> String {
        match self.protocol {
            Protocol::Http => format!("{}/v1/{signal}", self.endpoint),
            Protocol::Grpc => self.endpoint.clone(),
        }
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Received) -> bool) {
        let mut received = self.received.subscribe();
        let came = tokio::time::timeout(PATIENCE, received.wait_for(|received| holds(received))).await;
        if came.is_err() {
            let received = self.received.borrow();
            let names: Vec<_> = received.spans.iter().map(|span| &span.name).collect();
            panic!("{what} never came; spans {names:?}, metrics {:?}", received.metrics);
        }
    }

    /// The spans of one trace, once they are so many.
    pub(crate) async fn trace(&self, trace: &str, spans: usize) -> Vec<Span> {
        let of_trace = |received: &Received| -> Vec<Span> {
            received.spans.iter().filter(|span| hex(&span.trace_id) == trace).cloned().collect()
        };
        self.until(&format!("{spans} spans of {trace}"), |received| of_trace(received).len() >= spans).await;
        of_trace(&self.received.borrow())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    match value {
        any_value::Value::StringValue(text) => Some(text),
        any_value::Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key}: {other:?}"),
    }
}

impl Taken {
    fn traces(received: &mut Received, request: ExportTraceServiceRequest) {
        for exported in request.resource_spans {
            let attributes = exported.resource.unwrap_or_default().attributes;
            received.services.extend(text(&attributes, "service.name"));
            received.spans.extend(exported.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }

    fn metrics(received: &mut Received, request: ExportMetricsServiceRequest) {
        let scopes = request.resource_metrics.into_iter().flat_map(|exported| exported.scope_metrics);
        received.metrics = scopes.flat_map(|scope| scope.metrics).collect();
    }

    /// Takes what was sent, or says why not.
    fn take<M>(
        &self,
        headers: &HeaderMap,
        encoding: &str,
        request: M,
        add: fn(&mut Received, M),
    ) -> Result<ExportTraceServiceResponse, Answer> {
        let mut reply = ExportTraceServiceResponse::default();
        match self.answers.lock().unwrap().pop() {
            None => {}
            Some(Answer::InPart) => {
                let error_message = "one is too long".to_owned();
                reply.partial_success = Some(ExportTracePartialSuccess { rejected_spans: 1, error_message });
            }
            Some(answer) => return Err(answer),
        }
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        self.received.send_modify(|received| {
            received.calls.insert((header("x-key"), header(encoding)));
            add(received, request);
        });
        Ok(reply)
    }

    fn over_http<M: Message + Default>(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        add: fn(&mut Received, M),
    ) -> Result<Vec<u8>, StatusCode> {
        if headers.get("content-type").is_none_or(|kind| kind != "application/x-protobuf") {
            return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        let mut plain = Vec::new();
        match headers.get("content-encoding") {
            Some(_) => flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain),
            None => (&*body).read_to_end(&mut plain),
        }
        .map_err(|_| StatusCode::BAD_REQUEST)?;
        let request = M::decode(&*plain).map_err(|_| StatusCode::BAD_REQUEST)?;
        match self.take(headers, "content-encoding", request, add) {
            Ok(reply) => Ok(reply.encode_to_vec()),
            Err(Answer::NotNow) => Err(StatusCode::SERVICE_UNAVAILABLE),
            Err(_) => Err(StatusCode::FORBIDDEN),
        }
    }

    fn over_grpc<M>(
        &self,
        request: Request<M>,
        add: fn(&mut Received, M),
    ) -> Result<ExportTraceServiceResponse, Status> {
        let (metadata, _, message) = request.into_parts();
        self.take(&metadata.into_headers(), "grpc-encoding", message, add).map_err(|answer| match answer {
            Answer::NotNow => Status::unavailable("not now"),
            _ => Status::permission_denied("never"),
        })
    }
}

#[tonic::async_trait]
impl TraceService for Taken {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.over_grpc(request, Self::traces).map(Response::new)
    }
}

#[tonic::async_trait]
impl MetricsService for Taken {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.over_grpc(request, Self::metrics)?;
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
