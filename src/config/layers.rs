//! The layers of a configuration, which are the files and then the environment, taken apart into keys.
//!
//! A later layer wins key by key; a list is replaced as a whole. A key without a value (`key:`) is not given,
//! so that everything below a section's name may be commented out; an empty string (`key: ""`) is given.
//! Unknown keys and values of the wrong shape are reported here.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use config::{ConfigError, File, FileStoredFormat, Format, Map, Source as _, Value, ValueKind};

use super::keys::{self, Key, Kind};
use super::problems::{Origin, Problem};
use crate::yaml;

const PREFIX: &str = "PREDICTD_";

/// A key's value in the layer that won.
pub(super) struct Given {
    /// The value as written, or the items of a list. `None`: unusable, which is reported already.
    pub(super) texts: Option<Vec<String>>,
    pub(super) origin: Origin,
}

/// The keys that the layers so far give, and their problems.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) given: HashMap<&'static str, Given>,
    pub(super) problems: Vec<Problem>,
    /// True when a file could not be read, so that it may give any key.
    pub(super) has_unreadable: bool,
}

impl Layers {
    pub(super) fn add_file(&mut self, path: &Path) {
        let origin = Origin::File(path.to_owned());
        let unusable = |message: String, hint: &str| Problem {
            key: None,
            value: None,
            origin: origin.clone(),
            message,
            hint: hint.to_owned(),
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let hint = "give --config the path of a YAML file that this user may read";
                self.has_unreadable = true;
                return self.problems.push(unusable(format!("the file cannot be read: {error}"), hint));
            }
        };
        match File::from_str(&text, Yaml).collect() {
            Ok(table) => self.add_table("", table.into_iter().collect(), &origin),
            Err(error) => {
                let cause = match error {
                    ConfigError::FileParse { cause, .. } => cause.to_string(),
                    other => other.to_string(),
                };
                let hint = "write `key: value` lines, indented by spaces alike, each key once";
                self.has_unreadable = true;
                self.problems.push(unusable(format!("the file is not a YAML mapping: {cause}"), hint));
            }
        }
    }

    fn add_table(&mut self, section: &str, table: BTreeMap<String, Value>, origin: &Origin) {
        for (name, value) in table {
            let path = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
            // A name that contains a dot is no nested key.
            let key = if name.contains('.') { None } else { keys::find(&path) };
            match (key, value.kind) {
                (Some(key), kind) => self.add_value(key, kind, origin),
                (None, ValueKind::Table(inner)) if keys::is_section(&path) => {
                    self.add_table(&path, inner.into_iter().collect(), origin);
                }
                (None, ValueKind::Nil) if keys::is_section(&path) => {}
                (None, kind) if keys::is_section(&path) => {
                    let below: Vec<&str> = keys::in_section(&path).collect();
                    self.problems.push(Problem {
                        value: Some(Value::new(None, kind).to_string()),
                        message: "expected a section".into(),
                        hint: format!("write `{path}:` and, indented below it, any of {}", below.join(", ")),
                        key: Some(path),
                        origin: origin.clone(),
                    });
                }
                (None, _) => self.add_unknown(path, origin.clone()),
            }
        }
    }

    fn add_value(&mut self, key: &'static Key, kind: ValueKind, origin: &Origin) {
        let hint = match &kind {
            ValueKind::Nil => return,
            ValueKind::Boolean(_) if matches!(key.kind, Kind::Flag) => String::new(),
            ValueKind::Boolean(_) | ValueKind::Float(_) => {
                format!("{}; quote a value that is meant as a string", key.hint)
            }
            _ => key.hint.to_owned(),
        };
        let texts = match &kind {
            ValueKind::Array(items) if key.kind.is_list() => {
                items.iter().map(|item| text(&item.kind)).collect()
            }
            ValueKind::Boolean(flag) if matches!(key.kind, Kind::Flag) => Some(vec![flag.to_string()]),
            kind => text(kind).map(|text| split(key, text)),
        };
        if texts.is_none() {
            self.problems.push(Problem {
                key: Some(key.path.into()),
                value: Some(Value::new(None, kind).to_string()),
                origin: origin.clone(),
                message: format!("expected {}", key.kind.expected()),
                hint,
            });
        }
        self.given.insert(key.path, Given { texts, origin: origin.clone() });
    }

    pub(super) fn add_variables(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        let sorted: BTreeMap<OsString, OsString> = variables.into_iter().collect();
        for (name, value) in sorted {
            let name = name.to_string_lossy();
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if is_foreign(rest) {
                continue;
            }
            let origin = Origin::Variable(name.clone().into_owned());
            let path = rest.to_ascii_lowercase().replace("__", ".");
            let Some(key) = keys::find(&path) else {
                self.add_unknown(path, origin);
                continue;
            };
            let texts = value.to_str().map(|text| split(key, text.to_owned()));
            if texts.is_none() {
                self.problems.push(Problem {
                    key: Some(path),
                    value: Some(value.to_string_lossy().into_owned()),
                    origin: origin.clone(),
                    message: "expected a string in UTF-8".into(),
                    hint: key.hint.into(),
                });
            }
            self.given.insert(key.path, Given { texts, origin });
        }
    }

    /// Adds the value of one key.
    pub(super) fn add_one(&mut self, key: &'static Key, text: String, origin: Origin) {
        self.given.insert(key.path, Given { texts: Some(split(key, text)), origin });
    }

    fn add_unknown(&mut self, path: String, origin: Origin) {
        let is_variable = matches!(origin, Origin::Variable(_));
        let spell = |key: &str| match is_variable {
            true => format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__")),
            false => key.to_owned(),
        };
        let section = path.split_once('.').map_or("", |(section, _)| section);
        let hint = match keys::nearest(&path) {
            Some(key) if key == path => {
                let (section, name) = key.split_once('.').unwrap_or(("", key));
                format!("write `{section}:` and, indented below it, `{name}:`")
            }
            Some(key) => format!("did you mean `{}`?", spell(key)),
            None if keys::is_section(section) => {
                let known: Vec<&str> = keys::in_section(section).collect();
                format!("`{section}` has {}", known.join(", "))
            }
            None => "remove it; config/predictd.yaml has every key that exists".into(),
        };
        self.problems.push(Problem {
            key: Some(path),
            value: None,
            origin,
            message: "unknown key".into(),
            hint,
        });
    }
}

