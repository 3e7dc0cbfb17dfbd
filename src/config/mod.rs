//! The configuration: YAML files, later ones winning, then `PREDICTD_…` variables. Every problem is found in one go.

pub mod keys;
mod load;
mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use load::Effective;

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub project: String,
    pub requests: Requests,
    pub responses: Responses,
    pub models: Models,
    pub batching: Batching,
    pub inference: Inference,
    pub http: Http,
    pub shutdown: Shutdown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requests {
    /// `projects/P/subscriptions/S`.
    pub subscription: String,
    pub max_outstanding_messages: usize,
    pub max_outstanding_bytes: usize,
    /// `bucket` or `bucket/prefix` each.
    pub allowed_buckets: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Responses {
    /// `projects/P/topics/T`.
    pub topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    pub source: Source,
    pub default: Option<String>,
    /// `projects/P/subscriptions/S`.
    pub updates: Option<String>,
    pub poll_interval: Duration,
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Directory(PathBuf),
    Bucket {
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batching {
    pub max_rows: usize,
    pub max_wait: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inference {
    /// Path of libonnxruntime; empty: found by itself.
    pub library: String,
    pub providers: Vec<String>,
    /// Inference threads, at least 1.
    pub threads: usize,
}

impl Default for Inference {
    fn default() -> Self {
        Self { library: String::new(), providers: vec!["cpu".to_owned()], threads: 1 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    pub grace: Duration,
}

/// One thing that is wrong, with where it came from and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, or empty for a file as a whole.
    pub key: String,
    pub message: String,
    pub hint: String,
}

/// All that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { key, message, hint } in &self.0 {
            let key = if key.is_empty() { String::new() } else { format!("`{key}`: ") };
            writeln!(f, "error: {key}{message} ({hint})")?;
        }
        writeln!(
            f,
            "hint: correct them all, then try `predictd check`; config/predictd.yaml explains every key"
        )
    }
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn load(files: &[PathBuf]) -> Result<Self, Problems> {
        Effective::load(files).and_then(|effective| effective.check())
    }
}
