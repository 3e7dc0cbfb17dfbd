//! The load of the worker, for those who decide on the number of workers: `predictd_utilisation` and
//! `predictd_queue_seconds`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::job::ReplyTo;
use crate::engine::queue::Queues;
use crate::engine::throughput::{Backlog, Throughput};
use crate::ops::metrics::Metrics;

/// Between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);
/// Intervals of the utilisation: a batch that takes seconds counts in all of them, one burst in a few.
const WINDOW: usize = 10;

/// Measures until it is dropped.
pub async fn measure<R: ReplyTo + Send + 'static>(queues: Arc<Queues<R>>, metrics: Arc<Metrics>) {
    let mut load = Load::new(Instant::now());
    loop {
        tokio::time::sleep(INTERVAL).await;
        let work = queues.work();
        metrics.utilisation.set(load.utilisation(&work, Instant::now()));
        metrics.queue_seconds.set(backlog(&work).as_secs_f64());
        metrics.recent.waits(&queues.waiting(), Instant::now());
    }
}

/// The models compute side by side, so the longest backlog counts.
fn backlog(work: &[(Arc<Throughput>, Backlog)]) -> Duration {
    work.iter().map(|(_, backlog)| backlog.wait()).max().unwrap_or_default()
}

/// The last intervals: their ends, and in each the time for which all threads would have been at work.
#[derive(Debug)]
struct Load {
    begin: Instant,
    intervals: VecDeque<(Instant, Duration)>,
}

impl Load {
    fn new(begin: Instant) -> Self {
        Self { begin, intervals: VecDeque::new() }
    }

    /// The share of time that the threads of one model were at work; of several models together, at most 1.
    fn utilisation(&mut self, work: &[(Arc<Throughput>, Backlog)], now: Instant) -> f64 {
        let full = work
            .iter()
            .map(|(throughput, _)| throughput.worked(now).div_f64(throughput.threads() as f64))
            .sum();
        self.intervals.push_back((now, full));
        while self.intervals.len() > WINDOW
            && let Some((end, _)) = self.intervals.pop_front()
        {
            self.begin = end;
        }
        let full: Duration = self.intervals.iter().map(|(_, full)| full).sum();
        let share = full.as_secs_f64() / now.duration_since(self.begin).as_secs_f64().max(1e-9);
        share.min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(rows: usize, rows_per_second: Option<f64>) -> Backlog {
        Backlog { rows, rows_per_second }
    }

    #[test]
    fn utilisation_is_the_share_of_the_last_ten_seconds_and_of_all_threads() {
        let throughput = Arc::<Throughput>::default();
        throughput.set_threads(4);
        let idle = Arc::<Throughput>::default();
        let work = [(Arc::clone(&throughput), waiting(0, None)), (idle, waiting(0, None))];
        let start = Instant::now();
        let mut load = Load::new(start);
        let mut after = |seconds| load.utilisation(&work, start + Duration::from_secs(seconds));
        // One of four threads begins a call that does not end.
        let _working = throughput.begin(start);
        assert!((after(1) - 0.25).abs() < 1e-3);
        let _second = throughput.begin(start + Duration::from_secs(1));
        assert!((after(2) - 0.375).abs() < 1e-3);
        let shares: Vec<f64> = (3..15).map(&mut after).collect();
        assert!(shares.is_sorted() && (shares[11] - 0.5).abs() < 1e-3, "{shares:?}");
        throughput.set_threads(1);
        assert!((3..100).map(|seconds| after(12 + seconds)).all(|share| share <= 1.0));
    }

    #[test]
    fn the_longest_backlog_counts() {
        let of = |backlogs: &[Backlog]| {
            let work: Vec<_> = backlogs.iter().map(|backlog| (Arc::default(), *backlog)).collect();
            backlog(&work)
        };
        assert_eq!(of(&[]), Duration::ZERO);
        let seconds = of(&[waiting(100, Some(50.0)), waiting(100, None), waiting(30, Some(10.0))]);
        assert_eq!(seconds, Duration::from_secs(3));
    }
}
