//! ONNX Runtime: finding its library, loading a version, running it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{Tensor as OrtTensor, TensorElementType, TensorRef, ValueType};

use crate::cli::report::Hint as _;
use crate::config::Inference;
use crate::for_each_number_type;
use crate::tensor::{Dim, ElementType, Output, Signature, TensorSpec, View};

/// ONNX Runtime, set up once a process.
#[derive(Debug)]
pub struct Runtime {
    environment: Environment,
    threads: usize,
}

impl Runtime {
    /// Loads the library that the configuration, the environment or the system names.
    pub fn load(inference: &Inference) -> anyhow::Result<Self> {
        let library = library(&inference.library);
        let environment = ort::init_from(&library)
            .map_err(|error| anyhow::anyhow!("{error}"))
            .and_then(|builder| {
                builder
                    .with_name("predictd")
                    .with_telemetry(false)
                    .with_execution_providers(providers(&inference.providers)?)
                    .build()
                    .map_err(|error| anyhow::anyhow!("{error}"))
            })
            .with_context(|| format!("cannot load ONNX Runtime from {}", library.display()))
            .hint(
                "set `inference.library` or ORT_DYLIB_PATH to libonnxruntime.so (1.17 or later); \
                 scripts/fetch-onnxruntime gets one and prints its path",
            )?;
        Ok(Self { environment, threads: inference.threads })
    }

    /// Loads a model file, one session for each inference thread.
    pub fn open(&self, model_file: &Path, columns: Option<Vec<String>>) -> anyhow::Result<Opened> {
        let session = || -> anyhow::Result<Session> {
            let mut builder = Session::builder(&self.environment)?
                .with_intra_threads(1)
                .map_err(|error| anyhow::anyhow!("{error}"))?;
            Ok(builder.commit_from_file(model_file)?)
        };
        let first = session().context("ONNX Runtime cannot load the model")?;
        let signature = signature(&first, columns)?;
        let metadata = metadata(&first);
        let mut sessions = vec![Mutex::new(first)];
        for _ in 1..self.threads {
            sessions.push(Mutex::new(session()?));
        }
        Ok(Opened { signature, metadata, sessions: Sessions(sessions) })
    }

    pub fn threads(&self) -> usize {
        self.threads
    }
}

