//! Owns typed, row-major elements, owned ([`Elements`]) and borrowed ([`View`]), and what is made of them:
//! [`Tensor`], and [`Composite`] for ONNX's maps and sequences. They are one file because each contains the
//! other.

use half::{bf16, f16};

/// Calls `$apply!` with every element type: variant, Rust type, the name users see, the Open Inference
/// Protocol's datatype.
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
            (Composite, $crate::tensor::elements::Composite, "composite", ""),
        }
    };
}

/// Calls `$apply!` with the types whose elements lie side by side in memory: variant and Rust type.
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
        /// The type of a tensor's elements.
        ///
        /// No ONNX model has [`Self::Bytes`]: images are bytes until they are prepared. [`Self::Composite`]
        /// is the type of inputs that are no tensors; their
        /// [`ValueKind`](crate::tensor::signature::ValueKind) has the type of what is inside.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ElementType { $($variant),+ }

        impl ElementType {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The Open Inference Protocol v2 datatype.
            pub fn datatype(self) -> &'static str {
                match self { $(Self::$variant => $datatype),+ }
            }

            /// Bytes of one element in memory, without its heap allocations.
            pub fn size(self) -> usize {
                match self { $(Self::$variant => size_of::<$rust>()),+ }
            }

            /// The type of an Open Inference Protocol v2 datatype; `BYTES` is [`Self::String`].
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

            /// `count` zeros, `false`s or empty strings.
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

            /// Bytes of memory in use, heap allocations of the elements included.
            pub fn bytes(&self) -> usize {
                let on_heap = match self {
                    Self::String(strings) => strings.iter().map(String::len).sum(),
                    Self::Bytes(all) => all.iter().map(Vec::len).sum(),
                    Self::Composite(composites) => composites.iter().map(Composite::bytes).sum(),
                    _ => 0,
                };
                on_heap + match self { $(Self::$variant(v) => v.len() * size_of::<$rust>()),+ }
            }

            /// Moves the elements of `other` to the end. Both must be of one type, which the decoder ensures.
            pub fn append(&mut self, other: &mut Self) {
                match (self, other) {
                    $((Self::$variant(a), Self::$variant(b)) => a.append(b),)+
                    (a, b) => unreachable!("a batch of {} got {}", a.element(), b.element()),
                }
            }

            /// Adds the one element of `value` to the end, `times` times. Both must be of one type.
            pub fn extend_repeated(&mut self, value: &Self, times: usize) {
                match (self, value) {
                    $((Self::$variant(a), Self::$variant(b)) => a.resize(a.len() + times, b[0].clone()),)+
                    (a, b) => unreachable!("a batch of {} got {}", a.element(), b.element()),
                }
            }

            /// Drops all but the first `length` elements.
            pub fn truncate(&mut self, length: usize) {
                match self { $(Self::$variant(v) => v.truncate(length)),+ }
            }

            /// Copies `range` of `other` to the end. Both must be of one type.
            pub fn extend_from(&mut self, other: &Self, range: std::ops::Range<usize>) {
                self.extend_from_view(other.view().slice(range));
            }

            /// Copies all of `other` to the end. Both must be of one type.
            pub fn extend_from_view(&mut self, other: View<'_>) {
                match (self, other) {
                    $((Self::$variant(a), View::$variant(b)) => a.extend_from_slice(b),)+
                    (a, b) => unreachable!("a batch of {} got {}", a.element(), b.element()),
                }
            }

            pub fn view(&self) -> View<'_> {
                match self { $(Self::$variant(v) => View::$variant(v)),+ }
            }
        }

        /// Borrowed elements, row-major: an output of ONNX Runtime before it is encoded.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum View<'a> { $($variant(&'a [$rust])),+ }

        impl<'a> View<'a> {
            pub fn empty(element: ElementType) -> Self {
                match element { $(ElementType::$variant => Self::$variant(&[])),+ }
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

            /// A copy of the elements.
            pub fn to_elements(&self) -> Elements {
                match self { $(Self::$variant(v) => Elements::$variant(v.to_vec())),+ }
            }

            /// The elements of `range`; panics out of bounds, as slices do.
            pub fn slice(&self, range: std::ops::Range<usize>) -> View<'a> {
                match self { $(Self::$variant(v) => View::$variant(&v[range])),+ }
            }
        }
    };
}
for_each_element_type!(define_types);

impl ElementType {
    /// True for the types that have NaN.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }
}

/// An owned tensor: one input of one request, or of one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub elements: Elements,
}

impl Tensor {
    /// Its shape and its elements, as a call of a model takes them.
    pub fn lend(&self) -> (Vec<usize>, View<'_>) {
        (self.shape.clone(), self.elements.view())
    }

    /// Copies these rows, in this order. The first dimension counts rows.
    pub fn take_rows(&self, rows: impl ExactSizeIterator<Item = usize>) -> Self {
        let width: usize = self.shape.iter().skip(1).product();
        let shape = [&[rows.len()], &self.shape[1..]].concat();
        let mut elements = Elements::with_capacity(self.elements.element(), rows.len() * width);
        rows.for_each(|row| elements.extend_from(&self.elements, row * width..(row + 1) * width));
        Self { shape, elements }
    }
}

/// One value of an input that is no tensor. It is one element: a request with three maps for a model that
/// takes one map has three [`Composite`]s and runs the model three times.
#[derive(Debug, Clone, PartialEq)]
pub enum Composite {
    /// Distinct keys (strings or int64s) and as many values, in the request's order.
    Map {
        keys: Elements,
        values: Elements,
    },
    Sequence(Vec<Tensor>),
}

impl Composite {
    /// Bytes of memory in use.
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
