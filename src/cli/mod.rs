//! The command line: its definition here, a file a command beside it.

pub mod check;
pub mod inspect;
pub mod model;
pub mod predict;
pub mod push;
pub mod ready;
pub mod report;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok,
    Failure,
    BadConfig,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::BadConfig => 78, // EX_CONFIG of sysexits.h
        })
    }
}

const AFTER_HELP: &str = "\
Try a model without Pub/Sub:
  predictd inspect models/wine/2
  echo '{\"instances\": [[14.2, 1.7, 2.4, 15.6, 127, 2.8, 3.1, 0.3, 2.3, 5.6, 1.0, 3.9, 1065]]}' \\
    | predictd predict --model models/wine/2

Run the worker:
  predictd check --config predictd.yaml
  predictd run --config predictd.yaml

Environment:
  PREDICTD_REQUESTS__SUBSCRIPTION=…  any key of the configuration, `__` between levels
  PREDICTD_LOG=debug                 what is logged, as tracing filters say it [default: info]
  ORT_DYLIB_PATH                     libonnxruntime.so, unless `inference.library` names it
  PUBSUB_EMULATOR_HOST, STORAGE_EMULATOR_HOST, STORAGE_EMULATOR_HOST_GRPC  local servers instead of Google's

Exit codes: 0 fine, 1 failed, 2 bad usage, 78 bad configuration";

/// Turns Google Pub/Sub messages into predictions with ONNX models that reload themselves.
#[derive(Debug, Parser)]
#[command(name = "predictd", version, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the worker until SIGTERM or SIGINT; a second signal ends it at once.
    Run(ConfigArgs),
    /// List every problem of a configuration, or print what it comes to.
    Check(ConfigArgs),
    /// Show a model's inputs, outputs and metadata, and a request that works when pasted back.
    Inspect(InspectArgs),
    /// Answer one request on this machine, without Pub/Sub, exactly as the worker would.
    Predict(PredictArgs),
    /// Check a bundle as the worker would, then upload it as a new version; nothing is ever overwritten.
    Push(PushArgs),
    /// Ask the worker on this machine whether it is ready, and if not, why: for a container's health check.
    Ready(ReadyArgs),
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// A YAML file; may be given several times, later files win.
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A model.onnx, the folder of a version, or the folder of a model (then its newest version); gs://… for the folders.
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Path of libonnxruntime.so.
    #[arg(long, value_name = "PATH")]
    pub library: Option<String>,
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A model.onnx, the folder of a version, or the folder of a model (then its newest version); gs://… for the folders.
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// The request's body; `-` reads standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    pub input: PathBuf,
    /// The request's content type, as the attribute `content-type` would say it.
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Another attribute of the request, such as `content-encoding=gzip`; may be given several times.
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = predict::attribute)]
    pub attributes: Vec<(String, String)>,
    /// Path of libonnxruntime.so.
    #[arg(long, value_name = "PATH")]
    pub library: Option<String>,
}

#[derive(Debug, Args)]
pub struct PushArgs {
    /// The folder with model.onnx and what belongs to it.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Where the version goes: gs://BUCKET/PREFIX/MODEL/VERSION.
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// Path of libonnxruntime.so.
    #[arg(long, value_name = "PATH")]
    pub library: Option<String>,
}

#[derive(Debug, Args)]
pub struct ReadyArgs {
    /// Where the worker listens [default: PREDICTD_HTTP__LISTEN, else 127.0.0.1:8080].
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<SocketAddr>,
}
