//! The graphs of one version, which run one after the other: preprocessing, the model, postprocessing.
//!
//! Values pass from graph to graph by name, without a copy. An input that no earlier graph gives comes from
//! the request. An optional input or output is one value here and two values of the session
//! ([`super::rewrite_optional`]).

use std::sync::Arc;

use anyhow::{Context as _, bail};
use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::Outlet;

use super::runtime::{Runtime, Terminator};
use crate::model::onnx::graph_file::GraphFile;
use crate::model::onnx::graph_io::{GraphIo, RowKind, input_spec, output_spec};
use crate::model::onnx::ort_values::{OutputValue, input_value, is_true};
use crate::model::onnx::rewrite_optional;
use crate::model::run::Input;
use crate::tensor::signature::{TensorSpec, ValueKind};
use crate::tensor::{Output, View};

/// Options of ONNX Runtime for a version's graphs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChainOptions {
    pub(crate) intra_threads: usize,
    pub(crate) optimization: GraphOptimizationLevel,
}

#[derive(Debug)]
pub(crate) struct Chain {
    graphs: Vec<Graph>,
    /// The outputs of the last graph.
    outputs: Vec<GraphOutput>,
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) output_specs: Vec<TensorSpec>,
    /// The way to separate the rows of each output.
    pub(crate) row_kinds: Vec<RowKind>,
    /// Terminates its calls while the version loads.
    pub(crate) terminator: Option<Arc<Terminator>>,
}

#[derive(Debug)]
struct Graph {
    session: Session,
    inputs: Vec<SessionInput>,
}

/// The source of a session's input.
#[derive(Debug, Clone, Copy)]
enum SessionInput {
    Request(usize),
    /// The flag that says whether the request gives this optional input.
    IsGiven(usize),
    /// An output of an earlier graph, by the positions of both.
    Graph(usize, usize),
    /// The flag of an optional input that an earlier graph always gives.
    True,
}

/// An output of a graph.
#[derive(Debug, Clone, Copy)]
struct GraphOutput {
    graph: usize,
    /// Its position in the session.
    value: usize,
    /// The position of an optional output's flag, which is false when the output is missing.
    presence: Option<usize>,
}

impl GraphOutput {
    /// The declared outputs of a graph.
    fn all(graph: usize, outputs: &[GraphIo]) -> Vec<Self> {
        let mut next = 0;
        let mut given = |outlet: &GraphIo| {
            let value = next;
            let presence = outlet.is_optional().then_some(value + 1);
            next = presence.unwrap_or(value) + 1;
            Self { graph, value, presence }
        };
        outputs.iter().map(&mut given).collect()
    }

    /// The sources for a later graph's input of the same name.
    fn feeds(self, to: &GraphIo) -> anyhow::Result<Vec<SessionInput>> {
        let value = SessionInput::Graph(self.graph, self.value);
        Ok(match (self.presence, to.is_optional()) {
            (None, false) => vec![value],
            (None, true) => vec![value, SessionInput::True],
            (Some(presence), true) => vec![value, SessionInput::Graph(self.graph, presence)],
            (Some(_), false) => bail!(
                "input {:?} takes an optional output of an earlier graph, which may be missing; make it \
                 optional, too",
                to.name
            ),
        })
    }
}

