//! Upper bound of the rows a second of a batch: threads with a session each run the model on rows that are in
//! memory as float32 already. Prints one JSON object.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bench::{processor_time, sessions};
use clap::Parser;
use ort::session::Session;
use ort::value::TensorRef;
use serde_json::json;

#[derive(Debug, Parser)]
struct Args {
    /// A `model.onnx` with one float32 input `[rows, columns]`.
    model: PathBuf,
    /// The rows: little-endian float32.
    rows: PathBuf,
    #[arg(long, default_value_t = 13)]
    columns: usize,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Rows a call.
    #[arg(long, default_value_t = 128)]
    together: usize,
}

fn main() -> anyhow::Result<()> {
    let Args { model, rows, columns, threads, together } = Args::parse();
    let values = read(&rows)?;
    ensure!(columns > 0 && threads > 0 && together > 0 && values.len() >= columns, "expected rows");
    let count = values.len() / columns;
    let part = count.div_ceil(threads) * columns;
    let mut sessions = sessions(&model, threads)?;
    for session in &mut sessions {
        run(session, &values[..columns], columns, together)?;
    }
    let own = std::process::id();
    let (cpu, started) = (processor_time(own)?, Instant::now());
    let ended: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
        let parts = values.chunks(part).zip(&mut sessions);
        let running: Vec<_> =
            parts.map(|(part, session)| scope.spawn(|| run(session, part, columns, together))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().map(join).collect()
    });
    ended.into_iter().collect::<anyhow::Result<()>>()?;
    let (wall, cpu, count) = (started.elapsed(), processor_time(own)? - cpu, count as f64);
    println!(
        "{}",
        json!({
            "rows_per_second": count / wall.as_secs_f64(),
            "processor_us_per_row": cpu.as_secs_f64() * 1e6 / count,
        })
    );
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<f32>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (values, _) = bytes.as_chunks();
    Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

fn run(session: &mut Session, rows: &[f32], columns: usize, together: usize) -> anyhow::Result<()> {
    for some in rows.chunks(together * columns) {
        let shape = [some.len() / columns, columns];
        let outputs = session.run(ort::inputs![TensorRef::from_array_view((shape, some))?])?;
        std::hint::black_box(&outputs[0]);
    }
    Ok(())
}
