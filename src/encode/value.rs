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

impl WriteJson for f16 {
    const WIDTH: usize = 17;

    /// The fewest digits that read back as the same float16, which are at most five.
    fn push(&self, out: &mut Vec<u8>) {
        let exact = self.to_f32();
        let shorter = (0..4)
            .filter(|_| self.is_finite())
            .filter_map(|digits| format!("{exact:.digits$e}").parse::<f32>().ok())
            .find(|candidate| Self::from_f32(*candidate) == *self);
        shorter.unwrap_or(exact).push(out);
    }
}

impl WriteJson for bf16 {
    const WIDTH: usize = 17;

    /// The fewest digits that read back as the same bfloat16, which are at most four.
    fn push(&self, out: &mut Vec<u8>) {
        let exact = self.to_f32();
        let shorter = (0..4)
            .filter(|_| self.is_finite())
            .filter_map(|digits| format!("{exact:.digits$e}").parse::<f32>().ok())
            .find(|candidate| Self::from_f32(*candidate) == *self);
        shorter.unwrap_or(exact).push(out);
    }
}

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
    out.push(b'[');
    // The brackets of empty dimensions are written, too.
    let width = elements.len() / (*length).max(1);
    for index in 0..*length {
        if index > 0 {
            out.push(b',');
        }
        match inner {
            [] => elements[index].push(out),
            _ => nested(out, &elements[index * width..(index + 1) * width], inner),
        }
    }
    out.push(b']');
}

/// `"name":`
pub(super) fn push_key(out: &mut Vec<u8>, name: &str) {
    push_text(out, name);
    out.push(b':');
}

/// A JSON string, with the escapes that RFC 8259 requires and no others.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(format!("{byte:04x}").as_bytes());
        }
        from = at + 1;
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}