impl Chain {
    /// Loads the graphs of `files`, in the order in which they run.
    pub(crate) fn open(
        runtime: &Runtime,
        files: &[GraphFile],
        options: ChainOptions,
    ) -> anyhow::Result<Self> {
        let mut chain = Self {
            graphs: Vec::new(),
            outputs: Vec::new(),
            inputs: Vec::new(),
            output_specs: Vec::new(),
            row_kinds: Vec::new(),
            terminator: runtime.terminator.clone(),
        };
        let mut given: Vec<(String, GraphOutput)> = Vec::new();
        for (number, file) in files.iter().enumerate() {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            if chain.terminator.as_ref().is_some_and(|terminator| terminator.is_terminated()) {
                bail!("the load was terminated");
            }
            let OpenedGraph { session, inputs: declared, outputs } =
                OpenedGraph::open(&runtime.environment, file, options)?;
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
                        inputs.push(SessionInput::Request(input));
                        inputs.extend(outlet.is_optional().then_some(SessionInput::IsGiven(input)));
                    }
                }
            }
            if !takes_from_before {
                let names: Vec<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
                bail!("no input of {name:?} has the name of an output of the graph before it ({names:?})");
            }
            chain.outputs = GraphOutput::all(number, &outputs);
            chain.output_specs = outputs.iter().map(output_spec).collect::<anyhow::Result<_>>()?;
            chain.row_kinds = outputs.iter().map(GraphIo::row_kind).collect();
            given.extend(outputs.iter().map(|outlet| outlet.name.clone()).zip(chain.outputs.clone()));
            chain.graphs.push(Graph { session, inputs });
        }
        Ok(chain)
    }

    /// The position of the request's input of this name. Several graphs may take the same input, and one may
    /// leave its rank open.
    fn request_input(&mut self, outlet: &GraphIo) -> anyhow::Result<usize> {
        let spec = input_spec(outlet)?;
        let Some(at) = self.inputs.iter().position(|known| known.name == spec.name) else {
            self.inputs.push(spec);
            return Ok(self.inputs.len() - 1);
        };
        let known = &mut self.inputs[at];
        let kinds_agree = known.kind == spec.kind
            || matches!(
                (&known.kind, &spec.kind),
                (ValueKind::Tensor, ValueKind::OpenRank) | (ValueKind::OpenRank, ValueKind::Tensor)
            );
        if known.element != spec.element || !kinds_agree {
            bail!("two graphs take {:?}, as {} and as {}", spec.name, known.describe(), spec.describe());
        }
        if known.kind == ValueKind::OpenRank {
            *known = spec;
        }
        Ok(at)
    }

    /// The graphs' sessions, in order.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.graphs.iter().map(|graph| &graph.session)
    }

    /// The inputs for which the graphs have a default. ONNX Runtime lists them apart from required inputs.
    pub(crate) fn defaults(&self) -> Vec<String> {
        let initializers = self.sessions().flat_map(Session::overridable_initializers);
        initializers.map(|initializer| initializer.name().to_owned()).collect()
    }

    /// Runs all graphs and lends the outputs.
    pub(crate) fn run<T>(
        &mut self,
        inputs: &[Input<'_>],
        use_outputs: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<T, String> {
        let mut computed: Vec<SessionOutputs<'_>> = Vec::with_capacity(self.graphs.len());
        for Graph { session, inputs: feeds } in &mut self.graphs {
            let value = |feed: &SessionInput| match *feed {
                SessionInput::Request(index) => match &inputs[index] {
                    Some((shape, elements)) => input_value(shape, *elements),
                    None => input_value(&[0], View::empty(self.inputs[index].element)),
                },
                SessionInput::IsGiven(index) => flag(inputs[index].is_some()),
                SessionInput::True => flag(true),
                SessionInput::Graph(graph, output) => Ok(SessionInputValue::from(&computed[graph][output])),
            };
            let values: Vec<SessionInputValue<'_>> = feeds
                .iter()
                .map(value)
                .collect::<ort::Result<_>>()
                .map_err(|error| error.message().to_owned())?;
            let outputs = match &self.terminator {
                None => session.run(&values[..]),
                Some(terminator) => session.run_with_options(&values[..], terminator.options()),
            };
            let outputs = outputs.map_err(|error| error.message().to_owned())?;
            drop(values);
            computed.push(outputs);
        }
        let own = |output: &GraphOutput| match output.presence {
            Some(presence) if !is_true(&computed[output.graph][presence])? => Ok(OutputValue::Missing),
            _ => OutputValue::of(&computed[output.graph][output.value]),
        };
        let about = |name: &str, reason: String| format!("output {name:?}: {reason}");
        let mut values = Vec::with_capacity(self.outputs.len());
        for (output, TensorSpec { name, .. }) in self.outputs.iter().zip(&self.output_specs) {
            let value = own(output).map_err(|reason| about(name, reason))?;
            values.push((name, value, &computed[output.graph][output.value]));
        }
        let mut parts: Vec<Vec<Output<'_>>> = values.iter().map(|_| Vec::new()).collect();
        let mut lent = Vec::with_capacity(values.len());
        for ((name, value, of_session), parts) in values.iter().zip(&mut parts) {
            let output = value.lend(name, of_session, parts);
            lent.push(output.map_err(|reason| about(name, reason))?);
        }
        Ok(use_outputs(&lent))
    }
}

/// A scalar.
fn flag(value: bool) -> ort::Result<SessionInputValue<'static>> {
    input_value(&[], View::Bool(if value { &[true] } else { &[false] }))
}

/// A session, and the inputs and outputs that its file declares.
struct OpenedGraph {
    session: Session,
    inputs: Vec<GraphIo>,
    outputs: Vec<GraphIo>,
}

impl OpenedGraph {
    fn open(environment: &Environment, graph: &GraphFile, options: ChainOptions) -> anyhow::Result<Self> {
        let file = graph.path.as_path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let cannot = || format!("ONNX Runtime cannot load {name:?}");
        let mut builder = builder(environment, options).with_context(cannot)?;
        let session = builder.commit_from_file(file).with_context(cannot)?;
        let declared = |outlets: &[Outlet]| GraphIo::all(outlets, &graph.without_shape);
        let (inputs, outputs) = (declared(session.inputs()), declared(session.outputs()));
        if !inputs.iter().chain(&outputs).any(GraphIo::is_optional) {
            return Ok(Self { session, inputs, outputs });
        }
        // Types that cannot be rewritten are refused by name.
        inputs.iter().try_for_each(|input| input_spec(input).map(drop))?;
        outputs.iter().try_for_each(|output| output_spec(output).map(drop))?;
        drop(session);
        let plain = rewrite_optional::rewrite(&std::fs::read(file)?).map_err(anyhow::Error::msg)?;
        let folder = file.parent().unwrap_or(file).to_string_lossy();
        let in_words = |error: ort::Error<_>| anyhow::anyhow!("{error}");
        let mut builder =
            builder.with_config_entry(WEIGHTS_FOLDER, folder).map_err(in_words).with_context(cannot)?;
        let cannot = || format!("{} with its optional values rewritten as plain ones", cannot());
        let session = builder.commit_from_memory(&plain).with_context(cannot)?;
        let count = |all: &[GraphIo]| all.len() + all.iter().filter(|one| one.is_optional()).count();
        if (session.inputs().len(), session.outputs().len()) != (count(&inputs), count(&outputs)) {
            bail!(
                "the optional inputs and outputs of {name:?} cannot be rewritten as plain ones; export it \
                 without them"
            );
        }
        Ok(Self { session, inputs, outputs })
    }
}

fn builder(environment: &Environment, options: ChainOptions) -> anyhow::Result<SessionBuilder> {
    let in_words = |error: ort::Error<_>| anyhow::anyhow!("{error}");
    let builder =
        Session::builder(environment)?.with_intra_threads(options.intra_threads).map_err(in_words)?;
    builder.with_optimization_level(options.optimization).map_err(in_words)
}

/// ONNX Runtime's option for the folder of the weights' files when a model is read from memory.
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";
