//! The rule by which batches are formed from what waits for one model. Pure: no task, no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::job::Job;
use crate::tensor::Tensor;

/// Expected bytes of all responses of a batch.
const RESPONSES_OF_A_BATCH: usize = 16 << 20;

/// Lane of a transport. The earlier lanes are served first, and each later one has a share, one batch in
/// eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A caller waits for the answer.
    OnDemand,
    /// A stream of requests, which has waited already.
    Online,
    /// Rows of files, which nobody waits for.
    Offline,
}

const LANES: usize = 3;
/// A lane in which requests wait leads one batch in so many at least.
const SHARE: u32 = 8;

/// Properties of a request that the rule needs.
pub trait Item {
    fn rows(&self) -> usize;
    /// Rows in a call that this request is in, at most.
    fn max_rows(&self) -> usize;
    /// True when both may be in one call of ONNX Runtime.
    fn goes_with(&self, other: &Self) -> bool;
    /// True when it shares its call with no other, whatever that is.
    fn is_alone(&self) -> bool;
    fn received_at(&self) -> Instant;
}

impl<R> Job<R> {
    /// True for requests of one version, or of two versions of one signature. One that names its version
    /// keeps it.
    fn runs_on_the_version_of(&self, other: &Self) -> bool {
        let is_free = self.wanted_version.is_none() && other.wanted_version.is_none();
        Arc::ptr_eq(&self.model, &other.model) || is_free && self.model.takes_requests_of(&other.model)
    }
}

impl<R> Item for Job<R> {
    fn rows(&self) -> usize {
        self.request.rows
    }

    fn max_rows(&self) -> usize {
        let by_response = RESPONSES_OF_A_BATCH / self.model.response_bytes(1).max(1);
        self.model.executor.max_rows.unwrap_or(usize::MAX).min(by_response.max(1))
    }

    /// One version, or two of one signature, and one shape a row of every input.
    fn goes_with(&self, other: &Self) -> bool {
        let has_row_shape = |(a, b): (&Option<Tensor>, &Option<Tensor>)| match (a, b) {
            (Some(a), Some(b)) => a.shape.get(1..) == b.shape.get(1..),
            (a, b) => a.is_none() && b.is_none(),
        };
        let mut inputs = self.request.inputs.iter().zip(&other.request.inputs);
        !(self.is_alone || other.is_alone)
            && self.model.executor.shares_calls()
            && self.runs_on_the_version_of(other)
            && inputs.all(has_row_shape)
    }

    fn is_alone(&self) -> bool {
        self.is_alone
    }

    fn received_at(&self) -> Instant {
        self.origin.received_at
    }
}

/// Requests that wait for one model, in the order of their arrival in each lane.
#[derive(Debug)]
pub struct Waiting<T> {
    lanes: [VecDeque<T>; LANES],
    /// For each lane, the batches in a row that others led while requests waited in it.
    passed_over: [u32; LANES],
    rows: [usize; LANES],
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { lanes: Default::default(), passed_over: [0; LANES], rows: [0; LANES] }
    }
}

