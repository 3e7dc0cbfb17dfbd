//! `gcloud storage` against the local server, where the command line tools are installed.

use std::path::Path;

use crate::support::{Local, pattern};

/// Runs gcloud and answers what it printed; `None` when it is not installed.
async fn gcloud(local: &Local, config: &Path, args: &[&str]) -> Option<String> {
    let endpoint = format!("{}/storage/v1/", local.base);
    let (args, config) = (args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>(), config.to_owned());
    let run = move || {
        std::process::Command::new("gcloud")
            .args(&args)
            .env("CLOUDSDK_CONFIG", config)
            .env("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", endpoint)
            .env("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "true")
            .env("CLOUDSDK_CORE_PROJECT", "demo")
            .env("CLOUDSDK_CORE_DISABLE_PROMPTS", "1")
            .env("CLOUDSDK_CORE_DISABLE_USAGE_REPORTING", "true")
            .output()
    };
    match tokio::task::spawn_blocking(run).await.unwrap() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        output => {
            let output = output.unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "gcloud failed: {errors}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
    }
}

#[tokio::test]
async fn copies_lists_and_removes() {
    let local = Local::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (up, down) = (folder.path().join("up.bin"), folder.path().join("down.bin"));
    std::fs::write(&up, pattern(100_000)).unwrap();
    let (up, down) = (up.to_str().unwrap(), down.to_str().unwrap());
    let object = "gs://models/m/1/model.onnx";
    if gcloud(&local, folder.path(), &["storage", "cp", up, object]).await.is_none() {
        println!("SKIPPED: gcloud is not on the PATH");
        return;
    }
    let listed = gcloud(&local, folder.path(), &["storage", "ls", "-r", "gs://models/"]).await.unwrap();
    assert!(listed.lines().any(|line| line == object), "{listed}");
    gcloud(&local, folder.path(), &["storage", "cp", object, down]).await.unwrap();
    assert_eq!(std::fs::read(down).unwrap(), pattern(100_000));
    gcloud(&local, folder.path(), &["storage", "rm", object]).await.unwrap();
    let listed = reqwest::get(local.url("/o")).await.unwrap().text().await.unwrap();
    assert!(!listed.contains("model.onnx"), "{listed}");
}
