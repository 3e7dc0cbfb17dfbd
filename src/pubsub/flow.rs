//! Flow control: the number of requests that a worker may have in flight follows its measured throughput, so
//! that it holds about `WORK` and the rest waits in Pub/Sub, for workers that have just started.
//!
//! Pub/Sub takes a stream's limit only when it is opened, and what it has sent on one that is closed is lost
//! until its lease is over. So the limit is raised by a further stream, and lowered by closing some of those.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::ops::metrics::Metrics;

/// Time in which a worker settles what it has in flight.
const WORK: Duration = Duration::from_secs(2);
/// A limit is raised where so many times as much is wanted.
const TOO_LOW: usize = 2;
/// A limit is lowered where so many times as much as wanted is in flight, for so long. More than above: a
/// slow model settles a batch in one moment, and nothing in the next seconds.
const TOO_HIGH: usize = 3;
const PERSISTENT: Duration = Duration::from_secs(3);
/// Time over which the rate is observed: to raise the limit, and to lower it.
const RECENT: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(5);
/// The limit is at least this, however few rows fill the batches.
const LEAST: usize = 10;

/// The limit of all streams together, and the count that it follows.
#[derive(Debug)]
pub struct Flow {
    limit: AtomicUsize,
    ceiling: usize,
    received: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Flow {
    /// `ceiling`: the configured limit.
    pub fn new(ceiling: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limit: AtomicUsize::new(ceiling), ceiling, received: AtomicUsize::new(0), metrics })
    }

    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.metrics.messages_in_flight_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// A limit between `floor`, the requests that fill the batches of all threads, and the ceiling.
    pub(super) fn bounded(&self, limit: usize, floor: usize) -> usize {
        limit.max(floor).max(LEAST).min(self.ceiling)
    }

    /// Counts received messages; once a group of them.
    pub(super) fn received(&self, messages: usize) {
        self.received.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn in_flight(&self) -> usize {
        usize::try_from(self.metrics.messages_in_flight.get()).unwrap_or(0)
    }

    /// The requests settled since the start.
    pub(super) fn settled(&self) -> usize {
        self.received.load(Ordering::Relaxed).saturating_sub(self.in_flight())
    }
}

/// The last observations of the throughput.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// Requests settled, and the time that it took; the last one first.
    settled: VecDeque<(usize, Duration)>,
    /// For so long too much has been in flight.
    too_high: Duration,
    /// For so long the limit has been reached.
    full: Duration,
}

/// One observation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Requests settled since the one before, and the time that it took.
    pub(super) settled: usize,
    pub(super) took: Duration,
    /// Requests that are left.
    pub(super) in_flight: usize,
    /// Requests that fill the batches of all threads.
    pub(super) floor: usize,
    /// True where several models are served.
    pub(super) has_several_models: bool,
}

impl Observed {
    /// The rule: the wanted limit, where the one that holds is to be changed.
    ///
    /// The limit is raised as soon as it is less than half of the work wanted in flight; what is settled can
    /// only be too low a figure for what the worker could do. It is lowered where far more than wanted is in
    /// flight for some seconds: a low rate alone means that few requests come.
    ///
    /// With several models the requests of a slow one may fill the limit, and those of the others stand behind
    /// them: then the limit is raised for as long as it is reached, and never lowered.
    pub(super) fn change(&mut self, flow: &Flow, seen: Seen) -> Option<usize> {
        let Seen { settled, took, in_flight, floor, has_several_models } = seen;
        let now = flow.limit();
        let is_full = has_several_models && in_flight + in_flight / 10 >= now && now < flow.ceiling;
        self.full = if is_full { self.full + took } else { Duration::ZERO };
        self.settled.push_front((settled, took));
        if self.full >= RECENT {
            self.full = Duration::ZERO;
            return Some(flow.bounded(TOO_LOW * now, floor));
        }
        let (recent, _) = self.rate(RECENT);
        let (rate, observations) = self.rate(WINDOW);
        self.settled.truncate(observations);
        if rate == 0.0 {
            // Nothing was measured: a call takes longer than the window, or responses are not accepted.
            return None;
        }
        let wanted = |rate: f64| flow.bounded((rate * WORK.as_secs_f64()) as usize, floor);
        let (more, less) = (wanted(recent), wanted(rate));
        if more >= TOO_LOW * now || more > now && more == flow.ceiling {
            self.too_high = Duration::ZERO;
            return Some(more);
        }
        let is_too_high = in_flight >= TOO_HIGH * less && now >= TOO_HIGH * less && !has_several_models;
        self.too_high = if is_too_high { self.too_high + took } else { Duration::ZERO };
        if self.too_high < PERSISTENT {
            return None;
        }
        self.too_high = Duration::ZERO;
        Some(less)
    }

