//! Layers to values to [`Config`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use config::{File, FileFormat, Value, ValueKind};

use super::keys::{self, KEYS, Kind};
use super::{
    Batching, Cache, Config, Http, Inference, Models, Problem, Problems, Requests, Responses, Shutdown,
    Source, units,
};

const PREFIX: &str = "PREDICTD_";
/// Variables with the prefix that are no configuration.
const NOT_CONFIGURATION: [&str; 1] = ["PREDICTD_LOG"];

/// Every given value with its origin, later layers over earlier ones.
#[derive(Debug, Default)]
pub struct Effective {
    given: BTreeMap<&'static str, (Given, String)>,
    problems: Vec<Problem>,
}

#[derive(Debug, Clone)]
enum Given {
    Text(String),
    List(Vec<String>),
}

impl Effective {
    /// # Errors
    /// Every unreadable file and unknown or mistyped key.
    pub fn load(files: &[PathBuf]) -> Result<Self, Problems> {
        let mut all = Self::default();
        for file in files {
            all.add_file(file);
        }
        let mut variables: Vec<(String, String)> =
            std::env::vars().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (name, value) in variables {
            all.add_variable(&name, value);
        }
        if all.problems.iter().any(|problem| problem.key.is_empty()) {
            return Err(Problems(all.problems));
        }
        Ok(all)
    }

    fn problem(&mut self, key: &str, message: String, hint: String) {
        self.problems.push(Problem { key: key.to_owned(), message, hint });
    }

