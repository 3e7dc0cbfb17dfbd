//! A job over files gives each row its result, once and in the input's order, whatever interrupts it.

mod bad_rows;
mod faults;
mod forms;
mod jobs;
mod models;
mod oracle;
mod pinned;
mod remote;
mod resume;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::support::command::predictd;
use crate::support::harness::{model_file, outcome, repository};
use crate::support::oracle::wine;

/// A job on this machine, in a folder of its own. Its results go to `out`.
struct Local {
    folder: TempDir,
}

impl Local {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Writes an input; its path.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).into_os_string().into_string().unwrap()
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// `predictd batch` with a model of tests/models, or one of an absolute path.
    fn command(&self, model: &str, input: &str, more: &[&str]) -> Command {
        let model = repository().join("tests/models").join(model);
        let out = self.path("out");
        let own = ["batch", "--model", model.to_str().unwrap(), "--input", input, "--output", &out];
        predictd(&[&own, more].concat())
    }

    /// Runs it to its end: exit code, standard output, standard error.
    fn run(&self, model: &str, input: &str, more: &[&str]) -> (i32, String, String) {
        outcome(self.command(model, input, more), "")
    }

    /// Runs a job that must end with this code; what it printed.
    fn ends(&self, code: i32, model: &str, input: &str, more: &[&str]) -> String {
        let (got, stdout, stderr) = self.run(model, input, more);
        assert_eq!(got, code, "{stdout}{stderr}");
        stdout + &stderr
    }

    /// The lines of all results.
    fn results(&self) -> Vec<Value> {
        json_lines(&texts(&self.out(), "prediction.results-"))
    }

    /// The errors, without the counts at the end of each file.
    fn errors(&self) -> Vec<Value> {
        let lines = json_lines(&texts(&self.out(), "prediction.errors_stats-"));
        lines.into_iter().filter(|line| line.get("stats").is_none()).collect()
    }

    fn summary(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out().join("summary.json")).unwrap()).unwrap()
    }

    /// Every file of the output folder but the plan and the summary, which have times. Fails if temporary ones
    /// are left.
    fn output(&self) -> Vec<(String, Vec<u8>)> {
        let all = files(&self.out());
        let left: Vec<_> = all.iter().map(|(name, _)| name).filter(|name| name.starts_with('.')).collect();
        assert!(left.is_empty(), "temporary files are left: {left:?}");
        let has_no_time =
            |(name, _): &(String, Vec<u8>)| name.starts_with("prediction.") || name == "_SUCCESS";
        all.into_iter().filter(has_no_time).collect()
    }
}

/// The files of a folder by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            found.push((entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

/// The files that begin so, one behind the other.
fn texts(folder: &Path, prefix: &str) -> String {
    let found = files(folder).into_iter().filter(|(name, _)| name.starts_with(prefix));
    found.map(|(_, text)| String::from_utf8(text).unwrap()).collect()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// The wine of this number, which may be beyond the last.
fn wine_row(number: usize) -> &'static Value {
    &wine().rows[number % wine().rows.len()]
}

/// The wine of this number as an object by column.
fn named(number: usize) -> Map<String, Value> {
    let values = wine_row(number).as_array().unwrap();
    wine_columns().into_iter().zip(values.iter().cloned()).collect()
}

fn wine_columns() -> Vec<String> {
    let expected: Value = serde_json::from_slice(&model_file("wine", "expected.json")).unwrap();
    expected["columns"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Lines of wines, `count` of them.
fn wine_lines(count: usize) -> String {
    (0..count).map(|number| format!("{}\n", wine_row(number))).collect()
}

/// Fails unless the prediction is scikit-learn's for the wine of this number.
fn assert_wine(version: &str, number: usize, prediction: &Value) {
    let difference = wine().row_difference(version, number % wine().rows.len(), prediction);
    assert_eq!(difference, None, "row {number}");
}
