//! Elements, shapes and strings as JSON.

use crate::for_each_element_type;
use crate::tensor::{Composite, View};
use half::{bf16, f16};

/// An element as JSON.
trait WriteJson {
    /// Greatest length of one element with its comma; of a string without its characters.
    const WIDTH: usize;
    fn push(&self, out: &mut Vec<u8>);
}

macro_rules! integers {
    ($($rust:ty, $width:literal);+) => { $(
        impl WriteJson for $rust {
            const WIDTH: usize = $width;
            #[inline]
            fn push(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(itoa::Buffer::new().format(*self).as_bytes());
            }
        }
    )+ };
}
integers!(u8, 4; u16, 6; u32, 11; u64, 21; i8, 5; i16, 7; i32, 12; i64, 21);

macro_rules! floats {
    ($($rust:ty, $width:literal);+) => { $(
        impl WriteJson for $rust {
            const WIDTH: usize = $width;
            #[inline]
            fn push(&self, out: &mut Vec<u8>) {
                let text = if self.is_finite() {
                    out.extend_from_slice(zmij::Buffer::new().format_finite(*self).as_bytes());
                    return;
                } else if self.is_nan() {
                    "\"NaN\""
                } else if *self > 0.0 {
                    "\"Infinity\""
                } else {
                    "\"-Infinity\""
                };
                out.extend_from_slice(text.as_bytes());
            }
        }
    )+ };
}
floats!(f32, 17; f64, 26);

macro_rules! halves {
    ($($rust:ty),+) => { $(
        impl WriteJson for $rust {
            const WIDTH: usize = 17;

            /// The fewest digits that read back as the same number: at most five for float16, four for
            /// bfloat16.
            fn push(&self, out: &mut Vec<u8>) {
                let exact = self.to_f32();
                let shorter = (0..4)
                    .filter(|_| self.is_finite())
                    .filter_map(|digits| format!("{exact:.digits$e}").parse::<f32>().ok())
                    .find(|candidate| Self::from_f32(*candidate) == *self);
                shorter.unwrap_or(exact).push(out);
            }
        }
    )+ };
}
halves!(f16, bf16);

/// `{"b64": "…"}`
impl WriteJson for Vec<u8> {
    const WIDTH: usize = 11;

    fn push(&self, out: &mut Vec<u8>) {
        use base64::Engine as _;
        out.extend_from_slice(b"{\"b64\":\"");
        out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(self).as_bytes());
        out.extend_from_slice(b"\"}");
    }
}

impl WriteJson for bool {
    const WIDTH: usize = 6;
    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl WriteJson for String {
    const WIDTH: usize = 3;
    fn push(&self, out: &mut Vec<u8>) {
        push_text(out, self);
    }
}

/// Never written: composites are inputs only.
impl WriteJson for Composite {
    const WIDTH: usize = 5;
    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"null");
    }
}

macro_rules! dispatch {
    ($(($variant:ident, $rust:ty, $name:literal, $datatype:literal)),+ $(,)?) => {
        /// Writes row-major elements as arrays nested by `shape`; a bare value for a scalar.
        pub(super) fn push_nested(out: &mut Vec<u8>, view: View<'_>, shape: &[usize]) {
            match view { $(View::$variant(elements) => nested(out, elements, shape)),+ }
        }

        /// An upper bound of the length of the elements, without escapes in strings.
        pub(super) fn estimate(view: View<'_>) -> usize {
            let text = match view {
                View::String(texts) => texts.iter().map(String::len).sum(),
                View::Bytes(blobs) => blobs.iter().map(|blob| blob.len() / 3 * 4 + 4).sum(),
                _ => 0,
            };
            text + match view { $(View::$variant(elements) => elements.len() * <$rust as WriteJson>::WIDTH),+ }
        }
    };
}
for_each_element_type!(dispatch);

fn nested<T: WriteJson>(out: &mut Vec<u8>, elements: &[T], shape: &[usize]) {
    let Some((length, inner)) = shape.split_first() else {
        elements[0].push(out);
        return;
    };
    // The brackets of empty dimensions are written, too.
    let width = elements.len() / (*length).max(1);
    push_list(out, b"[]", 0..*length, |out, index| match inner {
        [] => elements[index].push(out),
        _ => nested(out, &elements[index * width..(index + 1) * width], inner),
    });
}

/// The items with commas between them, in these brackets.
#[inline]
pub(super) fn push_list<T>(
    out: &mut Vec<u8>,
    brackets: &[u8; 2],
    items: impl IntoIterator<Item = T>,
    mut push: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(brackets[0]);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(brackets[1]);
}

/// A string behind its key and everything before it, which are written as they are.
pub(super) fn push_member(out: &mut Vec<u8>, key: &str, text: &str) {
    out.extend_from_slice(key.as_bytes());
    push_text(out, text);
}

/// `"name":`
pub(super) fn push_key(out: &mut Vec<u8>, name: &str) {
    push_text(out, name);
    out.push(b':');
}

/// A JSON string, with the escapes that RFC 8259 requires and no others.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a vector takes all bytes");
}
