//! Loads a [`Config`] from files and environment variables.
//!
//! `layers` has the given values. Here every key is completed and read by itself, so that no bad value hides
//! another.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::effective::Effective;
use super::keys::{self, Key, Kind};
use super::layers::{Given, Layers, split};
use super::problems::{Origin, Problem, Problems};
use super::types::{
    Batching, Cache, Config, Files, Http, Inference, Location, Models, Requests, Responses, Shutdown,
};
use super::{names, units};

/// A configuration, and its values with their origins.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub effective: Effective,
}

/// Value of one key that a command gives, and its origin.
pub type Override = (&'static str, String, Origin);

/// Reads `files` in order, then the `PREDICTD_…` ones of `variables`, and checks the result.
///
/// # Errors
/// Every problem at once.
pub fn load<F: AsRef<Path>>(
    files: &[F],
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Problems> {
    load_with(files, variables, [&[], &[]], true)
}

/// Like [`load`], for a worker without Pub/Sub: none of its keys is required. `defaults` are below all layers,
/// `options` above.
///
/// # Errors
/// Every problem at once.
pub fn load_without_pubsub<F: AsRef<Path>>(
    files: &[F],
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    defaults: &[Override],
    options: &[Override],
) -> Result<Loaded, Problems> {
    load_with(files, variables, [defaults, options], false)
}

fn load_with<F: AsRef<Path>>(
    files: &[F],
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    [defaults, options]: [&[Override]; 2],
    has_pubsub: bool,
) -> Result<Loaded, Problems> {
    let mut layers = Layers::default();
    for (path, text, origin) in defaults {
        layers.add_one(key(path), text.clone(), origin.clone());
    }
    for path in files {
        layers.add_file(path.as_ref());
    }
    layers.add_variables(variables);
    for (path, text, origin) in options {
        layers.add_one(key(path), text.clone(), origin.clone());
    }
    let Layers { given, problems, has_unreadable } = layers;
    let mut reader = Reader { given, problems, effective: Effective::default(), has_pubsub };
    match reader.config() {
        Some(config) if reader.problems.is_empty() => Ok(Loaded { config, effective: reader.effective }),
        _ => {
            let needs_file = has_pubsub && files.is_empty();
            Err(Problems(summarize_missing(reader.problems, has_unreadable, needs_file)))
        }
    }
}

/// Makes missing keys one problem where they have one cause: no file, or a file that cannot be read.
fn summarize_missing(mut problems: Vec<Problem>, has_unreadable: bool, has_no_file: bool) -> Vec<Problem> {
    if !has_unreadable && !has_no_file {
        return problems;
    }
    let missing = problems.extract_if(.., |problem| problem.origin == Origin::Default);
    let keys: Vec<String> = missing.filter_map(|problem| problem.key).map(|key| format!("`{key}`")).collect();
    if has_no_file && !keys.is_empty() {
        problems.push(Problem {
            key: None,
            value: None,
            origin: Origin::Default,
            message: format!("no file is given with --config, and no variable gives {}", keys.join(", ")),
            hint: "name a file with `--config FILE`; config/predictd.yaml is a template with every key"
                .into(),
        });
    }
    problems
}

/// Reads key after key and collects the problems. A method that returns `None` has reported why, or an
/// earlier one has.
struct Reader {
    given: HashMap<&'static str, Given>,
    problems: Vec<Problem>,
    effective: Effective,
    /// True when the keys of Pub/Sub are required.
    has_pubsub: bool,
}

impl Reader {
    /// `None` if and only if there are problems. Every key is read before the first `?`.
    fn config(&mut self) -> Option<Config> {
        let project = self.of_pubsub("project", names::project);
        let owner = project.as_deref();
        let subscription = |text: &str| names::resource(text, "subscriptions", owner);
        let path = |text: &str| Some(PathBuf::from(text));
        let requests = self.of_pubsub("requests.subscription", subscription);
        let max_outstanding_messages = self.number("requests.max_outstanding_messages");
        let max_outstanding_bytes = self.number("requests.max_outstanding_bytes");
        let allowed_buckets = self.locations("requests.allowed_buckets");
        let topic = self.of_pubsub("responses.topic", |text| names::resource(text, "topics", owner));
        let bucket = self.optional("responses.bucket", names::bucket);
        let inline_limit = self.number("responses.inline_limit");
        if inline_limit == Some(0) && bucket == Some(None) {
            self.refuse(
                "responses.inline_limit",
                "0 sends every result to `responses.bucket`, which is not given",
            );
        }
        let source = self.one("models.source", names::source);
        let default = self.optional("models.default", names::model);
        let updates = self.optional("models.updates", subscription);
        let poll_interval = self.duration("models.poll_interval");
        let load_timeout = self.duration("models.load_timeout");
        let directory = self.optional("models.cache", path);
        let cache_size = self.number("models.cache_size");
        let max_rows = self.number("batching.max_rows");
        let max_wait = self.duration("batching.max_wait");
        let library = self.optional("inference.library", path);
        let providers = self.read("inference.providers", names::providers);
        let threads = self.number("inference.threads");
        let listen = self.one("http.listen", |text| text.parse().ok());
        let predictions = self.one("http.predictions", |text| text.parse().ok());
        let max_body = self.number("http.max_body");
        let timeout = self.duration("http.timeout");
        let tokens_file = self.optional("http.tokens_file", path);
        let console = self.one("http.console", |text| text.parse().ok());
        let batches = self.optional("files.subscription", subscription);
        let files_buckets = self.locations("files.allowed_buckets");
        let grace = self.duration("shutdown.grace");
        for (path, own) in [("models.updates", &updates), ("files.subscription", &batches)] {
            if matches!((own, &requests), (Some(Some(own)), Some(requests)) if own == requests) {
                self.refuse(path, "expected another subscription than `requests.subscription`");
            }
        }
        if let (Some(Some(batches)), Some(Some(updates))) = (&batches, &updates)
            && batches == updates
        {
            self.refuse("files.subscription", "expected another subscription than `models.updates`");
        }
        if matches!((&batches, &files_buckets), (Some(Some(_)), Some(buckets)) if buckets.is_empty()) {
            self.refuse(
                "files.subscription",
                "jobs could read and write nothing, since `files.allowed_buckets` is empty",
            );
        }
        for (path, full) in [
            ("requests.subscription", &requests),
            ("responses.topic", &topic),
            ("models.updates", updates.as_ref().unwrap_or(&None)),
            ("files.subscription", batches.as_ref().unwrap_or(&None)),
        ] {
            if let Some(full) = full {
                self.effective.complete(path, full);
            }
        }
        Some(Config {
            project: project?,
            requests: Requests {
                subscription: requests?,
                max_outstanding_messages: max_outstanding_messages?,
                max_outstanding_bytes: max_outstanding_bytes?,
                allowed_buckets: allowed_buckets?,
            },
            responses: Responses { topic: topic?, bucket: bucket?, inline_limit: inline_limit? },
            models: Models {
                source: source?,
                default: default?,
                updates: updates?,
                poll_interval: poll_interval?,
                load_timeout: load_timeout?,
                cache: Cache { directory: directory?, size: cache_size? as u64 },
            },
            batching: Batching { max_rows: max_rows?, max_wait: max_wait? },
            inference: Inference { library: library?, providers: providers?, ..Inference::default() }
                .with_threads(threads?),
            http: Http {
                listen: listen?,
                predictions: predictions?,
                max_body: max_body?,
                timeout: timeout?,
                tokens_file: tokens_file?,
                console: console?,
            },
            files: Files { subscription: batches?, allowed_buckets: files_buckets? },
            shutdown: Shutdown { grace: grace? },
        })
    }

    /// Reads a key that only a worker with Pub/Sub needs; empty where another one leaves it out.
    fn of_pubsub(&mut self, path: &'static str, read: impl FnOnce(&str) -> Option<String>) -> Option<String> {
        if !self.has_pubsub && !self.given.contains_key(path) {
            return Some(String::new());
        }
        self.one(path, read)
    }

    fn number(&mut self, path: &'static str) -> Option<usize> {
        let (range, read): (_, fn(&str) -> Option<usize>) = match &key(path).kind {
            Kind::Count(range) => (range, units::count),
            Kind::Size(range) => (range, units::size),
            other => unreachable!("the table of keys has {other:?} for `{path}`, which is read as a number"),
        };
        self.one(path, |text| read(text).filter(|number| range.contains(number)))
    }

    fn duration(&mut self, path: &'static str) -> Option<Duration> {
        let Kind::Duration(range) = &key(path).kind else {
            unreachable!("the table of keys has no duration for `{path}`, which is read as one")
        };
        self.one(path, |text| units::duration(text).filter(|duration| range.contains(duration)))
    }

    fn locations(&mut self, path: &'static str) -> Option<Vec<Location>> {
        self.read(path, |texts| texts.iter().map(|text| Location::parse(text)).collect())
    }

    /// Reads a key whose default is the empty string, which means none.
    fn optional<T>(&mut self, path: &'static str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
        self.one(path, |text| if text.is_empty() { Some(None) } else { read(text).map(Some) })
    }

    fn one<T>(&mut self, path: &'static str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.read(path, |texts| read(&texts.concat()))
    }

    /// Reads a key; a list has several texts.
    fn read<T>(&mut self, path: &'static str, read: impl FnOnce(&[String]) -> Option<T>) -> Option<T> {
        let value = read(&self.texts(path)?);
        if value.is_none() {
            self.refuse(path, &format!("expected {}", key(path).kind.expected()));
        }
        value
    }

    /// The given value of a key, else its default.
    fn texts(&mut self, path: &'static str) -> Option<Vec<String>> {
        let key = key(path);
        let (texts, origin) = match (self.given.get(path), key.default) {
            (Some(given), _) => (given.texts.clone()?, given.origin.clone()),
            (None, Some(default)) => (split(key, default.to_owned()), Origin::Default),
            (None, None) => {
                self.refuse(path, &format!("missing, expected {}", key.kind.expected()));
                return None;
            }
        };
        self.effective.add(key, texts.clone(), origin);
        Some(texts)
    }

    fn refuse(&mut self, path: &'static str, message: &str) {
        let given = self.given.get(path);
        self.problems.push(Problem {
            key: Some(path.into()),
            value: given.and_then(|given| given.texts.as_ref()).map(|texts| texts.join(", ")),
            origin: given.map_or(Origin::Default, |given| given.origin.clone()),
            message: message.into(),
            hint: match path {
                "models.source" if !self.has_pubsub => "name them with `--models DIR` or `--models gs://…`",
                _ => key(path).hint,
            }
            .into(),
        });
    }
}

fn key(path: &'static str) -> &'static Key {
    keys::find(path).expect("every key that is read is in the table")
}

#[cfg(test)]
mod tests;
