//! One version, loaded: its graphs, how it takes rows, and how its outputs are shown.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use super::bundle::Bundle;
use super::chain::{Chain, Options};
use super::declaration::{Declaration, Optimization};
use super::present::Present;
use super::rows::Rows;
use super::runtime::Runtime;
use crate::tensor::{Dim, Elements, Output, Show, Signature, TensorSpec, View};

/// An input as a call takes it: its shape and its elements.
pub type Input<'a> = (Vec<usize>, View<'a>);

#[derive(Debug)]
pub struct Engine {
    /// One chain of graphs a thread: ONNX Runtime's `run` takes it alone. Thread `n` takes the `n`th, so no lock is ever
    /// waited for.
    chains: Vec<Mutex<Chain>>,
    pub rows: Rows,
    /// Rows in one call at most, where the bundle says so.
    pub max_rows: Option<usize>,
    present: Present,
}

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
        let files: Vec<&Path> = bundle.graphs.iter().map(std::path::PathBuf::as_path).collect();
        let options = options(declaration);
        let first = Chain::open(runtime.environment(), &files, options)?;
        let metadata = metadata(&first, bundle.model_graph);
        let (inputs, outputs) = (first.inputs.clone(), first.output_specs.clone());

        let mut problems = Vec::new();
        let rows = Rows::of(&inputs, &outputs, first.outputs_count_rows(), declaration.batching.dimension);
        let rows = rows.unwrap_or_else(|problem| {
            problems.push(problem);
            Rows::One
        });
        if declaration.batching.max_rows == Some(0) {
            problems.push("batching.max_rows: expected 1 or more, got 0".to_owned());
        }
        let present = Present::new(&declaration.output, &outputs, &bundle.folder, &mut problems);
        if let Some(problem) = columns_problem(bundle.columns.as_deref(), &inputs) {
            problems.push(problem);
        }
        let padding = declaration.padding.iter().enumerate();
        let padding = padding.filter_map(|(number, pad)| pad.check(number, &inputs, &mut problems)).collect();
        if !problems.is_empty() {
            anyhow::bail!("{}", problems.join("; "));
        }

        let requested = |spec: &TensorSpec| rows.as_requested(spec);
        let signature = Signature {
            inputs: inputs.iter().map(requested).collect(),
            outputs: present.specs(&outputs).iter().map(requested).collect(),
            columns: bundle.columns.clone(),
            padding,
            batched: rows != Rows::One,
        };
        let mut chains = vec![Mutex::new(first)];
        for _ in 1..runtime.threads() {
            chains.push(Mutex::new(Chain::open(runtime.environment(), &files, options)?));
        }
        let engine = Engine { chains, rows, max_rows: declaration.batching.max_rows, present };
        Ok(Self { engine, signature, metadata })
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

fn columns_problem(columns: Option<&[String]>, inputs: &[TensorSpec]) -> Option<String> {
    let columns = columns?;
    let [TensorSpec { shape, .. }] = inputs else {
        return Some("the bundle names columns, but the model has not one input [rows, columns]".to_owned());
    };
    match &shape[..] {
        [_, Dim::Fixed(width)] if *width != columns.len() => {
            Some(format!("the bundle names {} columns, the model takes {width}", columns.len()))
        }
        [_, _] => None,
        _ => Some("the bundle names columns, but the model has not one input [rows, columns]".to_owned()),
    }
}