    fn add_file(&mut self, path: &std::path::Path) {
        let origin = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                return self.problem(
                    "",
                    format!("cannot read {origin:?}: {error}"),
                    "name a YAML file that exists".to_owned(),
                );
            }
        };
        let read = config::Config::builder().add_source(File::from_str(&text, FileFormat::Yaml)).build();
        match read.map(|read| read.cache) {
            Ok(Value { kind: ValueKind::Table(table), .. }) => {
                let sorted: BTreeMap<_, _> = table.into_iter().collect();
                for (name, value) in sorted {
                    self.add_value(&name, value, &origin);
                }
            }
            Ok(_) => {}
            Err(error) => self.problem(
                "",
                format!("{origin:?} is no YAML: {error}"),
                "see config/predictd.yaml".to_owned(),
            ),
        }
    }

    fn add_value(&mut self, path: &str, value: Value, origin: &str) {
        if let ValueKind::Table(table) = value.kind {
            let sorted: BTreeMap<_, _> = table.into_iter().collect();
            for (name, value) in sorted {
                self.add_value(&format!("{path}.{name}"), value, origin);
            }
            return;
        }
        let section = format!("{path}.");
        if matches!(value.kind, ValueKind::Nil) && KEYS.iter().any(|key| key.path.starts_with(&section)) {
            return; // A section whose keys are all left out.
        }
        let given = match value.kind {
            ValueKind::Array(items) => Given::List(items.into_iter().map(|item| item.to_string()).collect()),
            ValueKind::Nil => Given::Text(String::new()),
            _ => Given::Text(value.to_string()),
        };
        self.add(path, given, origin);
    }

    fn add_variable(&mut self, name: &str, value: String) {
        if NOT_CONFIGURATION.contains(&name) {
            return;
        }
        let path = name[PREFIX.len()..].to_lowercase().replace("__", ".");
        let given = match keys::find(&path) {
            Some(key) if key.kind == Kind::List => Given::List(list(&value)),
            _ => Given::Text(value),
        };
        self.add(&path, given, &format!("${name}"));
    }

    fn add(&mut self, path: &str, given: Given, origin: &str) {
        match keys::find(path) {
            Some(key) => {
                self.given.insert(key.path, (given, origin.to_owned()));
            }
            None => {
                let hint = match keys::nearest(path) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "see config/predictd.yaml for all keys".to_owned(),
                };
                self.problem(path, format!("unknown key, in {origin}"), hint);
            }
        }
    }

    /// # Errors
    /// Every problem, those of loading included.
    pub fn check(mut self) -> Result<Config, Problems> {
        let project = self.text("project");
        let subscription = self.name("requests.subscription", "subscriptions", &project);
        let topic = self.name("responses.topic", "topics", &project);
        let config = Config {
            requests: Requests {
                subscription: subscription.unwrap_or_default(),
                max_outstanding_messages: self.count("requests.max_outstanding_messages"),
                max_outstanding_bytes: self.bytes("requests.max_outstanding_bytes"),
                allowed_buckets: self.list("requests.allowed_buckets"),
            },
            responses: Responses { topic: topic.unwrap_or_default() },
            models: Models {
                source: self.source(),
                default: Some(self.text("models.default")).filter(|name| !name.is_empty()),
                updates: self.name("models.updates", "subscriptions", &project),
                poll_interval: self.duration("models.poll_interval"),
                cache: Cache {
                    directory: Some(self.text("models.cache"))
                        .filter(|path| !path.is_empty())
                        .map(PathBuf::from),
                    size: self.bytes("models.cache_size") as u64,
                },
            },
            batching: Batching {
                max_rows: self.count("batching.max_rows"),
                max_wait: self.duration("batching.max_wait"),
            },
            inference: Inference {
                library: self.text("inference.library"),
                providers: self.providers(),
                threads: match self.count("inference.threads") {
                    0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).max(1)),
                    threads => threads,
                },
            },
            http: Http { listen: self.address("http.listen") },
            shutdown: Shutdown { grace: self.duration("shutdown.grace") },
            project,
        };
        if config.models.poll_interval.is_zero() {
            self.problem(
                "models.poll_interval",
                "it is zero".to_owned(),
                "at least 100ms; 60s is the default".to_owned(),
            );
        }
        if self.problems.is_empty() { Ok(config) } else { Err(Problems(self.problems)) }
    }

    fn text(&mut self, path: &'static str) -> String {
        let key = keys::find(path).expect("the key is in the table");
        match (self.given.get(path), key.default) {
            (Some((Given::Text(text), _)), default) if default.is_some() || !text.is_empty() => text.clone(),
            (Some((Given::List(items), origin)), _) => {
                let message =
                    format!("expected {}, got a list of {}, in {origin}", key.kind.expected(), items.len());
                self.problem(path, message, "give one value".to_owned());
                key.default.unwrap_or_default().to_owned()
            }
            (_, Some(default)) => default.to_owned(),
            (_, None) => {
                let variable = format!("{PREFIX}{}", path.replace('.', "__").to_uppercase());
                self.problem(
                    path,
                    "it must be given".to_owned(),
                    format!("set it in the file or as {variable}"),
                );
                String::new()
            }
        }
    }

    fn list(&mut self, path: &'static str) -> Vec<String> {
        match self.given.get(path) {
            Some((Given::List(items), _)) => items.clone(),
            Some((Given::Text(text), _)) => list(text),
            None => list(keys::find(path).and_then(|key| key.default).unwrap_or_default()),
        }
    }

    /// A value of a kind; a wrong one becomes a problem and the default.
    fn parsed<T>(&mut self, path: &'static str, parse: impl Fn(&str) -> Option<T>) -> T {
        let key = keys::find(path).expect("the key is in the table");
        let text = self.text(path);
        if let Some(value) = parse(&text) {
            return value;
        }
        let origin = self.given.get(path).map_or_else(String::new, |(_, origin)| format!(", in {origin}"));
        let default = key.default.unwrap_or_default();
        self.problem(
            path,
            format!("expected {}, got {text:?}{origin}", key.kind.expected()),
            format!("the default is {default}"),
        );
        parse(default).expect("a default is of its key's kind")
    }

    fn count(&mut self, path: &'static str) -> usize {
        let bounds = match keys::find(path).map(|key| key.kind) {
            Some(Kind::Count(from, to)) => from..=to,
            _ => 0..=u64::MAX,
        };
        let number =
            self.parsed(path, |text| text.parse::<u64>().ok().filter(|number| bounds.contains(number)));
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    fn bytes(&mut self, path: &'static str) -> usize {
        self.parsed(path, |text| units::bytes(text).filter(|bytes| *bytes > 0))
    }

    fn duration(&mut self, path: &'static str) -> std::time::Duration {
        self.parsed(path, units::duration)
    }

    fn address(&mut self, path: &'static str) -> std::net::SocketAddr {
        self.parsed(path, |text| text.parse().ok())
    }

    /// A Pub/Sub name, completed with the project when short; `None` when left out.
    fn name(&mut self, path: &'static str, collection: &str, project: &str) -> Option<String> {
        let text = self.text(path);
        if text.is_empty() {
            return None;
        }
        let parts: Vec<&str> = text.split('/').collect();
        let short = match parts[..] {
            [short] => Some((project, short)),
            ["projects", project, kind, short] if kind == collection && !project.is_empty() => {
                Some((project, short))
            }
            _ => None,
        };
        if let Some((project, short)) = short.filter(|(_, short)| is_pubsub_name(short)) {
            return Some(format!("projects/{project}/{collection}/{short}"));
        }
        self.problem(
            path,
            format!("{text:?} is no name of one of Pub/Sub's {collection}"),
            format!("a short name (3 to 255 letters, digits or -_.~+%, a letter first) or projects/P/{collection}/NAME"),
        );
        None
    }

    fn source(&mut self) -> Source {
        let text = self.text("models.source");
        let Some(object) = text.strip_prefix("gs://") else {
            return Source::Directory(text.into());
        };
        let (bucket, prefix) = object.split_once('/').unwrap_or((object, ""));
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        if bucket.len() < 3 || bucket.len() > 222 || !bucket.chars().all(legal) {
            self.problem(
                "models.source",
                format!("{text:?} names no bucket"),
                "expected gs://BUCKET/PREFIX or a directory; a bucket has 3 or more of a-z, 0-9 and -_."
                    .to_owned(),
            );
        }
        Source::Bucket { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() }
    }

    fn providers(&mut self) -> Vec<String> {
        let providers = self.list("inference.providers");
        let unknown: Vec<String> =
            providers.iter().filter(|name| !["cpu", "cuda"].contains(&name.as_str())).cloned().collect();
        for name in unknown {
            self.problem(
                "inference.providers",
                format!("unknown execution provider {name:?}"),
                "expected cpu or cuda, for example [cuda, cpu]".to_owned(),
            );
        }
        providers
    }

    /// The effective configuration as YAML, with the origin of all that is not a default.
    pub fn render(&self) -> String {
        let mut yaml = String::new();
        let mut section = "";
        for key in KEYS {
            let (of, leaf) = key.path.split_once('.').unwrap_or(("", key.path));
            if of != section {
                section = of;
                let _ = writeln!(yaml, "{section}:");
            }
            let indent = if of.is_empty() { "" } else { "  " };
            let (value, origin) = match self.given.get(key.path) {
                Some((given, origin)) => (given.clone(), format!("  # {origin}")),
                None if key.kind == Kind::List => {
                    (Given::List(list(key.default.unwrap_or_default())), String::new())
                }
                None => (Given::Text(key.default.unwrap_or_default().to_owned()), String::new()),
            };
            let value = match value {
                Given::List(items) => serde_json::Value::from(items).to_string(),
                Given::Text(text) if key.kind == Kind::List => {
                    serde_json::Value::from(list(&text)).to_string()
                }
                Given::Text(text) if text.is_empty() || text.contains([':', '#', '"', '\'', '{', '[']) => {
                    serde_json::Value::from(text).to_string()
                }
                Given::Text(text) => text,
            };
            let _ = writeln!(yaml, "{indent}{leaf}: {value}{origin}");
        }
        yaml
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// <https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names>
fn is_pubsub_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.~+%".contains(c);
    (3..=255).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(legal)
        && !name.starts_with("goog")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str =
        "project: p\nrequests: {subscription: sub}\nresponses: {topic: top}\nmodels: {source: /models}\n";

    fn load(yaml: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
        let mut all = Effective::default();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        all.add_file(file.path());
        for (name, value) in variables {
            all.add_variable(name, (*value).to_owned());
        }
        all.check()
    }

    fn problem(yaml: &str) -> String {
        load(yaml, &[]).unwrap_err().to_string()
    }

    #[test]
    fn names_are_completed_and_defaults_stand() {
        let config = load(MINIMAL, &[]).unwrap();
        assert_eq!(config.requests.subscription, "projects/p/subscriptions/sub");
        assert_eq!(config.responses.topic, "projects/p/topics/top");
        assert_eq!(config.requests.max_outstanding_bytes, 128 << 20);
        assert_eq!(config.models.updates, None);
        assert!(config.inference.threads >= 1);
    }

    #[test]
    fn variables_win_over_files() {
        let config = load(
            MINIMAL,
            &[
                ("PREDICTD_REQUESTS__SUBSCRIPTION", "projects/other/subscriptions/mine"),
                ("PREDICTD_INFERENCE__PROVIDERS", "cuda, cpu"),
                ("PREDICTD_MODELS__SOURCE", "gs://bucket/a/b/"),
                ("PREDICTD_LOG", "debug"),
            ],
        )
        .unwrap();
        assert_eq!(config.requests.subscription, "projects/other/subscriptions/mine");
        assert_eq!(config.inference.providers, ["cuda", "cpu"]);
        assert_eq!(config.models.source, Source::Bucket { bucket: "bucket".into(), prefix: "a/b".into() });
    }

    #[test]
    fn all_problems_come_at_once() {
        let text = problem(
            "project: p\nrequests: {subscripton: x, max_outstanding_messages: -1}\nresponses: {topic: a/b}\n\
             models: {source: \"gs://X\", poll_interval: 5}\nbatching: {max_rows: 0}\nhttp: {listen: here}\n\
             inference: {providers: [tpu]}\n",
        );
        for expected in [
            "`requests.subscripton`: unknown key",
            "did you mean `requests.subscription`?",
            "`requests.subscription`: it must be given (set it in the file or as PREDICTD_REQUESTS__SUBSCRIPTION)",
            "`requests.max_outstanding_messages`: expected a whole number from 1 to 1000000, got \"-1\"",
            "`responses.topic`: \"a/b\" is no name",
            "`models.source`: \"gs://X\" names no bucket",
            "`models.poll_interval`: expected a duration such as 60s, 500ms or 1m30s, got \"5\"",
            "`batching.max_rows`: expected a whole number from 1",
            "`http.listen`: expected an address such as 127.0.0.1:8080, got \"here\"",
            "unknown execution provider \"tpu\"",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in:\n{text}");
        }
        assert!(text.trim_end().lines().last().unwrap().starts_with("hint: "));
    }

    #[test]
    fn broken_yaml_and_missing_files_are_named() {
        assert!(problem("a: [").contains("is no YAML"));
        let missing = Config::load(&["/nowhere.yaml".into()]).unwrap_err().to_string();
        assert!(missing.contains("cannot read \"/nowhere.yaml\""), "{missing}");
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        let mut all = Effective::default();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{MINIMAL}batching: {{max_rows: 7}}\n")).unwrap();
        all.add_file(file.path());
        let rendered = all.render();
        assert_eq!(load(&rendered, &[]), all.check());
        assert!(rendered.contains("max_rows: 7  # "), "{rendered}");
    }

    #[test]
    fn the_documented_file_has_exactly_the_keys() {
        let text = include_str!("../../config/predictd.yaml");
        let all: String = text.lines().map(|line| line.replacen("#: ", "", 1) + "\n").collect();
        let mut effective = Effective::default();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), all).unwrap();
        effective.add_file(file.path());
        let documented: Vec<&str> = effective.given.keys().copied().collect();
        let mut known: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
        known.sort_unstable();
        assert_eq!(documented, known);
        assert_eq!(effective.check().map(|_| ()), Ok(()));
    }
}
