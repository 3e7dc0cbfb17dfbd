//! The table of every key.
//!
//! Reading files, refusing unknown keys, completing defaults, printing the effective configuration and the
//! test of the documented example all use it, so that they agree.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::units::{show_duration, show_size};

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// Dotted path, such as `batching.max_rows`.
    pub path: &'static str,
    /// The default as it would be written, the items of a list separated by commas; `None`: the key must be
    /// given.
    pub default: Option<&'static str>,
    pub kind: Kind,
    /// The remedy for a wrong value.
    pub hint: &'static str,
}

/// The type of a value, with its limits.
#[derive(Debug)]
pub enum Kind {
    Project,
    Subscription,
    Topic,
    Source,
    ModelName,
    Path,
    Locations,
    /// A bucket that objects are written to.
    Bucket,
    Providers,
    Address,
    /// `true` or `false`.
    Flag,
    Count(RangeInclusive<usize>),
    /// Bytes.
    Size(RangeInclusive<usize>),
    Duration(RangeInclusive<Duration>),
}

impl Kind {
    /// True when the value is a list.
    pub fn is_list(&self) -> bool {
        matches!(self, Self::Locations | Self::Providers)
    }

    /// Completes the sentence "expected …".
    pub fn expected(&self) -> String {
        match self {
            Self::Project => {
                "a project id: lower-case letters, digits and hyphens, starting with a letter".into()
            }
            Self::Subscription => resource("subscription"),
            Self::Topic => resource("topic"),
            Self::Source => "gs://bucket/prefix or the path of a directory".into(),
            Self::ModelName => {
                "the name of one model: a directory in `models.source`, without slashes".into()
            }
            Self::Path => "a path".into(),
            Self::Locations => "a list of buckets, each as bucket or bucket/prefix, without gs://".into(),
            Self::Bucket => "gs://bucket or gs://bucket/prefix".into(),
            Self::Providers => "a list with at least one of cpu and cuda, none of them twice".into(),
            Self::Address => "an IP address and a port".into(),
            Self::Flag => "true or false".into(),
            Self::Count(range) => format!("a whole number from {} to {}", range.start(), range.end()),
            Self::Size(range) => {
                format!("a size from {} to {}", show_size(*range.start()), show_size(*range.end()))
            }
            Self::Duration(range) => {
                format!(
                    "a duration from {} to {}",
                    show_duration(*range.start()),
                    show_duration(*range.end())
                )
            }
        }
    }
}

fn resource(kind: &str) -> String {
    format!(
        "the name of a {kind}, short or as projects/PROJECT/{kind}s/NAME (3 to 255 of a-z A-Z 0-9 -_.~+%, \
         a letter first, not goog)"
    )
}

const DURATION_HINT: &str = "write a number and a unit (ms, s, m or h), such as 500ms, 60s or 1m30s";

const DAY: Duration = Duration::from_hours(24);

const fn required(path: &'static str, kind: Kind) -> Key {
    Key { path, default: None, kind, hint: "" }
}

const fn optional(path: &'static str, default: &'static str, kind: Kind) -> Key {
    Key { path, default: Some(default), kind, hint: "" }
}

impl Key {
    const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }
}

