//! ONNX Runtime: finding its library and setting it up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use ort::environment::Environment;
use ort::logging::LogLevel;

use crate::cli::report::Hint as _;
use crate::config::{Inference, Provider};

/// ONNX Runtime, set up once a process.
#[derive(Debug)]
pub struct Runtime {
    environment: Environment,
    threads: usize,
    /// Rows in one call at most, where requests share calls.
    pub(super) max_rows: usize,
}

/// As `batching.max_rows` has it.
const MAX_ROWS: usize = 128;

impl Runtime {
    /// Loads the library that the configuration, the environment or the system names.
    pub fn load(inference: &Inference) -> anyhow::Result<Self> {
        let library = library(inference.library.as_deref());
        let environment = ort::init_from(&library)
            .map_err(|error| anyhow::anyhow!("{error}"))
            .and_then(|builder| {
                builder
                    .with_name("predictd")
                    .with_telemetry(false)
                    .with_logger(Arc::new(log))
                    .with_execution_providers(providers(&inference.providers))
                    .build()
                    .map_err(|error| anyhow::anyhow!("{error}"))
            })
            .with_context(|| format!("cannot load ONNX Runtime from {}", library.display()))
            .hint(
                "set `inference.library` or ORT_DYLIB_PATH to libonnxruntime.so (1.17 or later); \
                 scripts/fetch-onnxruntime gets one and prints its path",
            )?;
        Ok(Self { environment, threads: inference.threads, max_rows: MAX_ROWS })
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The same for one inference thread.
    pub(crate) fn with_one_thread(&self) -> Self {
        Self { environment: self.environment.clone(), threads: 1, max_rows: self.max_rows }
    }

    /// Sets how many rows are in one call at most.
    pub fn with_max_rows(self, max_rows: usize) -> Self {
        Self { max_rows, ..self }
    }

    /// How many inference threads there are.
    pub fn threads(&self) -> usize {
        self.threads
    }
}

/// What ONNX Runtime would write to standard error by itself. Its errors are results that somebody gets: the sender of a request, or
/// whoever reads why a version does not serve. They may say what stands in a request, too, so only `debug` shows them.
fn log(level: LogLevel, category: &str, _: &str, place: &str, text: &str) {
    match level {
        LogLevel::Fatal => tracing::error!(target: "onnxruntime", category, place, "{text}"),
        LogLevel::Error => tracing::debug!(target: "onnxruntime", category, place, "{text}"),
        LogLevel::Warning | LogLevel::Info | LogLevel::Verbose => {
            tracing::trace!(target: "onnxruntime", category, place, "{text}");
        }
    }
}

/// The configuration's choice, then ORT_DYLIB_PATH, then beside the binary, then the system's.
fn library(configured: Option<&Path>) -> PathBuf {
    if let Some(configured) = configured {
        return configured.to_owned();
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let name = "libonnxruntime.so";
    std::env::current_exe()
        .ok()
        .and_then(|binary| Some(binary.parent()?.join(name)))
        .filter(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

fn providers(preferred: &[Provider]) -> Vec<ort::ep::ExecutionProviderDispatch> {
    preferred
        .iter()
        .map(|provider| match provider {
            Provider::Cpu => ort::ep::CPU::default().build(),
            Provider::Cuda => ort::ep::CUDA::default().build().error_on_failure(),
        })
        .collect()
}
