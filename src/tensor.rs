//! Tensors as they cross the engine: typed, row-major, owned or borrowed. Knows neither a wire format nor ONNX Runtime.

use half::{bf16, f16};

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
    pub kind: Kind,
}

/// What an input or output is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    Tensor,
    /// A tensor that may be left out ([`Tensor::left_out`]), or an output that may be missing ([`Show::Missing`]).
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
            Kind::Tensor => tensor(self.element, &self.shape),
            Kind::Optional => format!("optional {}", tensor(self.element, &self.shape)),
            Kind::OpenRank => {
                let known: String = self.shape.iter().map(|dim| format!("{dim}, ")).collect();
                format!("{}[{known}…]", self.element)
            }
            Kind::Map { key, value } => format!("map({key}, {value})"),
            Kind::Sequence { element, shape } if shape.is_empty() => format!("sequence({element})"),
            Kind::Sequence { element, shape } => format!("sequence({})", tensor(*element, shape)),
        }
    }

    /// Without the names of its free dimensions, which two exports of one model may give differently.
    pub fn unnamed(&self) -> Self {
        let forget = |dim: &Dim| if let Dim::Any(_) = dim { Dim::Any(String::new()) } else { dim.clone() };
        let kind = match &self.kind {
            Kind::Sequence { element, shape } => {
                Kind::Sequence { element: *element, shape: shape.iter().map(forget).collect() }
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
    pub frame: Frame,
    /// Dimensions of inputs that are filled up, so that rows of several lengths fit together.
    pub padding: Vec<Padding>,
    /// Dimensions of outputs that are as long as a padded one: each row's is cut back to its own length.
    pub cuts: Vec<Cut>,
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
pub struct Frame {
    /// The positions of the inputs in the order in which a row without names has them. Empty: the inputs' own.
    pub order: Vec<usize>,
    /// What each of [`Signature::columns`] takes or, where there are none, each input. Empty: whatever its element type takes.
    pub rules: Vec<ColumnRule>,
    /// Inputs of floats for which a missing value is refused: their columns are declared, and no value for that.
    pub never_missing: Vec<usize>,
}

/// What a column takes of what its element type takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnRule {
    pub kind: ColumnKind,
    /// Where it is not, a row may leave it out, and it is NaN then.
    pub required: bool,
}

/// The types of MLflow's columns that are narrower than the element types that take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    Any,
    /// Whole numbers of 32 bits.
    Integer,
    /// Whole numbers of 64 bits.
    Long,
    /// 0 and 1, in texts also `true` and `false`.
    Boolean,
}

impl Frame {
    /// Whether this column, or input that is one, takes `true` and `false` for 1 and 0.
    pub fn is_boolean(&self, place: usize) -> bool {
        self.rules.get(place).is_some_and(|rule| rule.kind == ColumnKind::Boolean)
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
pub struct Cut {
    /// The position of the output.
    pub output: usize,
    /// Which of its dimensions; 0 counts rows and is none of them.
    pub axis: usize,
    /// The position in [`Signature::padding`]; 0 for the tokens of `text`.
    pub padding: usize,
}

impl Signature {
    /// The dimensions of `outputs` that the model calls as it calls a padded one of `inputs`.
    pub fn find_cuts(inputs: &[TensorSpec], outputs: &[TensorSpec], padding: &[Padding]) -> Vec<Cut> {
        let padded: Vec<&Dim> =
            padding.iter().map(|padding| &inputs[padding.input].shape[padding.axis]).collect();
        Self::find_dims(&padded, outputs)
    }

    /// The dimensions of `outputs` that have the name of one of these.
    pub fn find_dims(padded: &[&Dim], outputs: &[TensorSpec]) -> Vec<Cut> {
        let named = |dim: &Dim, padded: &Dim| match dim {
            Dim::Any(name) => !name.is_empty() && dim == padded,
            Dim::Fixed(_) => false,
        };
        let mut cuts = Vec::new();
        for (output, spec) in outputs.iter().enumerate() {
            for (axis, dim) in spec.shape.iter().enumerate().skip(1) {
                let found = padded.iter().position(|padded| named(dim, padded));
                cuts.extend(found.map(|padding| Cut { output, axis, padding }));
            }
        }
        cuts
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

/// Calls `$apply!` with every element type: variant, Rust type, the name users see, the Open Inference Protocol's datatype.
#[macro_export]
macro_rules! for_each_element_type {
    ($apply:ident) => {
        $apply! {
            (Bool, bool, "bool", "BOOL"),
            (U8, u8, "uint8", "UINT8"),
            (U16, u16, "uint16", "UINT16"),
            (U32, u32, "uint32", "UINT32"),
            (U64, u64, "uint64", "UINT64"),
            (I8, i8, "int8", "INT8"),
            (I16, i16, "int16", "INT16"),
            (I32, i32, "int32", "INT32"),
            (I64, i64, "int64", "INT64"),
            (F16, f16, "float16", "FP16"),
            (BF16, bf16, "bfloat16", "BF16"),
            (F32, f32, "float32", "FP32"),
            (F64, f64, "float64", "FP64"),
            (Text, String, "string", "BYTES"),
            (Blob, Vec<u8>, "bytes", "BYTES"),
            (Composite, $crate::composite::Composite, "composite", ""),
        }
    };
}

/// The same without strings and bytes: the types whose elements lie side by side in memory.
#[macro_export]
macro_rules! for_each_number_type {
    ($apply:ident) => {
        $apply! {
            (Bool, bool), (U8, u8), (U16, u16), (U32, u32), (U64, u64), (I8, i8), (I16, i16), (I32, i32), (I64, i64),
            (F16, half::f16), (BF16, half::bf16), (F32, f32), (F64, f64),
        }
    };
}

macro_rules! define_types {
    ($(($variant:ident, $rust:ty, $name:literal, $datatype:literal)),+ $(,)?) => {
        /// The type of a tensor's elements. No ONNX model takes or gives [`Self::Blob`]: pictures are bytes until prepared.
        /// [`Self::Composite`] is what an input's elements are that is no tensor, as its [`Kind`] says.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ElementType { $($variant),+ }

        impl ElementType {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The Open Inference Protocol v2 datatype.
            pub fn datatype(self) -> &'static str {
                match self { $(Self::$variant => $datatype),+ }
            }

            /// The datatype's type; `BYTES` are strings.
            pub fn from_datatype(datatype: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|element| element.datatype() == datatype)
            }
        }

        impl std::fmt::Display for ElementType {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $name),+ })
            }
        }

        /// A tensor's elements, row-major.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Elements { $($variant(Vec<$rust>)),+ }

        impl Elements {
            pub fn with_capacity(element: ElementType, capacity: usize) -> Self {
                match element { $(ElementType::$variant => Self::$variant(Vec::with_capacity(capacity))),+ }
            }

            /// So many zeros, `false`s or empty strings.
            pub fn zeros(element: ElementType, count: usize) -> Self {
                match element { $(ElementType::$variant => Self::$variant(vec![<$rust>::default(); count])),+ }
            }

            pub fn element(&self) -> ElementType {
                match self { $(Self::$variant(_) => ElementType::$variant),+ }
            }

            pub fn len(&self) -> usize {
                match self { $(Self::$variant(v) => v.len()),+ }
            }

            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Moves `other`'s elements behind these. Both must be of one type, which the decoder has seen to.
            pub fn append(&mut self, other: &mut Self) {
                match (self, other) {
                    $((Self::$variant(a), Self::$variant(b)) => a.append(b),)+
                    (a, b) => unreachable!("a batch of {} met {}", a.element(), b.element()),
                }
            }

            /// Adds the one element of `value` so many times. Both must be of one type.
            pub fn extend_repeated(&mut self, value: &Self, times: usize) {
                match (self, value) {
                    $((Self::$variant(a), Self::$variant(b)) => a.resize(a.len() + times, b[0].clone()),)+
                    (a, b) => unreachable!("a batch of {} met {}", a.element(), b.element()),
                }
            }

            /// Forgets all but the first `length` elements.
            pub fn truncate(&mut self, length: usize) {
                match self { $(Self::$variant(v) => v.truncate(length)),+ }
            }

            /// Copies `range` of `other` behind these. Both must be of one type.
            pub fn extend_from(&mut self, other: &Self, range: std::ops::Range<usize>) {
                match (self, other) {
                    $((Self::$variant(a), Self::$variant(b)) => a.extend_from_slice(&b[range]),)+
                    (a, b) => unreachable!("a batch of {} met {}", a.element(), b.element()),
                }
            }

            /// Copies all of `other` behind these. Both must be of one type.
            pub fn extend_from_view(&mut self, other: View<'_>) {
                match (self, other) {
                    $((Self::$variant(a), View::$variant(b)) => a.extend_from_slice(b),)+
                    (a, b) => unreachable!("a batch of {} met {}", a.element(), b.element()),
                }
            }

            pub fn view(&self) -> View<'_> {
                match self { $(Self::$variant(v) => View::$variant(v)),+ }
            }
        }

        /// Borrowed elements, row-major: what ONNX Runtime gave, before it is encoded.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum View<'a> { $($variant(&'a [$rust])),+ }

        impl<'a> View<'a> {
            pub fn element(&self) -> ElementType {
                match self { $(Self::$variant(_) => ElementType::$variant),+ }
            }

            pub fn len(&self) -> usize {
                match self { $(Self::$variant(v) => v.len()),+ }
            }

            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// These elements only; panics outside of bounds as slices do.
            pub fn slice(&self, range: std::ops::Range<usize>) -> View<'a> {
                match self { $(Self::$variant(v) => View::$variant(&v[range])),+ }
            }
        }
    };
}
for_each_element_type!(define_types);