/// Every key, in the order of the documentation.
pub const KEYS: &[Key] = &[
    required("project", Kind::Project).hint(
        "`gcloud config get project` prints the id of your project, which is neither its number \
         nor its display name",
    ),
    required("requests.subscription", Kind::Subscription)
        .hint("`gcloud pubsub subscriptions list` prints the names that exist"),
    optional("requests.max_outstanding_messages", "10000", Kind::Count(1..=1_000_000))
        .hint("leave it out to have 10000"),
    optional("requests.max_outstanding_bytes", "128MiB", Kind::Size(1 << 10..=1 << 40))
        .hint("write a whole number and a unit (B, KB, KiB, MB, MiB, GB or GiB), such as 128MiB"),
    optional("requests.allowed_buckets", "", Kind::Locations)
        .hint("write [my-images, my-tables/daily], or [] to allow none; a variable separates them by commas"),
    required("responses.topic", Kind::Topic).hint("`gcloud pubsub topics list` prints the names that exist"),
    optional("responses.bucket", "", Kind::Bucket)
        .hint("write gs://my-results or gs://my-results/predictions, or leave it out to have none"),
    optional("responses.inline_limit", "9MiB", Kind::Size(0..=9 << 20)).hint(
        "a message of Pub/Sub has at most 10 MB, attributes included; 0 sends every result to \
         `responses.bucket`, which must be given then",
    ),
    required("models.source", Kind::Source)
        .hint("write gs://my-models/models for a bucket or ./models for a directory"),
    optional("models.default", "", Kind::ModelName)
        .hint("write the model's name alone, such as wine; versions are chosen by predictd"),
    optional("models.updates", "", Kind::Subscription)
        .hint("write the subscription that gets the bucket's notifications, or leave it out to poll alone"),
    optional("models.poll_interval", "60s", Kind::Duration(Duration::from_millis(10)..=DAY))
        .hint(DURATION_HINT),
    optional("models.load_timeout", "10m", Kind::Duration(Duration::from_secs(1)..=DAY)).hint(DURATION_HINT),
    optional("models.cache", "", Kind::Path)
        .hint("write the path of a directory of its own for each worker, or leave it out to keep nothing"),
    optional("models.cache_size", "10GiB", Kind::Size(1 << 20..=1 << 40))
        .hint("write a whole number and a unit (KB, KiB, MB, MiB, GB or GiB), such as 10GiB"),
    optional("batching.max_rows", "128", Kind::Count(1..=1_000_000)).hint("leave it out to have 128"),
    optional("batching.max_wait", "0ms", Kind::Duration(Duration::ZERO..=Duration::from_secs(60)))
        .hint(DURATION_HINT),
    optional("inference.library", "", Kind::Path)
        .hint("write the path of libonnxruntime, or leave it out to have it searched for"),
    optional("inference.providers", "cpu", Kind::Providers)
        .hint("write [cpu] or [cuda, cpu]; a variable separates them by commas"),
    optional("inference.threads", "0", Kind::Count(0..=1024))
        .hint("write 0 to have one fewer than the cores"),
    optional("http.listen", "127.0.0.1:8080", Kind::Address).hint(
        "write 127.0.0.1:8080, or 0.0.0.0:8080 to be reachable from outside; names such as localhost \
         are not resolved",
    ),
    optional("http.predictions", "true", Kind::Flag)
        .hint("write false to answer probes and operators alone, and no requests for predictions"),
    optional("http.max_body", "32MiB", Kind::Size(1 << 10..=64 << 20))
        .hint("write a whole number and a unit (B, KB, KiB, MB or MiB), such as 32MiB"),
    optional("http.timeout", "30s", Kind::Duration(Duration::from_millis(1)..=Duration::from_secs(3600)))
        .hint(DURATION_HINT),
    optional("http.tokens_file", "", Kind::Path)
        .hint("write the path of a file with one token a line, or leave it out to have no authentication"),
    optional("http.console", "true", Kind::Flag).hint("write false to have no page for browsers at /"),
    optional("files.subscription", "", Kind::Subscription)
        .hint("write the subscription of the batch topic, or leave it out to take no batches"),
    optional("files.allowed_buckets", "", Kind::Locations)
        .hint("write [my-tables, my-predictions/daily]; a variable separates them by commas"),
    optional("shutdown.grace", "10s", Kind::Duration(Duration::ZERO..=Duration::from_secs(3600)))
        .hint(DURATION_HINT),
];

/// Finds a key by its dotted path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The keys below `section`, without the section's name.
pub fn in_section(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |key| key.path.strip_prefix(section)?.strip_prefix('.'))
}

/// True when there are keys below `path`.
pub fn is_section(path: &str) -> bool {
    in_section(path).next().is_some()
}

/// Finds the key or section that `unknown` was most likely meant to be.
pub fn nearest(unknown: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    if let Some(key) = KEYS.iter().find(|key| last(key.path) == last(unknown)) {
        return Some(key.path); // the right name in the wrong section
    }
    let sections = KEYS.iter().filter_map(|key| key.path.split_once('.')).map(|(section, _)| section);
    let limit = (unknown.len() / 3).max(1);
    KEYS.iter()
        .map(|key| key.path)
        .chain(sections)
        .map(|known| (strsim::osa_distance(unknown, known), known))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_find_the_nearest() {
        for (unknown, expected) in [
            ("requests.subscripton", Some("requests.subscription")),
            ("requests_subscription", Some("requests.subscription")),
            ("max_rows", Some("batching.max_rows")),
            ("inference.max_wait", Some("batching.max_wait")),
            ("request", Some("requests")),
            ("batchin", Some("batching")),
            ("porject", Some("project")),
            ("models.pol_interval", Some("models.poll_interval")),
            ("telemetry.endpoint", None),
            ("x", None),
        ] {
            assert_eq!(nearest(unknown), expected, "{unknown}");
        }
    }

    #[test]
    fn sections_are_known() {
        assert!(is_section("requests"));
        assert!(!is_section("project"));
        assert!(!is_section("request"));
        assert_eq!(in_section("batching").collect::<Vec<_>>(), ["max_rows", "max_wait"]);
    }
}
