//! Elements from numbers, and numbers from elements.

use half::{bf16, f16};

use super::elements::{ElementType, Elements, View};
use crate::for_each_number_type;

trait Number: Copy {
    /// The nearest value that the type can hold.
    fn of_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
}

macro_rules! numbers {
    ($($rust:ident),+: $of_f64:expr, $to_f64:expr) => { $(
        impl Number for $rust {
            fn of_f64(value: f64) -> Self {
                let convert: fn(f64) -> Self = $of_f64;
                convert(value)
            }

            fn to_f64(self) -> f64 {
                let convert: fn(Self) -> f64 = $to_f64;
                convert(self)
            }
        }
    )+ };
}
numbers!(bool: |value| value != 0.0, f64::from);
numbers!(u8, u16, u32, u64, i8, i16, i32, i64: |value| value.round_ties_even() as _, |number| number as _);
numbers!(f16, bf16: Self::from_f64, f64::from);
numbers!(f32, f64: |value| value as _, f64::from);

macro_rules! convert {
    ($(($variant:ident, $rust:ty)),+ $(,)?) => {
        impl Elements {
            /// Elements with these values: integers are rounded to the nearest and saturate. `None` for types
            /// that are no numbers.
            pub fn of_numbers(element: ElementType, values: impl IntoIterator<Item = f64>) -> Option<Self> {
                let values = values.into_iter();
                Some(match element {
                    $(ElementType::$variant => Self::$variant(values.map(Number::of_f64).collect()),)+
                    ElementType::String | ElementType::Bytes | ElementType::Composite => return None,
                })
            }
        }

        impl View<'_> {
            /// Each element as the nearest float64; NaN for elements that are no numbers.
            pub fn to_f64(&self) -> Vec<f64> {
                match self {
                    $(Self::$variant(numbers) => numbers.iter().copied().map(Number::to_f64).collect(),)+
                    Self::String(_) | Self::Bytes(_) | Self::Composite(_) => vec![f64::NAN; self.len()],
                }
            }
        }
    };
}
for_each_number_type!(convert);

impl Elements {
    /// One element with this value; `None` if the type cannot hold it exactly. Floats round.
    pub fn of_number(element: ElementType, value: f64) -> Option<Self> {
        let one = Self::of_numbers(element, [value])?;
        (element.is_float() || one.view().to_f64() == [value]).then_some(one)
    }
}
