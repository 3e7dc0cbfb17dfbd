//! Faults 27 to 36, 39 and 50 to 54: what goes wrong between a source and a serving model; and what the cache
//! keeps.

mod bad_versions;
mod cache;
mod directory;
mod download;
mod hostile_models;
mod limits;
mod notifications;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use local_gcp::history::What;

use super::Trial;
use crate::support::harness::{PATIENCE, Worker, World, crc, model_file, repository, skip};
use crate::support::oracle::{Allowed, End, wine};

pub(super) use hostile_models::SIGFPE;

const MEDIA: &str = "storage.objects.get.media";

/// A world with version 1 of wine, and nothing that faults could meet but what the worker does by itself.
async fn trial(number: u8, injected: &'static str, promise: &'static str) -> Trial {
    let world = World::start().await;
    world.upload_version("wine/1", "wine", "1");
    Trial::of(world, number, injected, promise)
}

fn refusal_of(info: &serde_json::Value, version: &str) -> Option<String> {
    let refused = info["models"]["wine"]["refused"].as_array()?;
    let found = refused.iter().find(|refusal| refusal["version"] == version)?;
    Some(found["reason"].as_str()?.to_owned())
}

/// Waits until `/info` gives a reason with these words for not serving `version`; the whole reason.
async fn refusal(worker: &Worker, version: &str, words: &str) -> String {
    let found = |info: &serde_json::Value| refusal_of(info, version).filter(|reason| reason.contains(words));
    let what = format!("a refusal of {version} because of {words:?}");
    found(&worker.until_info(&what, |info| found(info).is_some()).await).unwrap()
}

/// The generations of `object` whose bytes were asked for, in order.
fn reads(world: &World, object: &str) -> Vec<i64> {
    world.server.history.with(|events| {
        let read = events.iter().filter_map(|event| match &event.what {
            What::Read(read) if read.object == object => Some(read.generation),
            _ => None,
        });
        read.collect()
    })
}

/// Until so many faults are left for reads of objects.
async fn faults_left(world: &World, left: usize) {
    let end = Instant::now() + PATIENCE;
    while world.server.faults.waiting(MEDIA) > left {
        assert!(Instant::now() < end, "{} faults were never met", world.server.faults.waiting(MEDIA));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Everything in a folder whose name begins so, however deep.
fn found(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with(prefix) {
            all.push(path.clone());
        }
        all.extend(found(&path, prefix));
    }
    all
}
