//! Elements from numbers, and numbers from elements.

use half::{bf16, f16};

use super::elements::{ElementType, Elements, View};

impl Elements {
    /// One element with this value; `None` if the type cannot hold it exactly. Floats round.
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
    /// Each element as the nearest float64; NaN for elements that are no numbers.
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
