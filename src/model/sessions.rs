//! The number of sessions of a version and the threads of one call, chosen by measurement while it is loaded.
//!
//! ONNX Runtime's `run` takes a session exclusively, and every session has a copy of the weights. A small model
//! computes most with a session for each inference thread, whose calls use one thread. A large one gets the
//! fewest sessions that compute nearly as much, with several threads a call: a single request is answered
//! sooner, and the weights are in memory fewer times.

use std::num::NonZero;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::made_up_rows::zeros;
use super::onnx::chain::Chain;
use super::onnx::runtime::Threads;
use super::run::Input;
use crate::tensor::Tensor;

/// A model whose call of one row takes less keeps to one thread a call.
const SMALL: Duration = Duration::from_millis(2);
/// Rows of the calls that are compared, where a call may have as many.
const ROWS: usize = 8;
/// Part of the rows a second of one-thread sessions that fewer sessions must reach.
const ENOUGH: f64 = 0.8;
/// Lengths of free inner dimensions to try.
const LENGTHS: [usize; 3] = [64, 224, 8];
/// Calls that are timed, of which the fastest counts, and the time after which no further one begins.
const CALLS: usize = 5;
const PATIENCE: Duration = Duration::from_millis(200);

/// The sessions of a version: one chain of graphs for each thread that runs calls.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) chains: Vec<Mutex<Chain>>,
    /// Threads of one call.
    call_threads: usize,
    /// The reason for both numbers, as a clause for operators.
    why: String,
    /// All measured calls, if asked for.
    measured: Vec<Measured>,
}

#[derive(Debug)]
struct Measured {
    threads: usize,
    rows: usize,
    time: Duration,
}

impl Sessions {
    /// A number of sessions that was not measured. `first` is open already, and `open` opens further ones.
    ///
    /// # Errors
    /// ONNX Runtime's message.
    pub(crate) fn alike(
        first: Chain,
        count: usize,
        call_threads: usize,
        why: &str,
        open: impl Fn(usize) -> anyhow::Result<Chain>,
    ) -> anyhow::Result<Self> {
        let mut chains = vec![Mutex::new(first)];
        for _ in 1..count {
            chains.push(Mutex::new(open(call_threads)?));
        }
        Ok(Self { chains, call_threads, why: why.to_owned(), measured: Vec::new() })
    }

    /// Measures calls with one thread and with several, and opens what is chosen. `first` has one thread a
    /// call, and a call may have `rows` rows.
    ///
    /// # Errors
    /// ONNX Runtime's message.
    pub(crate) fn choose(
        mut first: Chain,
        threads: Threads,
        rows: usize,
        open: impl Fn(usize) -> anyhow::Result<Chain>,
    ) -> anyhow::Result<Self> {
        let Threads { sessions, per_call: most, measures_all } = threads;
        if most <= 1 {
            return Self::alike(first, sessions, 1, "as configured", open);
        }
        let call = LENGTHS.iter().find_map(|length| {
            let call = zeros(&first.inputs, 1, *length)?;
            Some((*length, time(&mut first, &call)?, call))
        });
        let Some((length, one_row, call)) = call else {
            return Self::alike(first, sessions, 1, "it could not be measured with made-up rows", open);
        };
        if measures_all {
            let measured = measure_all(&mut first, most, rows, length, &open)?;
            let threads = Threads { measures_all: false, ..threads };
            return Ok(Self { measured, ..Self::choose(first, threads, rows, open)? });
        }
        if one_row < SMALL {
            let why = format!("a call of one row takes {one_row:.1?}");
            return Self::alike(first, sessions, 1, &why, open);
        }
        let batch = (rows > 1).then(|| zeros(&first.inputs, rows.min(ROWS), length)).flatten();
        let batch = batch.and_then(|batch| Some((time(&mut first, &batch)?, batch)));
        let (alone, call) = batch.unwrap_or((one_row, call));
        let mut why = format!("a call of {} takes {alone:.1?} with one thread", describe(&call));
        // One session at a time: the weights are in memory once.
        drop(first);
        let enough = ENOUGH * speed(sessions, 1, alone);
        let mut per_call = most;
        while per_call > 1 {
            let mut chain = open(per_call)?;
            let Some(took) = time(&mut chain, &call) else { break };
            why += &format!(", {took:.1?} with {per_call}");
            let fewest = (1..=most / per_call).find(|count| speed(*count, per_call, took) >= enough);
            if let Some(count) = fewest {
                return Self::alike(chain, count, per_call, &why, open);
            }
            per_call /= 2;
        }
        Self::alike(open(1)?, sessions, 1, &why, open)
    }

