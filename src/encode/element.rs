//! One element to JSON, for every element type.

use half::f16;

use crate::tensor::View;

/// All elements, commas between; no brackets.
pub(super) fn list(body: &mut Vec<u8>, elements: View<'_>) {
    match elements {
        View::Bool(values) => each(body, values, |body, value| {
            body.extend_from_slice(if *value { b"true" } else { b"false" });
        }),
        View::U8(values) => integers(body, values),
        View::U16(values) => integers(body, values),
        View::U32(values) => integers(body, values),
        View::U64(values) => integers(body, values),
        View::I8(values) => integers(body, values),
        View::I16(values) => integers(body, values),
        View::I32(values) => integers(body, values),
        View::I64(values) => integers(body, values),
        View::F16(values) => each(body, values, |body, value| float(body, shortest(*value))),
        View::F32(values) => each(body, values, |body, value| float(body, *value)),
        View::F64(values) => each(body, values, |body, value| float(body, *value)),
        View::Text(values) => each(body, values, |body, value| text(body, value)),
    }
}

#[inline]
fn each<T>(body: &mut Vec<u8>, values: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    super::separated(body, values, |body, value| write(body, value));
}

fn integers<T: itoa::Integer + Copy>(body: &mut Vec<u8>, values: &[T]) {
    each(body, values, |body, value| body.extend_from_slice(itoa::Buffer::new().format(*value).as_bytes()));
}

fn float<F: zmij::Float + Into<f64> + Copy>(body: &mut Vec<u8>, value: F) {
    let wide: f64 = value.into();
    if wide.is_finite() {
        body.extend_from_slice(zmij::Buffer::new().format(value).as_bytes());
    } else {
        let name: &[u8] = match wide {
            f64::INFINITY => b"\"Infinity\"",
            f64::NEG_INFINITY => b"\"-Infinity\"",
            _ => b"\"NaN\"",
        };
        body.extend_from_slice(name);
    }
}

/// The float32 with the fewest digits that rounds to this float16: five always suffice.
fn shortest(value: f16) -> f32 {
    let exact = value.to_f32();
    (0..5)
        .filter_map(|digits| format!("{exact:.digits$e}").parse::<f32>().ok())
        .find(|candidate| f16::from_f32(*candidate).to_bits() == value.to_bits())
        .unwrap_or(exact)
}

/// A JSON string; what needs no escape is copied in runs.
pub(super) fn text(body: &mut Vec<u8>, value: &str) {
    let bytes = value.as_bytes();
    let mut copied = 0;
    body.push(b'"');
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => &control(*byte),
            _ => continue,
        };
        body.extend_from_slice(&bytes[copied..at]);
        body.extend_from_slice(escape);
        copied = at + 1;
    }
    body.extend_from_slice(&bytes[copied..]);
    body.push(b'"');
}

fn control(byte: u8) -> [u8; 6] {
    let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    [b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]
}