/// `an int64`, `a float32`: a type in a sentence.
pub fn with_article(name: &str) -> String {
    let article = if name.starts_with('i') { "an" } else { "a" };
    format!("{article} {name}")
}

/// An owned tensor: one input of one request, or of one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub elements: Elements,
}

impl Tensor {
    /// What stands for an optional input that a request leaves out: no dimensions and no element, which no tensor has.
    pub fn left_out(element: ElementType) -> Self {
        Self { shape: Vec::new(), elements: Elements::with_capacity(element, 0) }
    }
}

/// Whether these are [`Tensor::left_out`]'s.
pub fn is_left_out(shape: &[usize], elements: View<'_>) -> bool {
    shape.is_empty() && elements.is_empty()
}

/// One output of one batch, borrowed from whoever holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Output<'a> {
    pub name: &'a str,
    /// The whole shape, the batch dimension included.
    pub shape: &'a [usize],
    pub elements: View<'a>,
    pub show: Show<'a>,
}

impl ElementType {
    /// Whether it has a NaN.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }
}

impl Elements {
    /// One element of this value; `None` where the type cannot hold it exactly (floats round).
    pub fn of_number(element: ElementType, value: f64) -> Option<Self> {
        macro_rules! whole {
            ($variant:ident, $rust:ty) => {{
                let is_whole =
                    value.fract() == 0.0 && value >= <$rust>::MIN as f64 && value <= <$rust>::MAX as f64;
                is_whole.then(|| Self::$variant(vec![value as $rust]))
            }};
        }
        match element {
            ElementType::Bool if value == 0.0 || value == 1.0 => Some(Self::Bool(vec![value == 1.0])),
            ElementType::U8 => whole!(U8, u8),
            ElementType::U16 => whole!(U16, u16),
            ElementType::U32 => whole!(U32, u32),
            ElementType::U64 => whole!(U64, u64),
            ElementType::I8 => whole!(I8, i8),
            ElementType::I16 => whole!(I16, i16),
            ElementType::I32 => whole!(I32, i32),
            ElementType::I64 => whole!(I64, i64),
            ElementType::F16 => Some(Self::F16(vec![f16::from_f64(value)])),
            ElementType::BF16 => Some(Self::BF16(vec![bf16::from_f64(value)])),
            ElementType::F32 => Some(Self::F32(vec![value as f32])),
            ElementType::F64 => Some(Self::F64(vec![value])),
            ElementType::Bool | ElementType::Text | ElementType::Blob | ElementType::Composite => None,
        }
    }
}

