//! The commands of the binary, run to their end.

use std::process::Command;

use super::harness::{onnxruntime, outcome, repository};

pub(crate) fn predictd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_predictd"));
    command.args(arguments).env("ORT_DYLIB_PATH", onnxruntime()).current_dir(repository());
    command
}

/// Exit code 1, one error, as text or in a log's JSON, which says so; and a hint as the last line.
pub(crate) fn assert_fails(command: Command, says: &str) {
    let (code, _, stderr) = outcome(command, "");
    assert_eq!(code, 1, "{stderr}");
    let errors: Vec<String> = stderr
        .lines()
        .filter_map(|line| match serde_json::from_str::<serde_json::Value>(line) {
            Ok(line) => (line["severity"] == "ERROR")
                .then(|| format!("{}: {}", line["message"], line["why"].as_str().unwrap_or_default())),
            Err(_) => line.starts_with("error: ").then(|| line.to_owned()),
        })
        .collect();
    assert!(
        matches!(&errors[..], [only] if only.contains(says)),
        "{says:?} is not the one error in {stderr}"
    );
    assert!(stderr.trim_end().lines().last().unwrap().starts_with("hint: "), "{stderr}");
}
