//! Decoding and encoding, compared with `serde_json::Value` and with a copy of the bytes.
//!
//! Prints two ratios before Criterion's figures: decoding of rows against `serde_json` (the goal is 3 times
//! as fast or better), and decoding of binary tensors against a copy into a new buffer (1.1 times as long or
//! less).

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use predictd::decode::envelope::{Content, open};
use predictd::decode::{Limits, Protocol, ResponseSpec, decode};
use predictd::encode::{ServedModel, response};
use predictd::headers::Headers;
use predictd::tensor::signature::{Dim, Signature, TensorSpec, ValueKind};
use predictd::tensor::{ElementType, Output, Show, View};

/// The worker's, for both sides.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const WIDTH: usize = 13;
const ROWS: [usize; 3] = [1, 8, 128];

/// The first row of the wine data set (UCI Machine Learning Repository, 1991).
const WINE: [&str; WIDTH] = [
    "14.23", "1.71", "2.43", "15.6", "127.0", "2.8", "3.06", "0.28", "2.29", "5.64", "1.04", "3.92", "1065.0",
];

fn signature() -> Signature {
    let batch = || Dim::Any("batch".to_owned());
    let spec = |name: &str, element, shape| TensorSpec {
        name: name.to_owned(),
        element,
        shape,
        kind: ValueKind::Tensor,
    };
    Signature {
        inputs: vec![spec("input", ElementType::F32, vec![batch(), Dim::Fixed(WIDTH)])],
        outputs: vec![
            spec("label", ElementType::I64, vec![batch()]),
            spec("probabilities", ElementType::F32, vec![batch(), Dim::Fixed(3)]),
        ],
        batched: true,
        ..Signature::default()
    }
}

fn rows_body(rows: usize) -> String {
    let row = format!("[{}]", WINE.join(", "));
    format!("{{\"instances\": [{}]}}", vec![row; rows].join(", "))
}

/// Values of 17 digits: Python clients widen float32 to float64.
fn long_rows_body(rows: usize) -> String {
    let long = WINE.map(|text| f64::from(text.parse::<f32>().expect("a constant")).to_string());
    let row = format!("[{}]", long.join(", "));
    format!("{{\"instances\": [{}]}}", vec![row; rows].join(", "))
}

fn v2_body(rows: usize) -> String {
    let data = vec![WINE.join(", "); rows].join(", ");
    format!(
        r#"{{"id": "1", "inputs": [{{"name": "input", "shape": [{rows}, {WIDTH}], "datatype": "FP32", "data": [{data}]}}]}}"#
    )
}

fn by_value(body: &[u8]) -> Vec<f32> {
    let value: serde_json::Value = serde_json::from_slice(body).expect("a constant");
    let mut out = Vec::new();
    for row in value["instances"].as_array().expect("a constant") {
        out.extend(
            row.as_array().expect("a constant").iter().map(|cell| cell.as_f64().expect("a constant") as f32),
        );
    }
    out
}

fn csv_body(rows: usize) -> String {
    format!("{}\n", vec![WINE.join(","); rows].join("\n"))
}

/// JSON and, behind it, `rows` rows of `width` float32s.
fn v2_binary_body(rows: usize, width: usize) -> (usize, Vec<u8>) {
    let size = rows * width * size_of::<f32>();
    let json = format!(
        r#"{{"inputs": [{{"name": "input", "shape": [{rows}, {width}], "datatype": "FP32", "parameters": {{"binary_data_size": {size}}}}}]}}"#
    );
    let data = (0..rows * width).flat_map(|n| (n as f32).to_le_bytes());
    (json.len(), json.bytes().chain(data).collect())
}

fn opened<'a>(pairs: &[(&str, &str)], body: &'a [u8]) -> Content<'a> {
    let attributes: HashMap<String, String> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    open(Headers(&attributes), body, &Limits::DEFAULT).content.expect("a readable envelope")
}

