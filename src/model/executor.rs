//! One version, loaded: its graphs, how it takes rows, and how its outputs are shown.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use super::bundle::Bundle;
use super::made_up::Stack;
use super::probe::{self, Precision};
use super::sharing::{Decision, Declarations, Evidence, Sharing};
use crate::error::Rejection;
use crate::model::batch_mode::Rows;
use crate::model::bundle::declaration::{Declaration, Optimization};
use crate::model::bundle::mlflow;
use crate::model::input_adapter::Intake;
use crate::model::onnx::categories;
use crate::model::onnx::categories::{Encoder, Unknown};
use crate::model::onnx::chain::{Chain, Options};
use crate::model::onnx::runtime::Runtime;
use crate::model::onnx::sizes;
use crate::model::output_format::Present;
use crate::model::split_runs;
use crate::model::split_runs::Calls;
use crate::tensor::signature::{Padding, Signature, TensorSpec};
use crate::tensor::{Output, Show, View};

/// An input as a call takes it: its shape and its elements.
pub type Input<'a> = (Vec<usize>, View<'a>);

#[derive(Debug)]
pub struct Executor {
    /// One chain of graphs a thread: ONNX Runtime's `run` takes it alone. Thread `n` takes the `n`th, so no lock is ever
    /// waited for.
    chains: Vec<Mutex<Chain>>,
    pub rows: Rows,
    pub sharing: Sharing,
    /// Set once an output had another number of rows than the inputs, for good: from then on each request runs alone, and no
    /// output is cut into rows.
    rows_are_disproved: AtomicBool,
    /// For each output, whether its first dimension counts rows in a call of one row, as long as that is not disproved.
    counts_rows: Vec<bool>,
    /// Rows in one call at most, where the bundle says so.
    pub max_rows: Option<usize>,
    /// The same where it does not and requests share calls.
    usual_max_rows: usize,
    present: Present,
    pub(crate) intake: Intake,
    /// What the model itself takes.
    pub(crate) inputs: Vec<TensorSpec>,
    /// Columns whose values must be among a few, and which of the inputs each is of.
    encoders: Vec<(usize, Encoder)>,
}

/// How the rows of a request, or of several, run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Together; the first dimension of every output counts them.
    Rows,
    /// Each in a call of its own. Every input begins with a dimension that counts them.
    EachRow,
    /// The inputs as they are, in one call; no output is taken apart.
    Whole,
}

/// Why a run gave nothing.
#[derive(Debug)]
pub enum Failure {
    /// ONNX Runtime's own sentence, or ours where the outputs cannot be joined.
    Failed(String),
    /// The outputs of several calls have together more elements than a response may have.
    TooLarge,
    /// An output has not one row for each row of the inputs: nobody can tell whose its rows are. `is_news`: the first time.
    NotRows { is_news: bool },
}

/// More than any machine has use for in one call.
const MAX_INTRA_THREADS: usize = 256;

/// A version's engine, and what it says of itself.
#[derive(Debug)]
pub struct Opened {
    pub executor: Executor,
    pub signature: Signature,
    pub metadata: BTreeMap<String, String>,
}

