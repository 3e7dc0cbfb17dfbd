//! Loads one model version for the one-shot commands.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::{self, Inference};
use crate::hint::Hint as _;
use crate::lifecycle::listing::ListedVersion;
use crate::lifecycle::load;
use crate::lifecycle::source::Source;
use crate::lifecycle::version::{self, Version};
use crate::model::Model;
use crate::model::bundle::Bundle;
use crate::model::onnx::runtime::Runtime;
use crate::model::open::OpenedModel;

/// MLflow's file with the request body of a model's input example.
const SERVING_EXAMPLE: &str = "serving_input_example.json";

/// A model, and the example beside it.
#[derive(Debug)]
pub struct ModelWithExample {
    pub model: Model,
    /// The content of MLflow's `serving_input_example.json`.
    pub serving_example: Option<String>,
}

impl ModelWithExample {
    fn new(model: Model, folder: &Path) -> Self {
        Self { model, serving_example: std::fs::read_to_string(folder.join(SERVING_EXAMPLE)).ok() }
    }
}

/// Threads of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    One,
    /// Threads of a worker on this machine, with calls measured in every way.
    Measured,
    /// One for each core.
    All,
}

pub fn runtime(library: Option<&str>, threads: Threads) -> anyhow::Result<Runtime> {
    let inference = Inference { library: library.map(Into::into), ..Inference::default() };
    match threads {
        Threads::One => Runtime::load(&inference),
        Threads::Measured => Ok(Runtime::load(&inference.with_threads(0))?.measuring_all()),
        Threads::All => {
            let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
            Runtime::load(&inference.with_threads(cores))
        }
    }
}

/// Loads a model file, the folder of a version, or the newest version in the folder of a model. Folders may
/// be `gs://…`.
pub fn load(address: &str, runtime: Runtime) -> impl Future<Output = anyhow::Result<ModelWithExample>> {
    load_version(address, None, runtime)
}

/// Like [`load()`], with this version where the address is that of a model on this machine.
pub async fn load_version(
    address: &str,
    version: Option<&str>,
    runtime: Runtime,
) -> anyhow::Result<ModelWithExample> {
    let runtime = Arc::new(runtime);
    match address.strip_prefix("gs://") {
        Some(object) => from_bucket(runtime, address, object).await,
        None => from_path(runtime, Path::new(address), version).await,
    }
}

async fn from_path(
    runtime: Arc<Runtime>,
    path: &Path,
    version: Option<&str>,
) -> anyhow::Result<ModelWithExample> {
    let path = path
        .canonicalize()
        .with_context(|| format!("cannot find the model {path:?}"))
        .hint("name a model.onnx, the folder of a version, or the folder of a model")?;
    if path.is_file() {
        return load_file(&runtime, &path);
    }
    if path.join("model.onnx").exists() || path.join("MLmodel").exists() {
        let ((name, version), from) = (version::names(&path), path.display().to_string());
        return load_folder(runtime, path, name, version.to_string(), from).await;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = path.parent().unwrap_or(&path).to_owned();
    newest(runtime, Source::in_place(parent), &name, version).await
}

fn load_file(runtime: &Runtime, path: &Path) -> anyhow::Result<ModelWithExample> {
    let bundle = Bundle::of_file(path);
    let opened =
        OpenedModel::open(runtime, &bundle).with_context(|| format!("cannot load {}", path.display()))?;
    let folder = path.parent().unwrap_or(path);
    let (name, version) = version::names(folder);
    let model = Model::new(&name, version.as_str(), path.display().to_string(), bundle.declaration, opened);
    Ok(ModelWithExample::new(model, folder))
}

async fn load_folder(
    runtime: Arc<Runtime>,
    folder: PathBuf,
    name: String,
    version: String,
    from: String,
) -> anyhow::Result<ModelWithExample> {
    let load = move || {
        let model = load::load(&runtime, &folder, &name, &version, from.clone())
            .with_context(|| format!("cannot load {from}"))?;
        Ok(ModelWithExample::new(model, &folder))
    };
    tokio::task::spawn_blocking(load).await?
}

async fn from_bucket(runtime: Arc<Runtime>, address: &str, object: &str) -> anyhow::Result<ModelWithExample> {
    let mut parts: Vec<&str> = object.trim_end_matches('/').split('/').collect();
    let bucket = parts.remove(0).to_owned();
    let (model, version, prefix) = match &parts[..] {
        [prefix @ .., model, version] if Version::parse(version).is_some() => (model, Some(*version), prefix),
        [prefix @ .., model] => (model, None, prefix),
        [] => {
            return Err(anyhow::anyhow!("expected the address of a model, got {address:?}"))
                .hint("write gs://BUCKET/PREFIX/MODEL or gs://BUCKET/PREFIX/MODEL/VERSION");
        }
    };
    let source = config::Source::Bucket { bucket, prefix: prefix.join("/") };
    newest(runtime, Source::connect(&source, &config::Cache::default()).await?, model, version).await
}

async fn newest(
    runtime: Arc<Runtime>,
    source: Source,
    name: &str,
    version: Option<&str>,
) -> anyhow::Result<ModelWithExample> {
    let is_wanted = |listed: &ListedVersion| {
        listed.model == name && version.is_none_or(|version| listed.version.as_str() == version)
    };
    let versions = source.list().await?.versions;
    let found = versions.into_iter().filter(is_wanted).max_by(|a, b| a.version.cmp(&b.version));
    let Some(listed) = found else {
        let wanted = version.map_or_else(|| "a version".to_owned(), |version| format!("version {version:?}"));
        return Err(anyhow::anyhow!("{wanted} of the model {name:?} is not there")).hint(
            "a version is a folder MODEL/VERSION with a model.onnx; VERSION is a whole number or a \
                 semantic version",
        );
    };
    let fetched = fetch(&source, &listed).await?;
    let from = source.address(&listed);
    load_folder(runtime, fetched.folder.clone(), name.to_owned(), listed.version.to_string(), from).await
}

/// Fetches a version, with a progress bar on a terminal.
pub(super) async fn fetch(
    source: &Source,
    listed: &ListedVersion,
) -> anyhow::Result<crate::lifecycle::source::Fetched> {
    let total = listed.files.iter().map(|file| file.size).sum();
    let bar = progress_bar(total, format!("{} {}", listed.model, listed.version));
    let fetched = source.fetch(listed, |bytes| bar.inc(bytes)).await;
    bar.finish_and_clear();
    fetched
}

/// Makes a bar that counts bytes; it draws on a terminal only.
pub(super) fn progress_bar(total: u64, message: String) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}")
    {
        bar.set_style(style);
    }
    bar.set_message(message);
    bar
}
