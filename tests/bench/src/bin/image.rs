//! Times JPEG to 224 x 224 tensor on one thread, beside `scripts/bench-images.py`, which does the same with
//! Pillow and numpy: for each number on standard input, the image is prepared so many times, and the seconds
//! for one are printed.

use std::hint::black_box;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::anyhow;
// Its allocator.
use ::bench as _;
use clap::Parser;
use predictd::model::bundle::declaration::Declaration;
use predictd::tensor::signature::{Dim, TensorSpec, ValueKind};
use predictd::tensor::{ElementType, Elements};

const CLASSIFIER: &str = "image: {resize: {shorter: 256}, crop: {width: 224, height: 224}, \
    mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}";

#[derive(Debug, Parser)]
struct Args {
    /// The image.
    image: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let bytes = std::fs::read(Args::parse().image)?;
    let declaration = Declaration::parse(CLASSIFIER).map_err(anyhow::Error::msg)?;
    let image = declaration.image.expect("the declaration is of images");
    let shape = vec![Dim::Any("batch".to_owned()), Dim::Fixed(3), Dim::Fixed(224), Dim::Fixed(224)];
    let input =
        TensorSpec { name: "pixels".to_owned(), element: ElementType::F32, shape, kind: ValueKind::Tensor };
    let plan = image.check(&input).map_err(|problems| anyhow!(problems.join("; ")))?;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let count: u32 = line?.trim().parse()?;
        let started = Instant::now();
        for _ in 0..count {
            let mut tensor = Elements::with_capacity(ElementType::F32, 3 * 224 * 224);
            plan.prepare(black_box(&bytes), &mut tensor).map_err(|rejection| anyhow!(rejection.message))?;
            black_box(&tensor);
        }
        writeln!(out, "{}", started.elapsed().as_secs_f64() / f64::from(count))?;
        out.flush()?;
    }
    Ok(())
}
