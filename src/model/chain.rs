//! The graphs of one version, run one after the other: preprocessing, the model, postprocessing.
//!
//! Values go from graph to graph by name, without a copy. An input that no earlier graph gives is the request's. Optional inputs
//! and outputs are two values of the session each ([`super::optional`]), and one here.

use std::path::Path;

use anyhow::{Context as _, bail};
use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{Outlet, ValueType};

use super::optional;
use super::values::{Held, element_type, input_value, is_true, map_types};
use crate::tensor::{self, Dim, ElementType, Kind, Output, TensorSpec, View};

/// How ONNX Runtime runs a version's graphs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) intra_threads: usize,
    pub(super) optimization: GraphOptimizationLevel,
}

#[derive(Debug)]
pub(super) struct Chain {
    graphs: Vec<Graph>,
    /// Every output of the whole.
    outputs: Vec<Given>,
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) output_specs: Vec<TensorSpec>,
    pub(super) outputs_count_rows: bool,
}

#[derive(Debug)]
struct Graph {
    session: Session,
    inputs: Vec<Feed>,
}

/// Where a session's input comes from.
#[derive(Debug, Clone, Copy)]
enum Feed {
    Request(usize),
    /// Whether the request gives this optional input.
    IsGiven(usize),
    /// An earlier graph's output.
    Graph(usize, usize),
    /// The flag of an optional input that an earlier graph always gives.
    True,
}

/// An output of a graph.
#[derive(Debug, Clone, Copy)]
struct Given {
    graph: usize,
    /// Its position in the session.
    value: usize,
    /// The position of the bool that says whether it is there, where it is optional.
    there: Option<usize>,
}

impl Given {
    /// Those of a graph's declared outputs.
    fn all(graph: usize, outputs: &[Declared]) -> Vec<Self> {
        let mut next = 0;
        let mut given = |outlet: &Declared| {
            let value = next;
            let there = outlet.is_optional().then_some(value + 1);
            next = there.unwrap_or(value) + 1;
            Self { graph, value, there }
        };
        outputs.iter().map(&mut given).collect()
    }

    /// What feeds a later graph's input of its name.
    fn feeds(self, to: &Declared) -> anyhow::Result<Vec<Feed>> {
        let value = Feed::Graph(self.graph, self.value);
        Ok(match (self.there, to.is_optional()) {
            (None, false) => vec![value],
            (None, true) => vec![value, Feed::True],
            (Some(there), true) => vec![value, Feed::Graph(self.graph, there)],
            (Some(_), false) => bail!(
                "input {:?} takes an optional output of an earlier graph, which may be missing; make it optional, too",
                to.name
            ),
        })
    }
}

