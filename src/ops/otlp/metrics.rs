//! The metrics of `/metrics`, pushed by OTLP: cumulative, every `OTEL_METRIC_EXPORT_INTERVAL` (60 s) and at
//! shutdown.
//!
//! Their names are those of OpenTelemetry's conventions where these have one, otherwise `predictd.…`; their
//! attributes are the labels of `/metrics`. A message costs nothing more, since the text of `/metrics` is
//! read back.
//!
//! Our own, since the metrics of `opentelemetry_sdk` have no exemplars, keep the series of versions out of
//! service forever, and would be a second set of instruments beside those of `/metrics`. As
//! `opentelemetry-otlp` sends nothing but the SDK's metrics, traces share this module's transport instead of
//! bringing a second one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, exemplar, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::collector::Collector;
use super::spans;
use super::variables::{self, Signal};
use crate::ops::metrics::Metrics;
use crate::ops::openmetrics::{self, Family, FamilyKind, Series};

/// OTEL_METRIC_EXPORT_INTERVAL where it is not set, as OpenTelemetry specifies.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);

static PUSH: OnceLock<Push> = OnceLock::new();

/// The exports of a process: what they have in common, and the state between them.
#[derive(Debug)]
struct Push {
    metrics: Arc<Metrics>,
    collector: Collector,
    resource: Resource,
    subscription: String,
    topic: String,
    start: SystemTime,
    /// The largest count of received messages so far. The count is a sum of metrics that are read one after
    /// another, so that it may decrease for a moment, which a cumulative metric must not.
    consumed: AtomicU64,
}

/// Starts to push, if an endpoint is set; ends with the runtime.
pub fn start(metrics: Arc<Metrics>, subscription: &str, topic: &str) {
    match Push::new(metrics, subscription, topic) {
        Ok(Some(push)) => {
            if PUSH.set(push).is_ok() {
                tokio::spawn(every_interval());
            }
        }
        Ok(None) => {}
        Err(error) => tracing::error!(error = format!("{error:#}"), "no metrics will be exported"),
    }
}

async fn every_interval() {
    let given = variables::value("OTEL_METRIC_EXPORT_INTERVAL").and_then(|text| text.parse().ok());
    let interval = given.map_or(DEFAULT_INTERVAL, Duration::from_millis).max(Duration::from_millis(10));
    loop {
        tokio::time::sleep(interval).await;
        push_now().await;
    }
}

/// Pushes the current metrics.
pub(in crate::ops) async fn push_now() {
    let Some(push) = PUSH.get() else { return };
    let request = push.request(&push.metrics.render(), SystemTime::now());
    // A failure is logged by the collector.
    let _ = push.collector.send(request).await;
}

impl Push {
    fn new(metrics: Arc<Metrics>, subscription: &str, topic: &str) -> anyhow::Result<Option<Self>> {
        let Some(collector) = Collector::from_variables(Signal::Metrics)? else { return Ok(None) };
        let short_name = |full: &str| full.rsplit('/').next().unwrap_or(full).to_owned();
        let attributes = spans::resource();
        let attributes = attributes.iter().map(|(key, value)| text(key.as_str(), &value.as_str())).collect();
        Ok(Some(Self {
            metrics,
            collector,
            resource: Resource { attributes, ..Resource::default() },
            subscription: short_name(subscription),
            topic: short_name(topic),
            start: SystemTime::now(),
            consumed: AtomicU64::new(0),
        }))
    }

    /// The metrics of `text`, which is that of `/metrics` at `now`.
    fn request(&self, text: &str, now: SystemTime) -> ExportMetricsServiceRequest {
        let families = openmetrics::read(text);
        let times = Times { start: nanoseconds(self.start), now: nanoseconds(now) };
        let mut metrics: Vec<Metric> = families.iter().map(|family| self.metric(family, times)).collect();
        let total = |name: &str| -> f64 {
            let family = families.iter().find(|family| family.name == name);
            family.map_or(0.0, |family| family.series.iter().map(|series| series.value).sum())
        };
        let sent = total("predictd_requests");
        let received = (sent + total("predictd_nacks") + total("predictd_messages_in_hand")) as u64;
        let consumed = self.consumed.fetch_max(received, Ordering::Relaxed).max(received);
        let count = |name: &str, description: &str, attributes, count| Metric {
            name: name.to_owned(),
            description: description.to_owned(),
            unit: "{message}".to_owned(),
            data: Some(sum(vec![times.number(attributes, self::count(count))])),
            ..Metric::default()
        };
        let received = messaging("receive", "receive", &self.subscription);
        let published = messaging("publish", "send", &self.topic);
        metrics.extend([
            count("messaging.client.consumed.messages", "Messages received", received, consumed as f64),
            count("messaging.client.sent.messages", "Responses that were accepted", published, sent),
        ]);
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
        let resource = Some(self.resource.clone());
        let resource_metrics =
            vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
        ExportMetricsServiceRequest { resource_metrics }
    }