impl Engine {
    /// Runs `rows` rows of `inputs` (in the model's order) and lends the outputs, as they are shown, to `use_outputs`.
    /// Without a batch dimension several rows are stacked: each input's shape then begins with their number.
    ///
    /// # Errors
    /// ONNX Runtime's own sentence, or ours where the outputs cannot be told apart.
    pub fn run<T>(
        &self,
        thread: usize,
        inputs: &[Input<'_>],
        rows: usize,
        use_outputs: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<T, String> {
        let mut chain =
            self.chains[thread % self.chains.len()].lock().unwrap_or_else(PoisonError::into_inner);
        let show = |outputs: &[Output<'_>]| self.present.apply(outputs, use_outputs);
        match self.rows {
            Rows::Any => chain.run(inputs, show)?,
            Rows::One if rows == 1 => chain.run(inputs, show)?,
            Rows::One => in_calls(&mut chain, inputs, rows, 1, false, show)?,
            Rows::Fixed(length) => in_calls(&mut chain, inputs, rows, length, true, show)?,
        }
    }
}

/// Runs `length` rows a call and lends the outputs of all calls together. The last call is filled up with its last row, which
/// no model can object to as it might to zeros, and cut again. `counted`: whether the model itself has the dimension of rows.
fn in_calls<T>(
    chain: &mut Chain,
    inputs: &[Input<'_>],
    rows: usize,
    length: usize,
    counted: bool,
    use_outputs: impl FnOnce(&[Output<'_>]) -> T,
) -> Result<T, String> {
    let mut collected: Vec<Collected> = Vec::new();
    for begin in (0..rows).step_by(length) {
        let taken = length.min(rows - begin);
        let filled: Vec<(Vec<usize>, Elements)> = inputs
            .iter()
            .map(|(shape, elements)| call_input(shape, *elements, begin, taken, length, counted))
            .collect();
        let views: Vec<Input<'_>> =
            filled.iter().map(|(shape, elements)| (shape.clone(), elements.view())).collect();
        chain.run(&views, |outputs| collect(&mut collected, outputs, taken, length, counted))??;
    }
    let lent: Vec<Output<'_>> = collected.iter().map(Collected::lend).collect();
    Ok(use_outputs(&lent))
}

fn call_input(
    shape: &[usize],
    elements: View<'_>,
    begin: usize,
    taken: usize,
    length: usize,
    counted: bool,
) -> (Vec<usize>, Elements) {
    let width: usize = shape[1..].iter().product();
    let mut own = Elements::with_capacity(elements.element(), length * width);
    own.extend_from_view(elements.slice(begin * width..(begin + taken) * width));
    for _ in taken..length {
        own.extend_from_view(elements.slice((begin + taken - 1) * width..(begin + taken) * width));
    }
    let shape = if counted { [&[length], &shape[1..]].concat() } else { shape[1..].to_vec() };
    (shape, own)
}

/// One output of all calls so far.
struct Collected {
    name: String,
    shape: Vec<usize>,
    elements: Elements,
    names: Option<Vec<String>>,
}

impl Collected {
    fn lend(&self) -> Output<'_> {
        let show = self.names.as_deref().map_or(Show::Values, Show::Named);
        Output { name: &self.name, shape: &self.shape, elements: self.elements.view(), show }
    }
}

fn collect(
    collected: &mut Vec<Collected>,
    outputs: &[Output<'_>],
    taken: usize,
    length: usize,
    counted: bool,
) -> Result<(), String> {
    let is_first = collected.is_empty();
    for (index, output) in outputs.iter().enumerate() {
        let names = match output.show {
            Show::Values => None,
            Show::Named(names) => Some(names),
            _ => {
                return Err(format!(
                    "output {:?} cannot be joined over several rows; send them one by one",
                    output.name
                ));
            }
        };
        let inner = if counted { output.shape.get(1..) } else { Some(output.shape) };
        let inner = inner.filter(|_| !counted || output.shape[0] == length).ok_or_else(|| {
            format!("output {:?} has the shape {:?}, expected {length} rows", output.name, output.shape)
        })?;
        let width: usize = inner.iter().product();
        if is_first {
            collected.push(Collected {
                name: output.name.to_owned(),
                shape: [&[0], inner].concat(),
                elements: Elements::with_capacity(output.elements.element(), taken * width),
                names: names.map(<[String]>::to_vec),
            });
        }
        let all = &mut collected[index];
        if all.shape[1..] != *inner || all.names.as_deref() != names {
            return Err(format!(
                "output {:?} has the shape {inner:?} for one row and {:?} for another; send them one by one",
                output.name,
                &all.shape[1..]
            ));
        }
        all.shape[0] += taken;
        all.elements.extend_from_view(output.elements.slice(0..taken * width));
    }
    Ok(())
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
