//! Counts of rows: of a finished shard, which the last line of its errors has, and of a job while it runs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::job::Plan;
use super::store::Store;
use super::threads;
use crate::lock::lock;
use crate::ops::metrics::FileRows;

/// Rows by their outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub successful: u64,
    pub failed: u64,
}

/// Shards whose counts are read at the same time.
const READ_AT_ONCE: usize = 16;
/// Bytes in which the last line of a shard's errors lies.
const COUNTS_LENGTH: u64 = 128;

#[derive(Debug, Serialize, Deserialize)]
struct Stats {
    stats: Counts,
}

impl Counts {
    /// The last line of a shard's errors.
    pub fn line(self) -> anyhow::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(&Stats { stats: self })?;
        line.push(b'\n');
        Ok(line)
    }

    /// Reads the counts of finished shards, and adds them up.
    pub fn sum(store: &Store, plan: &Plan, shards: &[usize]) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for counts in threads::map(shards, READ_AT_ONCE, |shard| Self::read(store, plan, *shard)) {
            let Self { successful, failed } = counts?;
            sum.successful += successful;
            sum.failed += failed;
        }
        Ok(sum)
    }

    /// Reads the counts of a finished shard.
    fn read(store: &Store, plan: &Plan, shard: usize) -> anyhow::Result<Self> {
        let address = plan.errors(shard);
        let end = store.tail(&address, COUNTS_LENGTH)?;
        let line = end.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let stats: Stats = serde_json::from_slice(line)
            .with_context(|| format!("expected the counts of its rows in the last line of {address}"))?;
        Ok(stats.stats)
    }
}

/// Counts of a job while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    successful: AtomicU64,
    failed: AtomicU64,
    first_error: Mutex<Option<String>>,
    /// Counts the same for operators.
    metrics: Option<FileRows>,
}

impl Progress {
    pub fn counting(metrics: FileRows) -> Self {
        Self { metrics: Some(metrics), ..Self::default() }
    }

    pub fn set_first_error(&self, error: &str) {
        lock(&self.first_error).get_or_insert_with(|| error.to_owned());
    }

    pub fn add(&self, counts: Counts) {
        self.successful.fetch_add(counts.successful, Ordering::Relaxed);
        self.failed.fetch_add(counts.failed, Ordering::Relaxed);
        if let Some(metrics) = &self.metrics {
            metrics.add(counts.successful, counts.failed);
        }
    }

    pub fn successful(&self) -> u64 {
        self.successful.load(Ordering::Relaxed)
    }

    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The first error that came, for a person to read.
    pub fn first_error(&self) -> Option<String> {
        lock(&self.first_error).clone()
    }
}
