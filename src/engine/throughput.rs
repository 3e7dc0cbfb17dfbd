//! Measured work of one model's inference threads: rows a second, and time at work.
//!
//! Written twice a batch, without a lock; nothing is counted a message.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Work that the rate remembers: a call of this length counts as much as all before it.
const MEMORY: Duration = Duration::from_secs(1);
/// The lower bits of [`Throughput::work`] are microseconds, nine years of them; the others count threads at
/// work.
const MICROSECONDS: u64 = (1 << 48) - 1;

/// See the module.
#[derive(Debug)]
pub struct Throughput {
    start: Instant,
    /// Threads that the model may use.
    threads: AtomicUsize,
    /// Rows a second of one thread at work, as the bits of a float; zero until a batch was computed.
    rate: AtomicU64,
    /// Threads at work, and the sum of their ends less that of their beginnings.
    work: AtomicU64,
    /// Microseconds of work at the last call of [`Self::worked`].
    seen: AtomicU64,
}

impl Default for Throughput {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            threads: AtomicUsize::new(1),
            rate: AtomicU64::new(0),
            work: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        }
    }
}

impl Throughput {
    /// The rows that the model computes a second with all its threads; none until a batch was computed.
    pub fn rows_per_second(&self) -> Option<f64> {
        let rate = f64::from_bits(self.rate.load(Ordering::Relaxed));
        (rate > 0.0).then(|| rate * self.threads() as f64)
    }

    pub(super) fn threads(&self) -> usize {
        self.threads.load(Ordering::Relaxed)
    }

    pub(super) fn set_threads(&self, threads: usize) {
        self.threads.store(threads.max(1), Ordering::Relaxed);
    }

    /// A thread begins a batch at `now`.
    pub(super) fn begin(&self, now: Instant) -> Working<'_> {
        self.change(1, self.microseconds(now).wrapping_neg());
        Working { throughput: self, began: now }
    }

    /// Thread time at work since the last call, with that of batches under way. For one reader.
    pub(super) fn worked(&self, now: Instant) -> Duration {
        let work = self.work.load(Ordering::Relaxed);
        let running = work >> 48;
        let total = work.wrapping_add(running.wrapping_mul(self.microseconds(now))) & MICROSECONDS;
        let seen = self.seen.swap(total, Ordering::Relaxed);
        Duration::from_micros(total.wrapping_sub(seen) & MICROSECONDS)
    }

    /// Two threads that end at once may lose one of both batches, which the next ones make up for.
    fn computed(&self, rows: usize, took: Duration) {
        let seconds = took.as_secs_f64().max(1e-9);
        let (rate, before) = (rows as f64 / seconds, f64::from_bits(self.rate.load(Ordering::Relaxed)));
        let weight = if before > 0.0 { seconds / (seconds + MEMORY.as_secs_f64()) } else { 1.0 };
        self.rate.store((before + weight * (rate - before)).to_bits(), Ordering::Relaxed);
    }

    fn change(&self, threads: i64, microseconds: u64) {
        let change = |work: u64| {
            let running = (work >> 48).wrapping_add_signed(threads);
            Some(running << 48 | work.wrapping_add(microseconds) & MICROSECONDS)
        };
        let _ = self.work.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    fn microseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(MICROSECONDS)
    }
}

/// A batch under way.
#[derive(Debug)]
pub(super) struct Working<'a> {
    throughput: &'a Throughput,
    began: Instant,
}

impl Working<'_> {
    /// Counts so many rows, if any were computed.
    pub(super) fn computed(&self, rows: usize) {
        if rows > 0 {
            self.throughput.computed(rows, self.began.elapsed());
        }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.throughput.change(-1, self.throughput.microseconds(Instant::now()));
    }
}

/// The rows that wait for a model, and its measured rate.
#[derive(Debug, Clone, Copy)]
pub struct Backlog {
    pub rows: usize,
    pub rows_per_second: Option<f64>,
}

impl Backlog {
    /// Time until a row that comes now is begun; zero before anything was measured.
    pub fn wait(&self) -> Duration {
        let seconds = self.rows_per_second.map_or(0.0, |rate| self.rows as f64 / rate);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(throughput: &Throughput) -> f64 {
        throughput.rows_per_second().unwrap()
    }

    #[test]
    fn the_rate_is_that_of_all_threads_and_follows_the_last_seconds() {
        let throughput = Throughput::default();
        assert_eq!(throughput.rows_per_second(), None);
        throughput.set_threads(4);
        let backlog = |rows| Backlog { rows, rows_per_second: throughput.rows_per_second() }.wait();
        assert_eq!(backlog(9), Duration::ZERO);
        throughput.computed(100, Duration::from_secs(1));
        assert!((rate(&throughput) - 400.0).abs() < 1e-6);
        assert!((backlog(1000).as_secs_f64() - 2.5).abs() < 1e-6);
        // A second of short batches leaves a third of what was before.
        (0..1000).for_each(|_| throughput.computed(1, Duration::from_millis(1)));
        assert!((2600.0..2700.0).contains(&rate(&throughput)), "{}", rate(&throughput));
        // Batches weigh by their time: a thousand that take nothing do not hide one that takes a minute.
        throughput.computed(60, Duration::from_secs(60));
        assert!(rate(&throughput) < 80.0, "{}", rate(&throughput));
    }

    #[test]
    fn work_counts_the_batches_under_way_and_is_given_once() {
        let throughput = Throughput::default();
        let (start, second) = (throughput.start, Duration::from_secs(1));
        let first = throughput.begin(start + second);
        assert_eq!(throughput.worked(start + 3 * second), 2 * second);
        let second_thread = throughput.begin(start + 4 * second);
        assert_eq!(throughput.worked(start + 5 * second), 3 * second);
        assert_eq!(throughput.worked(start + 5 * second), Duration::ZERO);
        assert_eq!(throughput.work.load(Ordering::Relaxed) >> 48, 2);
        drop((first, second_thread));
        assert_eq!(throughput.work.load(Ordering::Relaxed) >> 48, 0);
        // Nothing is at work any more, however late it is asked.
        throughput.worked(start + 50 * second);
        assert_eq!(throughput.worked(start + 51 * second), Duration::ZERO);
    }
}
