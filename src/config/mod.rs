//! The configuration of one process: what each key means once read, checked and completed.
//!
//! Owns the typed values and nothing else: [`load`] completes and checks what `layers` (files, then
//! variables) give, [`keys`] is the table of every key with its default and limits, `units` and `names` read
//! single values, [`problems`] says what is wrong, [`effective`] prints what holds in the end. Guarantee: a
//! [`Config`] exists only when every key was known, well formed and within its limits.

pub mod effective;
pub mod keys;
mod layers;
pub mod load;
mod names;
pub mod problems;
mod units;

pub use problems::{Origin, Problem, Problems};

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Everything that the worker is told, immutable for the life of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Google Cloud project id; completes the short names below.
    pub project: String,
    pub requests: Requests,
    pub responses: Responses,
    pub models: Models,
    pub batching: Batching,
    pub inference: Inference,
    pub http: Http,
    pub shutdown: Shutdown,
}

/// Where requests come from, and how many may be in this process at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Requests {
    /// Full name: `projects/P/subscriptions/S`.
    pub subscription: String,
    /// Messages received and not yet answered, across all streams; at least 1.
    pub max_outstanding_messages: usize,
    /// Bytes of messages received and not yet answered, across all streams.
    pub max_outstanding_bytes: usize,
    /// What a request may refer to; empty: nothing. Not used yet: references are not followed.
    pub allowed_buckets: Vec<Location>,
}

/// Where responses go.
#[derive(Clone, Debug, PartialEq)]
pub struct Responses {
    /// Full name: `projects/P/topics/T`.
    pub topic: String,
    /// Where results go that are longer than `inline_limit`.
    pub bucket: Option<Location>,
    /// Bytes; 0: every result goes to the bucket.
    pub inline_limit: usize,
}

/// Where models come from, and how new versions are noticed.
#[derive(Clone, Debug, PartialEq)]
pub struct Models {
    pub source: Source,
    /// Model for requests that name none; none: only right when the source holds one model.
    pub default: Option<String>,
    /// Full name of the subscription with the bucket's notifications; none: polling alone.
    pub updates: Option<String>,
    /// Longest time before the source is listed again, whatever the notifications said.
    pub poll_interval: Duration,
    /// Time for the load of one version, from its files to its last sample.
    pub load_timeout: Duration,
    pub cache: Cache,
}

/// Where downloaded versions lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Kept over restarts; `None`: the system's temporary directory, and nothing is kept.
    pub directory: Option<PathBuf>,
    /// Bytes that all versions may take together.
    pub size: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { directory: None, size: 10 << 30 }
    }
}

/// The root under which `<model>/<version>/model.onnx` lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Directory(PathBuf),
    /// `prefix` has no slash at either end; empty: the bucket's root.
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

/// How requests are put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batching {
    /// Rows in one batch, at most; at least 1.
    pub max_rows: usize,
    /// How long a batch that is not full waits for company; zero: never.
    pub max_wait: Duration,
}

/// How models are run.
#[derive(Clone, Debug, PartialEq)]
pub struct Inference {
    /// `libonnxruntime`; none: `ORT_DYLIB_PATH`, then beside the binary, then the system's.
    pub library: Option<PathBuf>,
    /// Execution providers in order of preference; never empty, no repeats.
    pub providers: Vec<Provider>,
    /// Threads for inference, resolved (0 in the file means one fewer than the cores); at least 1.
    pub threads: usize,
}

/// Rows in one call of a model at most: the default of `batching.max_rows`, for commands that read no
/// configuration.
pub const MAX_ROWS: usize = 128;

impl Default for Inference {
    /// For one-shot commands: one thread on the CPU, the library found by itself.
    fn default() -> Self {
        Self { library: None, providers: vec![Provider::Cpu], threads: 1 }
    }
}

/// What ONNX Runtime computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Cpu,
    Cuda,
}

impl Provider {
    /// The name that the configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// The HTTP server for health, information and metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    pub listen: SocketAddr,
}

/// How the process ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Shutdown {
    /// Time to finish what was received, after a first signal; what is left is given back to Pub/Sub.
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
    /// `bucket` or `bucket/prefix`; a slash at the end changes nothing.
    pub fn parse(text: &str) -> Option<Self> {
        names::location(text)
    }

    /// Whether `object` of `bucket` lies here. A prefix ends at a slash: `a/in` holds `a/in/x` and `a/in`,
    /// never `a/inner`.
    pub fn holds(&self, bucket: &str, object: &str) -> bool {
        self.bucket == bucket
            && (self.prefix.is_empty()
                || object
                    .strip_prefix(&self.prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

/// The project in config/predictd.yaml, which is there to be replaced.
const TEMPLATE_PROJECT: &str = "my-project";

impl Config {
    /// Values that are well formed and most likely not meant, each as a sentence.
    pub fn warnings(&self) -> Vec<String> {
        let is_template = self.project == TEMPLATE_PROJECT;
        let warning = format!(
            "project: {TEMPLATE_PROJECT:?} is the placeholder of the template; write the id of your project, which \
             `gcloud config get project` prints"
        );
        is_template.then_some(warning).into_iter().collect()
    }

    /// Reads `files`, later ones over earlier ones, and the process's `PREDICTD_…` variables over them all.
    ///
    /// # Errors
    /// Every problem at once, each with its key, value and origin.
    pub fn load<F: AsRef<Path>>(files: &[F]) -> Result<Self, Problems> {
        load::load(files, std::env::vars_os()).map(|loaded| loaded.config)
    }
}
