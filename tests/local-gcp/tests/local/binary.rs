//! The command itself: what it prints, what it serves, how it stops.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

fn local_gcp(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local-gcp"));
    command.args(["--listen", "127.0.0.1:0"]).args(arguments);
    command
}

#[tokio::test]
async fn serves_what_the_file_and_the_command_line_name_until_sigterm() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = std::env::temp_dir().join(format!("local-gcp-{}.json", std::process::id()));
    std::fs::write(
        &file,
        r#"{"project": "filed", "topics": ["requests"], "subscriptions": ["work=requests"],
            "buckets": ["models"], "notifications": ["models=requests,prefix=m/"]}"#,
    )
    .unwrap();
    let arguments = [
        "--file",
        file.to_str().unwrap(),
        "--topic",
        "more",
        "--subscription",
        "other=more,ordering",
        "--bucket",
        "logs",
    ];
    let mut child = local_gcp(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let endpoint = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(client.get(endpoint.clone() + "/control/ready").send().await.unwrap().status().is_success());
    for name in ["work", "other"] {
        let path = format!("{endpoint}/v1/projects/filed/subscriptions/{name}");
        assert_eq!(client.get(path).send().await.unwrap().status(), 200, "{name}");
    }
    for path in ["/storage/v1/b/models/notificationConfigs/1", "/storage/v1/b/logs"] {
        assert_eq!(client.get(endpoint.clone() + path).send().await.unwrap().status(), 200, "{path}");
    }
    let upload = format!("{endpoint}/upload/storage/v1/b/models/o?uploadType=media&name=m/x");
    assert_eq!(client.post(upload).body("x").send().await.unwrap().status(), 200);
    let stats = client.get(endpoint.clone() + "/control/stats").send().await.unwrap();
    let stats: serde_json::Value = stats.json().await.unwrap();
    assert_eq!(stats["buckets"], serde_json::json!({"models": 1, "logs": 0}));
    assert_eq!(stats["topics"]["projects/filed/topics/requests"], 1, "the bucket's notification");
    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert!(child.wait().unwrap().success());
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_members_port_is_held_to_policies() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let member = "serviceAccount:worker@demo.iam.gserviceaccount.com";
    let port = format!("{member}=127.0.0.1:0");
    let arguments = ["--topic", "requests", "--enforce-iam", "--as", &port];
    let mut child = local_gcp(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let worker = lines.next().unwrap().strip_prefix(&format!("{member} calls ")).unwrap().to_owned();
    let owner = lines.next().unwrap().strip_prefix("listening on ").unwrap().to_owned();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (address, expected) in [(worker, 403), (owner, 200)] {
        let topic = format!("{address}/v1/projects/demo/topics/requests");
        assert_eq!(client.get(topic).send().await.unwrap().status(), expected, "{address}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let output = local_gcp(&["--as", &port]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("--enforce-iam"), "it would have no effect");
}

#[test]
fn says_what_is_wrong_with_a_setting() {
    let output = local_gcp(&["--subscription", "work=requests,colour=red"]).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("unknown setting \"colour\""), "{error}");
    let output = local_gcp(&["--subscription", "work=missing"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("no such topic"));
}
