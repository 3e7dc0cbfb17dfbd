//! Triton's statistics of models, from the worker's own metrics.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::model::Model;
use crate::ops::metrics::Metrics;
use crate::ops::openmetrics::{self, Family};

/// `{"model_stats": […]}` of served versions, since they were loaded.
pub(super) fn of(metrics: &Metrics, models: &[Arc<Model>]) -> Value {
    let families = openmetrics::read(&metrics.render());
    let all: Vec<Value> = models.iter().map(|model| of_model(&families, model)).collect();
    json!({"model_stats": all})
}

fn of_model(families: &[Family], model: &Model) -> Value {
    let of = |name: &str, status: Option<&str>| sample(families, name, model, status);
    let (requests, _) = of("predictd_requests", Some("ok"));
    let (answered, request_time) = of("predictd_request_seconds", None);
    let (calls, inference_time) = of("predictd_inference_seconds", None);
    let (queued, queue_time) = of("predictd_queue_wait_seconds", None);
    let (rows, _) = of("predictd_rows", None);
    let duration = |count: f64, seconds: f64| json!({"count": count as u64, "ns": (seconds * 1e9) as u64});
    let nothing = duration(0.0, 0.0);
    json!({
        "name": &*model.name,
        "version": &*model.version,
        "last_inference": 0,
        "inference_count": rows as u64,
        "execution_count": calls as u64,
        "inference_stats": {
            "success": duration(requests, request_time),
            "fail": duration((answered - requests).max(0.0), 0.0),
            "queue": duration(queued, queue_time),
            "compute_input": nothing,
            "compute_infer": duration(calls, inference_time),
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [],
    })
}

/// The count and the sum of a metric of a version; of a counter, its value as both.
fn sample(families: &[Family], name: &str, model: &Model, status: Option<&str>) -> (f64, f64) {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut labels = vec![label("model", &model.name), label("version", &model.version)];
    labels.extend(status.map(|status| label("status", status)));
    let family = families.iter().find(|family| family.name == name);
    let series = family.and_then(|family| family.series.iter().find(|series| series.labels == labels));
    series.map_or((0.0, 0.0), |series| {
        let count = series.buckets.last().map_or(series.value, |(_, count)| *count as f64);
        (count, series.value)
    })
}
