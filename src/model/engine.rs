//! One version, loaded: its graphs, how it takes rows, and how its outputs are shown.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use super::bundle::Bundle;
use super::calls::{self, Calls};
use super::categories::{self, Encoder, Unknown};
use super::chain::{Chain, Options};
use super::declaration::{Declaration, Optimization};
use super::intake::Intake;
use super::mlflow;
use super::present::Present;
use super::probe::{self, Verdict};
use super::rows::{Declared, Rows};
use super::runtime::Runtime;
use crate::error::Rejection;
use crate::signature::{Padding, Signature, TensorSpec};
use crate::tensor::{ElementType, Output, View};

/// An input as a call takes it: its shape and its elements.
pub type Input<'a> = (Vec<usize>, View<'a>);

#[derive(Debug)]
pub struct Engine {
    /// One chain of graphs a thread: ONNX Runtime's `run` takes it alone. Thread `n` takes the `n`th, so no lock is ever
    /// waited for.
    chains: Vec<Mutex<Chain>>,
    pub rows: Rows,
    /// Whether rows of several requests may be in one call, where there are rows.
    pub shares_calls: bool,
    /// Rows in one call at most, where the bundle says so.
    pub max_rows: Option<usize>,
    present: Present,
    pub(crate) intake: Intake,
    /// What the model itself takes.
    pub(crate) inputs: Vec<TensorSpec>,
    /// Columns whose values must be among a few, and which of the inputs each is of.
    encoders: Vec<(usize, Encoder)>,
}

/// More than any machine has use for in one call.
const MAX_INTRA_THREADS: usize = 256;

/// A version's engine, and what it says of itself.
#[derive(Debug)]
pub struct Opened {
    pub engine: Engine,
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
        let mut first = Chain::open(runtime.environment(), &bundle.graphs, options)?;
        let metadata = metadata(&first, bundle.model_graph);
        let (mut inputs, outputs) = (first.inputs.clone(), first.output_specs.clone());

        let mut problems = Vec::new();
        let rows = Rows::of(&inputs, &outputs, first.outputs_count_rows, declaration.batching.dimension);
        let mut rows = rows.unwrap_or_else(|problem| {
            problems.push(problem);
            Rows::One
        });
        rows.add_to(&mut inputs);
        if rows == Rows::Single && probe::counts_rows(&mut first, &inputs) {
            rows = Rows::Any;
        }
        let mut shares_calls = true;
        if declaration.batching.dimension == Declared::Auto {
            (rows, shares_calls) = proven(rows, &mut first, &inputs);
        }
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
            frame: table.frame,
            cuts: match (&intake, inputs.first().map(|spec| &spec.shape[..])) {
                (Intake::Text { .. }, Some([_, tokens])) => Signature::find_dims(&[tokens], &outputs),
                _ => Signature::find_cuts(&inputs, &outputs, &padding),
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
            chains.push(Mutex::new(Chain::open(runtime.environment(), &bundle.graphs, options)?));
        }
        let max_rows = declaration.batching.max_rows;
        let position = |encoder: &Encoder| inputs.iter().position(|input| input.name == encoder.input);
        let encoders = bundle.graphs.iter().flat_map(|graph| &graph.encoders);
        let encoders = encoders.filter_map(|encoder| Some((position(encoder)?, encoder.clone()))).collect();
        let engine = Engine { chains, rows, shares_calls, max_rows, present, intake, inputs, encoders };
        Ok(Self { engine, signature, metadata })
    }
}

/// `rows` where shapes and a trial say so: a vector may look like rows, and rows of strangers must not change each other. And whether
/// requests may share calls.
fn proven(rows: Rows, chain: &mut Chain, inputs: &[TensorSpec]) -> (Rows, bool) {
    // A text is a whole thing to say; numbers in a row may be one.
    let is_list = |spec: &TensorSpec| spec.shape.len() == 1 && spec.element != ElementType::Text;
    match rows {
        Rows::Fixed(length) if length > 1 && !probe::fixed_rows(chain, inputs, length) => (Rows::One, true),
        Rows::Any if inputs.iter().all(is_list) => match probe::free_rows(chain, inputs) {
            Verdict::Apart => (Rows::Any, true),
            Verdict::Mixed => (Rows::One, true),
            Verdict::Unknown => (Rows::Any, false),
        },
        rows => (rows, true),
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

impl Engine {
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

    /// Runs `rows` rows of `inputs` (in the model's order) and lends the outputs, as they are shown, to `use_outputs`.
    /// `one_by_one`: each row by itself, their inputs stacked, so that each input's shape begins with their number and goes on
    /// as one call takes it; the outputs are stacked in the same way.
    ///
    /// # Errors
    /// ONNX Runtime's own sentence, or ours where the outputs cannot be told apart.
    pub fn run<T>(
        &self,
        thread: usize,
        inputs: &[Input<'_>],
        rows: usize,
        one_by_one: bool,
        use_outputs: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<T, String> {
        let mut chain =
            self.chains[thread % self.chains.len()].lock().unwrap_or_else(PoisonError::into_inner);
        let has_rows = one_by_one || matches!(self.rows, Rows::Any | Rows::Fixed(_));
        let show = |outputs: &[Output<'_>]| self.present.apply(outputs, has_rows, use_outputs);
        match self.rows {
            Rows::Fixed(length) => calls::several(&mut chain, inputs, rows, Calls::Rows(length), show)?,
            Rows::Single if one_by_one => calls::several(&mut chain, inputs, rows, Calls::SingleRow, show)?,
            Rows::One if one_by_one => calls::several(&mut chain, inputs, rows, Calls::Whole, show)?,
            _ => chain.run(inputs, show)?,
        }
    }
}

impl super::Model {
    /// The error for a request that failed with this reason, where it names a value that the model refused.
    pub(crate) fn refused_value(&self, reason: &str, inputs: &[Input<'_>]) -> Option<Rejection> {
        if !categories::is_refusal(reason) {
            return None;
        }
        let unknown = self.engine.encoders.iter().find_map(|(input, encoder)| {
            let (shape, values) = &inputs[*input];
            let width = if shape.len() > 1 { *shape.last()? } else { 1 };
            Some((*input, width, encoder.find_unknown(*values, width)?))
        });
        let Some((input, width, Unknown { row, column, value, known })) = unknown else {
            return Some(Rejection::invalid(format!(
                "a value is none of the categories that the model knows: {reason}"
            )));
        };
        let name = match (&self.signature.columns, &self.engine.intake) {
            (Some(names), _) => names.get(column),
            (None, Intake::Columns(columns)) => columns.name(input, column),
            _ => None,
        };
        let mut place = format!("[{row}][{:?}]", name.unwrap_or(&self.engine.inputs[input].name));
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