/// Compares with copies, for 1 to 48 images of 224 x 224 x 3: from a body that fits into a cache to one that
/// does not.
fn copies(_: &mut Criterion) {
    const IMAGE: usize = 224 * 224 * 3;
    let mut signature = signature();
    signature.inputs[0].shape[1] = Dim::Fixed(IMAGE);
    for rows in [1, 4, 16, 48] {
        let (json_length, body) = v2_binary_body(rows, IMAGE);
        let length = json_length.to_string();
        let v2 = opened(&[("inference-header-content-length", &length)], &body);
        let raw = opened(&[("content-type", "application/octet-stream")], &body[json_length..]);
        let read = |content: &Content<'_>| {
            black_box(content.decode(&signature, &Limits::DEFAULT).expect("a valid request"));
        };
        let shortest = |call: &dyn Fn()| {
            let timing = || {
                let start = Instant::now();
                call();
                start.elapsed()
            };
            (0..300).map(|_| timing()).min().expect("300 timings")
        };
        let copy = shortest(&|| drop(black_box(body[json_length..].to_vec())));
        for (kind, content) in [("v2 binary", &v2), ("raw rows", &raw)] {
            let ours = shortest(&|| read(content));
            let ratio = ours.as_secs_f64() / copy.as_secs_f64();
            println!("{kind}, {rows} x {IMAGE} float32: {ours:?}, a copy {copy:?}, {ratio:.2} times as long");
        }
    }
}

/// The shortest of many timings of one call, since other processes only add to it.
fn time(mut call: impl FnMut()) -> Duration {
    let timings = (0..200).map(|_| {
        let start = Instant::now();
        (0..100).for_each(|_| call());
        start.elapsed() / 100
    });
    timings.min().expect("200 timings")
}

fn ratios(_: &mut Criterion) {
    let signature = signature();
    for (kind, make) in [("rows", rows_body as fn(usize) -> String), ("rows, 17 digits", long_rows_body)] {
        for rows in ROWS {
            let body = make(rows);
            let ours = time(|| drop(black_box(decode(body.as_bytes(), &signature, &Limits::DEFAULT))));
            let theirs = time(|| drop(black_box(by_value(body.as_bytes()))));
            let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
            println!(
                "{kind}, {rows} x {WIDTH}: {ours:?}, serde_json::Value {theirs:?}, {ratio:.1} times as fast"
            );
        }
    }
}

fn reading(criterion: &mut Criterion) {
    let signature = signature();
    let mut group = criterion.benchmark_group("decode");
    for rows in ROWS {
        for (name, body) in
            [("rows", rows_body(rows)), ("rows_17_digits", long_rows_body(rows)), ("v2", v2_body(rows))]
        {
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_with_input(BenchmarkId::new(name, rows), &body, |bencher, body| {
                bencher
                    .iter(|| decode(body.as_bytes(), &signature, &Limits::DEFAULT).expect("a valid request"));
            });
        }
    }
    for rows in ROWS {
        let table = csv_body(rows);
        let (json_length, binary) = v2_binary_body(rows, WIDTH);
        let length = json_length.to_string();
        for (name, content) in [
            ("csv", opened(&[("content-type", "text/csv")], table.as_bytes())),
            ("v2_binary", opened(&[("inference-header-content-length", &length)], &binary)),
        ] {
            group.throughput(Throughput::Bytes(content.body.len() as u64));
            group.bench_function(BenchmarkId::new(name, rows), |bencher| {
                bencher.iter(|| content.decode(&signature, &Limits::DEFAULT).expect("a valid request"));
            });
        }
    }
    group.finish();
}

fn writing(criterion: &mut Criterion) {
    let served = ServedModel { model: "wine", version: "3", batched: true };
    let mut group = criterion.benchmark_group("encode");
    for rows in ROWS {
        let labels = vec![1_i64; rows];
        let probabilities = [0.0123_f32, 0.9754, 0.0123].repeat(rows);
        let (label_shape, probability_shape) = ([rows], [rows, 3]);
        let outputs = [
            Output { name: "label", shape: &label_shape, elements: View::I64(&labels), show: Show::Values },
            Output {
                name: "probabilities",
                shape: &probability_shape,
                elements: View::F32(&probabilities),
                show: Show::Values,
            },
        ];
        for (name, protocol) in
            [("rows", Protocol::Rows), ("v2", Protocol::V2 { outputs: Vec::new(), binary: false })]
        {
            let spec = ResponseSpec { protocol, id: None };
            group.throughput(Throughput::Elements(rows as u64));
            group.bench_function(BenchmarkId::new(name, rows), |bencher| {
                bencher.iter(|| response(black_box(&spec), &outputs, &served).expect("whole outputs"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, ratios, copies, reading, writing);
criterion_main!(benches);
