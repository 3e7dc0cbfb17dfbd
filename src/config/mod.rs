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
    /// Where the objects may lie that requests refer to.
    pub allowed_buckets: Vec<Location>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Responses {
    /// `projects/P/topics/T`.
    pub topic: String,
    /// Where results go that are longer than `inline_limit`.
    pub bucket: Option<Location>,
    /// Bytes; 0: every result goes to the bucket.
    pub inline_limit: usize,
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
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_prefix = prefix.is_empty() || !prefix.split('/').any(|part| matches!(part, "" | "." | ".."));
        (is_bucket(bucket) && is_prefix && prefix.len() <= MOST_PREFIX)
            .then(|| Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }

    /// Whether `object` of `bucket` lies here. A prefix ends at a slash: `in` holds `in` and `in/x`, never `inner`.
    pub fn holds(&self, bucket: &str, object: &str) -> bool {
        let behind = object.strip_prefix(&*self.prefix);
        self.bucket == bucket
            && (self.prefix.is_empty() || behind.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

/// With a bucket's name and a message id it stays below the 1024 bytes of an attribute.
const MOST_PREFIX: usize = 700;

/// <https://cloud.google.com/storage/docs/buckets#naming>
fn is_bucket(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    (3..=222).contains(&name.len()) && name.chars().all(legal)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models {
    pub source: Source,
    pub default: Option<String>,
    /// `projects/P/subscriptions/S`.
    pub updates: Option<String>,
    pub poll_interval: Duration,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_slash() {
        for (location, bucket, object, expected) in [
            ("images", "images", "a/b.jpg", true),
            ("images/", "images", "a/b.jpg", true),
            ("images", "images-2", "a", false),
            ("images", "image", "s", false),
            ("images/in", "images", "in/x", true),
            ("images/in/", "images", "in/x", true),
            ("images/in", "images", "in", true),
            ("images/in", "images", "inner/x", false),
            ("images/in", "images", "other/in/x", false),
            ("images/in", "images", "", false),
            ("images/in/deep", "images", "in/x", false),
        ] {
            let found = Location::parse(location).unwrap();
            assert_eq!(found.holds(bucket, object), expected, "{location}: {bucket}, {object}");
        }
        for wrong in ["", "/", "gs://images", "Images", "im", "images/../x", "images//x", "images/./x"] {
            assert_eq!(Location::parse(wrong), None, "{wrong:?}");
        }
    }
}