    /// A line for each measured call, and the choice.
    pub(crate) fn table(&self) -> String {
        let mut text = "threads  rows      a call    rows a second\n".to_owned();
        for Measured { threads, rows, time } in &self.measured {
            let (milliseconds, speed) = (time.as_secs_f64() * 1e3, *rows as f64 / time.as_secs_f64());
            text += &format!("{threads:7}{rows:6}{milliseconds:9.3} ms{speed:17.0}\n");
        }
        format!("{text}\n{}\n", self.describe())
    }

    /// A sentence for operators: the sessions, the threads of a call, and why.
    pub(crate) fn describe(&self) -> String {
        let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let sessions = plural(self.chains.len(), "session");
        format!("{sessions}, {} a call: {}", plural(self.call_threads, "thread"), self.why)
    }
}

/// Times calls of one row and more with one thread and more.
fn measure_all(
    first: &mut Chain,
    most: usize,
    rows: usize,
    length: usize,
    open: impl Fn(usize) -> anyhow::Result<Chain>,
) -> anyhow::Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for threads in (0..).map(|power| 1 << power).take_while(|threads| *threads <= most) {
        let mut other = if threads > 1 { Some(open(threads)?) } else { None };
        for rows in [1, 8, 32, 128].into_iter().filter(|count| *count <= rows) {
            let call = zeros(&first.inputs, rows, length);
            let time = call.and_then(|call| time(other.as_mut().unwrap_or(first), &call));
            measured.extend(time.map(|time| Measured { threads, rows, time }));
        }
    }
    Ok(measured)
}

fn describe(call: &[Tensor]) -> String {
    match call.first().and_then(|tensor| tensor.shape.first()) {
        Some(rows) if *rows > 1 => format!("{rows} rows"),
        _ => "one row".to_owned(),
    }
}

/// Calls a second of so many sessions, each with so many threads, if one call by itself takes `time`.
fn speed(sessions: usize, threads: usize, time: Duration) -> f64 {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let busy = sessions * threads.min(cores);
    sessions as f64 / time.as_secs_f64() * (cores as f64 / busy as f64).min(1.0)
}

/// The least time of a few calls; none if one fails.
pub(crate) fn time(chain: &mut Chain, call: &[Tensor]) -> Option<Duration> {
    let inputs: Vec<Input<'_>> = call.iter().map(|tensor| Some(tensor.lend())).collect();
    let started = Instant::now();
    chain.run(&inputs, |_| ()).ok()?;
    let mut least = started.elapsed();
    for _ in 0..CALLS {
        if started.elapsed() > PATIENCE {
            break;
        }
        let begun = Instant::now();
        chain.run(&inputs, |_| ()).ok()?;
        least = least.min(begun.elapsed());
    }
    Some(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_threads_than_cores_compute_no_more() {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let time = Duration::from_millis(10);
        let all = speed(cores, 1, time);
        assert!((all - 100.0 * cores as f64).abs() < 1e-6);
        assert!((speed(4 * cores, 1, time) - all).abs() < 1e-6);
        assert!((speed(1, 4 * cores, time) - 100.0).abs() < 1e-6);
        assert!((speed(4, cores, time) - 100.0).abs() < 1e-6);
    }
}
