//! Inputs and outputs of a model, and what its bundle declares about them.

use super::elements::{Composite, ElementType, Elements, Tensor};

/// One dimension of an input or output, as the model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Always this long.
    Fixed(usize),
    /// Any length. Holds the name that the model gives the dimension, empty if there is none.
    Any(String),
}

impl Dim {
    /// The length, if the model fixes it.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Self::Fixed(length) => Some(*length),
            Self::Any(_) => None,
        }
    }
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Any(name) if name.is_empty() => f.write_str("?"),
            Self::Any(name) => f.write_str(name),
        }
    }
}

/// One named input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub element: ElementType,
    /// The whole shape, the batch dimension included.
    pub shape: Vec<Dim>,
    pub kind: ValueKind,
}

/// The kind of value that an input or output is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ValueKind {
    #[default]
    Tensor,
    /// A tensor that a request may leave out, or an output that the model may leave
    /// out ([`Show::Missing`](crate::tensor::Show::Missing)).
    Optional,
    /// A tensor whose rank the model leaves open. The spec's shape has the known leading dimensions; each
    /// request gives the whole shape.
    OpenRank,
    /// Inputs only: one value for each key, which is a string or an int64. The spec's shape is empty, and the
    /// input's elements are whole maps.
    Map { key: ElementType, value: ElementType },
    /// Inputs only: tensors of one type, each of this shape, or of any shape if it has no dimensions. The
    /// spec's own shape is empty, and the input's elements are whole sequences.
    Sequence { element: ElementType, shape: Vec<Dim> },
}

impl ValueKind {
    /// The type of the values inside a map or a sequence; `None` for tensors.
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

impl TensorSpec {
    /// The datatype of its values in the Open Inference Protocol.
    pub fn datatype(&self) -> &'static str {
        self.kind.inner().unwrap_or(self.element).datatype()
    }

    /// Lengths of its dimensions; -1 for free ones, as in the Open Inference Protocol.
    pub fn lengths(&self) -> Vec<i64> {
        let length = |dim: &Dim| dim.fixed().map_or(-1, |length| i64::try_from(length).unwrap_or(i64::MAX));
        self.shape.iter().map(length).collect()
    }

    /// A plain tensor.
    pub fn tensor(name: &str, element: ElementType, shape: Vec<Dim>) -> Self {
        Self { name: name.to_owned(), element, shape, kind: ValueKind::Tensor }
    }

    /// `float32[batch, 13]`, for error messages and `inspect`.
    pub fn describe(&self) -> String {
        let tensor = |element: ElementType, shape: &[Dim]| {
            let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
            format!("{element}[{}]", dims.join(", "))
        };
        match &self.kind {
            ValueKind::Tensor => tensor(self.element, &self.shape),
            ValueKind::Optional => format!("optional {}", tensor(self.element, &self.shape)),
            ValueKind::OpenRank => {
                let known: String = self.shape.iter().map(|dim| format!("{dim}, ")).collect();
                format!("{}[{known}…]", self.element)
            }
            ValueKind::Map { key, value } => format!("map({key}, {value})"),
            ValueKind::Sequence { element, shape } if shape.is_empty() => format!("sequence({element})"),
            ValueKind::Sequence { element, shape } => format!("sequence({})", tensor(*element, shape)),
        }
    }

    /// A copy without the names of free dimensions, which two exports of one model may give differently.
    pub fn unnamed(&self) -> Self {
        let forget = |dim: &Dim| if let Dim::Any(_) = dim { Dim::Any(String::new()) } else { dim.clone() };
        let kind = match &self.kind {
            ValueKind::Sequence { element, shape } => {
                ValueKind::Sequence { element: *element, shape: shape.iter().map(forget).collect() }
            }
            kind => kind.clone(),
        };
        Self { shape: self.shape.iter().map(forget).collect(), kind, ..self.clone() }
    }

    /// `count` elements, all zero. A zero map has one entry, a zero sequence one tensor of zeros.
    pub fn zeros(&self, count: usize) -> Elements {
        match &self.kind {
            ValueKind::Tensor | ValueKind::Optional | ValueKind::OpenRank => {
                Elements::zeros(self.element, count)
            }
            ValueKind::Map { key, value } => {
                let map =
                    Composite::Map { keys: Elements::zeros(*key, 1), values: Elements::zeros(*value, 1) };
                Elements::Composite(vec![map; count])
            }
            ValueKind::Sequence { element, shape } => {
                let shape: Vec<usize> = shape.iter().map(|dim| dim.fixed().unwrap_or(1)).collect();
                let elements = Elements::zeros(*element, shape.iter().product());
                Elements::Composite(vec![Composite::Sequence(vec![Tensor { shape, elements }]); count])
            }
        }
    }
}

