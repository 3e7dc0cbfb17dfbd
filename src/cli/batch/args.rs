//! Arguments of `predictd batch`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::cli::ConfigArgs;
use crate::config::units;
use crate::files::job::{InputFormat, JobSpec, OutputFormat};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BatchArgs {
    #[command(subcommand)]
    pub command: Option<BatchCommand>,
    #[command(flatten)]
    pub job: JobArgs,
}

#[derive(Debug, Subcommand)]
pub enum BatchCommand {
    /// Show how far a job is, and what keeps it from its end
    Status(FolderArgs),
    /// Stop a job; the same `predictd batch` command goes on with it
    Cancel(FolderArgs),
}

#[derive(Debug, Args)]
pub struct FolderArgs {
    /// The output folder of the job
    #[arg(value_name = "FOLDER")]
    pub folder: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const INPUT: &str = "Input";
const RESULTS: &str = "Results";
const WORKERS: &str = "Jobs for workers (gs://…)";

#[derive(Debug, Args)]
pub struct JobArgs {
    /// On this machine: a model.onnx, a version's folder or a model's folder; for workers: a model's name
    #[arg(long, value_name = "MODEL", required = true)]
    pub model: Option<String>,
    /// Files, folders or wildcards in quotes; several, if wanted. gs://… makes it a job for the workers
    #[arg(long, value_name = "FILES", required = true, num_args = 1..)]
    pub input: Vec<String>,
    /// Folder of the results, created where there is none
    #[arg(long, value_name = "FOLDER", required = true)]
    pub output: Option<String>,
    /// Version that computes all rows [default: the newest]
    #[arg(long, value_name = "VERSION")]
    pub model_version: Option<String>,
    /// Path of libonnxruntime.so
    #[arg(long, value_name = "PATH")]
    pub library: Option<String>,

    /// Format of the input [default: by the names of the files]
    #[arg(long, value_name = "FORMAT", help_heading = INPUT)]
    pub input_format: Option<InputFormat>,
    /// Field that identifies an instance: it stands in the results in place of the instance, and the model
    /// does not get it
    #[arg(long, value_name = "FIELD", help_heading = INPUT)]
    pub key_field: Option<String>,
    /// The only fields that the model gets, separated by commas
    #[arg(long, value_name = "FIELDS", value_delimiter = ',', conflicts_with = "exclude", help_heading = INPUT)]
    pub include: Vec<String>,
    /// Fields that the model does not get, separated by commas
    #[arg(long, value_name = "FIELDS", value_delimiter = ',', help_heading = INPUT)]
    pub exclude: Vec<String>,
    /// Fields for every instance that lacks them, as a JSON object such as '{"top": 3}'
    #[arg(long, value_name = "JSON", value_parser = parameters, help_heading = INPUT)]
    pub parameters: Option<Map<String, Value>>,

    /// Format of the results
    #[arg(long, value_name = "FORMAT", default_value = "jsonl", help_heading = RESULTS)]
    pub output_format: OutputFormat,
    /// Failed rows beyond which the job stops [default: no limit]
    #[arg(long, value_name = "ROWS", help_heading = RESULTS)]
    pub max_errors: Option<u64>,
    /// Most input of a shard. Each shard is a file of results, and computed anew after an interruption
    /// [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = RESULTS)]
    pub shard_size: Option<u64>,

    #[command(flatten, next_help_heading = WORKERS)]
    pub config: ConfigArgs,
    /// Topic that the workers take jobs from [default: by the configuration]
    #[arg(long, value_name = "TOPIC", help_heading = WORKERS)]
    pub topic: Option<String>,
    /// Return once the topic has the job, without watching it
    #[arg(long, help_heading = WORKERS)]
    pub detach: bool,
}

impl JobArgs {
    pub fn spec(&self) -> JobSpec {
        let own = |text: &Option<String>| text.clone().unwrap_or_default();
        let spec = JobSpec::new(own(&self.model), self.input.clone(), own(&self.output));
        JobSpec {
            model_version: self.model_version.clone(),
            input_format: self.input_format,
            output_format: self.output_format,
            key_field: self.key_field.clone(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            parameters: self.parameters.clone().unwrap_or_default(),
            max_errors: self.max_errors,
            shard_size: self.shard_size.unwrap_or(spec.shard_size),
            ..spec
        }
    }

    /// True for a job of workers.
    ///
    /// # Errors
    /// Some addresses are objects and some are paths.
    pub fn is_remote(&self) -> Result<bool, String> {
        let addresses = || self.input.iter().chain(&self.output);
        let is_object = |address: &&String| address.starts_with("gs://");
        match (addresses().find(is_object), addresses().find(|address| !is_object(address))) {
            (Some(object), Some(path)) => Err(format!(
                "expected input and output all in Cloud Storage or all on this machine, got {object} and {path}"
            )),
            (object, _) => Ok(object.is_some()),
        }
    }
}

fn parameters(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("expected a JSON object such as {{\"top\": 3}}: {error}"))
}

fn size(text: &str) -> Result<u64, String> {
    let size = units::size(text).filter(|size| *size > 0);
    size.map(|size| size as u64).ok_or_else(|| "expected a size such as 64MiB".to_owned())
}