impl Chain {
    /// Loads the graphs of `files`, in the order in which they run. The outputs are the last one's.
    pub(super) fn open(environment: &Environment, files: &[&Path], options: Options) -> anyhow::Result<Self> {
        let mut chain = Self {
            graphs: Vec::new(),
            outputs: Vec::new(),
            inputs: Vec::new(),
            output_specs: Vec::new(),
            outputs_count_rows: false,
        };
        let mut given: Vec<(String, Given)> = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let Opened { session, inputs: declared, outputs } = open(environment, file, options)
                .with_context(|| format!("ONNX Runtime cannot load {name:?}"))?;
            let mut inputs = Vec::new();
            let mut takes_from_before = number == 0;
            for outlet in &declared {
                match given.iter().rev().find(|(given, _)| *given == outlet.name) {
                    Some((_, given)) => {
                        takes_from_before = true;
                        inputs.extend(given.feeds(outlet)?);
                    }
                    None => {
                        let input = chain.request_input(outlet)?;
                        inputs.push(Feed::Request(input));
                        inputs.extend(outlet.is_optional().then_some(Feed::IsGiven(input)));
                    }
                }
            }
            if !takes_from_before {
                let names: Vec<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
                bail!("no input of {name:?} has the name of an output of the graph before it ({names:?})");
            }
            chain.outputs = Given::all(number, &outputs);
            chain.output_specs = outputs.iter().map(output_spec).collect::<anyhow::Result<_>>()?;
            chain.outputs_count_rows = outputs.iter().all(|outlet| counts_rows(&outlet.dtype));
            given.extend(outputs.iter().map(|outlet| outlet.name.clone()).zip(chain.outputs.clone()));
            chain.graphs.push(Graph { session, inputs });
        }
        Ok(chain)
    }

    /// The position of the request's input of this name; several graphs may take the same one.
    fn request_input(&mut self, outlet: &Declared) -> anyhow::Result<usize> {
        let spec = input_spec(outlet)?;
        match self.inputs.iter().position(|known| known.name == spec.name) {
            Some(at) if self.inputs[at].element == spec.element && self.inputs[at].kind == spec.kind => {
                Ok(at)
            }
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
                    let shape = if tensor::is_left_out(shape, *elements) { &[0] } else { &shape[..] };
                    input_value(shape, *elements)
                }
                Feed::IsGiven(index) => {
                    let (shape, elements) = &inputs[index];
                    flag(!tensor::is_left_out(shape, *elements))
                }
                Feed::True => flag(true),
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
        let values: Vec<_> = self.outputs.iter().map(|given| &computed[given.graph][given.value]).collect();
        let about = |at: usize, reason: String| format!("output {:?}: {reason}", self.output_specs[at].name);
        let hold = |(at, given): (usize, &Given)| {
            let is_missing = match given.there {
                Some(there) => !is_true(&computed[given.graph][there])?,
                None => false,
            };
            if is_missing { Ok(Held::Missing) } else { Held::of(values[at]) }
        };
        let held: Vec<Held> = self
            .outputs
            .iter()
            .enumerate()
            .map(|(at, given)| hold((at, given)).map_err(|reason| about(at, reason)))
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

/// A scalar.
fn flag(value: bool) -> ort::Result<SessionInputValue<'static>> {
    input_value(&[], View::Bool(if value { &[true] } else { &[false] }))
}

/// A session, and what its file declares.
struct Opened {
    session: Session,
    inputs: Vec<Declared>,
    outputs: Vec<Declared>,
}

/// An input or output.
struct Declared {
    name: String,
    dtype: ValueType,
}

impl Declared {
    fn all(outlets: &[Outlet]) -> Vec<Self> {
        let one = |outlet: &Outlet| Self { name: outlet.name().to_owned(), dtype: outlet.dtype().clone() };
        outlets.iter().map(one).collect()
    }

    fn is_optional(&self) -> bool {
        matches!(self.dtype, ValueType::Optional(_))
    }
}

fn open(environment: &Environment, file: &Path, options: Options) -> anyhow::Result<Opened> {
    let failed = |error: ort::Error<_>| anyhow::anyhow!("{error}");
    let builder = Session::builder(environment)?.with_intra_threads(options.intra_threads).map_err(failed)?;
    let mut builder = builder.with_optimization_level(options.optimization).map_err(failed)?;
    let session = builder.commit_from_file(file)?;
    let (inputs, outputs) = (Declared::all(session.inputs()), Declared::all(session.outputs()));
    if !inputs.iter().chain(&outputs).any(Declared::is_optional) {
        return Ok(Opened { session, inputs, outputs });
    }
    let specs = [
        inputs.iter().map(input_spec).collect::<anyhow::Result<Vec<_>>>()?,
        outputs.iter().map(output_spec).collect::<anyhow::Result<Vec<_>>>()?,
    ];
    drop(session);
    let plain = optional::without(&std::fs::read(file)?).map_err(anyhow::Error::msg)?;
    let folder = file.parent().unwrap_or(Path::new("")).to_string_lossy();
    let mut builder = builder.with_config_entry(WEIGHTS_FOLDER, folder).map_err(failed)?;
    let session = builder.commit_from_memory(&plain).context("with its optional values made plain ones")?;
    let expected = specs
        .map(|specs| specs.iter().map(|spec| 1 + usize::from(spec.kind == Kind::Optional)).sum::<usize>());
    if [session.inputs().len(), session.outputs().len()] != expected {
        bail!("its optional values cannot be made plain ones");
    }
    Ok(Opened { session, inputs, outputs })
}

