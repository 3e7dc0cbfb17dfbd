//! The README's gallery, run as it stands.

use std::process::Command;

use crate::harness::{onnxruntime, repository};

/// Each `$ …` line of the ```console blocks under "## Gallery" and what must come out, up to the next one.
/// UPDATE_SNAPSHOTS=1 writes what comes out into the README.
#[test]
fn every_block_of_the_gallery_says_what_comes_out() {
    let path = repository().join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let begin = readme.find("## Gallery").unwrap();
    let end = begin + readme[begin..].find("\n## ").unwrap();
    let mut written = String::new();
    let (mut in_block, mut commands) = (false, 0);
    for line in readme[begin..end].lines() {
        if line == "```console" || (in_block && line == "```") {
            in_block = !in_block;
        } else if in_block {
            let Some(command) = line.strip_prefix("$ ") else { continue };
            commands += 1;
            written += &format!("{line}\n{}", run(command));
            continue;
        }
        written += line;
        written.push('\n');
    }
    assert!(commands >= 15, "only {commands} commands");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, format!("{}{written}{}", &readme[..begin], &readme[end..])).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    similar(&written, &expected[begin..]);
}

fn run(command: &str) -> String {
    let predictd = std::path::Path::new(env!("CARGO_BIN_EXE_predictd")).parent().unwrap();
    let path = format!("{}:{}", predictd.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &format!("set -o pipefail; {command}")])
        .env("PATH", path)
        .env("ORT_DYLIB_PATH", onnxruntime())
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let mut text = String::from_utf8(output.stdout).unwrap();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Line by line; numbers may differ in their last digits from machine to machine.
fn similar(got: &str, expected: &str) {
    for (got, expected) in got.lines().zip(expected.lines()) {
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line);
        match (parse(got), parse(expected)) {
            (Ok(a), Ok(b)) => assert!(crate::zoo::equal(&a, &b, 1e-5), "expected {expected}\ngot {got}"),
            _ => assert_eq!(got, expected),
        }
    }
}
