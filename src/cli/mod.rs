//! The command line: arguments and exit codes here, one file for each command beside.

pub mod batch;
pub mod check;
pub mod execute;
pub mod generate;
pub mod inspect;
pub mod load_model;
pub mod output;
pub mod predict;
pub mod push;
pub mod ready;
pub mod report;
pub mod run;
pub mod sample;
pub mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum as _};
use clap_complete::Shell;

/// The exit code of a command. Bad usage ends with 2, by clap itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    Failure = 1,
    /// A batch with failed rows.
    FailedRows = 3,
    /// EX_CONFIG of sysexits.h.
    BadConfig = 78,
}

const ABOUT: &str = "Turns Google Pub/Sub messages and HTTP requests into predictions with ONNX models that reload themselves";

const AFTER_HELP: &str = "\
Try a model without Pub/Sub (inspect shows a request that works):
  predictd inspect models/wine/2
  predictd predict --model models/wine/2 --input request.json
  predictd serve --models models
  predictd batch --model models/wine --input wines.csv --output out

Then serve it over Pub/Sub, and over HTTP too:
  predictd push ./wine gs://my-models/models/wine/3
  predictd check --config predictd.yaml
  predictd run --config predictd.yaml

Variables:
  PREDICTD_<SECTION>__<KEY>     Wins over the files; a list is separated by commas, such as
                                PREDICTD_REQUESTS__ALLOWED_BUCKETS=images,tables/daily
  PREDICTD_LOG                  Log filter, such as debug or info,predictd=trace [default: info]
  OTEL_EXPORTER_OTLP_ENDPOINT   Collector of traces and metrics, such as http://127.0.0.1:4318
  ORT_DYLIB_PATH                Path of libonnxruntime, where no key or option names it
  PORT, AIP_HTTP_PORT           Port of `serve`, which then listens on 0.0.0.0
  AIP_STORAGE_URI               Models of `serve`, where neither an option nor a key names them
  PUBSUB_EMULATOR_HOST          Host and port of a local Pub/Sub: plaintext, no credentials
  STORAGE_EMULATOR_HOST         The same for Cloud Storage
  STORAGE_EMULATOR_HOST_GRPC    Its gRPC address, where that differs

Exit codes:
  0 fine, 1 failure, 2 bad usage, 3 a batch with some failed rows, 78 bad configuration";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "predictd", version, about = ABOUT, after_long_help = AFTER_HELP)]
#[command(after_help = "`predictd --help` says more.")]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// A command, with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve predictions until SIGTERM or SIGINT
    ///
    /// Pulls requests from the subscription, publishes a response to each, and acknowledges a request only
    /// once its response is accepted. The first signal finishes the requests in flight, within
    /// `shutdown.grace`; a second one ends the worker at once.
    #[command(after_long_help = "\
Examples:
  predictd run --config predictd.yaml
  predictd run --config predictd.yaml --config production.yaml
  PREDICTD_BATCHING__MAX_ROWS=256 predictd run --config predictd.yaml")]
    Run(ConfigArgs),

    /// Serve predictions over HTTP alone, without Pub/Sub
    ///
    /// The quickest way to try a model, and what Cloud Run services, Vertex AI and SageMaker start. Needs no
    /// configuration file: the models come from --models, else from AIP_STORAGE_URI, else from
    /// /opt/ml/model, where SageMaker lays them. PORT or AIP_HTTP_PORT make it listen on 0.0.0.0.
    #[command(after_long_help = "\
Examples:
  predictd serve --models ./models
  predictd serve --models gs://my-models/models
  curl 127.0.0.1:8080/predict -d '{\"instances\": [[13.2, 2.8]]}'")]
    Serve(ServeArgs),

    /// Predict for files, on this machine or as a job for the workers
    ///
    /// Reads lines of JSON, tables (CSV), images or lists of files, and writes one result a row, in the input's
    /// order. Files in Cloud Storage (gs://…) are a job for the workers. A row that fails goes to the errors,
    /// with its line; the others get their predictions. After an interruption the same command goes on with
    /// the job. Exit code 3: some rows failed.
    #[command(after_long_help = "\
Examples:
  predictd batch --model models/wine --input wines.csv --output out --output-format csv
  predictd batch --model models/digits --input 'images/*.png' --output out
  predictd batch --config predictd.yaml --model wine --input gs://data/in/ --output gs://data/out
  predictd batch status gs://data/out

docs/batch.md explains formats, results and jobs for workers.")]
    Batch(Box<batch::args::BatchArgs>),

    /// Report every problem of a configuration, or print the effective one
    ///
    /// Reads the same files and variables as `run`. Problems go to standard error, each with its key, value,
    /// origin and remedy, and the exit code is 78. Without problems, the effective configuration goes to
    /// standard output as YAML, with the origin of each given value in a comment. Nothing is connected to
    /// without `--connect`.
    #[command(after_long_help = "\
Examples:
  predictd check --config predictd.yaml
  predictd check --config predictd.yaml --connect
  PREDICTD_HTTP__LISTEN=0.0.0.0:8080 predictd check --config predictd.yaml")]
    Check(CheckArgs),

    /// Show a model's inputs, outputs, metadata and requests that work when pasted back
    #[command(after_long_help = "\
