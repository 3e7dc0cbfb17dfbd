//! Whole files against the packages that made the models, and in bounded memory.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Local, assert_wine, wine_lines, wine_row};
use crate::support::harness::{model_file, repository, skip};
use crate::support::oracle::wine;

#[test]
fn every_row_of_a_file_is_what_scikit_learn_says() {
    let rows = wine().rows.len();
    for version in ["1", "2"] {
        let job = Local::new();
        let input = job.write("wines.jsonl", wine_lines(rows));
        job.ends(0, &format!("wine/{version}"), &input, &[]);
        let results = job.results();
        assert_eq!(results.len(), rows);
        for (number, line) in results.iter().enumerate() {
            assert_wine(version, number, &line["prediction"]);
        }
    }
}

/// A JPEG decoder may differ by a level in 255 from another one, and so do the outputs, a little. The model's
/// levels are divided by 0.2, and so are the differences.
fn assert_close(got: &Value, expected: &Value, name: &str) {
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let (got, expected) = (numbers(got), numbers(expected));
    assert_eq!(got.len(), expected.len());
    let is_close = got.iter().zip(&expected).all(|(got, expected)| (got - expected).abs() < 0.025);
    assert!(is_close, "{name}: expected {expected:?}, got {got:?}");
}

#[test]
fn five_hundred_images_are_what_onnx_runtime_says() {
    let python = repository().join(".cache/clients/bin/python");
    if !python.exists() {
        return skip("500 JPEGs against ONNX Runtime: scripts/setup-checks could not install .cache/clients");
    }
    let job = Local::new();
    job.write("model/model.onnx", model_file("zoo/torch-conv", "model.onnx"));
    job.write("model/model.yaml", "image: {mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4]}");
    let script = repository().join("tests/clients/photos.py");
    let made = Command::new(python).arg(script).arg(job.folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    job.ends(0, &job.path("model"), &job.path("photos/*.jpg"), &[]);
    let expected: Value = serde_json::from_slice(&fs::read(job.path("expected.json")).unwrap()).unwrap();
    let results = job.results();
    assert_eq!(results.len(), 500);
    for (line, (name, expected)) in results.iter().zip(expected.as_object().unwrap()) {
        assert_eq!(line["instance"], *job.path(&format!("photos/{name}")));
        assert_close(&line["prediction"], expected, name);
    }
}

/// Peak memory of a job of so many wines, in MiB.
async fn peak(rows: usize) -> u64 {
    let job = Local::new();
    let mut file = std::io::BufWriter::new(fs::File::create(job.path("wines.jsonl")).unwrap());
    for number in 0..rows {
        writeln!(file, "{}", wine_row(number)).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
    let mut command = job.command("wine/2", &job.path("wines.jsonl"), &[]);
    // Its peak is read while it lives: when it has written all, it waits for its last line to be taken.
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) / 1024);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(job.summary()["successful"], rows);
    peak
}

/// A debug build takes 20 s for a million rows on two cores, and no more memory for them than for these.
#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_file() {
    let (few, many) = (peak(1_000).await, peak(300_000).await);
    assert!(few > 20, "{few} MiB");
    assert!(many < few + 200, "{many} MiB for many rows, {few} MiB for few");
}
