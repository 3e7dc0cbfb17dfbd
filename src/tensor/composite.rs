//! Inputs that are no tensors: ONNX's maps and sequences of tensors, whole and typed.
//!
//! They travel as elements: a request that gives three maps to a model that takes one has three [`Composite`]s and runs it thrice.

use crate::tensor::signature::{TensorSpec, ValueKind};
use crate::tensor::{ElementType, Elements, Tensor};

#[derive(Debug, Clone, PartialEq)]
pub enum Composite {
    /// Keys (texts or int64s, each once) and as many values, in the order in which they came.
    Map {
        keys: Elements,
        values: Elements,
    },
    Sequence(Vec<Tensor>),
}

impl Composite {
    /// Bytes of memory that its elements take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Map { keys, values } => keys.bytes() + values.bytes(),
            Self::Sequence(tensors) => {
                tensors.iter().map(|tensor| size_of::<Tensor>() + tensor.elements.bytes()).sum()
            }
        }
    }
}

/// A sequence without tensors.
impl Default for Composite {
    fn default() -> Self {
        Self::Sequence(Vec::new())
    }
}

/// One that an input takes: a map with one zero, or a sequence of one tensor of zeros. `None` for tensors.
pub fn zero(spec: &TensorSpec) -> Option<Composite> {
    match &spec.kind {
        ValueKind::Tensor | ValueKind::Optional | ValueKind::OpenRank => None,
        ValueKind::Map { key, value } => {
            Some(Composite::Map { keys: Elements::zeros(*key, 1), values: Elements::zeros(*value, 1) })
        }
        ValueKind::Sequence { element, shape } => {
            let shape: Vec<usize> = shape.iter().map(|dim| dim.fixed().unwrap_or(1)).collect();
            let elements = Elements::zeros(*element, shape.iter().product());
            Some(Composite::Sequence(vec![Tensor { shape, elements }]))
        }
    }
}

/// So many elements of an input, all zero.
pub fn zeros(spec: &TensorSpec, count: usize) -> Elements {
    match zero(spec) {
        Some(composite) => Elements::Composite(vec![composite; count]),
        None => Elements::zeros(spec.element, count),
    }
}

impl ValueKind {
    /// The type of what is in a composite; `None` for tensors, whose own it is.
    pub fn inner(&self) -> Option<ElementType> {
        match self {
            Self::Tensor | Self::Optional | Self::OpenRank => None,
            Self::Map { value, .. } => Some(*value),
            Self::Sequence { element, .. } => Some(*element),
        }
    }

    pub fn is_composite(&self) -> bool {
        self.inner().is_some()
    }
}
