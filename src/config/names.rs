//! Names of projects, resources, buckets, models and providers. A name that Google Cloud would refuse is
//! refused before any call.
//!
//! Rules: <https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names> and
//! <https://cloud.google.com/storage/docs/buckets#naming>.

use std::path::PathBuf;

use super::types::{Location, Provider, Source};

/// Reads a project id. Looser than Google's rule for new projects: old ones (`example.com:name`) and those of
/// emulators (`demo`) break it.
pub(super) fn project(text: &str) -> Option<String> {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:".contains(&byte);
    let good = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 100
        && text.bytes().all(letters)
        && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    good.then(|| text.to_owned())
}

/// Reads a subscription or topic (`collection`: `subscriptions`, `topics`); a short name is completed with
/// `project`.
pub(super) fn resource(text: &str, collection: &str, project: Option<&str>) -> Option<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (owner, name) = match parts[..] {
        // The form of the name is checked even where the project is unusable, which is a problem of its own.
        [name] => (project.unwrap_or("unknown").to_owned(), name),
        ["projects", owner, given, name] if given == collection => (self::project(owner)?, name),
        _ => return None,
    };
    let good = (3..=255).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && !name.starts_with("goog")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~+%".contains(&byte));
    good.then(|| format!("projects/{owner}/{collection}/{name}"))
}

fn is_bucket(name: &str) -> bool {
    let longest = if name.contains('.') { 222 } else { 63 };
    let good_part = |part: &str| (1..=63).contains(&part.len());
    (3..=longest).contains(&name.len())
        && name.split('.').all(good_part)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

impl Location {
    /// Reads `bucket` or `bucket/prefix`; one slash at the end is dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let is_meant = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
        // `//` and `..` may stand in the name of an object, but are never meant in a prefix.
        let is_good = is_bucket(bucket) && (prefix.is_empty() || prefix.split('/').all(is_meant));
        is_good.then(|| Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// Reads `gs://bucket` or `gs://bucket/prefix`.
pub(super) fn bucket(text: &str) -> Option<Location> {
    Location::parse(text.strip_prefix("gs://")?)
}

/// Reads `gs://bucket/prefix`, or the path of a directory.
pub(super) fn source(text: &str) -> Option<Source> {
    if let Some(rest) = text.strip_prefix("gs://") {
        let Location { bucket, prefix } = Location::parse(rest)?;
        return Some(Source::Bucket { bucket, prefix });
    }
    let is_directory = !text.is_empty() && !text.contains("://") && !text.starts_with("gs:");
    is_directory.then(|| Source::Directory(PathBuf::from(text)))
}

/// Reads the name of a model, which is one path segment.
pub(super) fn model(text: &str) -> Option<String> {
    let good = !matches!(text, "" | "." | "..") && !text.contains(|c: char| c == '/' || c.is_control());
    good.then(|| text.to_owned())
}

/// Reads a list of providers, which is not empty and has no repeats.
pub(super) fn providers(texts: &[String]) -> Option<Vec<Provider>> {
    let named =
        |text: &String| [Provider::Cpu, Provider::Cuda].into_iter().find(|known| known.name() == text);
    let providers: Vec<Provider> = texts.iter().map(named).collect::<Option<_>>()?;
    let is_repeated = |(at, provider)| providers[..at].contains(provider);
    (!providers.is_empty() && !providers.iter().enumerate().any(is_repeated)).then_some(providers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects() {
        for good in ["demo", "my-project", "example.com:my-project", "a1"] {
            assert_eq!(project(good).as_deref(), Some(good));
        }
        for bad in ["", "123456", "My-Project", "my project", "my-project-", "a/b", "-a"] {
            assert_eq!(project(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn resources_are_completed_and_checked() {
        let full = |text| resource(text, "subscriptions", Some("demo"));
        assert_eq!(full("requests").as_deref(), Some("projects/demo/subscriptions/requests"));
        assert_eq!(
            full("projects/other/subscriptions/a.b~c+d%20").as_deref(),
            Some("projects/other/subscriptions/a.b~c+d%20")
        );
        let long = "a".repeat(256);
        for bad in [
            "",
            "ab",
            "1abc",
            "google-requests",
            "a b c",
            "projects/demo/topics/requests",
            "projects/demo/subscriptions/",
            "projects//subscriptions/requests",
            "subscriptions/requests",
            "/requests",
            &long,
        ] {
            assert_eq!(full(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn buckets_and_prefixes() {
        let place =
            |bucket: &str, prefix: &str| Some(Location { bucket: bucket.into(), prefix: prefix.into() });
        assert_eq!(Location::parse("images"), place("images", ""));
        assert_eq!(Location::parse("images/"), place("images", ""));
        assert_eq!(Location::parse("my.bucket_1/a/b/"), place("my.bucket_1", "a/b"));
        let long = "a".repeat(64);
        for bad in [
            "",
            "ab",
            "Images",
            "gs://images",
            "/images",
            "images//a",
            "images/a//",
            "images/../b",
            "-images",
            "192.168.5.4",
            "a..b",
            &long,
        ] {
            assert_eq!(Location::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sources() {
        let bucket = |bucket: &str, prefix: &str| {
            Some(Source::Bucket { bucket: bucket.into(), prefix: prefix.into() })
        };
        assert_eq!(source("gs://models/models"), bucket("models", "models"));
        assert_eq!(source("gs://models"), bucket("models", ""));
        assert_eq!(source("./models"), Some(Source::Directory("./models".into())));
        for bad in
            ["", "gs://", "gs:///models", "s3://models/models", "GS://models", "gs:/models", "gs:models"]
        {
            assert_eq!(source(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_location_holds_whole_segments() {
        let here = Location::parse("images/in").unwrap();
        assert!(here.holds("images", "in/a.png"));
        assert!(!here.holds("images", "inner/a.png"));
        assert!(!here.holds("images", "a.png"));
        assert!(!here.holds("other", "in/a.png"));
        assert!(Location::parse("images").unwrap().holds("images", "a.png"));
    }

    #[test]
    fn models_are_one_segment() {
        assert_eq!(model("wine").as_deref(), Some("wine"));
        for bad in ["", ".", "..", "wine/3", "wi\nne"] {
            assert_eq!(model(bad), None, "{bad:?}");
        }
    }
}
