//! The last ten minutes of every version, for the console: requests, error codes and latencies, in steps of
//! five seconds.
//!
//! An idle version takes no memory, and a busy one at most 30 KiB. At most `MOST_OWN` versions have a
//! series of their own; the requests of all further ones are summed. An answer costs two short locks.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Code;
use crate::lock::lock;

/// Length of a step.
pub const STEP: Duration = Duration::from_secs(5);
/// Complete steps that are kept, beside the one that is under way.
pub const STEPS: u64 = 120;
/// Most versions with a series of their own. A version that was not asked for [`STEPS`] makes room.
const MOST_OWN: usize = 100;
/// Model of the series that all further versions share. The slash keeps it apart from models, which are
/// folders.
const OTHERS: &str = "others/";
/// Latency buckets, two for each doubling, from [`SHORTEST`] to nearly three minutes.
const BUCKETS: usize = 48;
/// Upper bound of the first bucket, in seconds.
const SHORTEST: f64 = 1e-5;

/// Model and version.
pub type Name = (Arc<str>, Arc<str>);

/// See the module.
#[derive(Debug)]
pub struct Recent {
    start: Instant,
    versions: Mutex<HashMap<Name, Arc<Mutex<Series>>>>,
    /// Rows that waited, by model and, with no name, of all models.
    waiting: Mutex<HashMap<Arc<str>, Waiting>>,
}

/// Steps in which rows waited, oldest first, and the most at once.
type Waiting = VecDeque<(u64, usize)>;

/// Steps with requests, oldest first.
type Series = VecDeque<Step>;

/// The requests that were answered in one step, or in several.
#[derive(Debug, Clone)]
struct Step {
    number: u64,
    ok: u64,
    rejected: [u32; Code::ALL.len()],
    latencies: [u32; BUCKETS],
}

/// Requests of a step, or of all of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub requests: u64,
    pub errors: BTreeMap<&'static str, u64>,
    /// 50th, 95th and 99th percentile in seconds, within a fifth; `None` without requests.
    pub latencies: Option<[f64; 3]>,
    /// Most rows that waited at once.
    pub waiting: usize,
}

/// A version in [`Recent::versions`].
#[derive(Debug, Serialize)]
pub struct OfVersion {
    pub model: String,
    pub version: String,
    #[serde(flatten)]
    pub all: Summary,
}

impl Step {
    fn new(number: u64) -> Self {
        Self { number, ok: 0, rejected: [0; Code::ALL.len()], latencies: [0; BUCKETS] }
    }

    fn add(&mut self, code: Result<(), Code>, took: Duration) {
        match code {
            Ok(()) => self.ok += 1,
            Err(code) => self.rejected[code as usize] += 1,
        }
        self.latencies[bucket(took)] += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.ok += other.ok;
        for (sum, part) in self.rejected.iter_mut().zip(other.rejected) {
            *sum += part;
        }
        for (sum, part) in self.latencies.iter_mut().zip(other.latencies) {
            *sum += part;
        }
    }

    fn summary(&self, waiting: usize) -> Summary {
        let mut errors = BTreeMap::new();
        for (code, count) in Code::ALL.into_iter().zip(self.rejected) {
            if count > 0 {
                *errors.entry(code.as_str()).or_default() += u64::from(count);
            }
        }
        let requests = self.ok + errors.values().sum::<u64>();
        let latencies = (requests > 0).then(|| [0.5, 0.95, 0.99].map(|share| self.percentile(share)));
        Summary { requests, errors, latencies, waiting }
    }

    fn percentile(&self, share: f64) -> f64 {
        let count: u64 = self.latencies.iter().map(|count| u64::from(*count)).sum();
        let rank = share * count as f64;
        let mut below = 0.0;
        for (index, count) in self.latencies.iter().enumerate() {
            let count = f64::from(*count);
            if count > 0.0 && below + count >= rank {
                let doublings = (index as f64 - 1.0 + (rank - below) / count) / 2.0;
                return SHORTEST * doublings.exp2();
            }
            below += count;
        }
        0.0
    }
}

/// The bucket of a latency: its upper bound is `SHORTEST` times √2 to the power of the index.
fn bucket(took: Duration) -> usize {
    let doublings = (took.as_secs_f64() / SHORTEST).log2();
    ((doublings * 2.0).ceil().max(0.0) as usize).min(BUCKETS - 1)
}

