//! The log says how a worker was started and how requests ended. It never holds a payload.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::harness::{PATIENCE, Worker, World, http, repository};
use crate::support::oracle::wine;

async fn world() -> World {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    world
}

fn lines(worker: &Worker) -> Vec<Value> {
    worker.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn saying(worker: &Worker, message: &str) -> Vec<Value> {
    lines(worker).into_iter().filter(|line| line["message"] == message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_line_names_what_the_worker_was_told() {
    let world = world().await;
    let worker = world.worker(&[
        ("PREDICTD_PROJECT", "my-project"),
        ("PREDICTD_REQUESTS__SUBSCRIPTION", "projects/demo/subscriptions/prediction-requests"),
        ("PREDICTD_RESPONSES__TOPIC", "projects/demo/topics/prediction-responses"),
        ("PREDICTD_MODELS__DEFAULT", "wine"),
        ("PREDICTD_MODELS__UPDATES", ""),
        ("PREDICTD_INFERENCE__THREADS", "2"),
    ]);
    worker.until_ready().await;
    let first = &lines(&worker)[0];
    for (field, value) in [
        ("message", "predictd starts"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("project", "my-project"),
        ("subscription", "projects/demo/subscriptions/prediction-requests"),
        ("topic", "projects/demo/topics/prediction-responses"),
        ("source", "gs://models/models"),
        ("default_model", "wine"),
        ("providers", "cpu"),
    ] {
        assert_eq!(first[field], value, "{field} of {first}");
    }
    assert_eq!(first["threads"], 2);
    let emulators = first["emulators"].as_str().unwrap();
    for variable in ["PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"] {
        assert!(emulators.contains(&format!("{variable} (http://{})", world.server.host())), "{emulators}");
    }
    let warning = &lines(&worker)[1];
    assert_eq!(warning["severity"], "WARNING");
    assert!(warning["message"].as_str().unwrap().contains("placeholder of the template"), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_warned_about_without_what_they_held() {
    let world = world().await;
    let worker = world.ready_worker(&[]).await;
    let wrong = r#"{"instances": [[1, 2]], "note": "4111-1111"}"#;
    let ids: Vec<String> = (0..50).map(|_| world.publish(wrong, &[])).collect();
    let unknown = world.publish(wine().request(&[0]), &[("model", "beer")]);
    world.responses(&[ids.clone(), vec![unknown.clone()]].concat()).await;
    let error = "predictd_requests_total{model=\"wine\",version=\"1\",status=\"INVALID_INPUT\"}";
    worker.until_metric(error, 50.0).await;
    worker.until_log(&format!("\"message_id\":\"{unknown}\"")).await;
    let warnings = |code: &str| -> Vec<Value> {
        let said = saying(&worker, "a request was answered with an error").into_iter();
        said.filter(|line| line["code"] == code).collect()
    };
    // A response is counted before its line is written.
    let ten = async || (warnings("INVALID_INPUT").len() >= 10).then_some(());
    worker.until("ten warnings", ten).await;
    let invalid = warnings("INVALID_INPUT");
    assert_eq!(invalid.len(), 10, "{invalid:#?}");
    for line in invalid {
        assert_eq!((&line["severity"], &line["model"]), (&"WARNING".into(), &"wine".into()));
        assert!(ids.iter().any(|id| line["message_id"] == **id), "{line}");
        assert!(line["reason"].as_str().unwrap().contains("13"), "{line}");
    }
    let not_found = warnings("MODEL_NOT_FOUND");
    assert_eq!(not_found.len(), 1);
    assert!(not_found[0]["reason"].as_str().unwrap().contains("\"beer\""));
    assert!(
        !worker.log().contains("4111-1111") && !worker.log().contains("instances\\\""),
        "{}",
        worker.log()
    );
    assert!(saying(&worker, "answered").is_empty(), "DEBUG is off");
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_shows_each_request_and_no_frames() {
    let world = world().await;
    let worker = world.ready_worker(&[("PREDICTD_LOG", "debug")]).await;
    let good = world.publish(wine().request(&[0, 1, 2]), &[]);
    let bad = world.publish("{}", &[]);
    world.responses(&[good.clone(), bad.clone()]).await;
    let answered = async |id: &str| {
        let is_it = |line: &Value| line["message_id"] == *id;
        worker.until(id, async || saying(&worker, "answered").into_iter().find(is_it)).await
    };
    let line = answered(&good).await;
    assert_eq!((&line["severity"], &line["model"]), (&"DEBUG".into(), &"wine".into()));
    assert_eq!((&line["version"], &line["outcome"], &line["rows"]), (&"1".into(), &"ok".into(), &3.into()));
    assert!(line["milliseconds"].is_u64(), "{line}");
    let line = answered(&bad).await;
    assert_eq!((&line["outcome"], &line["rows"]), (&"INVALID_INPUT".into(), &0.into()));
    let noisy = |line: &&Value| {
        let target = line["target"].as_str().unwrap();
        ["h2", "hyper", "tower", "tonic", "rustls", "reqwest"].iter().any(|name| target.starts_with(name))
    };
    assert_eq!(lines(&worker).iter().filter(noisy).count(), 0, "{}", worker.log());
}

/// The reader of the log may end before the worker does.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_log_ends_no_worker() {
    let world = world().await;
    let mut command = world.command();
    command.args(["run", "--config"]).arg(repository().join("config/local.yaml"));
    command.env("PREDICTD_HTTP__LISTEN", "127.0.0.1:0").env("PREDICTD_LOG", "debug");
    let mut worker = Killed(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(worker.0.stderr.take().unwrap()).lines();
    let address = log.find_map(|line| {
        let line: Value = serde_json::from_str(&line.unwrap()).ok()?;
        Some(line["address"].as_str()?.to_owned())
    });
    drop(log);
    wine().check(&[5], &world.ask(wine().request(&[5]), &[]).await);
    let ready = format!("http://{}/ready", address.unwrap());
    let end = Instant::now() + PATIENCE;
    // The check of the response topic may end after the first response.
    while http().get(&ready).send().await.unwrap().status().as_u16() != 200 {
        assert!(Instant::now() < end, "never ready");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(worker.0.try_wait().unwrap(), None);
}

/// A process that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
