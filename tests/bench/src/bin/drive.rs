//! Runs one worker against local-gcp in this process, and measures it: messages a second through a backlog,
//! processor time a message and peak memory from /proc, then the latency at a gentle rate, then the memory
//! after a burst of large bodies. Prints one JSON object.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bench::{peak_memory, processor_time, resident_memory};
use bytes::Bytes;
use clap::Parser;
use local_gcp::Server;
use local_gcp::pubsub::wire::PubsubMessage;
use serde_json::json;

const REQUESTS: &str = "projects/demo/topics/prediction-requests";
const RESPONSES: &str = "projects/demo/topics/prediction-responses";
const ANSWERS: &str = "projects/demo/subscriptions/prediction-responses";
/// Far more than any measurement takes.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
struct Args {
    /// The request's body.
    #[arg(long, required_unless_present = "body_file")]
    body: Option<String>,
    /// A file that is the request's body.
    #[arg(long, conflicts_with = "body")]
    body_file: Option<PathBuf>,
    /// Messages before anything is measured.
    #[arg(long, default_value_t = 20_000)]
    warm_up: usize,
    /// Messages of the throughput run.
    #[arg(long, default_value_t = 200_000)]
    messages: usize,
    /// Messages a second of the latency run, and how many.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    #[arg(long, default_value_t = 1000)]
    gentle: usize,
    /// A file that is the body of each message of the burst, and how many.
    #[arg(long)]
    burst_file: Option<PathBuf>,
    #[arg(long, default_value_t = 20)]
    burst: usize,
    /// The worker's command.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// A worker process, killed at the end.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let body: Bytes = match (&args.body, &args.body_file) {
        (Some(body), _) => body.clone().into(),
        (None, Some(path)) => std::fs::read(path)?.into(),
        (None, None) => bail!("expected --body or --body-file"),
    };
    let server = Server::builder()
        .topic(REQUESTS)
        .topic(RESPONSES)
        .subscription("projects/demo/subscriptions/prediction-requests", REQUESTS)
        .subscription(ANSWERS, RESPONSES)
        .start()
        .await?;
    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]).env("PUBSUB_EMULATOR_HOST", server.host());
    let process = Worker(command.spawn().context("cannot start the worker")?);
    let (worker, own) = (process.0.id(), std::process::id());

    // Connected, warm, and with everything allocated that steady work allocates.
    answer(&server, &body, args.warm_up).await?;
    let (cpu, broker_cpu) = (processor_time(worker)?, processor_time(own)?);
    let started = Instant::now();
    answer(&server, &body, args.messages).await?;
    let wall = started.elapsed();
    let (cpu, broker_cpu) = (processor_time(worker)? - cpu, processor_time(own)? - broker_cpu);
    let (peak, level) = (peak_memory(worker)?, resident_memory(worker)?);

    let latencies = latencies(&server, &body, &args).await?;
    let percentile = |p: usize| latencies.get(latencies.len().saturating_sub(1) * p / 100);
    let mut figures = json!({
        "messages_per_second": args.messages as f64 / wall.as_secs_f64(),
        "processor_us_per_message": cpu.as_secs_f64() * 1e6 / args.messages as f64,
        "broker_cores": broker_cpu.as_secs_f64() / wall.as_secs_f64(),
        "peak_mb": megabytes(peak),
        "level_mb": megabytes(level),
        "p50_ms": percentile(50),
        "p99_ms": percentile(99),
    });
    if let Some(path) = &args.burst_file {
        let large = std::fs::read(path)?.into();
        let before = resident_memory(worker)?;
        answer(&server, &large, args.burst).await?;
        figures["before_burst_mb"] = megabytes(before).into();
        figures["burst_peak_mb"] = megabytes(peak_memory(worker)?).into();
        for seconds in [1, 10] {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            figures[format!("burst_after_{seconds}_s_mb")] = megabytes(resident_memory(worker)?).into();
        }
    }
    println!("{figures}");
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Publishes so many requests at once, and waits for all responses.
async fn answer(server: &Server, body: &Bytes, count: usize) -> anyhow::Result<()> {
    publish(server, body, count)?;
    take(server, count).await
}

/// The milliseconds from request to response at the gentle rate, sorted.
async fn latencies(server: &Server, body: &Bytes, args: &Args) -> anyhow::Result<Vec<f64>> {
    let mut latencies = Vec::with_capacity(args.gentle);
    let mut next = tokio::time::interval(Duration::from_micros(1_000_000 / args.rate));
    for _ in 0..args.gentle {
        next.tick().await;
        let asked = Instant::now();
        answer(server, body, 1).await?;
        latencies.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

fn publish(server: &Server, body: &Bytes, count: usize) -> anyhow::Result<()> {
    let message = PubsubMessage { data: body.clone(), attributes: HashMap::new(), ..Default::default() };
    // A call may have 10 MB.
    let most = (9_000_000 / body.len().max(1)).clamp(1, 500);
    let mut left = count;
    while left > 0 {
        let together = left.min(most);
        server.pubsub.publish(REQUESTS, vec![message.clone(); together])?;
        left -= together;
    }
    Ok(())
}

/// Waits for so many responses, and takes them.
async fn take(server: &Server, count: usize) -> anyhow::Result<()> {
    let (mut taken, end) = (0, Instant::now() + PATIENCE);
    while taken < count {
        let responses = server.pubsub.drain_within(ANSWERS, PATIENCE).await?;
        if let Some(response) = responses.first() {
            let message = &response.message;
            let status = message.attributes.get("status").map_or("ok", String::as_str);
            ensure!(status == "ok", "the worker answered {:?}", message.data);
        }
        taken += responses.len();
        ensure!(Instant::now() < end, "only {taken} of {count} responses came");
    }
    Ok(())
}
