//! The table of all keys: the one place that knows their names, kinds, defaults and meaning.

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A whole number within these bounds.
    Count(u64, u64),
    Bytes,
    Duration,
    List,
    Address,
}

impl Kind {
    pub fn expected(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Count(from, to) => format!("a whole number from {from} to {to}"),
            Self::Bytes => "a size such as 128MiB, 1GB or 1000".to_owned(),
            Self::Duration => "a duration such as 60s, 500ms or 1m30s".to_owned(),
            Self::List => "a list such as [a, b]".to_owned(),
            Self::Address => "an address such as 127.0.0.1:8080".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub path: &'static str,
    pub kind: Kind,
    /// `None`: must be given.
    pub default: Option<&'static str>,
}

const fn key(path: &'static str, kind: Kind, default: Option<&'static str>) -> Key {
    Key { path, kind, default }
}

pub const KEYS: &[Key] = &[
    key("project", Kind::Text, None),
    key("requests.subscription", Kind::Text, None),
    key("requests.max_outstanding_messages", Kind::Count(1, 1_000_000), Some("10000")),
    key("requests.max_outstanding_bytes", Kind::Bytes, Some("128MiB")),
    key("requests.allowed_buckets", Kind::List, Some("")),
    key("responses.topic", Kind::Text, None),
    key("models.source", Kind::Text, None),
    key("models.default", Kind::Text, Some("")),
    key("models.updates", Kind::Text, Some("")),
    key("models.poll_interval", Kind::Duration, Some("60s")),
    key("models.cache", Kind::Text, Some("")),
    key("models.cache_size", Kind::Bytes, Some("10GiB")),
    key("batching.max_rows", Kind::Count(1, 1_000_000), Some("128")),
    key("batching.max_wait", Kind::Duration, Some("0ms")),
    key("inference.library", Kind::Text, Some("")),
    key("inference.providers", Kind::List, Some("cpu")),
    key("inference.threads", Kind::Count(0, 1024), Some("0")),
    key("http.listen", Kind::Address, Some("127.0.0.1:8080")),
    key("shutdown.grace", Kind::Duration, Some("10s")),
];

pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The known key that `path` was probably meant to be.
pub fn nearest(path: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|key| {
            let leaf = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
            let whole = strsim::damerau_levenshtein(path, key.path);
            (whole.min(strsim::damerau_levenshtein(&leaf(path), &leaf(key.path)) + 1), key.path)
        })
        .min()
        .filter(|(distance, path)| *distance <= path.len() / 3 + 1)
        .map(|(_, path)| path)
}
