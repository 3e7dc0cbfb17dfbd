//! The graphs of one version, run one after the other: preprocessing, the model, postprocessing.
//!
//! Values go from graph to graph by name, without a copy. An input that no earlier graph gives is the request's.

use std::path::Path;

use anyhow::{Context as _, bail};
use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{Outlet, ValueType};

use super::values::{Held, element_type, input_value};
use crate::tensor::{Dim, ElementType, Output, TensorSpec, View};

/// How ONNX Runtime runs a version's graphs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) intra_threads: usize,
    pub(super) optimization: GraphOptimizationLevel,
}

#[derive(Debug)]
pub(super) struct Chain {
    graphs: Vec<Graph>,
    /// The graph and position of every output of the whole.
    outputs: Vec<(usize, usize)>,
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) output_specs: Vec<TensorSpec>,
}

#[derive(Debug)]
struct Graph {
    session: Session,
    inputs: Vec<Feed>,
}

/// Where a graph's input comes from.
#[derive(Debug, Clone, Copy)]
enum Feed {
    Request(usize),
    /// An earlier graph's output.
    Graph(usize, usize),
}

impl Chain {
    /// Loads the graphs of `files`, in the order in which they run. The outputs are the last one's.
    pub(super) fn open(environment: &Environment, files: &[&Path], options: Options) -> anyhow::Result<Self> {
        let mut chain =
            Self { graphs: Vec::new(), outputs: Vec::new(), inputs: Vec::new(), output_specs: Vec::new() };
        let mut given: Vec<(String, usize, usize)> = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let session = open(environment, file, options)
                .with_context(|| format!("ONNX Runtime cannot load {name:?}"))?;
            let mut inputs = Vec::new();
            let mut takes_from_before = number == 0;
            for outlet in session.inputs() {
                let feed = match given.iter().rev().find(|(given, ..)| given == outlet.name()) {
                    Some((_, graph, output)) => {
                        takes_from_before = true;
                        Feed::Graph(*graph, *output)
                    }
                    None => Feed::Request(chain.request_input(outlet)?),
                };
                inputs.push(feed);
            }
            if !takes_from_before {
                let names: Vec<&str> = given.iter().map(|(name, ..)| name.as_str()).collect();
                bail!("no input of {name:?} has the name of an output of the graph before it ({names:?})");
            }
            given.extend(
                session.outputs().iter().enumerate().map(|(at, out)| (out.name().to_owned(), number, at)),
            );
            chain.outputs = (0..session.outputs().len()).map(|output| (number, output)).collect();
            chain.output_specs = session.outputs().iter().map(output_spec).collect::<anyhow::Result<_>>()?;
            chain.graphs.push(Graph { session, inputs });
        }
        Ok(chain)
    }

    /// The position of the request's input of this name; several graphs may take the same one.
    fn request_input(&mut self, outlet: &Outlet) -> anyhow::Result<usize> {
        let spec = input_spec(outlet)?;
        match self.inputs.iter().position(|known| known.name == spec.name) {
            Some(at) if self.inputs[at].element == spec.element => Ok(at),
            Some(at) => bail!(
                "two graphs take {:?}, as {} and as {}",
                spec.name,
                self.inputs[at].describe(),
                spec.describe()
            ),
            None => {
                self.inputs.push(spec);
                Ok(self.inputs.len() - 1)
            }
        }
    }

    /// The graphs' sessions, in order.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.graphs.iter().map(|graph| &graph.session)
    }

    /// The inputs whose value the graphs have themselves: ONNX Runtime lists them apart from those that must come.
    pub(super) fn defaults(&self) -> Vec<String> {
        let initializers = self.sessions().flat_map(Session::overridable_initializers);
        initializers.map(|initializer| initializer.name().to_owned()).collect()
    }

    pub(super) fn outputs_count_rows(&self) -> bool {
        self.graphs.last().is_some_and(|graph| graph.session.outputs().iter().all(counts_rows))
    }

    /// Runs all graphs and lends the outputs.
    pub(super) fn run<T>(
        &mut self,
        inputs: &[(Vec<usize>, View<'_>)],
        use_outputs: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<T, String> {
        let mut computed: Vec<SessionOutputs<'_>> = Vec::with_capacity(self.graphs.len());
        for Graph { session, inputs: feeds } in &mut self.graphs {
            let value = |feed: &Feed| match *feed {
                Feed::Request(index) => {
                    let (shape, elements) = &inputs[index];
                    input_value(shape, *elements)
                }
                Feed::Graph(graph, output) => Ok(SessionInputValue::from(&computed[graph][output])),
            };
            let values: Vec<SessionInputValue<'_>> = feeds
                .iter()
                .map(value)
                .collect::<ort::Result<_>>()
                .map_err(|error| error.message().to_owned())?;
            let outputs = session.run(&values[..]).map_err(|error| error.message().to_owned())?;
            drop(values);
            computed.push(outputs);
        }
        let values: Vec<_> = self.outputs.iter().map(|&(graph, output)| &computed[graph][output]).collect();
        let about = |at: usize, reason: String| format!("output {:?}: {reason}", self.output_specs[at].name);
        let held: Vec<Held> = values
            .iter()
            .enumerate()
            .map(|(at, value)| Held::of(value).map_err(|reason| about(at, reason)))
            .collect::<Result<_, _>>()?;
        let mut parts: Vec<Vec<Output<'_>>> = held.iter().map(|_| Vec::new()).collect();
        let mut lent = Vec::with_capacity(held.len());
        for (at, ((held, value), parts)) in held.iter().zip(&values).zip(&mut parts).enumerate() {
            let output = held.lend(&self.output_specs[at].name, value, parts);
            lent.push(output.map_err(|reason| about(at, reason))?);
        }
        Ok(use_outputs(&lent))
    }
}

fn open(environment: &Environment, file: &Path, options: Options) -> anyhow::Result<Session> {
    let failed = |error: ort::Error<_>| anyhow::anyhow!("{error}");
    let builder = Session::builder(environment)?.with_intra_threads(options.intra_threads).map_err(failed)?;
    let mut builder = builder.with_optimization_level(options.optimization).map_err(failed)?;
    Ok(builder.commit_from_file(file)?)
}

fn input_spec(outlet: &Outlet) -> anyhow::Result<TensorSpec> {
    let spec = match outlet.dtype() {
        ValueType::Tensor { .. } => tensor_spec(outlet.name(), outlet.dtype()),
        ValueType::Optional(_) => bail!(
            "input {:?} is optional, which is not supported; export the model with a tensor in its place",
            outlet.name()
        ),
        other => bail!("input {:?} has the type {other}; only tensors can be sent", outlet.name()),
    };
    spec.with_context(|| format!("input {:?}", outlet.name()))
}

/// Maps are shown as the tensor of their values, sequences of maps as one with a row each.
fn output_spec(outlet: &Outlet) -> anyhow::Result<TensorSpec> {
    let name = outlet.name();
    let any = |name: &str| Dim::Any(name.to_owned());
    let of_map = |value: ort::value::TensorElementType, shape: Vec<Dim>| -> anyhow::Result<TensorSpec> {
        let element =
            element_type(value).with_context(|| format!("its values of type {value} are not supported"))?;
        Ok(TensorSpec { name: name.to_owned(), element, shape })
    };
    let spec = match outlet.dtype() {
        ValueType::Map { value, .. } => of_map(*value, vec![any("keys")]),
        ValueType::Sequence(inner) => match &**inner {
            ValueType::Map { value, .. } => of_map(*value, vec![any("rows"), any("keys")]),
            inner => tensor_spec(name, inner).map(|spec| {
                let shape = [vec![any("sequence")], spec.shape].concat();
                TensorSpec { shape, ..spec }
            }),
        },
        // `ort` panics on one that is absent.
        ValueType::Optional(_) => {
            bail!("output {name:?} is optional, which is not supported; export the model without it")
        }
        tensor => tensor_spec(name, tensor),
    };
    spec.with_context(|| format!("output {name:?}"))
}

fn tensor_spec(name: &str, dtype: &ValueType) -> anyhow::Result<TensorSpec> {
    let ValueType::Tensor { ty, shape, dimension_symbols } = dtype else {
        bail!("it has the type {dtype}, which is not supported");
    };
    let element: ElementType =
        element_type(*ty).with_context(|| format!("its element type {ty} is not supported"))?;
    let shape = shape
        .iter()
        .zip(dimension_symbols.iter())
        .map(|(&length, symbol)| match usize::try_from(length) {
            Ok(length) => Dim::Fixed(length),
            Err(_) => Dim::Any(symbol.clone()),
        })
        .collect();
    Ok(TensorSpec { name: name.to_owned(), element, shape })
}

/// Whether rows of this output can be told apart: not in a sequence of tensors, nor in a lone map.
fn counts_rows(outlet: &Outlet) -> bool {
    match outlet.dtype() {
        // An output whose shape the model does not declare looks like a scalar; what it really is shows when it runs.
        ValueType::Tensor { shape, .. } => shape.first().is_none_or(|length| *length < 0),
        ValueType::Sequence(inner) => matches!(**inner, ValueType::Map { .. }),
        ValueType::Map { .. } | ValueType::Optional(_) => false,
    }
}
