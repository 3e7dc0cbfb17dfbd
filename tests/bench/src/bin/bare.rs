//! Lower bound of the cost of an image model: one thread decodes the same image again and again and runs the
//! model on it. Prints one JSON object, with `drive`'s names.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use bench::{processor_time, session};
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
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let bytes = std::fs::read(&args.image)?;
    let (mut session, element, shape) = open(&args.model.join("model.onnx"))?;
    let text = std::fs::read_to_string(args.model.join("model.yaml"))?;
    let declaration = Declaration::parse(&text).map_err(anyhow::Error::msg)?;
    let image = declaration.image.context("model.yaml declares no image")?;
    let input = TensorSpec { name: "image".to_owned(), element, shape, kind: ValueKind::Tensor };
    let plan = image.check(&input).map_err(|problems| anyhow!(problems.join("; ")))?;
    let own = std::process::id();
    let mut run = |images: usize| -> anyhow::Result<()> {
        let shape = [&[images], &plan.shape()[..]].concat();
        let mut out = Elements::with_capacity(element, shape.iter().product());
        for _ in 0..images {
            plan.prepare(&bytes, &mut out).map_err(|rejection| anyhow!(rejection.message))?;
        }
        let Elements::F32(values) = &out else {
            return Err(anyhow!("expected a float32 input, got {element}"));
        };
        let outputs = session.run(ort::inputs![TensorRef::from_array_view((shape, &values[..]))?])?;
        std::hint::black_box(&outputs[0]);
        Ok(())
    };
    run(args.together)?;
    let (cpu, started) = (processor_time(own)?, Instant::now());
    for begin in (0..args.images).step_by(args.together) {
        run(args.together.min(args.images - begin))?;
    }
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

/// The session, and what it takes.
fn open(file: &Path) -> anyhow::Result<(Session, ElementType, Vec<Dim>)> {
    let session = session(file)?;
    let dims = session.inputs()[0].dtype().tensor_shape().context("the input is no tensor")?;
    let free = |_| Dim::Any(String::new());
    let shape = dims.iter().map(|&n| usize::try_from(n).map_or_else(free, Dim::Fixed)).collect();
    Ok((session, ElementType::F32, shape))
}