impl<T: Item> Waiting<T> {
    pub fn push(&mut self, lane: Lane, item: T) {
        self.rows[lane as usize] += item.rows();
        self.lanes[lane as usize].push_back(item);
    }

    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
    }

    pub fn rows(&self) -> usize {
        self.rows.iter().sum()
    }

    /// Rows that are computed before one that comes now in this lane: those of its lane and of earlier ones, and
    /// the share of the later ones.
    pub fn rows_before(&self, lane: Lane) -> usize {
        let (before, after) = self.rows.split_at(lane as usize + 1);
        let own: usize = before.iter().sum();
        own + after.iter().sum::<usize>().min(own / (SHARE as usize - 1))
    }

    /// The request that leads the next batch.
    pub fn first(&self) -> Option<&T> {
        self.lanes[self.leader()?].front()
    }

    /// Takes the next batch: its leader and, in order, those that go with it, from its own lane first, up to
    /// `max_rows` rows. A larger request is alone in its batch. The others keep their order.
    pub fn take(&mut self, max_rows: usize) -> Vec<T> {
        let Some(leader) = self.leader() else { return Vec::new() };
        for (lane, passed_over) in self.passed_over.iter_mut().enumerate() {
            let waits = lane != leader && !self.lanes[lane].is_empty();
            *passed_over = if waits { *passed_over + 1 } else { 0 };
        }
        let Some(first) = self.lanes[leader].pop_front() else { return Vec::new() };
        self.taken_with(first, leader, max_rows)
    }

    /// Like [`Self::take`], but led by the oldest request that fits into one call beside a large one.
    pub fn take_small(&mut self, max_rows: usize) -> Vec<T> {
        let is_small = |item: &T| !item.is_alone() && item.rows() <= max_rows.min(item.max_rows());
        for lane in 0..LANES {
            if let Some(at) = self.lanes[lane].iter().position(is_small)
                && let Some(first) = self.lanes[lane].remove(at)
            {
                return self.taken_with(first, lane, max_rows);
            }
        }
        Vec::new()
    }

    pub fn drain(&mut self) -> Vec<T> {
        self.rows = [0; LANES];
        self.lanes.iter_mut().flat_map(|lane| lane.drain(..)).collect()
    }

    fn leader(&self) -> Option<usize> {
        let waits = |lane: &usize| !self.lanes[*lane].is_empty();
        let is_due = |lane: &usize| self.passed_over[*lane] + 1 >= SHARE;
        let due = (0..LANES).filter(waits).filter(is_due).max_by_key(|lane| self.passed_over[*lane]);
        due.or_else(|| (0..LANES).find(waits))
    }

    fn taken_with(&mut self, first: T, leader: usize, max_rows: usize) -> Vec<T> {
        let mut rows = first.rows();
        self.rows[leader] -= rows;
        let max_rows = max_rows.min(first.max_rows());
        let mut taken = Vec::with_capacity(self.lanes[leader].len().min(max_rows) + 1);
        taken.push(first);
        let others = (0..LANES).filter(|lane| *lane != leader);
        for lane in std::iter::once(leader).chain(others) {
            let mut passed_over = Vec::new();
            while rows < max_rows
                && let Some(next) = self.lanes[lane].pop_front()
            {
                if next.goes_with(&taken[0]) && rows + next.rows() <= max_rows {
                    rows += next.rows();
                    self.rows[lane] -= next.rows();
                    taken.push(next);
                } else {
                    passed_over.push(next);
                }
            }
            for item in passed_over.into_iter().rev() {
                self.lanes[lane].push_front(item);
            }
        }
        taken
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
        fn is_alone(&self) -> bool {
            false
        }
        fn received_at(&self) -> Instant {
            Instant::now()
        }
    }

    const ALL: [Lane; LANES] = [Lane::OnDemand, Lane::Online, Lane::Offline];

    proptest! {
        #[test]
        fn nothing_is_lost_or_repeated_and_limits_hold(
            things in prop::collection::vec((0u8..3, 1usize..6, 0usize..LANES), 0..60),
            max_rows in 1usize..12,
        ) {
            let mut waiting = Waiting::default();
            let mut lanes = Vec::new();
            for (number, (kind, rows, lane)) in things.iter().copied().enumerate() {
                waiting.push(ALL[lane], Thing(number, kind, rows));
                lanes.push(lane);
            }
            let mut seen = Vec::new();
            let mut led = Vec::new();
            while !waiting.is_empty() {
                let first = waiting.first().unwrap().0;
                let oldest: Vec<_> = waiting.lanes.iter().map(|lane| lane.front().map(|thing| thing.0)).collect();
                let batch = waiting.take(max_rows);
                let rows: usize = batch.iter().map(|thing| thing.2).sum();
                prop_assert!(batch.len() == 1 || rows <= max_rows.min(batch[0].max_rows()));
                prop_assert!(batch.iter().all(|thing| thing.1 == batch[0].1));
                prop_assert_eq!(batch[0].0, first);
                prop_assert!(oldest.contains(&Some(first)));
                for lane in &waiting.lanes {
                    prop_assert!(lane.iter().is_sorted_by_key(|thing| thing.0));
                }
                led.push((lanes[first], oldest));
                seen.extend(batch);
            }
            prop_assert_eq!(waiting.rows(), 0);
            // The oldest request of a lane leads a batch, or is in one, within so many.
            for lane in 0..LANES {
                for batches in led.windows(SHARE as usize + LANES) {
                    let oldest = batches[0].1[lane];
                    let stays = batches.iter().all(|(_, all)| oldest.is_some() && all[lane] == oldest);
                    prop_assert!(!stays, "{} was passed over", lane);
                }
            }
            seen.sort_by_key(|thing| thing.0);
            let all: Vec<Thing> =
                things.into_iter().enumerate().map(|(number, (kind, rows, _))| Thing(number, kind, rows)).collect();
            prop_assert_eq!(seen, all);
        }
    }

    /// Requests of two transports that never run dry.
    #[test]
    fn earlier_lanes_are_first_and_a_later_one_has_its_share() {
        let mut waiting = Waiting::default();
        let mut led = [0; LANES];
        for number in 0..80 {
            for (kind, lane) in [(1, Lane::OnDemand), (2, Lane::Offline)] {
                waiting.push(lane, Thing(number, kind, 1));
            }
            led[usize::from(waiting.take(1)[0].1)] += 1;
        }
        assert_eq!(led, [0, 70, 10]);
    }

    #[test]
    fn small_requests_are_found_behind_large_ones() {
        let mut waiting = Waiting::default();
        for thing in [Thing(0, 1, 50), Thing(1, 1, 1), Thing(2, 2, 1), Thing(3, 1, 1)] {
            waiting.push(Lane::Online, thing);
        }
        assert_eq!(waiting.take_small(4), [Thing(1, 1, 1), Thing(3, 1, 1)]);
        assert_eq!(waiting.take_small(4), [Thing(2, 2, 1)]);
        assert_eq!(waiting.take_small(4), []);
        assert_eq!((waiting.rows(), waiting.take(4)), (50, vec![Thing(0, 1, 50)]));
    }
}