Examples:
  predictd inspect models/wine/2
  predictd inspect models/wine/2/model.onnx --json
  predictd inspect gs://my-models/models/wine")]
    Inspect(InspectArgs),

    /// Make one prediction on this machine, without Pub/Sub
    ///
    /// Takes the body and attributes of one request and prints the body of its response, exactly as `run`
    /// would send it without configuration: no bucket is allowed, so that no reference is followed. The
    /// attributes of the response go to standard error. The exit code of an error response is 1.
    #[command(after_long_help = "\
Examples:
  predictd predict --model models/wine/2 --input request.json
  predictd predict --model models/wine/2 --input rows.csv --content-type text/csv
  gzip -c request.json | predictd predict --model models/wine/2 --attribute content-encoding=gzip
  predictd predict --model gs://my-models/models/digits/2 --input seven.png --content-type image/png")]
    Predict(PredictArgs),

    /// Check a bundle as the worker would, then upload it as a new version
    ///
    /// Loads the model, runs its samples and compares its signature with that of the version before it; a
    /// bundle that workers would refuse is not uploaded. The manifest is uploaded last, so that workers never
    /// see half a version. Nothing is ever overwritten; repeating an interrupted push resumes it.
    #[command(after_long_help = "\
Examples:
  predictd push ./wine gs://my-models/models/wine/3")]
    Push(PushArgs),

    /// Ask the worker on this machine whether it is ready
    ///
    /// For the health check of a container without a shell. When the worker is not ready, prints why and ends
    /// with 1.
    #[command(after_long_help = "\
Examples:
  predictd ready
  predictd ready --address 127.0.0.1:9090")]
    Ready(ReadyArgs),

    /// Print shell completions or the manual page, for packages and shells
    #[command(
        hide = true,
        after_long_help = "\
Examples:
  predictd generate completions bash > /usr/share/bash-completion/completions/predictd
  predictd generate completions man > /usr/share/man/man1/predictd.1"
    )]
    #[command(subcommand)]
    Generate(GenerateCommand),
}

#[derive(Debug, Subcommand)]
pub enum GenerateCommand {
    /// Print the completions of a shell, or the manual page (`man`) as troff
    Completions {
        /// bash, elvish, fish, powershell, zsh or man
        #[arg(value_name = "SHELL|man", value_parser = page)]
        what: Page,
    },
}

/// A page that `generate completions` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Shell(Shell),
    Manual,
}

fn page(text: &str) -> Result<Page, String> {
    if text == "man" {
        return Ok(Page::Manual);
    }
    Shell::from_str(text, false)
        .map(Page::Shell)
        .map_err(|_| "expected bash, elvish, fish, powershell, zsh or man".to_owned())
}

/// The files of the configuration.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// YAML file; may be given several times, later files win key by key
    ///
    /// Variables named PREDICTD_… win over all files. config/predictd.yaml explains every key.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Folder with MODEL/VERSION/model.onnx, or of one version; may be gs://…
    #[arg(long, value_name = "DIR|gs://…")]
    pub models: Option<String>,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Ask the servers too: credentials, subscriptions, topic, buckets, rights and models
    ///
    /// One line each on standard error: ok, problem with a remedy, or unknown where the server does not say.
    /// After a problem the exit code is 1. Nothing is changed, published or received.
    #[arg(long)]
    pub connect: bool,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A model.onnx, a version's folder or a model's folder (its newest version); folders may be gs://…
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Measure calls of several sizes and threads, and print the choice that a worker on this machine makes
    #[arg(long, conflicts_with = "json")]
    pub tune: bool,
    /// Path of libonnxruntime.so
    #[arg(long, value_name = "PATH")]
    pub library: Option<String>,
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A model.onnx, a version's folder or a model's folder (its newest version); folders may be gs://…
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Body of the request; - is standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub input: PathBuf,
    /// Type of the body, such as text/csv or image/png; detected where it is not given
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Attribute of the request, such as content-encoding=gzip; may be given several times
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = predict::attribute)]
    pub attributes: Vec<(String, String)>,
    /// Print all attributes of the response, not only those without which its body cannot be read
    #[arg(long)]
    pub print_attributes: bool,
    /// Path of libonnxruntime.so
    #[arg(long, value_name = "PATH")]
    pub library: Option<String>,
}

#[derive(Debug, Args)]
pub struct PushArgs {
    /// Folder with model.onnx and the other files of the version
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Destination: gs://BUCKET/PREFIX/MODEL/VERSION
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// Allow other inputs or outputs than those of the version before
    ///
    /// Workers refuse a version with another signature unless it declares that this is meant. Clients must be
    /// ready for it.
    #[arg(long)]
    pub new_signature: bool,
    /// Path of libonnxruntime.so
    #[arg(long, value_name = "PATH")]
    pub library: Option<String>,
}

/// Arguments of `ready`.
#[derive(Debug, Args)]
pub struct ReadyArgs {
    /// Address of the worker [default: PREDICTD_HTTP__LISTEN, else 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<SocketAddr>,
}

#[cfg(test)]
mod tests;
