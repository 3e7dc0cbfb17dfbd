//! Small files that say what happens to a job: why it stopped, and which shards were tried again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::job::path;
use super::store::Store;

const STOPPED: &str = "stopped.json";
const ATTEMPTS: &str = "attempts";

#[derive(Debug, Serialize, Deserialize)]
struct Stopped {
    reason: String,
}

/// Stops a job. The first reason stays.
pub fn stop(store: &Store, folder: &str, reason: &str) -> anyhow::Result<()> {
    let text = serde_json::to_vec(&Stopped { reason: reason.to_owned() })?;
    store.create(&path(folder, STOPPED), &text).map(drop)
}

/// Why a job was stopped.
pub fn stopped(store: &Store, folder: &str) -> anyhow::Result<Option<String>> {
    let text = store.read(&path(folder, STOPPED))?;
    Ok(text.map(|text| match serde_json::from_slice(&text) {
        Ok(Stopped { reason }) => reason,
        Err(_) => "unknown".to_owned(),
    }))
}

/// Lets a stopped job go on.
pub fn resume(store: &Store, folder: &str) -> anyhow::Result<()> {
    store.delete(&path(folder, STOPPED))
}

/// Notes that a shard was delivered for the `attempt`th time, so that one that kills workers can be named.
pub fn attempt(store: &Store, folder: &str, shard: usize, attempt: i32) -> anyhow::Result<()> {
    store.create(&path(folder, &format!("{ATTEMPTS}/{shard:05}-{attempt:03}")), b"").map(drop)
}

/// The highest number of deliveries of each shard that was tried again and has no output.
pub fn attempts(store: &Store, folder: &str) -> anyhow::Result<BTreeMap<usize, i32>> {
    let mut found = BTreeMap::new();
    for (name, _) in store.list(&path(folder, ATTEMPTS))? {
        let Some((shard, attempt)) = name.split_once('-') else { continue };
        if let (Ok(shard), Ok(attempt)) = (shard.parse(), attempt.parse::<i32>()) {
            let highest = found.entry(shard).or_insert(attempt);
            *highest = attempt.max(*highest);
        }
    }
    Ok(found)
}

/// Forgets the attempts of a shard that has its output.
pub fn forget_attempts(store: &Store, folder: &str, shard: usize) -> anyhow::Result<()> {
    if let Some(last) = attempts(store, folder)?.get(&shard) {
        for attempt in 2..=*last {
            store.delete(&path(folder, &format!("{ATTEMPTS}/{shard:05}-{attempt:03}")))?;
        }
    }
    Ok(())
}
