//! The typed values of a configuration.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// The whole configuration, which does not change while the process lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Google Cloud project id, which completes short names of subscriptions and topics.
    pub project: String,
    pub requests: Requests,
    pub responses: Responses,
    pub models: Models,
    pub batching: Batching,
    pub inference: Inference,
    pub http: Http,
    pub files: Files,
    pub shutdown: Shutdown,
}

/// The source of requests, and the limits of requests in flight.
#[derive(Clone, Debug, PartialEq)]
pub struct Requests {
    /// Full name: `projects/P/subscriptions/S`.
    pub subscription: String,
    /// Most requests in flight; at least 1.
    pub max_outstanding_messages: usize,
    /// Most bytes of requests in flight.
    pub max_outstanding_bytes: usize,
    /// Places of objects that a request may refer to; empty: none.
    pub allowed_buckets: Vec<Location>,
}

/// The destination of responses.
#[derive(Clone, Debug, PartialEq)]
pub struct Responses {
    /// Full name: `projects/P/topics/T`.
    pub topic: String,
    /// The destination of results that are longer than `inline_limit`.
    pub bucket: Option<Location>,
    /// Most bytes of a result in a message; 0: every result goes to the bucket.
    pub inline_limit: usize,
}

/// The source of models, and how new versions are noticed.
#[derive(Clone, Debug, PartialEq)]
pub struct Models {
    pub source: Source,
    /// Model of requests that name none; without it, such requests need a source of one model.
    pub default: Option<String>,
    /// Full name of the subscription to the bucket's notifications; without it, the source is polled only.
    pub updates: Option<String>,
    /// Longest time between two listings of the source, notifications or not.
    pub poll_interval: Duration,
    /// Time limit of loading one version, from opening its files to its last sample.
    pub load_timeout: Duration,
    pub cache: Cache,
}

/// The cache of downloaded versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Kept over restarts; `None`: a temporary directory, which is deleted at the end.
    pub directory: Option<PathBuf>,
    /// Most bytes of all versions together.
    pub size: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { directory: None, size: 10 << 30 }
    }
}

/// The root of the folders `<model>/<version>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Directory(PathBuf),
    /// `prefix` has no slash at either end; empty: the whole bucket.
    Bucket {
        bucket: String,
        prefix: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(root) => write!(f, "{}", root.display()),
            Self::Bucket { bucket, prefix } => write!(f, "gs://{bucket}/{prefix}"),
        }
    }
}

/// Limits of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batching {
    /// Most rows of a batch; at least 1.
    pub max_rows: usize,
    /// Time that a batch that is not full waits for more requests; zero: none.
    pub max_wait: Duration,
}

/// Settings of ONNX Runtime.
#[derive(Clone, Debug, PartialEq)]
pub struct Inference {
    /// Path of `libonnxruntime`; `None`: `ORT_DYLIB_PATH`, then beside the binary, then Python's package, then the
    /// system's.
    pub library: Option<PathBuf>,
    /// Execution providers in order of preference; not empty, without repeats.
    pub providers: Vec<Provider>,
    /// Inference threads; at least 1. A 0 in the file is resolved to one fewer than the cores.
    pub threads: usize,
    /// Threads that one call may use; at least 1. All cores where the file has 0.
    pub call_threads: usize,
}

/// Default of `batching.max_rows`, for commands that read no configuration.
pub const MAX_ROWS: usize = 128;

impl Default for Inference {
    /// For one-shot commands: one thread on the CPU, the library searched for.
    fn default() -> Self {
        Self { library: None, providers: vec![Provider::Cpu], threads: 1, call_threads: 1 }
    }
}

impl Inference {
    /// Sets the inference threads, and those that one call may use. 0 is one fewer than the cores, since the
    /// rest of the worker gets one; a call may use all of them.
    pub(crate) fn with_threads(self, threads: usize) -> Self {
        let cores = || thread::available_parallelism().map_or(1, NonZero::get);
        let call_threads = if threads == 0 { cores() } else { threads };
        Self { threads: if threads == 0 { (call_threads - 1).max(1) } else { threads }, call_threads, ..self }
    }
}

/// Execution provider of ONNX Runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Cpu,
    Cuda,
}

impl Provider {
    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// The HTTP server: probes, information, metrics and predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    pub listen: SocketAddr,
    /// False: operations alone.
    pub predictions: bool,
    /// Most bytes of a request's body, as it is sent.
    pub max_body: usize,
    /// Time in which a request is answered, unless it sets a shorter one.
    pub timeout: Duration,
    /// Bearer tokens, one a line; `None`: no authentication.
    pub tokens_file: Option<PathBuf>,
    /// Browsers get the console at `/`.
    pub console: bool,
}

/// Batch predictions over files.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// Full name of the subscription of jobs and their shards; `None`: this worker takes none.
    pub subscription: Option<String>,
    /// Places that jobs may read and write; not empty where there is a subscription.
    pub allowed_buckets: Vec<Location>,
}

/// Settings of the shutdown.
#[derive(Clone, Debug, PartialEq)]
pub struct Shutdown {
    /// Time to finish requests in flight after the first signal; the rest is nacked.
    pub grace: Duration,
}

/// A bucket, or the part of one below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub bucket: String,
    /// No slash at either end; empty: the whole bucket.
    pub prefix: String,
}

impl Location {
    /// True when `object` of `bucket` lies here. A prefix ends at a slash: `a/in` holds `a/in/x` and `a/in`,
    /// but not `a/inner`.
    pub fn holds(&self, bucket: &str, object: &str) -> bool {
        self.bucket == bucket
            && (self.prefix.is_empty()
                || object
                    .strip_prefix(&self.prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

/// The placeholder for the project in config/predictd.yaml.
const TEMPLATE_PROJECT: &str = "my-project";

impl Config {
    /// A sentence for each value that is well formed, but most likely not meant.
    pub fn warnings(&self) -> Vec<String> {
        let is_template = self.project == TEMPLATE_PROJECT;
        let warning = format!(
            "project: {TEMPLATE_PROJECT:?} is the placeholder of the template; write the id of your project, \
             which `gcloud config get project` prints"
        );
        is_template.then_some(warning).into_iter().collect()
    }
}
