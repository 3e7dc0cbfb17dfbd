//! The `local-gcp` command: serves until SIGTERM or SIGINT.

use anyhow::Context as _;
use clap::Parser as _;
use local_gcp::setup::Options;
use tokio::signal::unix::{SignalKind, signal};

// The server has a runtime of its own; this one only waits for signals.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let server = Options::parse().builder()?.start().await?;
    // First, since whoever waits for the line below reads these too.
    for (member, address) in &server.members {
        println!("{member} calls http://{address}");
    }
    println!("listening on {}", server.endpoint());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
