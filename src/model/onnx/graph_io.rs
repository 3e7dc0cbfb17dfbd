//! The inputs and outputs that a graph declares, and their form in requests and responses.

use anyhow::{Context as _, bail};
use ort::value::{Outlet, ValueType};

use crate::model::onnx::ort_values::{element_type, map_types};
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};

/// One input or output of a graph.
pub(crate) struct GraphIo {
    pub(crate) name: String,
    dtype: ValueType,
    /// Set when the file declares no number of dimensions, which ONNX Runtime reports as no dimensions.
    has_open_rank: bool,
}

impl GraphIo {
    /// `without_shape`: the names of the inputs and outputs for which the file declares no shape.
    pub(crate) fn all(outlets: &[Outlet], without_shape: &[String]) -> Vec<Self> {
        let one = |outlet: &Outlet| Self {
            name: outlet.name().to_owned(),
            dtype: outlet.dtype().clone(),
            has_open_rank: without_shape.iter().any(|name| name == outlet.name()),
        };
        outlets.iter().map(one).collect()
    }

    pub(crate) fn is_optional(&self) -> bool {
        matches!(self.dtype, ValueType::Optional(_))
    }

    fn ranked(&self, spec: TensorSpec) -> TensorSpec {
        let is_open = self.has_open_rank && spec.shape.is_empty();
        TensorSpec { kind: if is_open { ValueKind::OpenRank } else { ValueKind::Tensor }, ..spec }
    }

    pub(crate) fn row_kind(&self) -> RowKind {
        let plain = if let ValueType::Optional(inner) = &self.dtype { inner } else { &self.dtype };
        match plain {
            ValueType::Sequence(inner) if matches!(**inner, ValueType::Map { .. }) => RowKind::Maps,
            ValueType::Sequence(_) | ValueType::Map { .. } => RowKind::Inseparable,
            _ => RowKind::Tensor,
        }
    }
}

/// The way to separate the rows of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowKind {
    /// A tensor is split along its first dimension, if that counts rows.
    Tensor,
    /// A sequence of maps has one map for each row.
    Maps,
    /// A single map, or a sequence of tensors, cannot be split.
    Inseparable,
}

pub(crate) fn input_spec(outlet: &GraphIo) -> anyhow::Result<TensorSpec> {
    let spec = match &outlet.dtype {
        ValueType::Tensor { .. } => tensor_spec(&outlet.name, &outlet.dtype).map(|spec| outlet.ranked(spec)),
        ValueType::Optional(inner) if matches!(**inner, ValueType::Tensor { .. }) => {
            tensor_spec(&outlet.name, inner).map(|spec| TensorSpec { kind: ValueKind::Optional, ..spec })
        }
        ValueType::Map { key, value } => match map_types(*key, *value) {
            Some((key, value)) => Ok(composite_spec(&outlet.name, ValueKind::Map { key, value })),
            None => bail!(
                "input {:?} is a map from {key} to {value}; ONNX's operators take those from strings to \
                 int64s and floats, and from int64s to strings and floats",
                outlet.name
            ),
        },
        ValueType::Sequence(inner) if matches!(**inner, ValueType::Tensor { .. }) => {
            tensor_spec(&outlet.name, inner).map(|TensorSpec { element, shape, .. }| {
                composite_spec(&outlet.name, ValueKind::Sequence { element, shape })
            })
        }
        other => bail!(
            "input {:?} has the type {other}; only tensors, optional ones, sequences of tensors and maps can \
             be sent",
            outlet.name
        ),
    };
    spec.with_context(|| format!("input {:?}", outlet.name))
}

fn composite_spec(name: &str, kind: ValueKind) -> TensorSpec {
    TensorSpec { name: name.to_owned(), element: ElementType::Composite, shape: Vec::new(), kind }
}

/// The form of an output. A map becomes the tensor of its values; a sequence of maps becomes one with a row
/// for each map.
pub(crate) fn output_spec(outlet: &GraphIo) -> anyhow::Result<TensorSpec> {
    let name = &*outlet.name;
    let any = |name: &str| Dim::Any(name.to_owned());
    let of_map = |value: ort::value::TensorElementType, shape: Vec<Dim>| -> anyhow::Result<TensorSpec> {
        let element =
            element_type(value).with_context(|| format!("its values of type {value} are not supported"))?;
        Ok(TensorSpec::tensor(name, element, shape))
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
        ValueType::Optional(inner) => {
            of_plain(inner).map(|spec| TensorSpec { kind: ValueKind::Optional, ..spec })
        }
        ValueType::Tensor { .. } => of_plain(&outlet.dtype).map(|spec| outlet.ranked(spec)),
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
    Ok(TensorSpec::tensor(name, element, shape))
}
