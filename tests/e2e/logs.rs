//! The log tells how a worker was started and what became of requests, and never what they held.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::harness::{World, http, repository};
use crate::oracle::wine;

async fn world() -> World {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    world
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
    let ready = http().get(format!("http://{}/ready", address.unwrap())).send().await.unwrap();
    assert_eq!(ready.status().as_u16(), 200);
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
