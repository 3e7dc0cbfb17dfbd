//! JPEG to tensor, on the images that `scripts/bench-images.py` writes while it times Pillow and numpy on the same.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use predictd::prepare::image::ImageDeclaration;
use predictd::tensor::signature::{Dim, TensorSpec, ValueKind};
use predictd::tensor::{ElementType, Elements};

const CLASSIFIER: &str = r#"{"resize": {"shorter": 256}, "crop": {"width": 224, "height": 224},
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}"#;

fn images(criterion: &mut Criterion) {
    let image: ImageDeclaration = serde_json::from_str(CLASSIFIER).expect("the declaration is valid");
    let shape = vec![Dim::Any("batch".to_owned()), Dim::Fixed(3), Dim::Fixed(224), Dim::Fixed(224)];
    let input =
        TensorSpec { name: "pixels".to_owned(), element: ElementType::F32, shape, kind: ValueKind::Tensor };
    let plan = image.check(&input).expect("the declaration fits the input");
    for name in ["1920x1080", "640x480"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/bench-images/{name}.jpg"));
        let bytes = std::fs::read(&path).expect("run scripts/bench-images.py first, which writes the images");
        criterion.bench_function(&format!("jpeg {name} to 224x224"), |bencher| {
            bencher.iter(|| {
                let mut out = Elements::with_capacity(ElementType::F32, 3 * 224 * 224);
                plan.prepare(black_box(&bytes), &mut out).expect("the image is complete");
                out
            });
        });
    }
}

criterion_group!(benches, images);
criterion_main!(benches);
