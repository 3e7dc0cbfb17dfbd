//! The console in Debian's chromium, driven by `tests/clients/console.py`.

use std::path::Path;
use std::process::Command;

use crate::support::harness::{onnxruntime, repository, skip};

/// Runs one scenario of the script, which starts workers of its own.
fn browse(scenario: &str) {
    let python = repository().join(".cache/browser/bin/python");
    if !python.exists() {
        return skip("the console in a browser: scripts/setup-checks could not install .cache/browser");
    }
    if !Path::new("/usr/bin/chromium").exists() {
        return skip("the console in a browser: there is no /usr/bin/chromium");
    }
    let output = Command::new(python)
        .arg(repository().join("tests/clients/console.py"))
        .args([scenario, env!("CARGO_BIN_EXE_predictd")])
        .arg(repository())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("ORT_DYLIB_PATH", onnxruntime())
        .env_remove("PORT")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}: {said}");
}

/// By keyboard alone, an image with preview and download, hostile labels and names, figures, axe-core.
#[test]
fn people_predict_in_a_browser() {
    browse("basics");
}

/// Tokens, no model yet, a version change, a refused version, overload, a worker that is killed and starts again.
#[test]
fn the_page_stays_useful_under_trouble() {
    browse("trouble");
}

/// `UPDATE_SNAPSHOTS=1` takes the picture of the README anew.
#[test]
fn the_picture_of_the_readme_is_small() {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        browse("screenshot");
    }
    let bytes = std::fs::metadata(repository().join("docs/console.png")).unwrap().len();
    assert!(bytes < 60_000, "{bytes} bytes");
}

#[test]
fn two_thousand_models_load_in_a_second_and_one_is_found_by_typing() {
    browse("many");
}
