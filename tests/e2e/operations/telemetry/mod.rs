//! Traces and metrics arrive at an OTLP collector, linked as OpenTelemetry's conventions say.

use std::process::Command;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{Span, status};
use serde_json::json;

use crate::support::collector::{Collector, Protocol, Received, hex, text};
use crate::support::harness::{Worker, World, http, outcome, repository};
use crate::support::oracle::wine;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-11111111111111111111111111111111-2222222222222222-00";

/// A promise that holds over either protocol is a test of each.
macro_rules! over_both_protocols {
    ($($promise:ident,)*) => {$(
        mod $promise {
            #[tokio::test(flavor = "multi_thread")]
            async fn over_http() {
                super::$promise(crate::support::collector::Protocol::Http).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn over_grpc() {
                super::$promise(crate::support::collector::Protocol::Grpc).await;
            }
        }
    )*};
}

mod export;

over_both_protocols![
    a_sampled_request_is_traced_from_its_sender_to_its_response,
    what_is_not_sampled_leaves_no_span_and_the_rest_is_flushed_at_the_end,
    the_figures_of_metrics_are_pushed_under_the_conventions_names,
];

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    found[0]
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == status::StatusCode::Error)
}

async fn world() -> World {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    world
}

/// A worker that sends to `collector`, spans at once.
async fn exporting(world: &World, collector: &Collector, more: &[(&str, &str)]) -> Worker {
    let own = [&collector.variables()[..], &[("OTEL_BSP_SCHEDULE_DELAY", "20")]].concat();
    world.ready_worker(&[&own, more].concat()).await
}

