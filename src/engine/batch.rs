//! Forms batches: one pure rule, one task.
//!
//! The slot at the inference threads is reserved **first**, then what is queued is taken: batches grow by themselves while
//! the model is busy, and nobody waits when it is not. Ends when its input closes, after it has handed on everything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::engine::budget::Budget;
use crate::engine::job::{Batch, Pending};
use crate::model::Models;
use crate::ops::health::Pulse;

/// Bytes of all responses of a batch, as far as they can be told before.
const RESPONSES_OF_A_BATCH: usize = 16 << 20;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_rows: usize,
    /// How long the first request of a batch may wait for company; zero: not at all.
    pub max_wait: Duration,
}

/// What the rule needs to know of a request.
pub trait Item {
    fn rows(&self) -> usize;
    /// Rows in a call that this request is in, at most.
    fn max_rows(&self) -> usize;
    /// Whether both may be in one call of ONNX Runtime.
    fn goes_with(&self, other: &Self) -> bool;
}

impl Pending {
    /// Requests for one version, and none of another signature. One that wants its version keeps it.
    fn runs_on_the_version_of(&self, other: &Self) -> bool {
        let is_free = self.wanted_version.is_none() && other.wanted_version.is_none();
        Arc::ptr_eq(&self.model, &other.model) || is_free && self.model.takes_requests_of(&other.model)
    }
}

impl Item for Pending {
    fn rows(&self) -> usize {
        self.request.rows
    }

    fn max_rows(&self) -> usize {
        let by_response = RESPONSES_OF_A_BATCH / self.model.response_bytes(1).max(1);
        self.model.executor.max_rows.unwrap_or(usize::MAX).min(by_response.max(1))
    }

    /// One version, or two of one signature, and one shape a row of every input.
    fn goes_with(&self, other: &Self) -> bool {
        let mut inputs = self.request.inputs.iter().zip(&other.request.inputs);
        !(self.alone || other.alone)
            && self.model.executor.shares_calls()
            && self.runs_on_the_version_of(other)
            && inputs.all(|(a, b)| a.shape.get(1..) == b.shape.get(1..))
    }
}

/// Takes the oldest request and, in order, those that go with it, up to `max_rows` rows; a larger request goes alone.
/// The others keep their order.
pub fn take<T: Item>(waiting: &mut VecDeque<T>, max_rows: usize) -> Vec<T> {
    let Some(first) = waiting.pop_front() else { return Vec::new() };
    let mut rows = first.rows();
    let max_rows = max_rows.min(first.max_rows());
    let mut taken = Vec::with_capacity(waiting.len().min(max_rows) + 1);
    taken.push(first);
    let mut passed_over = Vec::new();
    while rows < max_rows
        && let Some(next) = waiting.pop_front()
    {
        if next.goes_with(&taken[0]) && rows + next.rows() <= max_rows {
            rows += next.rows();
            taken.push(next);
        } else {
            passed_over.push(next);
        }
    }
    for item in passed_over.into_iter().rev() {
        waiting.push_front(item);
    }
    taken
}

/// The task.
pub async fn run(
    mut requests: mpsc::Receiver<Vec<Pending>>,
    batches: mpsc::Sender<Batch>,
    models: Arc<Models>,
    limits: Limits,
    budget: Budget,
    pulse: Arc<Pulse>,
) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match requests.recv().await {
                Some(more) => waiting.extend(more),
                None => return,
            }
        }
        // Closed only when the inference threads are gone, and then the pipeline is failing.
        let Ok(slot) = batches.reserve().await else { return };
        budget.responses_left().await;
        gather(&mut requests, &mut waiting, limits).await;
        let working = pulse.work();
        let taken = take(&mut waiting, limits.max_rows);
        let Some(first) = taken.first() else { continue };
        let keeps_version = taken.iter().any(|pending| pending.wanted_version.is_some());
        let model = if keeps_version { Arc::clone(&first.model) } else { models.current(&first.model) };
        drop(working);
        slot.send(Batch { model, requests: taken });
    }
}

/// Adds what is queued already, and waits for company if the configuration says so.
async fn gather(
    requests: &mut mpsc::Receiver<Vec<Pending>>,
    waiting: &mut VecDeque<Pending>,
    limits: Limits,
) {
    let rows = |waiting: &VecDeque<Pending>| waiting.iter().map(Item::rows).sum::<usize>();
    while rows(waiting) < limits.max_rows
        && let Ok(more) = requests.try_recv()
    {
        waiting.extend(more);
    }
    if limits.max_wait.is_zero() {
        return;
    }
    let Some(first) = waiting.front() else { return };
    if first.alone {
        return;
    }
    let until = tokio::time::Instant::from_std(first.origin.received_at + limits.max_wait);
    while rows(waiting) < limits.max_rows && Instant::now() < until.into_std() {
        match tokio::time::timeout_at(until, requests.recv()).await {
            Ok(Some(more)) => waiting.extend(more),
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Number, kind, rows.
    #[derive(Debug, Clone, PartialEq)]
    struct Thing(usize, u8, usize);

    impl Item for Thing {
        fn rows(&self) -> usize {
            self.2
        }
        fn max_rows(&self) -> usize {
            if self.1 == 0 { 3 } else { usize::MAX }
        }
        fn goes_with(&self, other: &Self) -> bool {
            self.1 == other.1
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_repeated_and_limits_hold(
            things in prop::collection::vec((0u8..3, 1usize..6), 0..60),
            max_rows in 1usize..12,
        ) {
            let things: Vec<Thing> =
                things.into_iter().enumerate().map(|(number, (kind, rows))| Thing(number, kind, rows)).collect();
            let mut waiting: VecDeque<Thing> = things.iter().cloned().collect();
            let mut seen = Vec::new();
            while !waiting.is_empty() {
                let oldest = waiting[0].0;
                let batch = take(&mut waiting, max_rows);
                let rows: usize = batch.iter().map(|thing| thing.2).sum();
                prop_assert!(batch.len() == 1 || rows <= max_rows.min(batch[0].max_rows()));
                prop_assert!(batch.iter().all(|thing| thing.1 == batch[0].1));
                prop_assert_eq!(batch[0].0, oldest);
                prop_assert!(waiting.iter().is_sorted_by_key(|thing| thing.0));
                seen.extend(batch);
            }
            for kind in 0..3 {
                let of_kind = |all: &[Thing]| all.iter().filter(|t| t.1 == kind).map(|t| t.0).collect::<Vec<_>>();
                prop_assert_eq!(of_kind(&seen).len(), of_kind(&things).len());
            }
            seen.sort_by_key(|thing| thing.0);
            prop_assert_eq!(seen, things);
        }
    }
}
