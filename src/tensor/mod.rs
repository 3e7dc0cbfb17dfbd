//! Tensors as they cross the engine: typed, row-major, owned or borrowed. Knows neither a wire format nor ONNX Runtime.

pub mod composite;
pub mod signature;

use half::{bf16, f16};

use crate::tensor::composite::Composite;

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
            (String, String, "string", "BYTES"),
            (Bytes, Vec<u8>, "bytes", "BYTES"),
            (Composite, $crate::tensor::composite::Composite, "composite", ""),
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
        /// The type of a tensor's elements. No ONNX model takes or gives [`Self::Bytes`]: pictures are bytes until prepared.
        /// [`Self::Composite`] is what an input's elements are that is no tensor, as its [`ValueKind`](crate::tensor::signature::ValueKind) says.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ElementType { $($variant),+ }

        impl ElementType {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The Open Inference Protocol v2 datatype.
            pub fn datatype(self) -> &'static str {
                match self { $(Self::$variant => $datatype),+ }
            }

            /// Bytes of an element in memory, without what it points to.
            pub fn size(self) -> usize {
                match self { $(Self::$variant => size_of::<$rust>()),+ }
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

            /// Bytes of memory that they take, as far as they are used.
            pub fn bytes(&self) -> usize {
                let elsewhere = match self {
                    Self::String(texts) => texts.iter().map(String::len).sum(),
                    Self::Bytes(blobs) => blobs.iter().map(Vec::len).sum(),
                    Self::Composite(composites) => composites.iter().map(Composite::bytes).sum(),
                    _ => 0,
                };
                elsewhere + match self { $(Self::$variant(v) => v.len() * size_of::<$rust>()),+ }
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

impl Output<'_> {
    /// How many elements it has, those of its parts included.
    pub fn count(&self) -> usize {
        let parts = match self.show {
            Show::Sequence(parts) | Show::PerRow(parts) => parts.iter().map(Self::count).sum(),
            _ => 0,
        };
        self.elements.len() + parts
    }
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
            ElementType::Bool | ElementType::String | ElementType::Bytes | ElementType::Composite => None,
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
            Self::String(v) => vec![f64::NAN; v.len()],
            Self::Bytes(v) => vec![f64::NAN; v.len()],
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
