//! Faults 42 to 45: requests of a few bytes that would take a worker's memory or time.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::harness::{World, model_file};
use crate::support::oracle::{Allowed, End, wine};

use super::{Trial, with_dead_letters};

type Attributes<'a> = &'a [(&'a str, &'a str)];

const GZIP: (&str, &str) = ("content-encoding", "gzip");

fn pack(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// `unit` again and again between two ends.
fn repeated(begin: &str, unit: &str, times: usize, end: &str) -> Vec<u8> {
    pack(format!("{begin}{}{end}", unit.repeat(times)).as_bytes())
}

/// A request that would take a worker's memory or time.
pub(super) struct Hostile {
    pub(super) body: Vec<u8>,
    pub(super) attributes: Vec<(&'static str, &'static str)>,
    pub(super) end: End,
}

/// One request of each kind here and in [`super::memory`], for a worker whose models [`upload`] has brought.
pub(super) fn one_of_each() -> Vec<Hostile> {
    let tensor =
        r#"{"inputs": [{"name": "ids", "datatype": "INT64", "shape": [1000000000000, 0], "data": []}]}"#;
    let id = format!(r#"{{"id": "{}", "instances": [[1]]}}"#, "i".repeat(11_000_000));
    let strings = repeated("{\"inputs\": [[", "\"\",", 8_400_000, "\"\"]]}");
    let image = model_file("images", "many-scans-8192.jpg.gz");
    let rows = vec!["7"; 5000].join(",");
    let (too_large, seven) = (End::Code("INPUT_TOO_LARGE"), End::Contains(format!("[{rows}]")));
    let hostile = |body: Vec<u8>, attributes, end| Hostile { body, attributes, end };
    vec![
        hostile(tensor.into(), vec![("model", "tokens")], too_large.clone()),
        hostile(pack(id.as_bytes()), vec![GZIP], End::Code("INVALID_INPUT")),
        hostile(strings, vec![GZIP, ("model", "strings")], too_large.clone()),
        hostile(image, vec![GZIP, ("model", "conv"), ("content-type", "image/jpeg")], too_large),
        hostile(format!("{{\"instances\": [{rows}]}}").into(), vec![("model", "wide")], seven),
        hostile(b"[7654321]".to_vec(), vec![("model", "long")], End::Contains("7654321,7654321".to_owned())),
    ]
}

/// The models of [`one_of_each`].
pub(super) fn upload(world: &World) {
    for file in ["model.yaml", "model.onnx"] {
        world.upload(&format!("models/tokens/1/{file}"), model_file("zoo/token-scores", file));
    }
    world.upload_declared("conv", "zoo/torch-conv", "image: {resize: {width: 32, height: 32}}");
    for (from, model) in
        [("types/strings/1", "strings"), ("faults/wide/1", "wide"), ("faults/long/1", "long")]
    {
        world.upload_version(from, model, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_42_numbers_that_would_size_memory() {
    let injected = "tensors without elements that claim 10^12 rows, for a padded model";
    let promise = "INPUT_TOO_LARGE, the process goes on, 300 neighbours are answered";
    let mut trial = Trial::with(with_dead_letters(), 42, injected, promise).await;
    for file in ["model.yaml", "model.onnx"] {
        trial.world.upload(&format!("models/tokens/1/{file}"), model_file("zoo/token-scores", file));
    }
    let shapes = ["[1000000000000, 0]", "[0, 1000000000000]", "[18446744073709551615, 0]", "[100001, 0]"];
    trial.wines(150);
    for shape in shapes {
        let body = format!(
            r#"{{"inputs": [{{"name": "ids", "datatype": "INT64", "shape": {shape}, "data": []}}]}}"#
        );
        trial.request(body, &[("model", "tokens")], End::Code("INPUT_TOO_LARGE"));
    }
    let small = r#"{"inputs": [{"name": "ids", "datatype": "INT64", "shape": [2, 0], "data": []}]}"#;
    trial.request(small, &[("model", "tokens")], End::Contains("\"outputs\"".to_owned()));
    trial.wines(150);
    // After the requests, so that good and bad come together.
    let mut worker = trial.worker(&[]).await;
    let verdict = trial.judge(&worker, Allowed::default(), "").await;
    assert_eq!((verdict.duplicates, verdict.dead), (0, 0));
    assert!(worker.is_alive());
    trial.each_was_delivered_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_43_ids_that_no_response_could_repeat() {
    let injected = "ids of 11 MB in gzips of 11 KB: a body's, as text and as number, and a CloudEvent's";
    let mut trial =
        Trial::new(43, injected, "INVALID_INPUT without the id, 300 neighbours are answered").await;
    let text = "i".repeat(11_000_000);
    let number = "7".repeat(11_000_000);
    let event = |id: &str, subject: &str| {
        let data = wine().request(&[0]);
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","subject":"{subject}","data":{data}}}"#
        )
    };
    let rows = wine().request(&[0]);
    let with_id = |id: &str| rows.replacen('{', &format!("{{\"id\": {id}, "), 1);
    let cloud_event = ("content-type", "application/cloudevents+json");
    let packed: [(Vec<u8>, Attributes<'_>); 5] = [
        (pack(with_id(&format!("\"{text}\"")).as_bytes()), &[GZIP]),
        (pack(with_id(&number).as_bytes()), &[GZIP]),
        (pack(format!("{{\"instances\": [[1]], \"id\": \"{text}\"}}").as_bytes()), &[GZIP]),
        (pack(event(&text, "").as_bytes()), &[GZIP, cloud_event]),
        (pack(event("1", &text).as_bytes()), &[GZIP, cloud_event]),
    ];
    for _ in 0..4 {
        for (body, attributes) in &packed {
            trial.request(body.clone(), attributes, End::Code("INVALID_INPUT"));
            trial.wines(15);
        }
    }
    let longest = "i".repeat(1024);
    let body = with_id(&format!("\"{longest}\""));
    trial.request(body, &[], End::Contains(format!("\"id\":\"{longest}\"")));
    let worker = trial.worker(&[]).await;
    trial.judge(&worker, Allowed::default(), "20 such ids").await;
    trial.each_was_delivered_once();
}

/// Compressed files of a few bytes that decode for seconds.
#[tokio::test(flavor = "multi_thread")]
async fn fault_44_images_that_cost_too_much() {
    let injected =
        "ten images of 64 megapixels in 96 scans in a gzip of a few KB; ten in one scan; one in 96";
    let promise = "INPUT_TOO_LARGE before one is decoded, the small ones beside them wait for nothing";
    let mut trial = Trial::new(44, injected, promise).await;
    trial.world.upload_declared("conv", "zoo/torch-conv", "image: {resize: {width: 32, height: 32}}");
    let worker = trial.worker(&[("PREDICTD_INFERENCE__THREADS", "1")]).await;
    worker.until_serving("conv", "1").await;
    let mut scans = Vec::new();
    let packed = model_file("images", "many-scans-8192.jpg.gz");
    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut scans).unwrap();
    let second_scan =
        scans.windows(2).enumerate().filter(|(_, marker)| *marker == b"\xff\xda").nth(1).unwrap().0;
    let one_scan = [&scans[..second_scan], b"\xff\xd9"].concat();
    let list = |image: &[u8]| {
        let image = format!("{{\"b64\": \"{}\"}}", STANDARD.encode(image));
        pack(format!("{{\"instances\": [{}]}}", vec![image; 10].join(",")).as_bytes())
    };
    let (many, few) = (list(&scans), list(&one_scan));
    assert!(many.len() < 20_000, "{} bytes", many.len());
    let model = ("model", "conv");
    let small = |trial: &mut Trial| {
        let body = model_file("images", "many-scans.jpg");
        let prediction = End::Contains("predictions".to_owned());
        trial.request(body, &[model, ("content-type", "image/jpeg")], prediction)
    };
    let started = Instant::now();
    let mut beside = Vec::new();
    for _ in 0..5 {
        trial.request(many.clone(), &[model, GZIP], End::Code("INPUT_TOO_LARGE"));
        trial.request(few.clone(), &[model, GZIP], End::Code("INPUT_TOO_LARGE"));
        let image = [model, GZIP, ("content-type", "image/jpeg")];
        trial.request(packed.clone(), &image, End::Code("INPUT_TOO_LARGE"));
        beside.push(small(&mut trial));
        beside.extend(trial.wines(5));
    }
    trial.world.responses(&beside).await;
    let took = started.elapsed();
    // Decoded, each of the lists takes a debug build minutes.
    assert!(took < Duration::from_secs(15), "{took:?}");
    let happened = format!("15 such requests, all beside them answered in {} ms", took.as_millis());
    trial.judge(&worker, Allowed::default(), &happened).await;
    trial.each_was_delivered_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_45_gzips_of_many_strings_columns_and_names() {
    let injected = "gzips of 8.4 million strings, 20 million names, 3 million cells, text columns left out of 8.4 million rows";
    let mut trial = Trial::new(45, injected, "INPUT_TOO_LARGE, memory under 512 MB").await;
    trial.world.upload_version("types/strings/1", "strings", "1");
    let values = [("age", ""), ("sex", "male"), ("embarked", "S"), ("fare", "0"), ("siblings", "0")];
    let column = |(name, value): (&str, &str)| match value {
        "" => format!("  - {{name: {name}, input: {name}}}\n"),
        _ => format!("  - {{name: {name}, input: {name}, missing: {value}}}\n"),
    };
    let declared = format!("columns:\n{}", values.map(column).concat());
    trial.world.upload("models/columns/1/model.yaml", declared.into_bytes());
    trial.world.upload("models/columns/1/model.onnx", model_file("zoo/sklearn-columns", "model.onnx"));
    let worker = trial.worker(&[]).await;
    worker.until_serving("columns", "1").await;
    let rows = 8_400_000;
    let strings = repeated("{\"inputs\": [[", "\"\",", rows, "\"\"]]}");
    let names =
        repeated("{\"dataframe_split\": {\"columns\": [", "\"\",", 20_000_000, "\"\"], \"data\": [[1]]}}");
    let left_out = repeated("{\"inputs\": {\"age\": [", "0,", rows, "0]}}");
    let v2 = format!(
        "{{\"inputs\": [{{\"name\": \"x\", \"datatype\": \"BYTES\", \"shape\": [{rows}, 2], \"data\": ["
    );
    let v2 = repeated(&v2, "\"\",", 1_000_000, "\"\"]}]}");
    let cells = repeated("", "a,", 3_000_000, "a\n");
    for _ in 0..2 {
        for (body, model, content_type) in [
            (&strings, "strings", "application/json"),
            (&v2, "strings", "application/json"),
            (&names, "wine", "application/json"),
            (&left_out, "columns", "application/json"),
            (&cells, "strings", "text/csv"),
        ] {
            let attributes = [GZIP, ("model", model), ("content-type", content_type)];
            trial.request(body.clone(), &attributes, End::Code("INPUT_TOO_LARGE"));
        }
        trial.wines(5);
    }
    trial.judge(&worker, Allowed::default(), "10 such gzips").await;
    trial.each_was_delivered_once();
}