impl Recent {
    pub fn new(start: Instant) -> Self {
        Self { start, versions: Mutex::default(), waiting: Mutex::default() }
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / STEP.as_secs()
    }

    /// Counts an answer.
    pub(super) fn answered(&self, name: &Name, code: Result<(), Code>, took: Duration, now: Instant) {
        let number = self.number(now);
        let series = self.series(name, number);
        let mut steps = lock(&series);
        while steps.front().is_some_and(|first| first.number + STEPS < number) {
            steps.pop_front();
        }
        // A step that another thread has just begun takes the last answers of the one before.
        if steps.back().is_none_or(|last| last.number < number) {
            steps.push_back(Step::new(number));
        }
        if let Some(step) = steps.back_mut() {
            step.add(code, took);
        }
    }

    fn series(&self, name: &Name, number: u64) -> Arc<Mutex<Series>> {
        let mut versions = lock(&self.versions);
        if let Some(series) = versions.get(name) {
            return Arc::clone(series);
        }
        if versions.len() >= MOST_OWN {
            versions
                .retain(|_, series| lock(series).back().is_some_and(|last| last.number + STEPS >= number));
        }
        let name = if versions.len() < MOST_OWN { name.clone() } else { (OTHERS.into(), "".into()) };
        Arc::clone(versions.entry(name).or_default())
    }

    /// Notes the rows that wait now, by model.
    pub fn waits(&self, rows: &[(Arc<str>, usize)], now: Instant) {
        let number = self.number(now);
        let mut waiting = lock(&self.waiting);
        waiting.retain(|_, steps| {
            while steps.front().is_some_and(|(first, _)| first + STEPS < number) {
                steps.pop_front();
            }
            !steps.is_empty()
        });
        let total = ("".into(), rows.iter().map(|(_, rows)| rows).sum());
        for (model, rows) in rows.iter().chain([&total]).filter(|(_, rows)| *rows > 0) {
            if waiting.len() > MOST_OWN && !waiting.contains_key(model) {
                continue;
            }
            let steps = waiting.entry(Arc::clone(model)).or_default();
            match steps.back_mut().filter(|(last, _)| *last >= number) {
                Some((_, most)) => *most = (*most).max(*rows),
                None => steps.push_back((number, *rows)),
            }
        }
    }

    /// All versions that were asked for in the last ten minutes, the busiest first.
    pub fn versions(&self, now: Instant) -> Vec<OfVersion> {
        let number = self.number(now);
        let mut all = Vec::new();
        for ((model, version), series) in self.all() {
            let mut sum = Step::new(number);
            lock(&series)
                .iter()
                .filter(|step| step.number + STEPS >= number)
                .for_each(|step| sum.merge(step));
            let waiting = self.waiting(&model, number).last().copied().unwrap_or(0);
            let (model, version) = (model.to_string(), version.to_string());
            all.push(OfVersion { model, version, all: sum.summary(waiting) });
        }
        all.retain(|version| version.all.requests > 0);
        all.sort_by(|a, b| {
            b.all
                .requests
                .cmp(&a.all.requests)
                .then_with(|| (&a.model, &a.version).cmp(&(&b.model, &b.version)))
        });
        all
    }

    /// The complete steps, oldest first, of one version, of all versions of a model, or of everything.
    pub fn steps(&self, model: Option<&str>, version: Option<&str>, now: Instant) -> Vec<Summary> {
        let number = self.number(now);
        let mut sums: Vec<Step> = (0..STEPS).map(Step::new).collect();
        for (name, series) in self.all() {
            if model.is_some_and(|model| *model != *name.0) || version.is_some_and(|own| *own != *name.1) {
                continue;
            }
            for step in &*lock(&series) {
                if let Some(place) = place(step.number, number) {
                    sums[place].merge(step);
                }
            }
        }
        let waiting = self.waiting(model.unwrap_or_default(), number);
        sums.iter().zip(waiting).map(|(sum, waiting)| sum.summary(waiting)).collect()
    }

    fn all(&self) -> Vec<(Name, Arc<Mutex<Series>>)> {
        lock(&self.versions).iter().map(|(name, series)| (name.clone(), Arc::clone(series))).collect()
    }

