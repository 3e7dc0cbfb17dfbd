//! `predictd serve`: a worker that answers over HTTP alone.

use std::path::Path;

use super::run::{raise_open_files, stop_on_signals};
use super::{Exit, ServeArgs, output};
use crate::config::Origin;
use crate::config::load::{Loaded, Override, load_without_pubsub};
use crate::ops;
use crate::pipeline::{self, Transports};

const SOURCE: &str = "models.source";
/// The folder in which SageMaker lays a model.
const SAGEMAKER: &str = "/opt/ml/model";

/// Runs the worker until a signal, or until the pipeline fails.
pub async fn run(args: &ServeArgs) -> anyhow::Result<Exit> {
    let models = args.models.clone().map(|models| (SOURCE, models, Origin::Option("--models")));
    let options: Vec<Override> = models.into_iter().chain(listen()).collect();
    let defaults: Vec<Override> = models_of_platform().into_iter().collect();
    let loaded = load_without_pubsub(&args.config.config, std::env::vars_os(), &defaults, &options);
    let Loaded { mut config, .. } = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => {
            output::print_error(&format!("error: {problems}\n"));
            return Ok(Exit::BadConfig);
        }
    };
    config.http.predictions = true;
    ops::logs::init(&config.project);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        source = %config.models.source,
        default_model = config.models.default,
        threads = config.inference.threads,
        "predictd serves over HTTP alone"
    );
    raise_open_files();
    ops::init("", "");
    pipeline::run(config, Transports::HttpAlone, stop_on_signals()?).await.map(|()| Exit::Ok)
}

/// The models' source, where the platform names it: Vertex AI, else SageMaker.
fn models_of_platform() -> Option<Override> {
    let variable = "AIP_STORAGE_URI";
    if let Some(address) = std::env::var(variable).ok().filter(|address| !address.is_empty()) {
        return Some((SOURCE, address, Origin::Variable(variable.to_owned())));
    }
    let is_there = Path::new(SAGEMAKER).is_dir();
    is_there.then(|| (SOURCE, SAGEMAKER.to_owned(), Origin::Default))
}

/// The address, where the platform chooses the port: it reaches the container from outside.
fn listen() -> Option<Override> {
    let port =
        |name: &str| Some((name.to_owned(), std::env::var(name).ok().filter(|port| !port.is_empty())?));
    let (name, port) = port("AIP_HTTP_PORT").or_else(|| port("PORT"))?;
    Some(("http.listen", format!("0.0.0.0:{port}"), Origin::Variable(name)))
}
