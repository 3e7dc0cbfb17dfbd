//! Counters and histograms, and their Prometheus text.
//!
//! The handles of a version are made once, so that the hot path looks no label up: counters when it is taken
//! into service, histograms with its first request. The number of series is bounded, however many versions
//! come and go.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::error::Code;
use crate::lock::lock;
use crate::ops::recent::{self, Recent};

/// Bucket bounds, 1-2.5-5 from 5 microseconds to 10 seconds: a decision tree takes microseconds, a
/// transformer seconds.
const SECONDS: [f64; 20] = [
    5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];
/// Most versions out of service whose series are kept. Without a limit each reload would make `/metrics`
/// longer.
const MOST_RETIRED: usize = 8;
/// Most versions with histograms of their own, which take 6 KiB each in `/metrics`. Counters take a tenth of
/// that.
const OWN_HISTOGRAMS: usize = 100;
/// Label `model` of the histograms that all further versions share. The slash keeps it apart from models,
/// which are folders.
const OTHERS: &str = "others/";
const ROWS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabels {
    model: String,
    version: String,
}

impl VersionLabels {
    fn new(model: &str, version: &str) -> Self {
        Self { model: model.to_owned(), version: version.to_owned() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    model: String,
    version: String,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    model: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileRowLabels {
    model: String,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// Counters of the rows of files, for one model.
#[derive(Debug)]
pub struct FileRows {
    successful: Counter,
    failed: Counter,
}

impl FileRows {
    pub fn add(&self, successful: u64, failed: u64) {
        self.successful.inc_by(successful);
        self.failed.inc_by(failed);
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HttpLabels {
    status: u16,
}

/// The trace of one observation. OpenMetrics allows 128 characters of labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Exemplar {
    pub trace_id: String,
    pub span_id: String,
}

type RequestHistogram = HistogramWithExemplars<Exemplar>;
type HistogramFamily = Family<VersionLabels, Histogram, fn() -> Histogram>;

/// The histograms of all versions.
#[derive(Debug, Clone)]
struct HistogramFamilies {
    batch_rows: HistogramFamily,
    queue: HistogramFamily,
    inference: HistogramFamily,
    request: Family<VersionLabels, RequestHistogram, fn() -> RequestHistogram>,
    /// The versions with histograms of their own.
    own: Arc<Mutex<HashSet<VersionLabels>>>,
}

/// The histograms of one version.
#[derive(Debug, Clone)]
pub struct VersionHistograms {
    pub batch_rows: Histogram,
    pub queue: Histogram,
    pub inference: Histogram,
    request: RequestHistogram,
}

/// The handles of one version. Requests by status are counted once their responses are published.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    ok: Counter,
    rejected: [Counter; Code::ALL.len()],
    pub rows: Counter,
    labels: VersionLabels,
    families: HistogramFamilies,
    own: OnceLock<VersionHistograms>,
    recent: Arc<Recent>,
    name: recent::Name,
}

impl HistogramFamilies {
    fn new() -> Self {
        let [queue, inference] =
            std::array::from_fn(|_| Family::new_with_constructor(seconds as fn() -> Histogram));
        Self {
            batch_rows: Family::new_with_constructor(rows),
            queue,
            inference,
            request: Family::new_with_constructor(seconds_with_exemplars),
            own: Arc::default(),
        }
    }

    fn for_version(&self, labels: &VersionLabels) -> VersionHistograms {
        let mut own = lock(&self.own);
        let others = VersionLabels::new(OTHERS, "");
        let has_own = own.contains(labels) || own.len() < OWN_HISTOGRAMS && own.insert(labels.clone());
        let labels = if has_own { labels } else { &others };
        VersionHistograms {
            batch_rows: self.batch_rows.get_or_create_owned(labels),
            queue: self.queue.get_or_create_owned(labels),
            inference: self.inference.get_or_create_owned(labels),
            request: self.request.get_or_create_owned(labels),
        }
    }

    fn remove(&self, labels: &VersionLabels) {
        if lock(&self.own).remove(labels) {
            for family in [&self.batch_rows, &self.queue, &self.inference] {
                family.remove(labels);
            }
            self.request.remove(labels);
        }
    }
}

impl ModelMetrics {
    /// The handles of a version that is not in service: `/metrics` does not show them.
    pub fn unregistered() -> Self {
        let (families, none) = (HistogramFamilies::new(), VersionLabels::new("", ""));
        let recent = Arc::new(Recent::new(Instant::now()));
        Self::new(&Family::default(), &Family::default(), &families, &recent, none)
    }

    fn new(
        requests: &Family<RequestLabels, Counter>,
        rows: &Family<VersionLabels, Counter>,
        families: &HistogramFamilies,
        recent: &Arc<Recent>,
        labels: VersionLabels,
    ) -> Self {
        let by_status = |status| {
            let VersionLabels { model, version } = labels.clone();
            requests.get_or_create_owned(&RequestLabels { model, version, status })
        };
        Self {
            ok: by_status("ok"),
            rejected: Code::ALL.map(|code| by_status(code.as_str())),
            rows: rows.get_or_create_owned(&labels),
            name: (labels.model.as_str().into(), labels.version.as_str().into()),
            labels,
            families: families.clone(),
            own: OnceLock::new(),
            recent: Arc::clone(recent),
        }
    }

    /// The histograms of this version, or the shared ones once `OWN_HISTOGRAMS` versions have their own.
    pub fn histograms(&self) -> &VersionHistograms {
        self.own.get_or_init(|| self.families.for_version(&self.labels))
    }

    pub(super) fn requests(&self, outcome: Result<(), Code>) -> &Counter {
        match outcome {
            Ok(()) => &self.ok,
            Err(code) => &self.rejected[code as usize],
        }
    }

    /// Counts a request, and observes its time from its receipt to the acceptance of its response.
    pub fn answered(&self, outcome: Result<(), Code>, took: Duration, exemplar: Option<Exemplar>) {
        self.requests(outcome).inc();
        self.recent.answered(&self.name, outcome, took, Instant::now());
        let at = exemplar.as_ref().map(|_| SystemTime::now());
        self.histograms().request.observe(took.as_secs_f64(), exemplar, at);
    }
}

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    rows: Family<VersionLabels, Counter>,
    families: HistogramFamilies,
    reloads: Family<ReloadLabels, Counter>,
    /// For the console.
    pub recent: Arc<Recent>,
    /// Versions out of service whose series are kept, the oldest first.
    retired: Mutex<VecDeque<VersionLabels>>,
    /// The handles for requests that were refused before their model was known.
    pub unrouted: ModelMetrics,
    pub messages_in_flight: Gauge,
    pub messages_in_flight_limit: Gauge,
    pub bytes_in_flight: Gauge,
    pub nacked: Counter,
    pub overdue: Counter,
    pub publish_failures: Counter,
    /// Observed once a call, not once a message.
    pub publish: Histogram,
    pub ack_failures: Counter,
    pub stream_failures: Counter,
    pub models_serving: Gauge,
    pub utilisation: Gauge<f64, AtomicU64>,
    pub queue_seconds: Gauge<f64, AtomicU64>,
    http_responses: Family<HttpLabels, Counter>,
    file_rows: Family<FileRowLabels, Counter>,
    file_shards: Family<OutcomeLabels, Counter>,
    file_jobs: Family<OutcomeLabels, Counter>,
}

const FILE_ROWS: &str = "Rows of batches over files, by status: ok or error";
const FILE_SHARDS: &str = "Shards of batches: computed, repeated (it had its output), stopped, refused (its input changed) or failed (nacked)";
const FILE_JOBS: &str = "Jobs of batches: planned, finished, or refused";
const HTTP_RESPONSES: &str =
    "Requests for predictions over HTTP, by the status of their response; 499: the client went away before";

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn seconds_with_exemplars() -> RequestHistogram {
    HistogramWithExemplars::new(SECONDS.into_iter())
}

fn rows() -> Histogram {
    Histogram::new(ROWS)
}

/// Makes and registers a metric.
fn register<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("predictd");
        let (families, publish) = (HistogramFamilies::new(), seconds());
        let recent = Arc::new(Recent::new(Instant::now()));
        let queue_seconds = Gauge::default();
        let HistogramFamilies { batch_rows, queue, inference, request, .. } = families.clone();
        registry.register("batch_rows", "Rows in one call of ONNX Runtime", batch_rows);
        let help = "From receiving a request to the start of its batch";
        registry.register_with_unit("queue_wait", help, Unit::Seconds, queue);
        registry.register_with_unit("inference", "One call of ONNX Runtime", Unit::Seconds, inference);
        let help = "From receiving a request to the acceptance of its response";
        registry.register_with_unit("request", help, Unit::Seconds, request);
        let help = "One call that publishes responses, until all of it is answered";
        registry.register_with_unit("publish", help, Unit::Seconds, publish.clone());
        let help = "Time in which what waits for a batch is computed, at the measured rate";
        registry.register_with_unit("queue", help, Unit::Seconds, queue_seconds.clone());
        let utilisation = "Share of the last ten seconds that the inference threads were at work, 0 to 1";
        let limit = "Most requests that the stream may have in flight, by the measured throughput";
        let ack_failures = "Acknowledgements that Pub/Sub did not take on an exactly-once subscription";
        let r = &mut registry;
        let requests = register(r, "requests", "Requests answered, by status: ok or the error code");
        let rows = register(r, "rows", "Rows predicted");
        Arc::new(Self {
            unrouted: ModelMetrics::new(&requests, &rows, &families, &recent, VersionLabels::new("", "")),
            reloads: register(r, "reloads", "Model versions taken into service or refused"),
            messages_in_flight: register(r, "messages_in_hand", "Requests received and not settled yet"),
            messages_in_flight_limit: register(r, "messages_in_hand_limit", limit),
            bytes_in_flight: register(r, "bytes_in_hand", "Bytes of requests received and not settled yet"),
            nacked: register(r, "nacks", "Requests nacked unanswered"),
            overdue: register(r, "overdue", "Requests nacked after an hour in flight"),
            publish_failures: register(r, "publish_failures", "Responses that Pub/Sub did not accept"),
            ack_failures: register(r, "ack_failures", ack_failures),
            stream_failures: register(r, "stream_failures", "Times that the request stream ended or failed"),
            models_serving: register(r, "models_serving", "Models with a version in service"),
            utilisation: register(r, "utilisation", utilisation),
            queue_seconds,
            http_responses: register(r, "http_responses", HTTP_RESPONSES),
            file_rows: register(r, "files_rows", FILE_ROWS),
            file_shards: register(r, "files_shards", FILE_SHARDS),
            file_jobs: register(r, "files_jobs", FILE_JOBS),
            publish,
            requests,
            rows,
            families,
            recent,
            retired: Mutex::default(),
            registry,
        })
    }

    /// Makes the handles of a version that is taken into service.
    pub fn for_version(&self, model: &str, version: &str) -> ModelMetrics {
        let labels = VersionLabels::new(model, version);
        lock(&self.retired).retain(|retired| *retired != labels);
        ModelMetrics::new(&self.requests, &self.rows, &self.families, &self.recent, labels)
    }

    /// Records that a version went out of service. Its series are removed after `MOST_RETIRED` further
    /// versions have.
    pub fn retire(&self, model: &str, version: &str) {
        let mut retired = lock(&self.retired);
        retired.push_back(VersionLabels::new(model, version));
        if retired.len() <= MOST_RETIRED {
            return;
        }
        let Some(labels) = retired.pop_front() else { return };
        self.rows.remove(&labels);
        self.families.remove(&labels);
        let VersionLabels { model, version } = labels;
        for status in std::iter::once("ok").chain(Code::ALL.map(Code::as_str)) {
            let labels = RequestLabels { model: model.clone(), version: version.clone(), status };
            self.requests.remove(&labels);
        }
    }

    /// Counts a response to a request for a prediction over HTTP.
    pub fn http_responded(&self, status: u16) {
        self.http_responses.get_or_create(&HttpLabels { status }).inc();
    }

    /// The counters of a model's rows in files.
    pub fn file_rows(&self, model: &str) -> FileRows {
        let by_status =
            |status| self.file_rows.get_or_create_owned(&FileRowLabels { model: model.to_owned(), status });
        FileRows { successful: by_status("ok"), failed: by_status("error") }
    }

    /// Counts a shard: `computed`, `repeated`, `stopped`, `refused`, or `failed`.
    pub fn file_shard(&self, outcome: &'static str) {
        self.file_shards.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts a job: `planned`, `finished`, or `refused`.
    pub fn file_job(&self, outcome: &'static str) {
        self.file_jobs.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Counts an outcome of a version: `serving`, `refused`, `failed`, or `retired`.
    pub fn reloaded(&self, model: &str, outcome: &'static str) {
        self.reloads.get_or_create(&ReloadLabels { model: model.to_owned(), outcome }).inc();
    }

    /// The metrics as OpenMetrics 1.0 text, which Prometheus reads.
    pub fn render(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing to a String cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_bounded_and_counters_are_not_shared() {
        let metrics = Metrics::new();
        let versions: Vec<_> =
            (0..2000).map(|number| metrics.for_version(&format!("model-{number}"), "1")).collect();
        assert!(!metrics.render().contains("predictd_inference_seconds_count{model=\"model-"));
        for model in versions.iter().rev() {
            model.requests(Ok(())).inc();
            model.histograms().inference.observe(0.5);
        }
        let text = metrics.render();
        let count = |model: &str| {
            let line = format!("predictd_inference_seconds_count{{model=\"{model}\",version=\"");
            text.lines().find(|found| found.starts_with(&line)).map(|found| found.rsplit_once(' ').unwrap().1)
        };
        assert_eq!(
            (count("model-1999"), count("model-1900"), count("model-1899")),
            (Some("1"), Some("1"), None)
        );
        assert_eq!(count("others/"), Some("1900"));
        assert!(text.contains("predictd_requests_total{model=\"model-0\",version=\"1\",status=\"ok\"} 1\n"));
        assert!(text.len() < 3_000_000, "{} bytes", text.len());
    }

    #[test]
    fn a_version_out_of_service_makes_room_for_another_ones_histograms() {
        let metrics = Metrics::new();
        let used = |version: usize| {
            let model = metrics.for_version("wine", &version.to_string());
            model.histograms().queue.observe(0.5);
        };
        (0..OWN_HISTOGRAMS).for_each(used);
        (0..=MOST_RETIRED).for_each(|version| metrics.retire("wine", &version.to_string()));
        used(OWN_HISTOGRAMS);
        let text = metrics.render();
        let count =
            |version| format!("predictd_queue_wait_seconds_count{{model=\"wine\",version=\"{version}\"}}");
        assert!(
            !text.contains(&count(0)) && text.contains(&count(1)) && text.contains(&count(OWN_HISTOGRAMS))
        );
        assert!(!text.contains(OTHERS));
    }
}