    /// Rows that waited in each complete step; with the one under way as the last of all.
    fn waiting(&self, model: &str, number: u64) -> Vec<usize> {
        let mut steps = vec![0; STEPS as usize + 1];
        for (step, rows) in lock(&self.waiting).get(model).into_iter().flatten() {
            let place = if *step == number { Some(STEPS as usize) } else { place(*step, number) };
            if let Some(place) = place {
                steps[place] = *rows;
            }
        }
        steps
    }
}

/// Index of a step among the complete ones, where `number` is the one under way.
fn place(step: u64, number: u64) -> Option<usize> {
    let place = (step + STEPS).checked_sub(number)?;
    usize::try_from(place).ok().filter(|_| place < STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn name(model: &str) -> Name {
        (model.into(), "1".into())
    }

    #[test]
    fn steps_show_requests_errors_and_latencies_of_the_last_ten_minutes() {
        let start = Instant::now();
        let recent = Recent::new(start);
        let at = |steps: u32| start + STEP * steps;
        let wine = name("wine");
        for _ in 0..98 {
            recent.answered(&wine, Ok(()), MILLISECOND, at(3));
        }
        recent.answered(&wine, Err(Code::UnsupportedType), 100 * MILLISECOND, at(3));
        recent.answered(&wine, Err(Code::InvalidInput), 100 * MILLISECOND, at(3));
        recent.answered(&name("iris"), Ok(()), MILLISECOND, at(4));
        recent.waits(&[("wine".into(), 7), ("iris".into(), 2)], at(3));
        recent.waits(&[("wine".into(), 5)], at(3));
        let steps = recent.steps(None, None, at(5));
        assert_eq!(steps.len(), 120);
        let counts: Vec<(u64, usize)> =
            steps[117..].iter().map(|step| (step.requests, step.waiting)).collect();
        assert_eq!(counts, [(0, 0), (100, 9), (1, 0)]);
        assert_eq!(steps[118].errors, BTreeMap::from([("INVALID_INPUT", 2)]));
        let [p50, p95, p99] = steps[118].latencies.unwrap();
        assert!((0.0008..0.0013).contains(&p50) && (0.0008..0.0013).contains(&p95), "{p50} {p95}");
        assert!((0.08..0.12).contains(&p99), "{p99}");
        let of_wine = recent.steps(Some("wine"), Some("1"), at(5));
        assert_eq!((of_wine[118].requests, of_wine[119].requests, of_wine[118].waiting), (100, 0, 7));
        assert_eq!(recent.steps(Some("wine"), Some("2"), at(5))[118].requests, 0);
        let names = |at| recent.versions(at).into_iter().map(|of| of.model).collect::<Vec<_>>();
        assert_eq!(names(at(5)), ["wine", "iris"]);
        assert_eq!(names(at(124)), ["iris"], "ten minutes after");
        assert!(recent.steps(None, None, at(125)).iter().all(|step| step.requests == 0));
    }

    #[test]
    fn memory_is_bounded_and_an_idle_version_makes_room() {
        let start = Instant::now();
        let recent = Recent::new(start);
        let names: Vec<Name> = (0..2000).map(|number| name(&format!("model-{number}"))).collect();
        for step in 0..300 {
            for name in &names {
                recent.answered(name, Ok(()), MILLISECOND, start + STEP * step);
            }
        }
        let all = recent.versions(start + STEP * 300);
        assert_eq!((all.len(), &*all[0].model, all[0].all.requests), (101, OTHERS, 1900 * 120));
        assert!(recent.all().iter().all(|(_, series)| lock(series).len() <= 121));
        let later = start + STEP * 500;
        recent.answered(&name("new"), Ok(()), MILLISECOND, later);
        assert_eq!(&*recent.versions(later)[0].model, "new");
    }

    #[test]
    fn percentiles_are_within_a_fifth() {
        for microseconds in [12, 50, 777, 5_000, 123_456, 9_999_999] {
            let took = Duration::from_micros(microseconds);
            let mut step = Step::new(0);
            step.add(Ok(()), took);
            let ratio = step.percentile(0.5) / took.as_secs_f64();
            assert!((0.8..1.25).contains(&ratio), "{microseconds}: {ratio}");
        }
    }
}
