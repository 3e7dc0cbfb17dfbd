//! Lower bound of the cost of an image model: threads decode the same image again and again and run the model on
//! it. Prints one JSON object, with `drive`'s names.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use bench::{processor_time, sessions};
use clap::Parser;
use ort::session::Session;
use ort::value::TensorRef;
use predictd::model::bundle::declaration::Declaration;
use predictd::tensor::signature::{Dim, TensorSpec, ValueKind};
use predictd::tensor::{ElementType, Elements};
use serde_json::json;

#[derive(Debug, Parser)]
struct Args {
    /// A version's folder: `model.onnx`, which takes float32 `[batch, …]`, and `model.yaml`, which declares
    /// `image`.
    model: PathBuf,
    /// The image.
    image: PathBuf,
    /// Number of times that it is decoded and run.
    #[arg(long, default_value_t = 2000)]
    images: usize,
    /// Images a call.
    #[arg(long, default_value_t = 16)]
    together: usize,
    /// Threads, each with a session of its own.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let bytes = std::fs::read(&args.image)?;
    let text = std::fs::read_to_string(args.model.join("model.yaml"))?;
    let declaration = Declaration::parse(&text).map_err(anyhow::Error::msg)?;
    let image = declaration.image.context("model.yaml declares no image")?;
    let file = args.model.join("model.onnx");
    let mut sessions = sessions(&file, args.threads)?;
    let input = input(sessions.first().context("expected at least one thread")?)?;
    let plan = image.check(&input).map_err(|problems| anyhow!(problems.join("; ")))?;
    let own = std::process::id();
    let run = |session: &mut Session, images: usize| -> anyhow::Result<()> {
        let shape = [&[images], &plan.shape()[..]].concat();
        let mut out = Elements::with_capacity(input.element, shape.iter().product());
        for _ in 0..images {
            plan.prepare(&bytes, &mut out).map_err(|rejection| anyhow!(rejection.message))?;
        }
        let Elements::F32(values) = &out else {
            return Err(anyhow!("expected a float32 input, got {}", input.element));
        };
        let outputs = session.run(ort::inputs![TensorRef::from_array_view((shape, &values[..]))?])?;
        std::hint::black_box(&outputs[0]);
        Ok(())
    };
    for session in &mut sessions {
        run(session, args.together)?;
    }
    let part = args.images.div_ceil(args.threads);
    let (cpu, started) = (processor_time(own)?, Instant::now());
    let ended: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
        let work = |(number, session): (usize, &mut Session)| {
            let images = part.min(args.images.saturating_sub(number * part));
            let mut parts = (0..images).step_by(args.together);
            parts.try_for_each(|begin| run(session, args.together.min(images - begin)))
        };
        let running: Vec<_> =
            sessions.iter_mut().enumerate().map(|one| scope.spawn(move || work(one))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        running.into_iter().map(join).collect()
    });
    ended.into_iter().collect::<anyhow::Result<()>>()?;
    let (wall, cpu) = (started.elapsed(), processor_time(own)? - cpu);
    let images = args.images as f64;
    println!(
        "{}",
        json!({
            "processor_us_per_message": cpu.as_secs_f64() * 1e6 / images,
            "messages_per_second": images / wall.as_secs_f64(),
        })
    );
    Ok(())
}

/// The input that the model takes.
fn input(session: &Session) -> anyhow::Result<TensorSpec> {
    let dims = session.inputs()[0].dtype().tensor_shape().context("the input is no tensor")?;
    let free = |_| Dim::Any(String::new());
    let shape = dims.iter().map(|&n| usize::try_from(n).map_or_else(free, Dim::Fixed)).collect();
    let (name, element) = ("image".to_owned(), ElementType::F32);
    Ok(TensorSpec { name, element, shape, kind: ValueKind::Tensor })
}
