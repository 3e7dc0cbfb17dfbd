//! What a model takes and gives, and what its bundle says of that beyond the model itself.

use crate::tensor::{ElementType, Elements};

/// One dimension of an input or output as the model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// Always this long.
    Fixed(usize),
    /// Any length; the name that the model gives it, empty when it gives none.
    Any(String),
}

impl Dim {
    /// The length, where the model fixes it.
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

/// What an input or output is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ValueKind {
    #[default]
    Tensor,
    /// A tensor that may be left out ([`crate::tensor::Tensor::left_out`]), or an output that may be missing
    /// ([`crate::tensor::Show::Missing`]).
    Optional,
    /// A tensor for which the model says not even how many dimensions it has. The shape has those that are known; of an input,
    /// each request gives its own.
    OpenRank,
    /// Inputs only: one value of its type for each key, which is a text or an int64. The input itself has no dimensions, and
    /// its elements are whole maps.
    Map { key: ElementType, value: ElementType },
    /// Inputs only: tensors of one type. The shape is each one's; without dimensions, whatever a request gives. As for maps,
    /// the input's elements are whole sequences.
    Sequence { element: ElementType, shape: Vec<Dim> },
}

impl TensorSpec {
    /// `float32[batch, 13]`, as error messages and `inspect` show it.
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

    /// Without the names of its free dimensions, which two exports of one model may give differently.
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
}

/// What a model takes and gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    /// Named columns of the one `[batch, columns]` input, in order, where the bundle says so (MLflow's pandas signature).
    pub columns: Option<Vec<String>>,
    /// What is known of rows beyond the inputs' own types.
    pub column_rules: ColumnRules,
    /// Dimensions of inputs that are filled up, so that rows of several lengths fit together.
    pub padding: Vec<Padding>,
    /// Dimensions of outputs that are as long as a padded one: each row's is cut back to its own length.
    pub unpads: Vec<Unpad>,
    /// Inputs for which the model has a value of its own, which is always taken.
    pub defaults: Vec<String>,
    /// Inputs that a row may leave out, or give as `null`, and the one element that they then have.
    pub missing: Vec<(usize, Elements)>,
    /// Whether the first dimension of every input and output counts rows, so that requests may share a batch.
    pub batched: bool,
    /// Where that is not so: whether the first dimension of every input counts rows all the same, so that the instances of a
    /// list are rows and run one by one.
    pub row_by_row: bool,
}

/// What a bundle says of a row's columns beyond what the model's inputs say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnRules {
    /// The positions of the inputs in the order in which a row without names has them. Empty: the inputs' own.
    pub order: Vec<usize>,
    /// What each of [`Signature::columns`] takes or, where there are none, each input. Empty: whatever its element type takes.
    pub rules: Vec<ColumnRule>,
    /// Inputs of floats for which a missing value is refused: their columns are declared, and no value for that.
    pub never_missing: Vec<usize>,
    /// Columns that the bundle does not have are passed over, as MLflow does.
    pub ignores_unknown: bool,
}

/// What a column takes of what its element type takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnRule {
    pub kind: ColumnType,
    /// Where it is not, a row may leave it out, and it is NaN then.
    pub required: bool,
}

/// The types of MLflow's columns that are narrower than the element types that take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    Any,
    /// Whole numbers of 32 bits.
    Integer,
    /// Whole numbers of 64 bits.
    Long,
    /// 0 and 1, in texts also `true` and `false`.
    Boolean,
}

impl ColumnRules {
    /// Whether this column, or input that is one, takes `true` and `false` for 1 and 0.
    pub fn is_boolean(&self, place: usize) -> bool {
        self.rules.get(place).is_some_and(|rule| rule.kind == ColumnType::Boolean)
    }

    /// Whether a row may leave this column out.
    pub fn is_optional(&self, place: usize) -> bool {
        self.rules.get(place).is_some_and(|rule| !rule.required)
    }
}

/// A dimension of an input that is filled up to a common length.
#[derive(Debug, Clone, PartialEq)]
pub struct Padding {
    /// The position of the input.
    pub input: usize,
    /// Which of its dimensions; 0 counts rows and is none of them.
    pub axis: usize,
    /// One element.
    pub value: Elements,
    pub to: PadTo,
}

/// A dimension of an output that has the padded length of an input's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpad {
    /// The position of the output.
    pub output: usize,
    /// Which of its dimensions; 0 counts rows and is none of them.
    pub axis: usize,
    /// The position in [`Signature::padding`]; 0 for the tokens of `text`.
    pub padding: usize,
}

impl Signature {
    /// The dimensions of `outputs` that the model calls as it calls a padded one of `inputs`.
    pub fn find_unpads(inputs: &[TensorSpec], outputs: &[TensorSpec], padding: &[Padding]) -> Vec<Unpad> {
        let padded: Vec<&Dim> =
            padding.iter().map(|padding| &inputs[padding.input].shape[padding.axis]).collect();
        Self::unpads_named(&padded, outputs)
    }

    /// The dimensions of `outputs` that have the name of one of these.
    pub fn unpads_named(padded: &[&Dim], outputs: &[TensorSpec]) -> Vec<Unpad> {
        let named = |dim: &Dim, padded: &Dim| match dim {
            Dim::Any(name) => !name.is_empty() && dim == padded,
            Dim::Fixed(_) => false,
        };
        let mut unpads = Vec::new();
        for (output, spec) in outputs.iter().enumerate() {
            for (axis, dim) in spec.shape.iter().enumerate().skip(1) {
                let found = padded.iter().position(|padded| named(dim, padded));
                unpads.extend(found.map(|padding| Unpad { output, axis, padding }));
            }
        }
        unpads
    }
}

/// The length that is filled up to, at least that of the longest row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PadTo {
    Multiple(usize),
    /// The smallest of these that is long enough, ascending.
    Buckets(Vec<usize>),
}

impl PadTo {
    /// `None` when `length` is beyond the largest bucket.
    pub fn length(&self, length: usize) -> Option<usize> {
        match self {
            Self::Multiple(multiple) => length.max(1).checked_next_multiple_of(*multiple),
            Self::Buckets(buckets) => buckets.iter().copied().find(|bucket| *bucket >= length),
        }
    }
}