impl Opened {
    /// Loads a bundle's graphs, a chain for each inference thread, and holds its declaration against them.
    ///
    /// # Errors
    /// What ONNX Runtime says, or every problem of the declaration.
    pub fn load(runtime: &Runtime, bundle: &Bundle) -> anyhow::Result<Self> {
        let declaration = &bundle.declaration;
        if let Some(threads) = declaration.session.intra_threads
            && !(1..=MAX_INTRA_THREADS).contains(&threads)
        {
            anyhow::bail!("session.intra_threads: expected 1 to {MAX_INTRA_THREADS}, got {threads}");
        }
        let options = options(declaration);
        let mut first = Chain::open(runtime, &bundle.graphs, options)?;
        sizes::check(&first.inputs).map_err(anyhow::Error::msg)?;
        let metadata = metadata(&first, bundle.model_graph);
        let (mut inputs, outputs) = (first.inputs.clone(), first.output_specs.clone());

        let mut problems = Vec::new();
        let dimension = declaration.batching.dimension;
        let rule = Rows::of(&inputs, &outputs, &first.row_kinds, dimension).unwrap_or_else(|problem| {
            problems.push(problem);
            Rows::One
        });
        rule.add_to(&mut inputs);
        let quantizes = bundle.graphs.iter().any(|graph| graph.quantizes_dynamically);
        let encoders: Vec<Encoder> = bundle.graphs.iter().flat_map(|graph| graph.encoders.clone()).collect();
        let declarations = Declarations {
            inputs: &inputs,
            outputs: &outputs,
            row_kinds: &first.row_kinds.clone(),
            dimension,
            precision: if quantizes { Precision::Quantized } else { Precision::Rounding },
            encoders: &encoders,
        };
        let Decision { rows, sharing, counts_rows } = declarations.decide(rule, &mut first);
        if declaration.batching.max_rows == Some(0) {
            problems.push("batching.max_rows: expected 1 or more, got 0".to_owned());
        }
        let intake = Intake::new(declaration, &inputs, rows, &bundle.folder, &mut problems);
        let present = Present::new(&declaration.output, &outputs, rows, &bundle.folder, &mut problems);
        // Columns that model.yaml declares take the place of MLflow's.
        let table = match (&intake, &bundle.columns) {
            (Intake::Columns(columns), _) => columns.table(),
            (_, Some(columns)) => mlflow::Table::new(columns, &inputs, &mut problems),
            (_, None) => mlflow::Table::default(),
        };
        let padding = declaration.padding.iter().enumerate();
        let padding: Vec<_> =
            padding.filter_map(|(number, pad)| pad.check(number, &inputs, &mut problems)).collect();
        let requested_inputs = intake.requested(&inputs, rows);
        for input in padding.iter().map(|padding: &Padding| padding.input) {
            let as_sent = requested_inputs.get(input).map(|spec| (&spec.name, spec.shape.len()));
            if as_sent != Some((&inputs[input].name, inputs[input].shape.len())) {
                problems.push(format!(
                    "padding: expected an input that requests send as it is, got {:?}, which image, text or columns make",
                    inputs[input].name
                ));
            }
        }
        if !problems.is_empty() {
            anyhow::bail!("{}", problems.join("; "));
        }

        let requested = |spec: &TensorSpec| rows.as_requested(spec);
        let outputs: Vec<TensorSpec> = present.specs(&outputs).iter().map(requested).collect();
        let signature = Signature {
            inputs: requested_inputs,
            columns: table.columns,
            column_rules: table.column_rules,
            unpads: match (&intake, inputs.first().map(|spec| &spec.shape[..])) {
                (Intake::Text { .. }, Some([_, tokens])) => Signature::unpads_named(&[tokens], &outputs),
                _ => Signature::find_unpads(&inputs, &outputs, &padding),
            },
            outputs,
            padding,
            defaults: first.defaults(),
            missing: table.missing,
            batched: matches!(rows, Rows::Any | Rows::Fixed(_)),
            row_by_row: rows == Rows::Single,
        };
        let mut chains = vec![Mutex::new(first)];
        for _ in 1..runtime.threads() {
            chains.push(Mutex::new(Chain::open(runtime, &bundle.graphs, options)?));
        }
        let max_rows = declaration.batching.max_rows;
        let position = |encoder: &Encoder| inputs.iter().position(|input| input.name == encoder.input);
        let encoders =
            encoders.into_iter().filter_map(|encoder| Some((position(&encoder)?, encoder))).collect();
        let executor = Executor {
            chains,
            rows,
            sharing,
            rows_are_disproved: AtomicBool::new(false),
            counts_rows,
            max_rows,
            usual_max_rows: runtime.max_rows,
            present,
            intake,
            inputs,
            encoders,
        };
        Ok(Self { executor, signature, metadata })
    }
}

