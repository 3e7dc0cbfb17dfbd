//! Downloads and uploads show their progress to people and to nobody else.

use std::path::Path;
use std::process::Command;

use crate::support::harness::{World, outcome, repository, skip};
use crate::support::oracle::wine;

async fn world() -> World {
    let world = World::start().await;
    world.upload_version("wine/2", "wine", "2");
    world
}

/// Text that only a bar writes.
const BAR: &str = "wine 2 [";

#[tokio::test(flavor = "multi_thread")]
async fn no_terminal_gets_no_bar() {
    let world = world().await;
    let request = wine().request(&[7]);
    for arguments in
        [vec!["inspect", "gs://models/models/wine"], vec!["predict", "--model", "gs://models/models/wine"]]
    {
        let mut command = world.command();
        command.args(&arguments);
        let request = request.clone();
        let (code, stdout, stderr) =
            tokio::task::spawn_blocking(move || outcome(command, &request)).await.unwrap();
        assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}: {stdout}");
        assert!(!stdout.contains(BAR) && !stdout.contains('\u{1b}'), "{stdout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_gets_a_bar() {
    let script = Path::new("/usr/bin/script");
    if !script.exists() {
        skip(&format!("{} is not installed: no command was given a terminal", script.display()));
        return;
    }
    let world = world().await;
    let folder = repository().join("tests/models/wine/2");
    let push = format!("push {} gs://models/models/wine/3", folder.display());
    for (arguments, bar, says) in [
        ("inspect gs://models/models/wine", BAR, "model     wine version 2"),
        (&*push, "wine 3 [", "wine/3 uploaded"),
    ] {
        let inner = format!("{} {arguments}", env!("CARGO_BIN_EXE_predictd"));
        let mut command = Command::new(script);
        // The variables that reach the worker's own server, and a terminal that can draw.
        command.args(["-qec", &inner, "/dev/null"]).env("TERM", "xterm");
        for (name, value) in world.command().get_envs() {
            command.env(name, value.unwrap());
        }
        let (code, shown, stderr) = tokio::task::spawn_blocking(move || outcome(command, "")).await.unwrap();
        assert_eq!(code, 0, "{shown} {stderr}");
        assert!(shown.contains(bar), "no bar in {shown:?}");
        assert!(shown.contains(says), "{shown:?}");
    }
}