/// The configuration's choice, then ORT_DYLIB_PATH, then beside the binary, then the system's.
fn library(configured: &str) -> PathBuf {
    if !configured.is_empty() {
        return configured.into();
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let name = "libonnxruntime.so";
    std::env::current_exe()
        .ok()
        .and_then(|binary| Some(binary.parent()?.join(name)))
        .filter(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

fn providers(names: &[String]) -> anyhow::Result<Vec<ort::ep::ExecutionProviderDispatch>> {
    names
        .iter()
        .map(|name| match name.as_str() {
            "cpu" => Ok(ort::ep::CPU::default().build()),
            "cuda" => Ok(ort::ep::CUDA::default().build().error_on_failure()),
            other => bail!("unknown execution provider {other:?}, expected cpu or cuda"),
        })
        .collect()
}

/// A model file, loaded.
#[derive(Debug)]
pub struct Opened {
    pub signature: Signature,
    pub metadata: BTreeMap<String, String>,
    pub sessions: Sessions,
}

/// One session a thread: ONNX Runtime's `run` takes it alone. Thread `n` takes the `n`th, so no lock is ever waited for.
#[derive(Debug)]
pub struct Sessions(Vec<Mutex<Session>>);

impl Sessions {
    /// Runs the model on `inputs` (shape and elements, in the signature's order) and lends its outputs to `use_outputs`.
    pub fn run<T>(
        &self,
        thread: usize,
        inputs: &[(Vec<usize>, View<'_>)],
        use_outputs: impl FnOnce(&[Output<'_>]) -> T,
    ) -> Result<T, String> {
        let mut session = self.0[thread % self.0.len()].lock().unwrap_or_else(PoisonError::into_inner);
        let values: Vec<SessionInputValue<'_>> = inputs
            .iter()
            .map(|(shape, elements)| input_value(shape, *elements))
            .collect::<ort::Result<_>>()
            .map_err(|error| error.message().to_owned())?;
        let outputs = session.run(&values[..]).map_err(|error| error.message().to_owned())?;
        with_outputs(&outputs, use_outputs)
    }
}

fn input_value<'a>(shape: &'a [usize], elements: View<'a>) -> ort::Result<SessionInputValue<'a>> {
    macro_rules! number_value {
        ($(($variant:ident, $rust:ty)),+ $(,)?) => {
            match elements {
                View::Text(text) => OrtTensor::from_string_array((shape, text))?.into(),
                $(View::$variant(values) => TensorRef::from_array_view((shape, values))?.into(),)+
            }
        };
    }
    Ok(for_each_number_type!(number_value))
}

/// Lends every output as an [`Output`]. Strings are copied out first, since ONNX Runtime keeps them in a form of its own.
fn with_outputs<T>(
    outputs: &SessionOutputs<'_>,
    use_outputs: impl FnOnce(&[Output<'_>]) -> T,
) -> Result<T, String> {
    let mut texts = Vec::new();
    let mut shapes = Vec::with_capacity(outputs.len());
    for (name, value) in outputs {
        let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
            return Err(format!("output {name:?} is no tensor"));
        };
        shapes.push(shape.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect::<Vec<usize>>());
        let is_text = *ty == TensorElementType::String;
        let text = if is_text {
            value.try_extract_strings().map_err(|e| e.message().to_owned())?.1
        } else {
            Vec::new()
        };
        texts.push(text);
    }
    let mut lent = Vec::with_capacity(outputs.len());
    for (index, name) in outputs.keys().enumerate() {
        let value = &outputs[index];
        let element = value.dtype().tensor_type().and_then(element_type);
        macro_rules! number_view {
            ($(($variant:ident, $rust:ty)),+ $(,)?) => {
                match element {
                    Some(ElementType::Text) => View::Text(&texts[index]),
                    $(Some(ElementType::$variant) => {
                        let (_, values) = value.try_extract_tensor::<$rust>().map_err(|e| e.message().to_owned())?;
                        View::$variant(values)
                    })+
                    None => return Err(format!("output {name:?} has the type {}, which is not supported", value.dtype())),
                }
            };
        }
        let elements = for_each_number_type!(number_view);
        lent.push(Output { name, shape: &shapes[index], elements });
    }
    Ok(use_outputs(&lent))
}

fn element_type(ort: TensorElementType) -> Option<ElementType> {
    Some(match ort {
        TensorElementType::Bool => ElementType::Bool,
        TensorElementType::Uint8 => ElementType::U8,
        TensorElementType::Uint16 => ElementType::U16,
        TensorElementType::Uint32 => ElementType::U32,
        TensorElementType::Uint64 => ElementType::U64,
        TensorElementType::Int8 => ElementType::I8,
        TensorElementType::Int16 => ElementType::I16,
        TensorElementType::Int32 => ElementType::I32,
        TensorElementType::Int64 => ElementType::I64,
        TensorElementType::Float16 => ElementType::F16,
        TensorElementType::Float32 => ElementType::F32,
        TensorElementType::Float64 => ElementType::F64,
        TensorElementType::String => ElementType::Text,
        _ => return None,
    })
}

fn signature(session: &Session, columns: Option<Vec<String>>) -> anyhow::Result<Signature> {
    let specs = |kind: &str, outlets: &[ort::value::Outlet]| -> anyhow::Result<Vec<TensorSpec>> {
        outlets
            .iter()
            .map(|outlet| spec(outlet).with_context(|| format!("{kind} {:?}", outlet.name())))
            .collect()
    };
    let inputs = specs("input", session.inputs())?;
    let outputs = specs("output", session.outputs())?;
    let counts_rows = |spec: &TensorSpec| matches!(spec.shape.first(), Some(Dim::Any(_)));
    // An output whose shape the model does not declare looks like a scalar; what it really is shows when it runs.
    let batched = !inputs.is_empty()
        && inputs.iter().all(counts_rows)
        && outputs.iter().all(|spec| spec.shape.is_empty() || counts_rows(spec));
    if let Some(columns) = &columns {
        let width = match &inputs[..] {
            [TensorSpec { shape, .. }] if shape.len() == 2 => &shape[1],
            _ => bail!("the bundle names columns, but the model has not one input [rows, columns]"),
        };
        if let Dim::Fixed(width) = width
            && *width != columns.len()
        {
            bail!("the bundle names {} columns, the model takes {width}", columns.len());
        }
    }
    Ok(Signature { inputs, outputs, columns, batched })
}

fn spec(outlet: &ort::value::Outlet) -> anyhow::Result<TensorSpec> {
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        bail!("it has the type {}, only tensors are supported", outlet.dtype());
    };
    let element = element_type(*ty).with_context(|| format!("its element type {ty} is not supported"))?;
    let shape = shape
        .iter()
        .zip(dimension_symbols.iter())
        .map(|(&length, symbol)| match usize::try_from(length) {
            Ok(length) => Dim::Fixed(length),
            Err(_) => Dim::Any(symbol.clone()),
        })
        .collect();
    Ok(TensorSpec { name: outlet.name().to_owned(), element, shape })
}

fn metadata(session: &Session) -> BTreeMap<String, String> {
    let Ok(metadata) = session.metadata() else { return BTreeMap::new() };
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
