//! Output of the commands: their help, and a reader that stops reading.

use std::process::Stdio;

use crate::support::command::predictd;
use crate::support::harness::outcome;

#[test]
fn the_help_teaches() {
    let (code, stdout, _) = outcome(predictd(&["--help"]), "");
    assert_eq!(code, 0);
    for said in [
        "run",
        "check",
        "inspect",
        "predict",
        "ready",
        "PUBSUB_EMULATOR_HOST",
        "PREDICTD_LOG",
        "78 bad configuration",
    ] {
        assert!(stdout.contains(said), "{said:?} is missing in {stdout}");
    }
    assert_eq!(outcome(predictd(&["predit"]), "").0, 2);
}

/// `head` and the like close the pipe when they have enough.
#[test]
fn a_closed_pipe_ends_a_command_silently() {
    let model = "tests/models/wine/2";
    let config = "config/local.yaml";
    let commands: [&[&str]; 7] = [
        &["inspect", model],
        &["inspect", model, "--json"],
        &["predict", "--model", model, "--input", "/dev/null"],
        &["check", "--config", config],
        &["generate", "completions", "bash"],
        &["generate", "completions", "man"],
        &["--help"],
    ];
    for arguments in commands {
        let mut command = predictd(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let is_error = arguments[0] == "predict"; // An empty request is one, whoever reads of it.
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*stderr), (Some(i32::from(is_error)), ""), "{arguments:?}");
    }
    for (arguments, code) in [(["check", "--config", "/nowhere"], 78), (["inspect", "--json", "/nowhere"], 1)]
    {
        let mut child = predictd(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{arguments:?}");
    }
}