    fn metric(&self, family: &Family, times: Times) -> Metric {
        // The names of the conventions, and the attributes that these ask for.
        let (name, own_attributes) = match family.name.as_str() {
            "predictd_request_seconds" => {
                ("messaging.process.duration".to_owned(), messaging("process", "process", &self.subscription))
            }
            "predictd_publish_seconds" => {
                ("messaging.client.operation.duration".to_owned(), messaging("publish", "send", &self.topic))
            }
            own => (own.trim_end_matches("_seconds").replacen('_', ".", 1), Vec::new()),
        };
        let unit = if family.name.ends_with("_seconds") { "s" } else { "1" };
        let attributes = |series: &Series| {
            let labels = series.labels.iter().map(|(label, value)| match label.as_str() {
                "version" => text("predictd.model_version", value),
                other => text(&format!("predictd.{other}"), value),
            });
            own_attributes.iter().cloned().chain(labels).collect::<Vec<_>>()
        };
        let numbers = || {
            let value = |series: &Series| match family.kind {
                FamilyKind::Counter => count(series.value),
                _ => number_data_point::Value::AsDouble(series.value),
            };
            family.series.iter().map(|series| times.number(attributes(series), value(series))).collect()
        };
        let data = match family.kind {
            FamilyKind::Counter => sum(numbers()),
            FamilyKind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers() }),
            FamilyKind::Histogram => metric::Data::Histogram(Histogram {
                data_points: family
                    .series
                    .iter()
                    .map(|series| times.histogram(attributes(series), series))
                    .collect(),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            }),
        };
        let (description, unit) = (family.help.clone(), unit.to_owned());
        Metric { name, description, unit, data: Some(data), ..Metric::default() }
    }
}

/// The times of every point: the start of the count, and its reading. Nanoseconds since 1970.
#[derive(Debug, Clone, Copy)]
struct Times {
    start: u64,
    now: u64,
}

impl Times {
    fn number(self, attributes: Vec<KeyValue>, value: number_data_point::Value) -> NumberDataPoint {
        let (start_time_unix_nano, time_unix_nano) = (self.start, self.now);
        NumberDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            value: Some(value),
            ..NumberDataPoint::default()
        }
    }

    fn histogram(self, attributes: Vec<KeyValue>, series: &Series) -> HistogramDataPoint {
        let mut before = 0;
        let bounds = series.buckets.iter().map(|(bound, _)| *bound);
        let own = |&(_, cumulative): &(f64, u64)| cumulative - std::mem::replace(&mut before, cumulative);
        HistogramDataPoint {
            attributes,
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            count: series.buckets.last().map_or(0, |(_, count)| *count),
            sum: Some(series.value),
            bucket_counts: series.buckets.iter().map(own).collect(),
            exemplars: series.exemplars.iter().map(exemplar).collect(),
            explicit_bounds: bounds.filter(|bound| bound.is_finite()).collect(),
            ..HistogramDataPoint::default()
        }
    }
}

/// A count, which a double holds exactly up to 2^53.
fn count(value: f64) -> number_data_point::Value {
    number_data_point::Value::AsInt(value as i64)
}

fn exemplar(seen: &openmetrics::Exemplar) -> Exemplar {
    let id = |name: &str| {
        let found = seen.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, digits)| bytes(digits)).unwrap_or_default()
    };
    Exemplar {
        time_unix_nano: (seen.at * 1e9) as u64,
        trace_id: id("trace_id"),
        span_id: id("span_id"),
        value: Some(exemplar::Value::AsDouble(seen.value)),
        ..Exemplar::default()
    }
}

/// Reads hexadecimal digits, two a byte; empty where there is anything else.
fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect::<Option<_>>().unwrap_or_default()
}

fn sum(data_points: Vec<NumberDataPoint>) -> metric::Data {
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    metric::Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
}

fn messaging(operation: &str, kind: &str, destination: &str) -> Vec<KeyValue> {
    vec![
        text("messaging.system", "gcp_pubsub"),
        text("messaging.operation.name", operation),
        text("messaging.operation.type", kind),
        text("messaging.destination.name", destination),
    ]
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_keeps_its_sum_count_and_buckets() {
        let buckets = vec![(0.1, 1), (1.0, 4), (f64::INFINITY, 6)];
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let labels = vec![label("trace_id", "0af7"), label("span_id", "00ff")];
        let exemplars = vec![openmetrics::Exemplar { labels, value: 0.5, at: 2.0 }];
        let series = Series { labels: Vec::new(), value: 9.5, buckets, exemplars };
        let point = Times { start: 1, now: 2 }.histogram(Vec::new(), &series);
        assert_eq!((point.count, point.sum), (6, Some(9.5)));
        assert_eq!(point.bucket_counts, [1, 3, 2]);
        assert_eq!(point.explicit_bounds, [0.1, 1.0]);
        let [exemplar] = &point.exemplars[..] else { panic!("{point:?}") };
        assert_eq!((&*exemplar.trace_id, &*exemplar.span_id), (&[0x0a, 0xf7][..], &[0, 0xff][..]));
        assert_eq!(exemplar.time_unix_nano, 2_000_000_000);
        assert_eq!(exemplar.value, Some(exemplar::Value::AsDouble(0.5)));
    }
}