fn options(declaration: &Declaration) -> Options {
    Options {
        intra_threads: declaration.session.intra_threads.unwrap_or(1),
        optimization: match declaration.session.optimization {
            Optimization::None => GraphOptimizationLevel::Disable,
            Optimization::Basic => GraphOptimizationLevel::Level1,
            Optimization::Extended => GraphOptimizationLevel::Level2,
            Optimization::All => GraphOptimizationLevel::All,
        },
    }
}

impl Executor {
    /// A black picture that the model takes, as PNG; `None` for models that take none.
    pub fn sample_picture(&self) -> Option<Vec<u8>> {
        let (width, height) = self.intake.picture_size()?;
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Grayscale);
        let mut writer = encoder.write_header().ok()?;
        writer.write_image_data(&vec![0; width as usize * height as usize]).ok()?;
        writer.finish().ok()?;
        Some(bytes)
    }

    /// Lets these rows, which requests may send, show whether requests may share calls.
    pub(crate) fn try_rows(&mut self, stack: &Stack) {
        let Some(rows) = stack.rows().filter(|rows| *rows > 1 && stack.differs()) else { return };
        let chain = self.chains[0].get_mut().unwrap_or_else(PoisonError::into_inner);
        match probe::given_rows(chain, stack, rows) {
            Ok(trial) => self.sharing = Sharing::by_samples(trial.verdict, rows),
            Err(reason) => tracing::debug!(reason, "the samples' rows could not be tried"),
        }
    }

    /// The version is loaded: nobody ends its calls any more.
    pub(crate) fn loaded(&mut self) {
        for chain in &mut self.chains {
            chain.get_mut().unwrap_or_else(PoisonError::into_inner).ender = None;
        }
    }

    /// True when the rows of all requests run together, as far as is known.
    pub fn takes_rows(&self) -> bool {
        matches!(self.rows, Rows::Any | Rows::Fixed(_)) && !self.rows_are_disproved.load(Ordering::Relaxed)
    }

    /// Says for people if requests share calls, and why.
    pub fn batching(&self) -> String {
        let rule = match self.rows {
            _ if self.rows_are_disproved.load(Ordering::Relaxed) => {
                return "each request runs alone: an output had another number of rows than the inputs"
                    .to_owned();
            }
            Rows::Any | Rows::Fixed(_) if !self.sharing.shares_calls() => "each request runs alone",
            Rows::Any => "rows of several requests share a call",
            Rows::Fixed(1) => "one row a call",
            Rows::Fixed(length) => {
                let why = &self.sharing.why;
                return format!(
                    "rows of several requests share calls of {length}, the last one padded: {why}"
                );
            }
            Rows::Single => "each request runs alone, the rows of a list one by one",
            Rows::One => "each request runs alone, the instances of a list one by one",
        };
        format!("{rule}: {}", self.sharing.why)
    }

    /// True when rows of several requests may be in one call.
    pub fn shares_calls(&self) -> bool {
        self.sharing.shares_calls() && self.takes_rows()
    }

    /// Runs `rows` rows of `inputs` (in the model's order) and lends the outputs, as they are shown, to `use_outputs`.
    ///
    /// # Errors
    /// [`Failure::NotRows`] where `how` is [`How::Rows`] and an output has not that many; requests run alone from then on.
    /// [`Failure::TooLarge`] where several calls' outputs have more elements than a response may have.
    pub fn run<T>(
        &self,
        thread: usize,
        inputs: &[Input<'_>],
        rows: usize,
        how: How,
        use_outputs: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<T, Failure> {
        let mut chain =
            self.chains[thread % self.chains.len()].lock().unwrap_or_else(PoisonError::into_inner);
        let present = &self.present;
        let calls = match (how, self.rows) {
            (How::Rows, Rows::Fixed(length)) => Calls::Rows { length, fills_up: true },
            (How::Rows, _) => match self.longest_call().filter(|length| rows > *length) {
                Some(length) => Calls::Rows { length, fills_up: false },
                None => {
                    let shown = chain.run(inputs, |outputs| {
                        let has_rows = |output: &Output<'_>| {
                            matches!(output.show, Show::Missing) || output.shape.first() == Some(&rows)
                        };
                        outputs.iter().all(has_rows).then(|| present.apply(outputs, true, use_outputs))
                    });
                    let shown = shown.map_err(Failure::Failed)?;
                    return shown.ok_or_else(|| self.disprove_rows())?.map_err(Failure::Failed);
                }
            },
            (How::EachRow, Rows::One) => Calls::Whole,
            (How::EachRow, _) if self.rows_are_disproved.load(Ordering::Relaxed) => {
                Calls::EachRow { counts_rows: &[] }
            }
            (How::EachRow, _) => Calls::EachRow { counts_rows: &self.counts_rows },
            (How::Whole, _) => {
                let shown = chain.run(inputs, |outputs| present.apply(outputs, false, use_outputs));
                return shown.and_then(|shown| shown).map_err(Failure::Failed);
            }
        };
        split_runs::several(&mut chain, inputs, rows, calls, present, use_outputs).map_err(|failure| {
            match failure {
                Failure::NotRows { .. } => self.disprove_rows(),
                failed => failed,
            }
        })
    }

    /// Rows in one call at most: what a call takes inside the model grows with them. A bundle's limit cuts a request unless rows
    /// are known to depend on each other, the usual one where they are known not to.
    fn longest_call(&self) -> Option<usize> {
        match self.sharing.evidence {
            Evidence::Dependent => None,
            Evidence::Unknown => self.max_rows,
            Evidence::Independent => Some(self.max_rows.unwrap_or(self.usual_max_rows)),
        }
    }

    fn disprove_rows(&self) -> Failure {
        let is_news = !self.rows_are_disproved.swap(true, Ordering::Relaxed);
        Failure::NotRows { is_news }
    }
}

