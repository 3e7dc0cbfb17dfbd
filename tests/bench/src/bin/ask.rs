//! Asks an HTTP server over connections that are kept, and prints what came back as one line of JSON.
//!
//! Each connection sends one request at a time: as soon as the response before is there, or at a rate of all
//! connections together. The client is as small as it can be, since it shares the cores with the server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use bench::processor_time;
use clap::Parser;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(Debug, Parser)]
struct Arguments {
    /// Address of the server
    #[arg(long)]
    address: SocketAddr,
    /// Path of the requests
    #[arg(long)]
    path: String,
    /// Body of the requests
    #[arg(long, conflicts_with = "body_file")]
    body: Option<String>,
    #[arg(long)]
    body_file: Option<PathBuf>,
    /// Header of the requests, as NAME: VALUE
    #[arg(long = "header")]
    headers: Vec<String>,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests a second of all connections together; 0: as many as come back
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Processes whose processor time is measured
    #[arg(long = "process")]
    processes: Vec<u32>,
}

/// Statuses and times of the responses of one connection.
type Answers = Vec<(u16, Duration)>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let body = match (&arguments.body, &arguments.body_file) {
        (Some(body), _) => body.clone().into_bytes(),
        (None, Some(path)) => std::fs::read(path).with_context(|| format!("cannot read {path:?}"))?,
        (None, None) => Vec::new(),
    };
    let headers: String = arguments.headers.iter().map(|header| format!("{header}\r\n")).collect();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {}\r\n\r\n",
        arguments.path,
        arguments.address,
        body.len()
    );
    let request: Arc<[u8]> = [head.into_bytes(), body].concat().into();
    // Connections and the server's first calls are not measured.
    run(&arguments, &request, Duration::from_secs_f64((arguments.seconds / 5.0).min(1.0))).await?;
    let time =
        || -> anyhow::Result<Duration> { arguments.processes.iter().map(|id| processor_time(*id)).sum() };
    let (before, started) = (time()?, Instant::now());
    let answers = run(&arguments, &request, Duration::from_secs_f64(arguments.seconds)).await?;
    let (used, took) = (time()? - before, started.elapsed());
    println!("{}", report(&answers, used, took));
    Ok(())
}

async fn run(arguments: &Arguments, request: &Arc<[u8]>, lasts: Duration) -> anyhow::Result<Answers> {
    let start = Instant::now();
    let interval = (arguments.rate > 0.0).then(|| Duration::from_secs_f64(1.0 / arguments.rate));
    let tasks: Vec<_> = (0..arguments.connections)
        .map(|place| {
            let (request, address) = (Arc::clone(request), arguments.address);
            let turns = interval.map(|interval| Turns {
                next: start + interval.mul_f64(place as f64),
                interval: interval.mul_f64(arguments.connections as f64),
            });
            tokio::spawn(connection(address, request, turns, start + lasts))
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok(all)
}

/// Times at which a connection sends.
struct Turns {
    next: Instant,
    interval: Duration,
}

async fn connection(
    address: SocketAddr,
    request: Arc<[u8]>,
    mut turns: Option<Turns>,
    end: Instant,
) -> anyhow::Result<Answers> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut answers, mut buffer) = (Vec::new(), Vec::with_capacity(16 << 10));
    loop {
        if let Some(turns) = &mut turns {
            tokio::time::sleep_until(turns.next.into()).await;
            turns.next += turns.interval;
        }
        let begun = Instant::now();
        if begun >= end {
            return Ok(answers);
        }
        stream.write_all(&request).await?;
        let status = response(&mut stream, &mut buffer).await?;
        answers.push((status, begun.elapsed()));
    }
}

/// Reads one response with a content length; its status.
async fn response(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<u16> {
    buffer.clear();
    let body = loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the server closed the connection");
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = std::str::from_utf8(&buffer[..body])?.to_ascii_lowercase();
    let status = head.get(9..12).context("no status")?.parse()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.ok_or_else(|| anyhow!("no content-length in {head}"))?.trim().parse()?;
    while buffer.len() < body + length {
        ensure!(stream.read_buf(buffer).await? > 0, "the server closed the connection in a body");
    }
    Ok(status)
}

/// Figures of all responses, and for each status of its own.
fn report(answers: &Answers, used: Duration, took: Duration) -> serde_json::Value {
    let mut by_status: BTreeMap<u16, Vec<Duration>> = BTreeMap::new();
    for (status, time) in answers {
        by_status.entry(*status).or_default().push(*time);
    }
    let statuses: BTreeMap<String, serde_json::Value> = by_status
        .into_iter()
        .map(|(status, mut times)| {
            times.sort_unstable();
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
            let figures = serde_json::json!({
                "count": times.len(),
                "per_second": times.len() as f64 / took.as_secs_f64(),
                "p50_ms": at(0.5),
                "p99_ms": at(0.99),
            });
            (status.to_string(), figures)
        })
        .collect();
    serde_json::json!({
        "requests_per_second": answers.len() as f64 / took.as_secs_f64(),
        "processor_us_per_request": used.as_secs_f64() * 1e6 / (answers.len().max(1)) as f64,
        "statuses": statuses,
    })
}
