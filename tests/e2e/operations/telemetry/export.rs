//! Export of telemetry: its protocols and forms, and collectors that hang or refuse, which cost the worker
//! nothing.

use std::time::{Duration, Instant};

use tonic::transport::Identity;

use super::{SAMPLED, TRACE, exporting, world};
use crate::support::collector::{Answer, Collector, Protocol};
use crate::support::harness::repository;
use crate::support::oracle::wine;

over_both_protocols![
    a_collector_that_hangs_holds_nothing_up,
    what_a_collector_refuses_for_now_is_sent_again_and_for_good_is_said,
    what_is_sent_is_compressed_and_brings_its_key_if_asked_for,
];

/// A collector that takes calls and never answers: requests are answered all the same, and the end is not
/// held up.
async fn a_collector_that_hangs_holds_nothing_up(protocol: Protocol) {
    let world = world().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let held = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            connections.push(connection);
        }
    });
    let mut worker = world
        .ready_worker(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.variable()),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
            ("PREDICTD_SHUTDOWN__GRACE", "3s"),
        ])
        .await;
    for row in 0..20 {
        let response = world.ask(wine().request(&[row]), &[("traceparent", SAMPLED)]).await;
        wine().check(&[row], &response);
    }
    let asked = Instant::now();
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());
    // Ten seconds are OTLP's own time limit of one call.
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    held.abort();
}

async fn what_a_collector_refuses_for_now_is_sent_again_and_for_good_is_said(protocol: Protocol) {
    let answers = [Answer::NotNow, Answer::NotNow, Answer::InPart, Answer::Never];
    let (world, collector) = (world().await, Collector::start_with(protocol, &answers, None).await);
    let worker = world
        .ready_worker(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &collector.endpoint_of("traces")),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol.variable()),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
            // The four spans of a message are one export.
            ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4"),
        ])
        .await;
    let ask = async || {
        let response = world.ask(wine().request(&[1]), &[("traceparent", SAMPLED)]).await;
        wine().check(&[1], &response);
    };
    ask().await;
    collector.trace(TRACE, 4).await;
    worker.until_log("the collector rejected a part of the telemetry").await;
    let log = worker.log();
    assert!(log.contains("one is too long") && !log.contains("telemetry was not exported"), "{log}");
    ask().await;
    worker.until_log("telemetry was not exported").await;
    let why = match protocol {
        Protocol::Http => "the collector answered 403 Forbidden",
        Protocol::Grpc => "the collector answered PermissionDenied: never",
    };
    assert!(worker.log().contains(why), "{}", worker.log());
}

async fn what_is_sent_is_compressed_and_brings_its_key_if_asked_for(protocol: Protocol) {
    let (world, collector) = (world().await, Collector::start(protocol).await);
    let _worker = exporting(
        &world,
        &collector,
        &[
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=of%20all"),
            ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-key=of%20metrics"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
        ],
    )
    .await;
    world.ask(wine().request(&[1]), &[("traceparent", SAMPLED)]).await;
    collector.trace(TRACE, 4).await;
    collector.until("metrics", |received| !received.metrics.is_empty()).await;
    let call = |key: &str, encoding: Option<&str>| (Some(key.to_owned()), encoding.map(str::to_owned));
    let calls = [call("of all", Some("gzip")), call("of metrics", None)];
    assert!(collector.received.borrow().calls.iter().eq(&calls), "{:?}", collector.received.borrow().calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_signal_has_a_protocol_of_its_own() {
    let (traces, metrics) = (Collector::start(Protocol::Http).await, Collector::start(Protocol::Grpc).await);
    let world = world().await;
    let _worker = world
        .ready_worker(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &metrics.endpoint),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &traces.endpoint_of("traces")),
            ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ])
        .await;
    world.ask(wine().request(&[1]), &[("traceparent", SAMPLED)]).await;
    traces.trace(TRACE, 4).await;
    metrics.until("metrics", |received| !received.metrics.is_empty()).await;
    assert!(traces.received.borrow().metrics.is_empty() && metrics.received.borrow().spans.is_empty());
}

/// The machine's roots decide: SSL_CERT_FILE stands for them.
#[tokio::test(flavor = "multi_thread")]
async fn grpc_over_tls_trusts_whom_the_machine_trusts() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = |name: &str| repository().join("tests/e2e/support/tls").join(name);
    let read = |name: &str| std::fs::read(file(name)).unwrap();
    let identity = Identity::from_pem(read("collector.pem"), read("collector.key"));
    let collector = Collector::start_with(Protocol::Grpc, &[], Some(identity)).await;
    let world = world().await;
    let worker = async |roots: &str| {
        exporting(
            &world,
            &collector,
            &[("SSL_CERT_FILE", file(roots).to_str().unwrap()), ("OTEL_METRICS_EXPORTER", "none")],
        )
        .await
    };
    let distrustful = worker("stranger.pem").await;
    distrustful.until_log("telemetry was not exported").await;
    assert!(distrustful.log().contains("UnknownIssuer"), "{}", distrustful.log());
    assert!(collector.received.borrow().spans.is_empty());
    drop(distrustful);

    let _worker = worker("collector.pem").await;
    world.ask(wine().request(&[1]), &[("traceparent", SAMPLED)]).await;
    collector.trace(TRACE, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_said_and_costs_no_prediction() {
    let world = world().await;
    let worker = world
        .ready_worker(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ])
        .await;
    let response = world.ask(wine().request(&[1]), &[("traceparent", SAMPLED)]).await;
    wine().check(&[1], &response);
    // Not traced, so passed along like any attribute.
    assert_eq!(response.attributes["traceparent"], SAMPLED);
    worker.until_log("no traces will be exported").await;
    let why = r#"OTEL_EXPORTER_OTLP_PROTOCOL is \"http/json\", expected \"http/protobuf\" (a collector's port 4318) or \"grpc\""#;
    worker.until_log(why).await;
}