/// ONNX Runtime's option: where the weights' files lie of a model that is read from memory.
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";

fn input_spec(outlet: &Declared) -> anyhow::Result<TensorSpec> {
    let spec = match &outlet.dtype {
        ValueType::Tensor { .. } => tensor_spec(&outlet.name, &outlet.dtype),
        ValueType::Optional(inner) if matches!(**inner, ValueType::Tensor { .. }) => {
            tensor_spec(&outlet.name, inner).map(|spec| TensorSpec { kind: Kind::Optional, ..spec })
        }
        ValueType::Map { key, value } => match map_types(*key, *value) {
            Some((key, value)) => Ok(composite_spec(&outlet.name, Kind::Map { key, value })),
            None => bail!(
                "input {:?} is a map from {key} to {value}; ONNX's operators take those from strings to int64s and floats, \
                 and from int64s to strings and floats",
                outlet.name
            ),
        },
        ValueType::Sequence(inner) if matches!(**inner, ValueType::Tensor { .. }) => {
            tensor_spec(&outlet.name, inner).map(|TensorSpec { element, shape, .. }| {
                composite_spec(&outlet.name, Kind::Sequence { element, shape })
            })
        }
        other => bail!(
            "input {:?} has the type {other}; only tensors, optional ones, sequences of tensors and maps can be sent",
            outlet.name
        ),
    };
    spec.with_context(|| format!("input {:?}", outlet.name))
}

fn composite_spec(name: &str, kind: Kind) -> TensorSpec {
    TensorSpec { name: name.to_owned(), element: ElementType::Composite, shape: Vec::new(), kind }
}

/// Maps are shown as the tensor of their values, sequences of maps as one with a row each.
fn output_spec(outlet: &Declared) -> anyhow::Result<TensorSpec> {
    let name = &*outlet.name;
    let any = |name: &str| Dim::Any(name.to_owned());
    let of_map = |value: ort::value::TensorElementType, shape: Vec<Dim>| -> anyhow::Result<TensorSpec> {
        let element =
            element_type(value).with_context(|| format!("its values of type {value} are not supported"))?;
        Ok(TensorSpec { name: name.to_owned(), element, shape, kind: Kind::Tensor })
    };
    let of_plain = |dtype: &ValueType| match dtype {
        ValueType::Map { value, .. } => of_map(*value, vec![any("keys")]),
        ValueType::Sequence(inner) => match &**inner {
            ValueType::Map { value, .. } => of_map(*value, vec![any("rows"), any("keys")]),
            inner => tensor_spec(name, inner).map(|spec| {
                let shape = [vec![any("sequence")], spec.shape].concat();
                TensorSpec { shape, ..spec }
            }),
        },
        tensor => tensor_spec(name, tensor),
    };
    let spec = match &outlet.dtype {
        ValueType::Optional(inner) => of_plain(inner).map(|spec| TensorSpec { kind: Kind::Optional, ..spec }),
        plain => of_plain(plain),
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
    Ok(TensorSpec { name: name.to_owned(), element, shape, kind: Kind::Tensor })
}

/// Whether rows of an output can be told apart: not in a sequence of tensors, nor in a lone map.
fn counts_rows(dtype: &ValueType) -> bool {
    match dtype {
        // An output whose shape the model does not declare looks like a scalar; what it really is shows when it runs.
        ValueType::Tensor { shape, .. } => shape.first().is_none_or(|length| *length < 0),
        ValueType::Sequence(inner) => matches!(**inner, ValueType::Map { .. }),
        ValueType::Optional(inner) => counts_rows(inner),
        ValueType::Map { .. } => false,
    }
}
