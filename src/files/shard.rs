//! One shard, from its input to its output. Several threads take its chunks in turn; results are written in the
//! input's order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write as _};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::chunk::Form;
use super::counts::{Counts, Progress};
use super::job::{InputChanged, InputFormat, Plan};
use super::output::{Lines, Writer};
use super::plan::{OpenShard, open_shard};
use super::records::{CHUNK_BYTES, Chunk, Record, Records};
use super::rows::{Predictor, Submit};
use super::select::Table;
use super::store::{Scratch, Store};
use super::threads::{self, ConcurrencyLimit};
use crate::lock::lock;
use crate::model::Model;
use crate::ops::metrics::Metrics;

/// Records that are computed together. The same on every worker, since other numbers could change the last digit
/// of a result.
const CHUNK_RECORDS: usize = 128;
/// The same where each record is a file.
const CHUNK_FILES: usize = 8;
/// Computed chunks, for each thread, that wait for one before them.
const AHEAD: usize = 4;

/// Bytes that are written at a time.
const WRITE: usize = 256 << 10;

/// Everything that the shards of a job have in common.
pub struct Context<'a> {
    pub store: &'a Store,
    pub plan: &'a Plan,
    pub model: &'a Arc<Model>,
    pub metrics: &'a Arc<Metrics>,
    pub progress: &'a Progress,
    /// Ends a shard without its output.
    pub stop: &'a CancellationToken,
    /// Chunks that are computed at the same time, of all shards.
    pub limit: &'a ConcurrencyLimit,
}

/// End of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Written(Counts),
    /// Another worker wrote it first.
    WasThere,
    Stopped,
}

impl Context<'_> {
    /// Computes a shard with a thread for each of `submits`, and writes its output.
    ///
    /// # Errors
    /// The input cannot be read or is not what it was, or the output cannot be written.
    pub fn run(&self, number: usize, submits: &[Submit<'_>]) -> anyhow::Result<Ended> {
        let (plan, shard) = (self.plan, &self.plan.shards[number]);
        let mut source = None;
        let mut table = None;
        let chunks = if plan.input_format == InputFormat::Files {
            Chunks::Files(shard.input..shard.input + shard.rows as usize)
        } else {
            let OpenShard { header, content } = open_shard(self.store, plan, shard)?;
            if let Some(header) = header {
                table = Some(Table::new(&plan.job, &header).map_err(anyhow::Error::msg)?);
            }
            source = Some(&*plan.inputs[shard.input].address);
            let is_table = plan.input_format == InputFormat::Csv;
            Chunks::Records(Records::new(content, is_table, shard.start, shard.line))
        };
        let form = Form { job: &plan.job, format: plan.input_format, table, store: self.store };
        let outputs = self.model.signature.outputs.iter().map(|output| output.name.clone()).collect();
        let writer = Writer { form: &form, outputs, source };
        let scratch = (self.store.scratch(&plan.results(number))?, self.store.scratch(&plan.errors(number))?);
        let counts = self.compute(number, chunks, writer, (scratch.0.file(), scratch.1.file()), submits)?;
        match counts {
            Some(counts) => self.write(number, scratch, counts),
            None => Ok(Ended::Stopped),
        }
    }

    /// Computes all chunks into the results and the errors. None if it was stopped.
    fn compute(
        &self,
        number: usize,
        chunks: Chunks,
        writer: Writer<'_>,
        files: (&File, &File),
        submits: &[Submit<'_>],
    ) -> anyhow::Result<Option<Counts>> {
        let mut output = Output {
            results: BufWriter::with_capacity(WRITE, files.0),
            errors: BufWriter::with_capacity(WRITE, files.1),
            next: 0,
            waiting: BTreeMap::new(),
            counts: Counts::default(),
            is_over: false,
        };
        output.results.write_all(&writer.header())?;
        let run = Run {
            context: self,
            predictor: Predictor { model: self.model, metrics: self.metrics },
            writer,
            input: Mutex::new(Input { chunks, number: 0, rows: 0 }),
            output: Mutex::new(output),
            written: Condvar::new(),
            ahead: AHEAD * submits.len(),
        };
        let ended = threads::map(submits, submits.len(), |submit| run.work(*submit));
        for is_whole in ended {
            if !is_whole? {
                return Ok(None);
            }
        }
        let (shard, read) = (&self.plan.shards[number], lock(&run.input).rows);
        if read != shard.rows {
            let address = &self.plan.inputs[shard.input].address;
            let message = format!(
                "expected {} rows from line {} on, got {read}: {address} is not what it was when the job was \
                 planned",
                shard.rows, shard.line
            );
            return Err(InputChanged(message).into());
        }
        let output = run.output.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Output { mut results, mut errors, counts, .. } = output;
        errors.write_all(&counts.line()?)?;
        errors.flush()?;
        results.flush()?;
        Ok(Some(counts))
    }

    /// Writes the results last: they say that the shard is finished.
    fn write(
        &self,
        number: usize,
        (results, errors): (Scratch, Scratch),
        counts: Counts,
    ) -> anyhow::Result<Ended> {
        self.store.create_from(&self.plan.errors(number), errors)?;
        let is_first = self.store.create_from(&self.plan.results(number), results)?;
        Ok(if is_first { Ended::Written(counts) } else { Ended::WasThere })
    }
}

/// Chunks that are not computed yet.
enum Chunks {
    Records(Records<Box<dyn Read + Send>>),
    /// Positions among the plan's inputs.
    Files(Range<usize>),
}

struct Input {
    chunks: Chunks,
    /// Number of the next chunk.
    number: usize,
    rows: u64,
}

struct Output<'a> {
    results: BufWriter<&'a File>,
    errors: BufWriter<&'a File>,
    /// Number of the next chunk to be written.
    next: usize,
    /// Computed chunks behind one that is not.
    waiting: BTreeMap<usize, Lines>,
    counts: Counts,
    /// A thread has ended before the last chunk.
    is_over: bool,
}

