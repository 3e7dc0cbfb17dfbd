//! ONNX Runtime, set up for the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::RunOptions;

use super::library;
use crate::config::{self, Inference, Provider};
use crate::hint::Hint as _;

/// ONNX Runtime, set up once in a process.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(super) environment: Environment,
    threads: Threads,
    /// The largest number of rows in one call that requests share.
    pub(crate) max_rows: usize,
    /// Terminates the calls of a load.
    pub(super) terminator: Option<Arc<Terminator>>,
}

/// Terminates the calls of one load, from another thread.
pub(crate) struct Terminator {
    options: RunOptions,
    is_terminated: AtomicBool,
}

impl std::fmt::Debug for Terminator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminator").field("is_terminated", &self.is_terminated).finish_non_exhaustive()
    }
}

impl Terminator {
    pub(crate) fn new() -> ort::Result<Arc<Self>> {
        Ok(Arc::new(Self { options: RunOptions::new()?, is_terminated: AtomicBool::new(false) }))
    }

    /// Running calls fail soon, later ones at once.
    pub(crate) fn terminate(&self) {
        self.is_terminated.store(true, Ordering::Relaxed);
        if let Err(error) = self.options.terminate() {
            tracing::warn!(%error, "cannot terminate a call of ONNX Runtime");
        }
    }

    pub(crate) fn is_terminated(&self) -> bool {
        self.is_terminated.load(Ordering::Relaxed)
    }

    pub(crate) fn options(&self) -> &RunOptions {
        &self.options
    }
}

/// The threads that may run one model.
#[derive(Debug, Clone, Copy)]
pub struct Threads {
    /// Sessions of a model whose calls use one thread each.
    pub sessions: usize,
    /// Threads that a call may use.
    pub per_call: usize,
    /// Measures calls of all sizes with all numbers of threads, not only what the choice needs.
    pub measures_all: bool,
}

impl Threads {
    pub(crate) const ONE: Self = Self { sessions: 1, per_call: 1, measures_all: false };
}

impl Runtime {
    /// Loads the library that the configuration, the environment or the system specifies.
    pub fn load(inference: &Inference) -> anyhow::Result<Self> {
        let library = library::find(inference.library.as_deref());
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
                "`pip install onnxruntime` where predictd was installed by pip; or set `inference.library` or \
                 ORT_DYLIB_PATH to libonnxruntime (1.17 or later)",
            )?;
        // Other processors than the CPU have threads of their own.
        let is_cpu = inference.providers == [Provider::Cpu];
        let per_call = if is_cpu { inference.call_threads } else { 1 };
        let threads = Threads { sessions: inference.threads, per_call, measures_all: false };
        Ok(Self { environment, threads, max_rows: config::MAX_ROWS, terminator: None })
    }

    /// The same runtime, which measures calls in every way.
    pub(crate) fn measuring_all(self) -> Self {
        Self { threads: Threads { measures_all: true, ..self.threads }, ..self }
    }

    /// The same runtime for one inference thread.
    pub(crate) fn with_one_thread(&self) -> Self {
        Self { threads: Threads::ONE, ..self.clone() }
    }

    /// Sets the largest number of rows in one call that requests share.
    pub fn with_max_rows(self, max_rows: usize) -> Self {
        Self { max_rows, ..self }
    }

    /// The same runtime for these threads, with a load that can be terminated.
    pub(crate) fn for_load(&self, threads: Threads, terminator: Arc<Terminator>) -> Self {
        Self { threads, terminator: Some(terminator), ..self.clone() }
    }

    pub fn threads(&self) -> Threads {
        self.threads
    }
}

/// Receives the messages that ONNX Runtime would otherwise print to standard error. Its errors are also
/// results, which reach the sender of a request, a warning about it or the reason of a refused version. So the
/// log repeats them only at `debug`.
fn log(level: LogLevel, category: &str, _: &str, place: &str, text: &str) {
    match level {
        LogLevel::Fatal => tracing::error!(target: "onnxruntime", category, place, "{text}"),
        LogLevel::Error => tracing::debug!(target: "onnxruntime", category, place, "{text}"),
        LogLevel::Warning | LogLevel::Info | LogLevel::Verbose => {
            tracing::trace!(target: "onnxruntime", category, place, "{text}");
        }
    }
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
