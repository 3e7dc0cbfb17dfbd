//! The layers of a configuration, which are the files and then the environment, taken apart into keys.
//!
//! A later layer wins key by key; a list is replaced as a whole. A key without a value (`key:`) is not given,
//! so that everything below a section's name may be commented out; an empty string (`key: ""`) is given.
//! Unknown keys and values of the wrong shape are reported here.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::keys::{self, Key};
use super::problems::{Origin, Problem};
use crate::yaml;

const PREFIX: &str = "PREDICTD_";

/// A mapping, in the order of its names.
type Table = BTreeMap<String, Value>;

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
        let read = match fs::read_to_string(path) {
            Ok(text) => yaml::parse::<Option<Table>>(&text).map_err(|error| {
                // Only the first line: a problem is one line. The others quote the file.
                let cause = error.lines().next().unwrap_or_default().trim_start_matches("error: ");
                let hint = "write `key: value` lines, indented by spaces alike, each key once";
                (format!("the file is not a YAML mapping: {cause}"), hint)
            }),
            Err(error) => {
                let hint = "give --config the path of a YAML file that this user may read";
                Err((format!("the file cannot be read: {error}"), hint))
            }
        };
        match read {
            Ok(table) => self.add_table("", table.unwrap_or_default(), &origin),
            Err((message, hint)) => {
                self.has_unreadable = true;
                self.problems.push(Problem { key: None, value: None, origin, message, hint: hint.into() });
            }
        }
    }

    fn add_table(&mut self, section: &str, table: Table, origin: &Origin) {
        for (name, value) in table {
            let path = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
            // A name that contains a dot is no nested key.
            let key = if name.contains('.') { None } else { keys::find(&path) };
            match (key, value) {
                (Some(key), value) => self.add_value(key, &value, origin),
                (None, Value::Object(inner)) if keys::is_section(&path) => {
                    self.add_table(&path, inner.into_iter().collect(), origin);
                }
                (None, Value::Null) if keys::is_section(&path) => {}
                (None, value) if keys::is_section(&path) => {
                    let below: Vec<&str> = keys::in_section(&path).collect();
                    self.problems.push(Problem {
                        value: Some(shown(&value)),
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

    fn add_value(&mut self, key: &'static Key, value: &Value, origin: &Origin) {
        let texts = match value {
            Value::Null => return,
            Value::Array(items) if key.kind.is_list() => items.iter().map(text).collect(),
            value => text(value).map(|text| split(key, text)),
        };
        if texts.is_none() {
            let may_be_text = value.is_boolean() || value.is_f64();
            let quote = if may_be_text { "; quote a value that is meant as a string" } else { "" };
            self.problems.push(Problem {
                key: Some(key.path.into()),
                value: Some(shown(value)),
                origin: origin.clone(),
                message: format!("expected {}", key.kind.expected()),
                hint: format!("{}{quote}", key.hint),
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

/// True for `PREDICTD_LOG`, which is the log filter, and for the variables that Kubernetes gives to every
/// container beside a service called predictd.
fn is_foreign(rest: &str) -> bool {
    matches!(rest, "LOG" | "PORT") || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

/// A scalar as it was written. `None` for another value, and for a scalar whose original spelling is lost,
/// such as 1.10.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => number.as_i64().map(|number| number.to_string()),
        _ => None,
    }
}

/// A value in a problem.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
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