struct Run<'a> {
    context: &'a Context<'a>,
    predictor: Predictor<'a>,
    writer: Writer<'a>,
    input: Mutex<Input>,
    output: Mutex<Output<'a>>,
    /// A chunk was written, or the run is over.
    written: Condvar,
    ahead: usize,
}

impl Run<'_> {
    /// Computes chunks until there are none; false if it was stopped.
    fn work(&self, submit: Submit<'_>) -> anyhow::Result<bool> {
        let ended = self.compute_all(submit);
        if !matches!(ended, Ok(true)) {
            lock(&self.output).is_over = true;
            self.written.notify_all();
        }
        ended
    }

    fn compute_all(&self, submit: Submit<'_>) -> anyhow::Result<bool> {
        loop {
            if self.context.stop.is_cancelled() || lock(&self.output).is_over {
                return Ok(false);
            }
            let Some((number, chunk)) = self.next()? else { return Ok(true) };
            // Reads the files of a list while others compute.
            let instances = self.writer.form.instances(&chunk)?;
            let permit = self.context.limit.acquire();
            let Some(predictions) = self.predictor.predict(instances, submit) else { return Ok(false) };
            let lines = self.writer.lines(&chunk, &predictions);
            drop(permit);
            self.count(&lines);
            if !self.put(number, lines)? {
                return Ok(false);
            }
        }
    }

    fn next(&self) -> anyhow::Result<Option<(usize, Chunk)>> {
        let mut input = lock(&self.input);
        let chunk = match &mut input.chunks {
            Chunks::Records(records) => {
                let most = match self.writer.form.format {
                    InputFormat::FileList => CHUNK_FILES,
                    _ => CHUNK_RECORDS,
                };
                match records.next(most, CHUNK_BYTES).context("cannot read the input")? {
                    Some(chunk) => chunk,
                    None => return Ok(None),
                }
            }
            Chunks::Files(files) if files.start == files.end => return Ok(None),
            Chunks::Files(files) => {
                let mut chunk = Chunk::default();
                for number in files.by_ref().take(CHUNK_FILES) {
                    let begin = chunk.text.len();
                    chunk.text.extend_from_slice(self.context.plan.inputs[number].address.as_bytes());
                    let range = begin..chunk.text.len();
                    chunk.records.push(Record { range, line: 0, is_too_long: false });
                }
                chunk
            }
        };
        let number = input.number;
        input.number += 1;
        input.rows += chunk.records.len() as u64;
        Ok(Some((number, chunk)))
    }

    fn count(&self, lines: &Lines) {
        let progress = self.context.progress;
        progress.add(Counts { successful: lines.successful, failed: lines.failed });
        if let Some(error) = &lines.first_error {
            progress.set_first_error(error);
        }
        if self.context.plan.job.max_errors.is_some_and(|most| progress.failed() > most) {
            self.context.stop.cancel();
        }
    }

    /// Writes the chunk, once all before it are written. Waits while too many are ahead of one that is slow.
    /// False if the run is over.
    fn put(&self, number: usize, lines: Lines) -> anyhow::Result<bool> {
        let mut output = lock(&self.output);
        while number > output.next + self.ahead && !output.is_over {
            output = self.written.wait(output).unwrap_or_else(PoisonError::into_inner);
        }
        if output.is_over {
            return Ok(false);
        }
        output.waiting.insert(number, lines);
        while let Some(lines) = {
            let next = output.next;
            output.waiting.remove(&next)
        } {
            output.results.write_all(&lines.results).context("cannot write results")?;
            output.errors.write_all(&lines.errors).context("cannot write errors")?;
            output.counts.successful += lines.successful;
            output.counts.failed += lines.failed;
            output.next += 1;
        }
        self.written.notify_all();
        Ok(true)
    }
}