/// The parser of every YAML file, behind the `config` crate.
#[derive(Clone, Debug)]
struct Yaml;

impl Format for Yaml {
    fn parse(
        &self,
        _: Option<&String>,
        text: &str,
    ) -> Result<Map<String, Value>, Box<dyn Error + Send + Sync>> {
        let table = yaml::parse::<Option<_>>(text).map_err(|error| {
            // The first line alone, since a problem is one line; the others show the lines around the place.
            error.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })?;
        Ok(table.unwrap_or_default())
    }
}

impl FileStoredFormat for Yaml {
    fn file_extensions(&self) -> &'static [&'static str] {
        &["yaml"]
    }
}

/// True for `PREDICTD_LOG`, which is the log filter, and for the variables that Kubernetes gives to every
/// container beside a service called predictd.
fn is_foreign(rest: &str) -> bool {
    matches!(rest, "LOG" | "PORT") || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

/// A scalar as it was written. `None` for another value, and for a scalar whose original spelling is lost,
/// such as 1.10.
fn text(kind: &ValueKind) -> Option<String> {
    match kind {
        ValueKind::String(text) => Some(text.clone()),
        ValueKind::I64(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Splits a list at its commas; another value is one item.
pub(super) fn split(key: &Key, text: String) -> Vec<String> {
    if !key.kind.is_list() {
        return vec![text];
    }
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',').map(|item| item.trim().to_owned()).collect()
}
