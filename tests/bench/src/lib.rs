//! Shared parts of the programs of `scripts/bench`: the allocator, Google's clients, ONNX Runtime, and the
//! figures of a process.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use google_cloud_auth::credentials::anonymous::Builder as Anonymous;
use google_cloud_pubsub::builder::publisher::PublisherBuilder;
use google_cloud_pubsub::builder::subscriber::Subscribe;
use google_cloud_pubsub::client::{Publisher, Subscriber};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

/// predictd's allocator, so that the comparisons are fair. The driver has it too: its broker shares the cores
/// with the worker that is measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Clients of the topics and subscriptions that `drive` serves at PUBSUB_EMULATOR_HOST.
pub struct Clients {
    pub requests: Subscribe,
    pub responses: PublisherBuilder,
}

impl Clients {
    /// Allows predictd's default number of requests in flight, and publishes after 2 ms at the latest.
    pub async fn connect() -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = std::env::var("PUBSUB_EMULATOR_HOST").context("PUBSUB_EMULATOR_HOST is not set")?;
        let endpoint = format!("http://{host}");
        let subscriber = Subscriber::builder()
            .with_endpoint(&endpoint)
            .with_credentials(Anonymous::new().build())
            .build()
            .await?;
        let requests = subscriber
            .subscribe("projects/demo/subscriptions/prediction-requests")
            .set_max_outstanding_messages(10_000)
            .set_max_outstanding_bytes(128 << 20);
        let responses = Publisher::builder("projects/demo/topics/prediction-responses")
            .with_endpoint(&endpoint)
            .with_credentials(Anonymous::new().build())
            .set_delay_threshold(Duration::from_millis(2));
        Ok(Self { requests, responses })
    }
}

/// A session of one thread, as predictd opens it for a small model.
pub fn session(model: &Path) -> anyhow::Result<Session> {
    Ok(sessions(model, 1)?.remove(0))
}

/// Like `session`, one for each of several threads.
pub fn sessions(model: &Path, count: usize) -> anyhow::Result<Vec<Session>> {
    let failed = |error: ort::Error<_>| anyhow!("{error}");
    let library = std::env::var("ORT_DYLIB_PATH").context("ORT_DYLIB_PATH is not set")?;
    let environment = ort::init_from(library).map_err(|error| anyhow!("{error}"))?;
    let environment = environment.with_name("bench").build().map_err(|error| anyhow!("{error}"))?;
    let open = || {
        let builder = Session::builder(&environment)?.with_intra_threads(1).map_err(failed)?;
        let mut builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(failed)?;
        Ok(builder.commit_from_file(model)?)
    };
    (0..count).map(|_| open()).collect()
}

/// User and system time of a process so far, all its threads together (proc(5): fields 14 and 15 of stat, in
/// ticks of 10 ms).
pub fn processor_time(process: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let behind_name = stat.rsplit_once(')').context("no name in stat")?.1;
    let fields: Vec<&str> = behind_name.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The most resident memory that a process has had, in bytes.
pub fn peak_memory(process: u32) -> anyhow::Result<u64> {
    memory(process, "VmHWM:")
}

/// The resident memory of a process, in bytes.
pub fn resident_memory(process: u32) -> anyhow::Result<u64> {
    memory(process, "VmRSS:")
}

fn memory(process: u32, name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such memory in status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
