//! One version's graphs, run by several threads: rows go into calls, outputs come back as a response shows
//! them.

use std::sync::atomic::{AtomicBool, Ordering};

use super::batch_mode::BatchMode;
use super::input_adapter::InputAdapter;
use super::made_up_rows::RowStack;
use super::onnx::categories::{self, OneHotEncoder, UnknownCategory};
use super::output_format::OutputFormat;
use super::probe;
use super::run::{Input, RunFailure, RunMode};
use super::sessions::Sessions;
use super::sharing::{Evidence, Sharing};
use super::split_runs::{self, SplitRuns};
use crate::error::Rejection;
use crate::lock::lock;
use crate::tensor::signature::TensorSpec;
use crate::tensor::{Output, Show};

#[derive(Debug)]
pub struct Executor {
    /// Thread `n` locks the `n`th session, so that no lock is contended.
    pub(super) sessions: Sessions,
    pub batch_mode: BatchMode,
    pub sharing: Sharing,
    /// Set for good once an output has another number of rows than the inputs. From then on each request runs
    /// alone, and no output is split into rows.
    pub(super) rows_are_disproved: AtomicBool,
    /// For each output: true when its first dimension counts rows in a call of one row. Holds until
    /// disproved.
    pub(super) counts_rows: Vec<bool>,
    /// The bundle's own limit of rows in one call.
    pub max_rows: Option<usize>,
    /// The limit for models without one of their own whose requests share calls.
    pub(super) default_max_rows: usize,
    pub(super) output_format: OutputFormat,
    pub(crate) input_adapter: InputAdapter,
    /// The inputs of the model itself.
    pub(crate) inputs: Vec<TensorSpec>,
    /// Encoders that refuse unknown categories, each with the position of its input.
    pub(super) encoders: Vec<(usize, OneHotEncoder)>,
}

impl Executor {
    /// Tries whether requests may share calls, with rows that requests may send.
    pub(crate) fn try_rows(&mut self, stack: &RowStack) {
        let Some(rows) = stack.rows().filter(|rows| *rows > 1 && stack.differs()) else { return };
        let chain = &mut lock(&self.sessions.chains[0]);
        match probe::given_rows(chain, stack, rows) {
            Ok(trial) => self.sharing = Sharing::by_samples(trial.verdict, rows),
            Err(reason) => tracing::debug!(reason, "the samples' rows could not be tried"),
        }
    }

    /// Ends the phase of loading: from now on calls cannot be terminated from outside.
    pub(crate) fn loaded(&mut self) {
        self.sessions.chains.iter().for_each(|chain| lock(chain).terminator = None);
    }

    /// True when the rows of all requests run together, unless an output has disproved that.
    pub fn takes_rows(&self) -> bool {
        self.batch_mode.counts_rows() && !self.rows_are_disproved.load(Ordering::Relaxed)
    }

    /// The number of threads that run calls side by side.
    pub fn threads(&self) -> usize {
        self.sessions.chains.len()
    }

    /// The rows that fill a call on each thread, where a batch has `max_rows` at most.
    pub fn full_batches(&self, max_rows: usize) -> usize {
        let rows = if self.shares_calls() { self.max_rows.unwrap_or(max_rows).min(max_rows) } else { 1 };
        self.threads() * rows
    }

    /// A sentence for operators: the sessions, the threads of a call, and why.
    pub fn sessions(&self) -> String {
        self.sessions.describe()
    }

    /// A table of measured calls, and the choice made from it.
    pub fn measurements(&self) -> String {
        self.sessions.table()
    }

    /// A sentence for operators: whether requests share calls, and why.
    pub fn batching(&self) -> String {
        let rule = match self.batch_mode {
            _ if self.rows_are_disproved.load(Ordering::Relaxed) => {
                return "each request runs alone: an output had another number of rows than the inputs"
                    .to_owned();
            }
            BatchMode::Any | BatchMode::Fixed(_) if !self.sharing.shares_calls() => "each request runs alone",
            BatchMode::Any => "rows of several requests share a call",
            BatchMode::Fixed(1) => "one row a call",
            BatchMode::Fixed(length) => {
                let why = &self.sharing.why;
                return format!(
                    "rows of several requests share calls of {length}, the last one padded: {why}"
                );
            }
            BatchMode::PerRow => "each request runs alone, the rows of a list one by one",
            BatchMode::Unbatched => "each request runs alone, the instances of a list one by one",
        };
        format!("{rule}: {}", self.sharing.why)
    }

