//! Opens a version: loads its graphs and validates its declaration against them.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use anyhow::bail;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use super::batch_mode::BatchMode;
use super::bundle::declaration::{Declaration, Optimization};
use super::bundle::{Bundle, mlflow};
use super::executor::Executor;
use super::input_adapter::InputAdapter;
use super::onnx::categories::OneHotEncoder;
use super::onnx::chain::{Chain, ChainOptions};
use super::onnx::runtime::Runtime;
use super::onnx::sizes;
use super::output_format::OutputFormat;
use super::probe::Precision;
use super::sessions::Sessions;
use super::sharing::{SharingDecision, SharingQuestion};
use crate::tensor::signature::{Padding, Signature, TensorSpec};

/// Threads of one call. More than any machine can use.
const MAX_INTRA_THREADS: usize = 256;

/// The graphs of a version, ready to run, and the facts that they declare.
#[derive(Debug)]
pub struct OpenedModel {
    pub executor: Executor,
    pub signature: Signature,
    pub metadata: BTreeMap<String, String>,
}

impl OpenedModel {
    /// Loads a bundle's graphs once for each inference thread, and validates its declaration against them.
    ///
    /// # Errors
    /// ONNX Runtime's message, or every problem of the declaration.
    pub fn open(runtime: &Runtime, bundle: &Bundle) -> anyhow::Result<Self> {
        let declaration = &bundle.declaration;
        let options = options(declaration)?;
        let mut first = Chain::open(runtime, &bundle.graphs, options)?;
        sizes::check(&first.inputs).map_err(anyhow::Error::msg)?;
        let metadata = metadata(&first, bundle.model_graph);
        let (mut inputs, outputs) = (first.inputs.clone(), first.output_specs.clone());

        let mut problems = Vec::new();
        let dimension = declaration.batching.dimension;
        let shapes_allow = BatchMode::of(&inputs, &outputs, &first.row_kinds, dimension);
        let shapes_allow = shapes_allow.unwrap_or_else(|problem| {
            problems.push(problem);
            BatchMode::Unbatched
        });
        shapes_allow.add_to(&mut inputs);
        let quantizes = bundle.graphs.iter().any(|graph| graph.quantizes_dynamically);
        let encoders: Vec<OneHotEncoder> =
            bundle.graphs.iter().flat_map(|graph| graph.encoders.clone()).collect();
        let question = SharingQuestion {
            inputs: &inputs,
            outputs: &outputs,
            row_kinds: &first.row_kinds.clone(),
            dimension,
            precision: if quantizes { Precision::Quantized } else { Precision::Rounding },
            encoders: &encoders,
        };
        let SharingDecision { mode, sharing, counts_rows } = question.decide(shapes_allow, &mut first);
        if declaration.batching.max_rows == Some(0) {
            problems.push("batching.max_rows: expected 1 or more, got 0".to_owned());
        }
        let input_adapter = InputAdapter::new(declaration, &inputs, mode, &bundle.folder, &mut problems);
        let output_format =
            OutputFormat::new(&declaration.output, &outputs, mode, &bundle.folder, &mut problems);
        // Columns that model.yaml declares take the place of MLflow's.
        let table = match (&input_adapter, &bundle.columns) {
            (InputAdapter::Columns(columns), _) => columns.table(),
            (_, Some(columns)) => mlflow::TableSignature::new(columns, &inputs, &mut problems),
            (_, None) => mlflow::TableSignature::default(),
        };
        let requested_inputs = input_adapter.requested(&inputs, mode);
        let padding = padding(declaration, &inputs, &requested_inputs, &mut problems);
        if !problems.is_empty() {
            bail!("{}", problems.join("; "));
        }

        let requested = |spec: &TensorSpec| mode.as_requested(spec);
        let outputs: Vec<TensorSpec> = output_format.specs(&outputs).iter().map(requested).collect();
        let signature = Signature {
            inputs: requested_inputs,
            columns: table.columns,
            column_rules: table.column_rules,
            unpads: match (&input_adapter, inputs.first().map(|spec| &spec.shape[..])) {
                (InputAdapter::Text { .. }, Some([_, tokens])) => {
                    Signature::unpads_named(&[tokens], &outputs)
                }
                _ => Signature::find_unpads(&inputs, &outputs, &padding),
            },
            outputs,
            padding,
            defaults: first.defaults(),
            missing: table.missing,
            batched: mode.counts_rows(),
            row_by_row: mode == BatchMode::PerRow,
        };
        let open =
            |intra_threads| Chain::open(runtime, &bundle.graphs, ChainOptions { intra_threads, ..options });
        let sessions = match declaration.session.intra_threads {
            Some(declared) => {
                let count = runtime.threads().sessions;
                Sessions::alike(first, count, declared, "model.yaml declares session.intra_threads", open)?
            }
            None => {
                let rows = if mode == BatchMode::Any { runtime.max_rows } else { 1 };
                Sessions::choose(first, runtime.threads(), rows, open)?
            }
        };
        let position = |encoder: &OneHotEncoder| inputs.iter().position(|input| input.name == encoder.input);
        let encoders =
            encoders.into_iter().filter_map(|encoder| Some((position(&encoder)?, encoder))).collect();
        let executor = Executor {
            sessions,
            batch_mode: mode,
            sharing,
            rows_are_disproved: AtomicBool::new(false),
            counts_rows,
            max_rows: declaration.batching.max_rows,
            default_max_rows: runtime.max_rows,
            output_format,
            input_adapter,
            inputs,
            encoders,
        };
        Ok(Self { executor, signature, metadata })
    }
}

fn options(declaration: &Declaration) -> anyhow::Result<ChainOptions> {
    let intra_threads = declaration.session.intra_threads.unwrap_or(1);
    if !(1..=MAX_INTRA_THREADS).contains(&intra_threads) {
        bail!("session.intra_threads: expected 1 to {MAX_INTRA_THREADS}, got {intra_threads}");
    }
    let optimization = match declaration.session.optimization {
        Optimization::None => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::All => GraphOptimizationLevel::All,
    };
    Ok(ChainOptions { intra_threads, optimization })
}

/// The declared padding. Padding applies only to inputs that requests send unchanged.
fn padding(
    declaration: &Declaration,
    inputs: &[TensorSpec],
    requested_inputs: &[TensorSpec],
    problems: &mut Vec<String>,
) -> Vec<Padding> {
    let declared = declaration.padding.iter().enumerate();
    let padding: Vec<Padding> =
        declared.filter_map(|(number, pad)| pad.check(number, inputs, problems)).collect();
    for Padding { input, .. } in &padding {
        let spec = &inputs[*input];
        let as_sent = requested_inputs.get(*input).map(|sent| (&sent.name, sent.shape.len()));
        if as_sent != Some((&spec.name, spec.shape.len())) {
            problems.push(format!(
                "padding: expected an input that requests send as it is, got {:?}, which image, text or \
                 columns make",
                spec.name
            ));
        }
    }
    padding
}

/// The metadata of the graph at this position.
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