/// Everything that a request for a model and its response are read and written by.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    /// Names of the columns of the one `[batch, columns]` input, in order, if the bundle declares them
    /// (MLflow's pandas signature).
    pub columns: Option<Vec<String>>,
    pub column_rules: ColumnRules,
    /// Dimensions of inputs that are padded, so that rows of several lengths fit together.
    pub padding: Vec<Padding>,
    /// Dimensions of outputs with a padded length, which is removed again.
    pub unpads: Vec<Unpad>,
    /// Inputs whose value the model contains; a request cannot set it.
    pub defaults: Vec<String>,
    /// Inputs that a row may leave out or give as `null`, each with the one element that replaces a missing
    /// value.
    pub missing: Vec<(usize, Elements)>,
    /// True if the first dimension of every input and output counts rows, so that requests may share a batch.
    pub batched: bool,
    /// For models that are not `batched`: true if the first dimension of every input counts rows all the
    /// same. The instances of a list are then rows and run one by one.
    pub row_by_row: bool,
}

/// The bundle's declarations about the columns of a row, beyond the types of the model's inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnRules {
    /// Positions of the inputs in the order of a row without names. Empty: the model's own order.
    pub order: Vec<usize>,
    /// One rule for each of [`Signature::columns`] or, if there are none, for each input. Empty: no
    /// restriction.
    pub rules: Vec<ColumnRule>,
    /// Inputs of floats that refuse a missing value: their columns are declared without a value for it.
    pub never_missing: Vec<usize>,
    /// Columns that the bundle does not declare are ignored, as in MLflow.
    pub ignores_unknown: bool,
}

/// A restriction of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnRule {
    pub column_type: ColumnType,
    /// A row may leave out a column that is not required; its value is then NaN.
    pub required: bool,
}

/// Types of MLflow's columns that are narrower than the element type of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Everything that the element type can hold.
    Any,
    /// Whole numbers of 32 bits.
    Integer,
    /// Whole numbers of 64 bits.
    Long,
    /// 0 and 1, in JSON and CSV also `true` and `false`.
    Boolean,
}

impl ColumnRules {
    /// True if this column, or input, takes `true` and `false` for 1 and 0.
    pub fn is_boolean(&self, place: usize) -> bool {
        self.rules.get(place).is_some_and(|rule| rule.column_type == ColumnType::Boolean)
    }

    /// True if a row may leave this column out.
    pub fn is_optional(&self, place: usize) -> bool {
        self.rules.get(place).is_some_and(|rule| !rule.required)
    }
}

/// A dimension of an input that is padded to a common length.
#[derive(Debug, Clone, PartialEq)]
pub struct Padding {
    /// The position of the input.
    pub input: usize,
    /// The dimension, from 1; dimension 0 counts rows.
    pub axis: usize,
    /// One element, repeated behind a row's own.
    pub value: Elements,
    pub to: PadTo,
}

/// The common length, which is at least that of the longest row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PadTo {
    Multiple(usize),
    /// The smallest of these lengths that is long enough; ascending.
    Buckets(Vec<usize>),
}

impl PadTo {
    /// The padded length; `None` if `length` exceeds the largest bucket.
    pub fn length(&self, length: usize) -> Option<usize> {
        match self {
            Self::Multiple(multiple) => length.max(1).checked_next_multiple_of(*multiple),
            Self::Buckets(buckets) => buckets.iter().copied().find(|bucket| *bucket >= length),
        }
    }
}

/// A dimension of an output that has the padded length of an input's dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpad {
    /// The position of the output.
    pub output: usize,
    /// The dimension, from 1; dimension 0 counts rows.
    pub axis: usize,
    /// The position in [`Signature::padding`]; 0 for the tokens of `text`.
    pub padding: usize,
}

impl Signature {
    /// The dimensions of `outputs` that have the name of a padded dimension of `inputs`.
    pub fn find_unpads(inputs: &[TensorSpec], outputs: &[TensorSpec], padding: &[Padding]) -> Vec<Unpad> {
        let padded: Vec<&Dim> =
            padding.iter().map(|padding| &inputs[padding.input].shape[padding.axis]).collect();
        Self::unpads_named(&padded, outputs)
    }

    /// The dimensions of `outputs` that have the name of one of `padded`.
    pub fn unpads_named(padded: &[&Dim], outputs: &[TensorSpec]) -> Vec<Unpad> {
        let is_same = |dim: &Dim, padded: &Dim| match dim {
            Dim::Any(name) => !name.is_empty() && dim == padded,
            Dim::Fixed(_) => false,
        };
        let mut unpads = Vec::new();
        for (output, spec) in outputs.iter().enumerate() {
            for (axis, dim) in spec.shape.iter().enumerate().skip(1) {
                let found = padded.iter().position(|padded| is_same(dim, padded));
                unpads.extend(found.map(|padding| Unpad { output, axis, padding }));
            }
        }
        unpads
    }
}
