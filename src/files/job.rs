//! A job as it is asked for, and as it is planned.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Kind of the input files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum InputFormat {
    /// Each line is an instance, or the body of a whole request.
    Jsonl,
    /// A table with a header.
    Csv,
    /// Each line is the address of a file, which is one instance.
    FileList,
    /// Each file is one instance, such as an image.
    Files,
}

/// Form of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OutputFormat {
    #[default]
    Jsonl,
    Csv,
}

/// Default for the bytes of a shard.
const SHARD_SIZE: u64 = 64 << 20;

/// A job as a user asks for it. Field names are those of the command's options and of a job's message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// The model's name; on this machine alone, the path of a model.
    pub model: String,
    /// The only version that computes; the newest one where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    /// Addresses of files, with wildcards.
    #[serde(deserialize_with = "one_or_many")]
    pub input: Vec<String>,
    /// The folder of the results.
    pub output: String,
    /// By the names of the files where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_format: Option<InputFormat>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub output_format: OutputFormat,
    /// Field whose value stands in the results in place of the instance. The model does not get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_field: Option<String>,
    /// The only fields that the model gets; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Fields that the model does not get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Fields that every instance gets which does not have them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    /// Failed rows beyond which the job stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_errors: Option<u64>,
    /// Bytes of input of a shard, at most, unless one record is larger.
    #[serde(default = "shard_size", skip_serializing_if = "is_shard_size")]
    pub shard_size: u64,
}

impl JobSpec {
    pub fn new(model: String, input: Vec<String>, output: String) -> Self {
        Self {
            model,
            model_version: None,
            input,
            output,
            input_format: None,
            output_format: OutputFormat::default(),
            key_field: None,
            include: Vec::new(),
            exclude: Vec::new(),
            parameters: Map::new(),
            max_errors: None,
            shard_size: SHARD_SIZE,
        }
    }

    /// The first problem of the options among themselves.
    ///
    /// # Errors
    /// The option, what was expected and what came.
    pub fn check(&self) -> Result<(), String> {
        if self.input.is_empty() {
            return Err("\"input\": expected the address of at least one file, got none".to_owned());
        }
        if !self.include.is_empty() && !self.exclude.is_empty() {
            return Err("expected \"include\" or \"exclude\", got both".to_owned());
        }
        if self.shard_size == 0 {
            return Err("\"shard_size\": expected at least 1 byte, got 0".to_owned());
        }
        Ok(())
    }

    /// Differences that the results of another run would show.
    pub fn differs_from(&self, other: &Self) -> Option<String> {
        let [own, others] = [self, other].map(|spec| {
            // The limit of errors changes no result, nor does the size of shards once they are planned. Input is
            // compared file by file, and the version is pinned.
            let same = Self {
                max_errors: None,
                shard_size: SHARD_SIZE,
                input: Vec::new(),
                model_version: None,
                ..spec.clone()
            };
            serde_json::to_value(same).unwrap_or_default()
        });
        let keys = own.as_object().into_iter().chain(others.as_object()).flat_map(Map::keys);
        keys.into_iter().find(|key| own.get(key) != others.get(key)).map(|key| {
            let show = |value: &Value| value.get(key).map_or_else(|| "none".to_owned(), Value::to_string);
            format!("{key:?} is {} there, got {}", show(&others), show(&own))
        })
    }
}

fn shard_size() -> u64 {
    SHARD_SIZE
}

fn is_shard_size(size: &u64) -> bool {
    *size == SHARD_SIZE
}

fn is_default(format: &OutputFormat) -> bool {
    *format == OutputFormat::default()
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an address or a list of addresses")]
    enum Addresses {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Addresses::deserialize(deserializer)? {
        Addresses::One(one) => vec![one],
        Addresses::Many(many) => many,
    })
}

/// A file as it was when the job was planned.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Input {
    pub address: String,
    /// Bytes.
    pub size: u64,
    /// The object's generation; for a local file the time of its last change, in nanoseconds.
    pub generation: i64,
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes, generation {})", self.address, self.size, self.generation)
    }
}

/// A part of the input with its own output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Position in the plan's `inputs`; of the first file where each file is an instance.
    pub input: usize,
    /// First byte, decompressed.
    pub start: u64,
    /// The byte behind the last one.
    pub end: u64,
    /// Number of the first line in its file, from 1.
    pub line: u64,
    pub rows: u64,
}

/// `job.json`: everything that decides about the results of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub job: JobSpec,
    pub input_format: InputFormat,
    /// The version that computes every row.
    pub model_version: String,
    /// When the plan was made, RFC 3339.
    pub created: String,
    pub rows: u64,
    pub inputs: Vec<Input>,
    pub shards: Vec<Shard>,
}

impl Plan {
    /// Checks a plan that was read from the folder `folder`: anyone who may write there may have changed it.
    ///
    /// # Errors
    /// The part that is wrong, what was expected and what came.
    pub fn check(&self, folder: &str) -> Result<(), String> {
        if self.job.output.trim_end_matches('/') != folder.trim_end_matches('/') {
            return Err(format!("expected the output {folder:?}, got {:?}", self.job.output));
        }
        let is_inside = |shard: &Shard| {
            let files = if self.input_format == InputFormat::Files { shard.rows } else { 1 };
            let last = (shard.input as u64).checked_add(files);
            shard.start <= shard.end && last.is_some_and(|last| last <= self.inputs.len() as u64)
        };
        match self.shards.iter().position(|shard| !is_inside(shard)) {
            Some(shard) => Err(format!("shard {shard}: expected a part of the inputs, got another")),
            None => Ok(()),
        }
    }

    /// `prediction.results-00000-of-00040`, under the output folder.
    pub fn results(&self, shard: usize) -> String {
        let end = if self.job.output_format == OutputFormat::Csv { ".csv" } else { "" };
        self.path(&format!("prediction.results-{shard:05}-of-{:05}{end}", self.shards.len()))
    }

    /// `prediction.errors_stats-00000-of-00040`, under the output folder.
    pub fn errors(&self, shard: usize) -> String {
        self.path(&format!("prediction.errors_stats-{shard:05}-of-{:05}", self.shards.len()))
    }

    pub fn path(&self, name: &str) -> String {
        path(&self.job.output, name)
    }
}

/// Address of a file in an output folder.
pub fn path(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

pub const JOB: &str = "job.json";
pub const SUMMARY: &str = "summary.json";
pub const SUCCESS: &str = "_SUCCESS";

/// A job that cannot be, however often it is tried.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A file that is not what it was when the job was planned.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InputChanged(pub String);

impl InputChanged {
    /// True for this error, and for an error of reading that has it inside.
    pub fn is_in(cause: &(dyn std::error::Error + 'static)) -> bool {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause.is::<Self>() || inner.is_some_and(|inner| inner.is::<Self>())
    }
}
