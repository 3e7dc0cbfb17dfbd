//! Texts of the command line that people read, compared to the letter with the files in `tests/snapshots/`.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test --test e2e snapshots` rewrites them; read the difference before committing
//! it.

use std::process::{Command, Output, Stdio};

use clap::CommandFactory as _;
use predictd::cli::Cli;

use crate::support::harness::repository;

/// The real binary, with no terminal to fit and no variables but those given.
fn predictd(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_predictd"))
        .args(arguments)
        .current_dir(repository())
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the binary was built for this test")
}

fn assert_snapshot(name: &str, actual: &[u8]) {
    let path = repository().join("tests/snapshots").join(name);
    let actual = String::from_utf8(actual.to_vec()).expect("what people read is UTF-8");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    assert!(
        expected == actual,
        "{name} changed; UPDATE_SNAPSHOTS=1 rewrites it\n--- expected\n{expected}\n--- actual\n{actual}"
    );
}

#[test]
fn help() {
    let output = predictd(&["--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_snapshot("help.txt", &output.stdout);
}

/// A command without a snapshot fails.
#[test]
fn help_of_every_command() {
    let cli = Cli::command();
    for command in cli.get_subcommands().map(|command| command.get_name()) {
        let output = predictd(&[command, "--help"], &[]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert_snapshot(&format!("help-{command}.txt"), &output.stdout);
    }
}

#[test]
fn bad_usage_ends_with_2() {
    let output = predictd(&["run", "--cofnig", "a.yaml"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config"), "{output:?}");
}

#[test]
fn check_lists_every_problem_and_ends_with_78() {
    let files =
        ["check", "--config", "tests/snapshots/problems.yaml", "--config", "tests/snapshots/none.yaml"];
    let variables = [("PREDICTD_BATCHING_MAX_ROWS", "7"), ("PREDICTD_HTTP__LISTEN", "localhost:8080")];
    let output = predictd(&files, &variables);
    assert_eq!(output.status.code(), Some(78));
    assert!(output.stdout.is_empty());
    assert_snapshot("problems.txt", &output.stderr);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.lines().last().is_some_and(|line| line.starts_with("hint: ")), "{told}");
}

#[test]
fn check_prints_what_holds_and_where_it_came_from() {
    // The last is what Kubernetes sets beside a service called predictd.
    let variables = [
        ("PREDICTD_REQUESTS__ALLOWED_BUCKETS", "images,tables/daily"),
        ("PREDICTD_LOG", "debug"),
        ("PREDICTD_PORT", "tcp://10.0.0.1:8080"),
    ];
    let output = predictd(&["check", "--config", "config/local.yaml"], &variables);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
    assert_snapshot("effective.yaml", &output.stdout);
}

#[test]
fn the_documented_configuration_passes() {
    let output = predictd(&["check", "--config", "config/predictd.yaml"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
