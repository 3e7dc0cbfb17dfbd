//! The codec against `serde_json::Value` with a copy into the typed buffer. Prints the ratio first; the goal is 3 or more.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use predictd::decode::{Answer, Form, Limits, decode};
use predictd::encode;
use predictd::tensor::{Dim, ElementType, Output, Signature, TensorSpec, View};

const COLUMNS: usize = 13;
const ROWS: [usize; 3] = [1, 8, 128];

fn wine() -> Signature {
    let spec = |name: &str, element, shape: Vec<Dim>| TensorSpec { name: name.into(), element, shape };
    let rows = || Dim::Any("N".into());
    Signature {
        inputs: vec![spec("x", ElementType::F32, vec![rows(), Dim::Fixed(COLUMNS)])],
        outputs: vec![spec("label", ElementType::I64, vec![rows()])],
        columns: None,
        batched: true,
    }
}

/// Measurements like a wine's: few digits, some of them whole numbers.
fn rows(count: usize) -> String {
    let value = |i: usize| {
        [13.2, 1.78, 2.14, 11.2, 100.0, 2.65, 2.76, 0.26, 1.28, 4.38, 1.05, 3.4, 1050.0][i % COLUMNS]
    };
    let row = |row: usize| -> Vec<f64> { (0..COLUMNS).map(|i| value(i + row)).collect() };
    serde_json::to_string(&(0..count).map(row).collect::<Vec<_>>()).expect("finite numbers")
}

fn with_serde(body: &[u8]) -> Vec<f32> {
    let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    let mut elements = Vec::new();
    for row in body["instances"].as_array().expect("rows") {
        elements.extend(
            row.as_array().expect("a row").iter().map(|value| value.as_f64().expect("a number") as f32),
        );
    }
    elements
}

fn time(mut work: impl FnMut()) -> Duration {
    let best = |_| {
        let from = Instant::now();
        for _ in 0..200 {
            work();
        }
        from.elapsed()
    };
    (0..50).map(best).min().expect("runs")
}

fn print_ratio(signature: &Signature) {
    for count in ROWS {
        let body = format!("{{\"instances\": {}}}", rows(count)).into_bytes();
        let tree = time(|| drop(black_box(with_serde(black_box(&body)))));
        let ours = time(|| drop(black_box(decode(black_box(&body), signature, &Limits::default()))));
        println!(
            "{count} rows: {:.1} times as fast as serde_json::Value",
            tree.as_secs_f64() / ours.as_secs_f64()
        );
    }
}

fn decoding(c: &mut Criterion) {
    let signature = wine();
    print_ratio(&signature);
    let mut group = c.benchmark_group("decode");
    for count in ROWS {
        let data = rows(count);
        let body = format!("{{\"instances\": {data}}}").into_bytes();
        let v2 = format!(
            "{{\"inputs\":[{{\"name\":\"x\",\"shape\":[{count},{COLUMNS}],\"datatype\":\"FP32\",\"data\":{data}}}]}}"
        )
        .into_bytes();
        group.throughput(Throughput::Bytes(body.len() as u64));
        let decode =
            |body: &[u8]| decode(black_box(body), &signature, &Limits::default()).expect("a request");
        group.bench_with_input(BenchmarkId::new("serde_json", count), &body, |b, body| {
            b.iter(|| with_serde(body))
        });
        group.bench_with_input(BenchmarkId::new("rows", count), &body, |b, body| b.iter(|| decode(body)));
        group.bench_with_input(BenchmarkId::new("v2", count), &v2, |b, body| b.iter(|| decode(body)));
    }
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    for count in ROWS {
        let labels: Vec<i64> = (0..count as i64).map(|row| row % 3).collect();
        let probabilities: Vec<f32> = (0..count * 3).map(|i| 1.0 / (i + 3) as f32).collect();
        let (label_shape, shape) = ([count], [count, 3]);
        let outputs = [
            Output { name: "label", shape: &label_shape, elements: View::I64(&labels) },
            Output { name: "probabilities", shape: &shape, elements: View::F32(&probabilities) },
        ];
        let answer = Answer { form: Form::Rows, id: None };
        group.bench_function(BenchmarkId::new("label and probabilities", count), |b| {
            b.iter(|| {
                encode::response(black_box(&answer), &outputs, Some(count), "wine", "3").expect("a body")
            })
        });
    }
}

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
