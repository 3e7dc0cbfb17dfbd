//! Tensors from raw little-endian bytes: raw rows, and the data of the Open Inference Protocol's binary
//! extension.

use half::{bf16, f16};

use super::error::{DecodeError, Decoded, Located, refuse};
use crate::for_each_element_type;
use crate::tensor::{Composite, ElementType, Elements};

/// The bytes behind a v2 request's JSON that no tensor has taken. Each tensor takes its `binary_data_size`,
/// in the order of the inputs.
pub(super) struct Section<'a>(pub(super) &'a [u8]);

impl<'a> Section<'a> {
    pub(super) fn take(&mut self, size: usize) -> Decoded<&'a [u8]> {
        let Some((data, rest)) = self.0.split_at_checked(size) else {
            let left = self.0.len();
            return refuse(format!(
                "expected {size} bytes of binary data (binary_data_size), got {left}, the rest of the body"
            ));
        };
        self.0 = rest;
        Ok(data)
    }

    /// Refuses bytes behind the last tensor.
    pub(super) fn end(&self) -> Decoded<()> {
        match self.0.len() {
            0 => Ok(()),
            left => refuse(format!(
                "expected the body to end with the last tensor's binary data, got {left} bytes more"
            )),
        }
    }
}

/// An element as bytes: numbers side by side, strings with their length before them.
trait FromBinary: Sized {
    /// Bytes of one element; `None` if each has its length before it.
    const WIDTH: Option<usize>;
    /// Reads `count` elements. If [`Self::WIDTH`] is known, `bytes` must be exactly as long as they are.
    fn from_bytes(bytes: &[u8], count: usize) -> Decoded<Vec<Self>>;
}

macro_rules! numbers {
    ($($rust:ty),+) => { $(
        impl FromBinary for $rust {
            const WIDTH: Option<usize> = Some(size_of::<$rust>());

            /// Compiles to one vectorised copy into the aligned buffer.
            fn from_bytes(bytes: &[u8], _: usize) -> Decoded<Vec<Self>> {
                Ok(bytes.as_chunks().0.iter().map(|element| <$rust>::from_le_bytes(*element)).collect())
            }
        }
    )+ };
}
numbers!(u8, u16, u32, u64, i8, i16, i32, i64, f16, bf16, f32, f64);

impl FromBinary for bool {
    const WIDTH: Option<usize> = Some(1);

    fn from_bytes(bytes: &[u8], _: usize) -> Decoded<Vec<Self>> {
        match bytes.iter().position(|byte| *byte > 1) {
            None => Ok(bytes.iter().map(|byte| *byte == 1).collect()),
            Some(at) => refuse(format!("expected 0 or 1 for a bool, got {}", bytes[at])).at(at),
        }
    }
}

impl FromBinary for String {
    const WIDTH: Option<usize> = None;

    fn from_bytes(bytes: &[u8], count: usize) -> Decoded<Vec<Self>> {
        read_with_lengths(bytes, count, |element| {
            let text = str::from_utf8(element).map_err(|e| {
                let offset = e.valid_up_to();
                DecodeError::new(format!("expected UTF-8, got an invalid sequence at its byte {offset}"))
            })?;
            Ok(text.to_owned())
        })
    }
}

impl FromBinary for Vec<u8> {
    const WIDTH: Option<usize> = None;

    fn from_bytes(bytes: &[u8], count: usize) -> Decoded<Vec<Self>> {
        read_with_lengths(bytes, count, |element| Ok(element.to_vec()))
    }
}

/// The protocol has no binary form of composites.
impl FromBinary for Composite {
    const WIDTH: Option<usize> = None;

    fn from_bytes(_: &[u8], _: usize) -> Decoded<Vec<Self>> {
        refuse("expected JSON: maps and sequences have no binary form")
    }
}

/// Reads elements with 4 bytes of length before each.
fn read_with_lengths<T>(
    mut bytes: &[u8],
    count: usize,
    element_of: impl Fn(&[u8]) -> Decoded<T>,
) -> Decoded<Vec<T>> {
    // Each takes at least 4 bytes, which bounds what the claimed count may reserve.
    let mut out = Vec::with_capacity(count.min(bytes.len() / 4));
    while out.len() < count {
        let index = out.len();
        let element = bytes.split_first_chunk::<4>().and_then(|(length, rest)| {
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        let Some((element, rest)) = element else {
            let left = bytes.len();
            return refuse(format!(
                "expected 4 bytes of length and so many bytes of data, got {left} bytes, the rest of the \
                 tensor's"
            ))
            .at(index);
        };
        out.push(element_of(element).at(index)?);
        bytes = rest;
    }
    match bytes.len() {
        0 => Ok(out),
        left => refuse(format!(
            "expected {count} elements with their lengths before them, got {left} bytes behind them"
        )),
    }
}

macro_rules! dispatch {
    ($(($variant:ident, $rust:ty, $name:literal, $datatype:literal)),+ $(,)?) => {
        /// Bytes of one element; `None` for strings.
        pub(super) fn element_width(element: ElementType) -> Option<usize> {
            match element { $(ElementType::$variant => <$rust as FromBinary>::WIDTH),+ }
        }

        fn dispatch_read(element: ElementType, bytes: &[u8], count: usize) -> Decoded<Elements> {
            Ok(match element { $(ElementType::$variant => Elements::$variant(<$rust as FromBinary>::from_bytes(bytes, count)?)),+ })
        }
    };
}
for_each_element_type!(dispatch);

/// Reads `count` elements, which must take all of `bytes`.
pub(super) fn read_elements(element: ElementType, bytes: &[u8], count: usize) -> Decoded<Elements> {
    if let Some(width) = element_width(element)
        && count.checked_mul(width) != Some(bytes.len())
    {
        let got = bytes.len();
        return refuse(format!("expected {count} values of {width} bytes each ({element}), got {got} bytes"));
    }
    dispatch_read(element, bytes, count)
}