    /// Requests settled a second in the last observations of so much time, and the number of those.
    fn rate(&self, window: Duration) -> (f64, usize) {
        let (mut settled, mut took, mut observations) = (0, Duration::ZERO, 0);
        for (more, time) in &self.settled {
            if took >= window {
                break;
            }
            (settled, took, observations) = (settled + more, took + *time, observations + 1);
        }
        (settled as f64 / took.as_secs_f64().max(1e-3), observations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: usize = 256;
    fn seen(settled: usize, milliseconds: u64, in_flight: usize) -> Seen {
        let took = Duration::from_millis(milliseconds);
        Seen { settled, took, in_flight, floor: FLOOR, has_several_models: false }
    }

    /// A worker that settles up to `rate` a second, each `latency` after its receipt, with a backlog that
    /// does not end. Returns the limit after each second.
    fn limits(flow: &Flow, observed: &mut Observed, rate: usize, latency: f64, seconds: usize) -> Vec<usize> {
        let mut second = || {
            for _ in 0..5 {
                let settled = rate.min((flow.limit() as f64 / latency) as usize) / 5;
                let observed = observed.change(flow, seen(settled, 200, flow.limit()));
                observed.into_iter().for_each(|wanted| flow.set_limit(wanted));
            }
            flow.limit()
        };
        (0..seconds).map(|_| second()).collect()
    }

    fn new(ceiling: usize) -> (Arc<Flow>, Observed) {
        let flow = Flow::new(ceiling, Metrics::new());
        flow.set_limit(flow.bounded(0, FLOOR));
        (flow, Observed::default())
    }

    #[test]
    fn two_seconds_of_work_are_in_flight_within_seconds() {
        let (flow, mut observed) = new(10_000);
        let after = limits(&flow, &mut observed, 1000, 0.12, 3);
        assert_eq!(after, [2000; 3]);
        // Slower by a fifth or faster by half: nothing changes, since a change costs a new stream.
        assert_eq!(limits(&flow, &mut observed, 800, 0.12, 20), [2000; 20]);
        assert_eq!(limits(&flow, &mut observed, 1500, 0.12, 20), [2000; 20]);
        // A model ten times as slow: it is noticed once it has filled the window.
        let after = limits(&flow, &mut observed, 150, 0.12, 20);
        assert!(
            after[..2] == [2000; 2] && after[15..] == [300; 5] && after.is_sorted_by(|a, b| a >= b),
            "{after:?}"
        );
    }

    #[test]
    fn a_fast_worker_reaches_the_ceiling_from_any_floor() {
        let (flow, mut observed) = new(10_000);
        let after = limits(&flow, &mut observed, 100_000, 0.12, 5);
        assert_eq!(after.last(), Some(&10_000), "{after:?}");
        let (flow, mut observed) = new(300);
        assert_eq!(limits(&flow, &mut observed, 100_000, 0.12, 9).last(), Some(&300));
    }

    #[test]
    fn a_slow_worker_keeps_what_fills_its_batches() {
        let (flow, mut observed) = new(10_000);
        assert_eq!(limits(&flow, &mut observed, 30, 0.12, 60), [FLOOR; 60]);
        // The configured limit wins.
        let (flow, mut observed) = new(100);
        assert_eq!(limits(&flow, &mut observed, 30, 0.12, 60), [100; 60]);
    }

    /// A batch that fills all threads takes four seconds, and is settled in one moment.
    #[test]
    fn batches_of_seconds_raise_it_once() {
        let (flow, mut observed) = new(10_000);
        for n in 0..1000 {
            let settled = if n % 20 == 19 { FLOOR } else { 0 };
            let change = observed.change(&flow, seen(settled, 200, flow.limit()));
            change.into_iter().for_each(|wanted| flow.set_limit(wanted));
            assert_eq!(flow.limit(), if n < 19 { FLOOR } else { 2 * FLOOR }, "after {n} observations");
        }
    }

    /// Few requests come: nothing is in flight that another worker misses.
    #[test]
    fn a_quiet_hour_changes_nothing() {
        let (flow, mut observed) = new(10_000);
        limits(&flow, &mut observed, 2000, 0.12, 5);
        assert!((0..3600).all(|n| observed.change(&flow, seen(n % 2, 1000, 3)).is_none()));
        assert_eq!(flow.limit(), 4000);
    }

    #[test]
    fn too_much_in_flight_lowers_the_limit_and_an_outage_does_not() {
        let (flow, mut observed) = new(10_000);
        flow.set_limit(4000);
        let mut observe = || observed.change(&flow, seen(200, 1000, 4000));
        assert_eq!([observe(), observe(), observe()], [None, None, Some(400)]);
        // Nothing is settled, and nobody else could do better.
        let mut observed = Observed::default();
        assert!((0..60).all(|_| observed.change(&flow, seen(0, 1000, 4000)).is_none()));
    }

    #[test]
    fn requests_of_one_model_leave_room_for_those_of_others() {
        let (flow, mut observed) = new(1000);
        let mut limit = |in_flight: usize, settled| {
            let seen = Seen { has_several_models: true, ..seen(settled, 1000, in_flight) };
            let change = observed.change(&flow, seen);
            change.into_iter().for_each(|wanted| flow.set_limit(wanted));
            flow.limit()
        };
        assert_eq!([limit(100, 0), limit(256, 0), limit(512, 0), limit(512, 0)], [256, 512, 1000, 1000]);
        // It is lowered no more, while one model settles little.
        assert!((0..60).all(|_| limit(1000, 1) == 1000));
    }
}
