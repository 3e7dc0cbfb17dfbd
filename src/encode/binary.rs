//! Elements in the Open Inference Protocol's binary extension: little-endian, strings with their length
//! before them.

use half::{bf16, f16};

use crate::for_each_element_type;
use crate::tensor::{Composite, View};

/// An element as bytes.
trait WriteBinary: Sized {
    fn push_all(elements: &[Self], out: &mut Vec<u8>);
    /// Bytes that [`Self::push_all`] writes.
    fn size(elements: &[Self]) -> usize {
        size_of_val(elements)
    }
}

macro_rules! numbers {
    ($($rust:ty),+) => { $(
        impl WriteBinary for $rust {
            fn push_all(elements: &[Self], out: &mut Vec<u8>) {
                let begin = out.len();
                out.resize(begin + size_of_val(elements), 0);
                let (places, _) = out[begin..].as_chunks_mut();
                for (place, element) in places.iter_mut().zip(elements) {
                    *place = element.to_le_bytes();
                }
            }
        }
    )+ };
}
numbers!(u8, u16, u32, u64, i8, i16, i32, i64, f16, bf16, f32, f64);

impl WriteBinary for bool {
    fn push_all(elements: &[Self], out: &mut Vec<u8>) {
        out.extend(elements.iter().map(|element| u8::from(*element)));
    }
}

macro_rules! with_lengths {
    ($($rust:ty),+) => { $(
        impl WriteBinary for $rust {
            fn push_all(elements: &[Self], out: &mut Vec<u8>) {
                for element in elements {
                    // A response has no room for longer ones.
                    let length = u32::try_from(element.len()).unwrap_or(u32::MAX);
                    out.extend_from_slice(&length.to_le_bytes());
                    out.extend_from_slice(element.as_ref());
                }
            }

            fn size(elements: &[Self]) -> usize {
                elements.iter().map(|element| 4 + element.len()).sum()
            }
        }
    )+ };
}
with_lengths!(String, Vec<u8>);

/// Never written: composites are inputs only.
impl WriteBinary for Composite {
    fn push_all(_: &[Self], _: &mut Vec<u8>) {}

    fn size(_: &[Self]) -> usize {
        0
    }
}

macro_rules! dispatch {
    ($(($variant:ident, $rust:ty, $name:literal, $datatype:literal)),+ $(,)?) => {
        pub(super) fn push_elements(out: &mut Vec<u8>, view: View<'_>) {
            match view { $(View::$variant(elements) => <$rust as WriteBinary>::push_all(elements, out)),+ }
        }

        /// Bytes that [`push_elements`] writes.
        pub(super) fn size(view: View<'_>) -> usize {
            match view { $(View::$variant(elements) => <$rust as WriteBinary>::size(elements)),+ }
        }
    };
}
for_each_element_type!(dispatch);