impl View<'_> {
    /// Each element as the nearest float64; NaN where it is no number.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::Bool(v) => v.iter().map(|x| f64::from(u8::from(*x))).collect(),
            Self::U8(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::U16(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::U32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::U64(v) => v.iter().map(|x| *x as f64).collect(),
            Self::I8(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::I16(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::I32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::I64(v) => v.iter().map(|x| *x as f64).collect(),
            Self::F16(v) => v.iter().map(|x| x.to_f64()).collect(),
            Self::BF16(v) => v.iter().map(|x| x.to_f64()).collect(),
            Self::F32(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Self::F64(v) => v.to_vec(),
            Self::Text(v) => vec![f64::NAN; v.len()],
            Self::Blob(v) => vec![f64::NAN; v.len()],
            Self::Composite(v) => vec![f64::NAN; v.len()],
        }
    }
}

/// How the innermost dimension of an output is shown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Show<'a> {
    /// As a list of values.
    #[default]
    Values,
    /// As an object, by these names: a probability by class.
    Named(&'a [String]),
    /// As a list of tensors, for ONNX's sequences; the output's own `elements` are empty.
    Sequence(&'a [Output<'a>]),
    /// As one output a row, where rows ran one by one.
    PerRow(&'a [Output<'a>]),
    /// As `null`: an optional output that the model left out.
    Missing,
    /// As a list of `{"label", "score"}` from the best on; `{"index", "score"}` without labels.
    Ranked { labels: Option<&'a [String]>, top: usize, threshold: f64 },
}