    /// True when rows of several requests may share a call.
    pub fn shares_calls(&self) -> bool {
        self.sharing.shares_calls() && self.takes_rows()
    }

    /// Runs `rows` rows of `inputs`, which are in the model's order, and lends the formatted outputs to
    /// `use_outputs`. `between` is called between two calls, and may run other inputs on the same thread.
    ///
    /// # Errors
    /// [`RunFailure::NotRows`] when `mode` is [`RunMode::Rows`] and an output has another number of rows;
    /// requests run alone from then on. [`RunFailure::TooLarge`] when the outputs of several calls exceed a
    /// response.
    pub fn run<T>(
        &self,
        thread: usize,
        inputs: &[Input<'_>],
        rows: usize,
        mode: RunMode,
        between: &mut dyn FnMut(),
        use_outputs: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<T, RunFailure> {
        let chain = &self.sessions.chains[thread % self.sessions.chains.len()];
        let format = &self.output_format;
        let split = match (mode, self.batch_mode) {
            (RunMode::Rows, BatchMode::Fixed(length)) => SplitRuns::Rows { length, is_padded: true },
            (RunMode::Rows, _) => match self.longest_call().filter(|length| rows > *length) {
                Some(length) => SplitRuns::Rows { length, is_padded: false },
                None => {
                    let shown = lock(chain).run(inputs, |outputs| {
                        let has_rows = |output: &Output<'_>| {
                            matches!(output.show, Show::Missing) || output.shape.first() == Some(&rows)
                        };
                        outputs.iter().all(has_rows).then(|| format.apply(outputs, true, use_outputs))
                    });
                    let shown = shown.map_err(RunFailure::Failed)?;
                    return shown.ok_or_else(|| self.disprove_rows())?.map_err(RunFailure::Failed);
                }
            },
            (RunMode::EachRow, BatchMode::Unbatched) => SplitRuns::Instances,
            (RunMode::EachRow, _) if self.rows_are_disproved.load(Ordering::Relaxed) => {
                SplitRuns::EachRow { counts_rows: None }
            }
            (RunMode::EachRow, _) => SplitRuns::EachRow { counts_rows: Some(&self.counts_rows) },
            (RunMode::Whole, _) => {
                let shown = lock(chain).run(inputs, |outputs| format.apply(outputs, false, use_outputs));
                return shown.and_then(|shown| shown).map_err(RunFailure::Failed);
            }
        };
        split_runs::run(chain, inputs, rows, split, format, between, use_outputs).map_err(|failure| {
            match failure {
                RunFailure::NotRows { .. } => self.disprove_rows(),
                failed => failed,
            }
        })
    }

    /// The limit of rows in one call, which bounds the memory that the call takes. Rows that are known to
    /// depend on each other are never split; without that knowledge only the bundle's own limit splits them.
    fn longest_call(&self) -> Option<usize> {
        match self.sharing.evidence {
            Evidence::Dependent => None,
            Evidence::Unknown => self.max_rows,
            Evidence::Independent => Some(self.max_rows.unwrap_or(self.default_max_rows)),
        }
    }

    fn disprove_rows(&self) -> RunFailure {
        let is_news = !self.rows_are_disproved.swap(true, Ordering::Relaxed);
        RunFailure::NotRows { is_news }
    }

    /// The error for a run that failed for `reason`, if the model refused a value. `columns` names the
    /// elements of a row.
    pub(super) fn refused_value(
        &self,
        reason: &str,
        inputs: &[Input<'_>],
        columns: Option<&[String]>,
    ) -> Option<Rejection> {
        if !categories::is_refusal(reason) {
            return None;
        }
        let unknown = self.encoders.iter().find_map(|(input, encoder)| {
            let (shape, values) = inputs[*input].as_ref()?;
            let width = if shape.len() > 1 { *shape.last()? } else { 1 };
            Some((*input, width, encoder.find_unknown(*values, width)?))
        });
        let Some((input, width, UnknownCategory { row, column, value, known })) = unknown else {
            return Some(Rejection::invalid(format!(
                "a value is none of the categories that the model knows: {reason}"
            )));
        };
        let name = match (columns, &self.input_adapter) {
            (Some(names), _) => names.get(column),
            (None, InputAdapter::Columns(columns)) => columns.name(input, column),
            _ => None,
        };
        let mut place = format!("[{row}][{:?}]", name.unwrap_or(&self.inputs[input].name));
        if name.is_none() && width > 1 {
            place += &format!("[{column}]");
        }
        Some(Rejection::invalid(format!("{place}: expected one of {known}, got {value}")))
    }
}