async fn a_sampled_request_is_traced_from_its_sender_to_its_response(protocol: Protocol) {
    let (world, collector) = (world().await, Collector::start(protocol).await);
    let _worker = exporting(&world, &collector, &[("OTEL_SERVICE_NAME", "wines")]).await;
    let body = wine().request(&[3]);
    let id = world.publish(body.clone(), &[("traceparent", SAMPLED), ("tracestate", "vendor=1")]);
    let response = world.responses(std::slice::from_ref(&id)).await.remove(&id).unwrap();
    wine().check(&[3], &response);

    let spans = collector.trace(TRACE, 4).await;
    assert_eq!(spans.len(), 4);
    let receive = named(&spans, "receive prediction-requests");
    let process = named(&spans, "process prediction-requests");
    let publish = named(&spans, "publish prediction-responses");
    let predict = named(&spans, "predict wine");
    assert_eq!(hex(&receive.parent_span_id), "b7ad6b7169203331");
    assert_eq!(process.parent_span_id, receive.span_id);
    assert_eq!(publish.parent_span_id, process.span_id);
    assert_eq!(predict.parent_span_id, process.span_id);
    let links = |span: &Span| span.links.iter().map(|link| hex(&link.span_id)).collect::<Vec<_>>();
    assert_eq!(links(predict), [hex(&process.span_id)]);
    assert_eq!(links(process), [hex(&predict.span_id)]);
    let sent = format!("00-{TRACE}-{}-01", hex(&publish.span_id));
    assert_eq!(response.attributes["traceparent"], sent);
    assert_eq!(response.attributes["tracestate"], "vendor=1");

    assert_eq!(receive.kind(), SpanKind::Client);
    assert_eq!(process.kind(), SpanKind::Consumer);
    assert_eq!(publish.kind(), SpanKind::Producer);
    for (span, key, value) in [
        (receive, "messaging.system", "gcp_pubsub"),
        (receive, "messaging.operation.type", "receive"),
        (receive, "messaging.message.id", id.as_str()),
        (receive, "messaging.message.body.size", &body.len().to_string()),
        (process, "messaging.operation.type", "process"),
        (process, "messaging.destination.subscription.name", "prediction-requests"),
        (process, "predictd.model", "wine"),
        (process, "predictd.model_version", "1"),
        (publish, "messaging.operation.type", "send"),
        (publish, "messaging.destination.name", "prediction-responses"),
        (publish, "messaging.message.body.size", &response.data.len().to_string()),
        (predict, "messaging.batch.message_count", "1"),
        (predict, "predictd.batch.rows", "1"),
    ] {
        assert_eq!(text(&span.attributes, key).as_deref(), Some(value), "{key} of {}", span.name);
    }
    assert!(text(&publish.attributes, "messaging.message.id").is_some());
    assert!(!spans.iter().any(is_error));
    assert!(spans.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano));
    assert!(collector.received.borrow().services.iter().eq(["wines"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_shows_its_phases() {
    let (world, collector) = (world().await, Collector::start(Protocol::Http).await);
    let worker = exporting(&world, &collector, &[]).await;
    world.upload("models/wine/2/model.onnx", b"no model".to_vec());
    worker.until_info("a refusal", |info| info["models"]["wine"]["refused"][0]["version"] == "2").await;
    // The reload's own span ends, and so is exported, after those of its phases.
    let reloads = |received: &Received| -> Vec<Vec<Span>> {
        let reloads = received.spans.iter().filter(|span| span.name == "reload");
        let children = reloads.map(|reload| {
            let of_it = received.spans.iter().filter(|span| span.parent_span_id == reload.span_id);
            of_it.cloned().collect()
        });
        children.collect()
    };
    let of_version = |phases: &[Span], version: &str| -> Vec<String> {
        let has = |span: &&Span| text(&span.attributes, "predictd.model_version").as_deref() == Some(version);
        phases.iter().filter(has).map(|span| span.name.clone()).collect()
    };
    collector
        .until("a reload that swapped and one that failed", |received| {
            let all = reloads(received);
            let swapped = all.iter().any(|phases| {
                named(phases, "list").trace_id == phases[0].trace_id
                    && of_version(phases, "1") == ["fetch", "load", "check", "swap"]
            });
            let failed = all.iter().any(|phases| {
                of_version(phases, "2") == ["fetch", "load"] && is_error(named(phases, "load"))
            });
            swapped && failed
        })
        .await;
}

async fn what_is_not_sampled_leaves_no_span_and_the_rest_is_flushed_at_the_end(protocol: Protocol) {
    let (world, collector) = (world().await, Collector::start(protocol).await);
    let mut worker = world
        .ready_worker(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &collector.endpoint_of("traces")),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol.variable()),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0"),
            ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ])
        .await;
    let ask = async |attributes: &[(&str, &str)]| {
        let response = world.ask(wine().request(&[0]), attributes).await;
        wine().check(&[0], &response);
        assert!(!response.attributes.keys().any(|key| key.starts_with("goog")), "{:?}", response.attributes);
        response.attributes.get("traceparent").cloned()
    };
    assert_eq!(ask(&[]).await, None);
    assert_eq!(ask(&[("traceparent", "broken")]).await, None);
    assert_eq!(ask(&[("traceparent", UNSAMPLED)]).await.unwrap(), UNSAMPLED);
    assert_eq!(ask(&[("googclient_traceparent", UNSAMPLED)]).await.unwrap(), UNSAMPLED);
    assert_eq!(
        ask(&[("traceparent", UNSAMPLED), ("googclient_traceparent", SAMPLED)]).await.unwrap(),
        UNSAMPLED
    );
    let both = [("traceparent", "broken"), ("googclient_traceparent", UNSAMPLED)];
    assert_eq!(ask(&both).await.unwrap(), UNSAMPLED);
    let continued = ask(&[("googclient_traceparent", SAMPLED)]).await.unwrap();
    world.settled().await;
    assert!(collector.received.borrow().spans.is_empty());
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());

    let spans = std::mem::take(&mut collector.received.send_replace(Received::default()).spans);
    assert_eq!(spans.len(), 4, "{spans:#?}");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    let publish = named(&spans, "publish prediction-responses");
    assert_eq!(continued, format!("00-{TRACE}-{}-01", hex(&publish.span_id)));
    assert_eq!(collector.received.borrow().metrics.len(), 0, "no endpoint for metrics was set");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_links_every_message_that_it_ran() {
    let (world, collector) = (world().await, Collector::start(Protocol::Http).await);
    let parents: Vec<String> = (1..=20).map(|n| format!("00-{n:032x}-{n:016x}-01")).collect();
    let ids: Vec<String> = parents
        .iter()
        .enumerate()
        .map(|(row, parent)| world.publish(wine().request(&[row]), &[("traceparent", parent)]))
        .collect();
    let _worker = exporting(&world, &collector, &[("PREDICTD_BATCHING__MAX_WAIT", "100ms")]).await;
    world.responses(&ids).await;
    collector
        .until("links both ways", |received| {
            let of = |name: &str| {
                received.spans.iter().filter(|span| span.name.starts_with(name)).collect::<Vec<_>>()
            };
            let (batches, messages) = (of("predict "), of("process "));
            let linked = |from: &Span, to: &Span| {
                from.links.iter().any(|link| link.span_id == to.span_id && link.trace_id == to.trace_id)
            };
            let ran = |message: &&&Span| {
                batches.iter().any(|batch| linked(batch, message) && linked(message, batch))
            };
            messages.len() == ids.len()
                && messages.iter().filter(ran).count() == ids.len()
                && batches.iter().any(|batch| batch.links.len() > 1)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_has_its_error_in_the_trace() {
    let (world, collector) = (world().await, Collector::start(Protocol::Http).await);
    let _worker = exporting(&world, &collector, &[]).await;
    let response = world.ask("no request", &[("traceparent", SAMPLED), ("model", "wine")]).await;
    let code = &response.attributes["error_code"];
    let spans = collector.trace(TRACE, 3).await;
    let process = named(&spans, "process prediction-requests");
    assert!(is_error(process));
    assert_eq!(text(&process.attributes, "error.type").as_ref(), Some(code));
    assert!(!is_error(named(&spans, "publish prediction-responses")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_http_continues_the_trace_of_its_client() {
    let (world, collector) = (world().await, Collector::start(Protocol::Http).await);
    let worker = exporting(&world, &collector, &[]).await;
    let url = format!("http://{}/v1/models/wine:predict", worker.address().await);
    let ask = async |body: String| {
        let request = http().post(&url).header("traceparent", SAMPLED).body(body);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask(wine().request(&[3])).await, 200);
    let spans = collector.trace(TRACE, 2).await;
    let server = named(&spans, "POST /v1/models/{model}:predict");
    let predict = named(&spans, "predict wine");
    assert_eq!(hex(&server.parent_span_id), "b7ad6b7169203331");
    assert_eq!(predict.parent_span_id, server.span_id);
    assert_eq!(server.kind(), SpanKind::Server);
    assert_eq!(text(&server.attributes, "http.response.status_code").as_deref(), Some("200"));
    assert!(!is_error(server));
    // A mistake of the client is no error of the server.
    assert_eq!(ask("no request".to_owned()).await, 400);
    let spans = collector.trace(TRACE, 3).await;
    let is_refused = |span: &&Span| text(&span.attributes, "error.type").as_deref() == Some("INVALID_INPUT");
    let refused = spans.iter().find(is_refused).unwrap();
    assert_eq!(text(&refused.attributes, "http.response.status_code").as_deref(), Some("400"));
    assert!(!is_error(refused));
}

fn total(metrics: &[Metric], name: &str) -> Option<i64> {
    let metric::Data::Sum(sum) = metrics.iter().find(|metric| metric.name == name)?.data.as_ref()? else {
        panic!("{name} is no sum");
    };
    let value = |value: &Option<number_data_point::Value>| match value {
        Some(number_data_point::Value::AsInt(number)) => *number,
        other => panic!("{name}: {other:?}"),
    };
    Some(sum.data_points.iter().map(|point| value(&point.value)).sum())
}

async fn the_figures_of_metrics_are_pushed_under_the_conventions_names(protocol: Protocol) {
    let (world, collector) = (world().await, Collector::start(protocol).await);
    let mut worker = world
        .ready_worker(&[
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &collector.endpoint_of("metrics")),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", protocol.variable()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
        ])
        .await;
    let ids: Vec<String> = (0..5).map(|row| world.publish(wine().request(&[row]), &[])).collect();
    world.responses(&ids).await;
    collector
        .until("five messages", |received| {
            total(&received.metrics, "messaging.client.sent.messages") == Some(5)
                && total(&received.metrics, "messaging.client.consumed.messages") == Some(5)
                && total(&received.metrics, "predictd.rows") == Some(5)
        })
        .await;
    let id = world.publish(wine().request(&[5]), &[]);
    world.responses(std::slice::from_ref(&id)).await;
    world.settled().await;
    worker.signal("-TERM");
    assert!(worker.end().await.success(), "{}", worker.log());

    let received = collector.received.borrow();
    assert_eq!(total(&received.metrics, "messaging.client.sent.messages"), Some(6));
    let duration =
        received.metrics.iter().find(|metric| metric.name == "messaging.process.duration").unwrap();
    assert_eq!(duration.unit, "s");
    let Some(metric::Data::Histogram(histogram)) = &duration.data else { panic!("{duration:?}") };
    let of_wine = |attributes: &[KeyValue]| text(attributes, "predictd.model").as_deref() == Some("wine");
    let point = histogram.data_points.iter().find(|point| of_wine(&point.attributes)).unwrap();
    assert_eq!(point.count, 6);
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 6);
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert!(point.sum.unwrap() > 0.0 && point.start_time_unix_nano < point.time_unix_nano);
    let calls =
        received.metrics.iter().find(|metric| metric.name == "messaging.client.operation.duration").unwrap();
    let Some(metric::Data::Histogram(histogram)) = &calls.data else { panic!("{calls:?}") };
    assert!((1..=6).contains(&histogram.data_points[0].count), "{calls:?}");
    assert!(received.spans.is_empty(), "no endpoint for traces was set");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_request_is_the_exemplar_of_its_latency() {
    let (world, collector) = (world().await, Collector::start(Protocol::Http).await);
    let worker = exporting(&world, &collector, &[("OTEL_METRIC_EXPORT_INTERVAL", "50")]).await;
    world.ask(wine().request(&[1]), &[("traceparent", UNSAMPLED)]).await;
    worker.until_metric("predictd_request_seconds_count{model=\"wine\",version=\"1\"} ", 1.0).await;
    assert!(!worker.get("/metrics").await.1.contains("trace_id"), "what is not sampled has no trace to show");
    world.ask(wine().request(&[1]), &[("traceparent", SAMPLED)]).await;
    let metrics = worker
        .until("the exemplar", async || {
            let (_, metrics) = worker.get("/metrics").await;
            metrics.contains("trace_id").then_some(metrics)
        })
        .await;
    let shown: Vec<&str> = metrics.lines().filter(|line| line.contains("trace_id")).collect();
    let [line] = shown[..] else { panic!("one exemplar: {shown:?}") };
    assert!(line.starts_with("predictd_request_seconds_bucket{") && line.contains(TRACE), "{line}");
    let spans = collector.trace(TRACE, 4).await;
    let span_id: String = named(&spans, "process prediction-requests")
        .span_id
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(line.contains(&format!("span_id=\"{span_id}\"")), "{line}");
    let read = as_prometheus_reads(&metrics);
    assert_eq!(read["predictd_request_seconds"], json!({"type": "histogram", "exemplars": [TRACE]}));
    assert_eq!(read["predictd_requests"]["type"], "counter");
    assert_eq!(read["predictd_messages_in_hand"]["type"], "gauge");
    let is_pushed = |metric: &Metric| match &metric.data {
        Some(metric::Data::Histogram(histogram)) => {
            let exemplars = histogram.data_points.iter().flat_map(|point| &point.exemplars);
            let ids: Vec<String> =
                exemplars.map(|it| it.trace_id.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
            metric.name == "messaging.process.duration" && ids == [TRACE]
        }
        _ => false,
    };
    collector.until("the exemplar", |received| received.metrics.iter().any(is_pushed)).await;
}

/// Families of `/metrics` by name, as the parser of Prometheus reads them. It fails where it finds anything
/// wrong.
fn as_prometheus_reads(metrics: &str) -> serde_json::Value {
    const READ: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
print(json.dumps({family.name: {
    'type': family.type,
    'exemplars': [sample.exemplar.labels['trace_id'] for sample in family.samples if sample.exemplar],
} for family in read(sys.stdin.read())}))";
    let fetched = Command::new(repository().join("scripts/fetch-prometheus-client")).output().unwrap();
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    let path = String::from_utf8(fetched.stdout).unwrap();
    let mut python = Command::new("python3");
    python.args(["-c", READ]).env("PYTHONPATH", path.trim());
    let (code, read, error) = outcome(python, metrics);
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&read).unwrap()
}