impl super::Model {
    /// The error for a request that failed with this reason, where it names a value that the model refused.
    pub(crate) fn refused_value(&self, reason: &str, inputs: &[Input<'_>]) -> Option<Rejection> {
        if !categories::is_refusal(reason) {
            return None;
        }
        let unknown = self.executor.encoders.iter().find_map(|(input, encoder)| {
            let (shape, values) = &inputs[*input];
            let width = if shape.len() > 1 { *shape.last()? } else { 1 };
            Some((*input, width, encoder.find_unknown(*values, width)?))
        });
        let Some((input, width, Unknown { row, column, value, known })) = unknown else {
            return Some(Rejection::invalid(format!(
                "a value is none of the categories that the model knows: {reason}"
            )));
        };
        let name = match (&self.signature.columns, &self.executor.intake) {
            (Some(names), _) => names.get(column),
            (None, Intake::Columns(columns)) => columns.name(input, column),
            _ => None,
        };
        let mut place = format!("[{row}][{:?}]", name.unwrap_or(&self.executor.inputs[input].name));
        if name.is_none() && width > 1 {
            place += &format!("[{column}]");
        }
        Some(Rejection::invalid(format!("{place}: expected one of {known}, got {value}")))
    }
}

fn metadata(chain: &Chain, graph: usize) -> BTreeMap<String, String> {
    let Some(Ok(metadata)) = chain.sessions().nth(graph).map(Session::metadata) else {
        return BTreeMap::new();
    };
    let mut all: BTreeMap<String, String> = metadata
        .custom_keys()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|key| Some((key.clone(), metadata.custom(&key)?)))
        .collect();
    let known = [
        ("producer", metadata.producer()),
        ("graph", metadata.name()),
        ("domain", metadata.domain()),
        ("description", metadata.description()),
    ];
    all.extend(
        known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.filter(|v| !v.is_empty())?))),
    );
    all
}
