//! One JSON value to one tensor element, for every element type.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use half::f16;

use super::number;
use super::scanner::Scanner;
use crate::error::Rejection;
use crate::tensor::ElementType;

/// Where in the body a value stands, as `instances[2].x[0]`: built on the stack, written out only for an error.
#[derive(Clone, Copy)]
pub(crate) enum Place<'p> {
    Root(&'p str),
    Item(&'p Place<'p>, usize),
    Key(&'p Place<'p>, &'p str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Key(parent, key) if plain(key) => write!(f, "{parent}.{key}"),
            Self::Key(parent, key) => write!(f, "{parent}[{key:?}]"),
        }
    }
}

fn plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// An element type that JSON can carry.
pub(crate) trait Value: Sized + Clone + Default {
    fn read(scanner: &mut Scanner<'_>, place: &Place<'_>) -> Result<Self, Rejection>;
}

macro_rules! integers {
    ($($rust:ty => $element:ident),+) => {$(
        impl Value for $rust {
            #[inline]
            fn read(scanner: &mut Scanner<'_>, place: &Place<'_>) -> Result<Self, Rejection> {
                if !starts_number(scanner) {
                    return Err(wrong_kind(scanner, place, ElementType::$element));
                }
                let number = number::scan(scanner)?;
                let whole = number.integer().map(<$rust>::try_from);
                match whole {
                    Ok(Ok(value)) => Ok(value),
                    _ => Err(not_in(place, &number, matches!(whole, Err(number::NotWhole::Fraction)), ElementType::$element)),
                }
            }
        }
    )+};
}
integers!(u8 => U8, u16 => U16, u32 => U32, u64 => U64, i8 => I8, i16 => I16, i32 => I32, i64 => I64);

macro_rules! floats {
    ($($rust:ty => $element:ident, $convert:expr, $named:expr);+) => {$(
        impl Value for $rust {
            #[inline]
            fn read(scanner: &mut Scanner<'_>, place: &Place<'_>) -> Result<Self, Rejection> {
                if !starts_number(scanner) {
                    return match named_float(scanner) {
                        Some(value) => Ok($named(value)),
                        None => Err(wrong_kind(scanner, place, ElementType::$element)),
                    };
                }
                let number = number::scan(scanner)?;
                let convert: fn(&number::Number<'_>) -> $rust = $convert;
                let value = convert(&number);
                if value.is_finite() { Ok(value) } else { Err(not_in(place, &number, false, ElementType::$element)) }
            }
        }
    )+};
}
floats!(
    f32 => F32, |number| number.f32(), std::convert::identity;
    f64 => F64, |number| number.f64(), f64::from;
    f16 => F16, |number| f16::from_f64(number.f64()), f16::from_f32
);

impl Value for bool {
    /// `true`, `false`; also 1 and 0, as clients of the Open Inference Protocol send them.
    fn read(scanner: &mut Scanner<'_>, place: &Place<'_>) -> Result<Self, Rejection> {
        if starts_number(scanner) {
            let number = number::scan(scanner)?;
            return match number.integer() {
                Ok(0) => Ok(false),
                Ok(1) => Ok(true),
                _ => Err(not_in(place, &number, false, ElementType::Bool)),
            };
        }
        if scanner.literal("true") {
            return Ok(true);
        }
        if scanner.literal("false") {
            return Ok(false);
        }
        Err(wrong_kind(scanner, place, ElementType::Bool))
    }
}

impl Value for String {
    /// A string, or `{"b64": "…"}`: base64 of UTF-8 text.
    fn read(scanner: &mut Scanner<'_>, place: &Place<'_>) -> Result<Self, Rejection> {
        match scanner.peek() {
            Some(b'"') => scanner.string().map(Cow::into_owned),
            Some(b'{') => base64(scanner, place),
            _ => Err(wrong_kind(scanner, place, ElementType::Text)),
        }
    }
}

fn base64(scanner: &mut Scanner<'_>, place: &Place<'_>) -> Result<String, Rejection> {
    let expected = || {
        Rejection::invalid(format!("{place}: expected a string or {{\"b64\": \"…\"}}, got another object"))
    };
    if !scanner.open(b'{')? || scanner.key()? != "b64" || scanner.peek() != Some(b'"') {
        return Err(expected());
    }
    let encoded = scanner.string()?;
    if scanner.another(b'{')? {
        return Err(expected());
    }
    let bytes = STANDARD.decode(encoded.as_bytes()).map_err(|e| {
        Rejection::invalid(format!("{place}: \"b64\" is not base64: {}", lower(&e.to_string())))
    })?;
    String::from_utf8(bytes).map_err(|_| {
        Rejection::invalid(format!(
            "{place}: the bytes in \"b64\" are not UTF-8, which string inputs must be"
        ))
    })
}

fn lower(message: &str) -> String {
    message.trim_end_matches('.').to_lowercase()
}

#[inline]
fn starts_number(scanner: &mut Scanner<'_>) -> bool {
    matches!(scanner.peek(), Some(b'0'..=b'9' | b'-'))
}

/// `"NaN"`, `"Infinity"`, `"-Infinity"`: how responses write them too, since JSON has no such numbers.
#[cold]
fn named_float(scanner: &mut Scanner<'_>) -> Option<f32> {
    [("\"NaN\"", f32::NAN), ("\"Infinity\"", f32::INFINITY), ("\"-Infinity\"", f32::NEG_INFINITY)]
        .into_iter()
        .find_map(|(word, value)| scanner.literal(word).then_some(value))
}

/// The error for a value of another kind, with the value's kind; a syntax error when there is no value at all.
#[cold]
pub(crate) fn wrong_kind(scanner: &mut Scanner<'_>, place: &Place<'_>, element: ElementType) -> Rejection {
    let wanted = match element {
        ElementType::Bool => "true or false",
        ElementType::Text => "a string",
        _ => "a number",
    };
    match kind(scanner) {
        Ok(found) => Rejection::invalid(format!("{place}: expected {wanted} ({element}), got {found}")),
        Err(malformed) => malformed,
    }
}

/// What the next value is, in words.
#[cold]
pub(crate) fn kind(scanner: &mut Scanner<'_>) -> Result<String, Rejection> {
    Ok(match scanner.peek() {
        Some(b'[') => "a list".into(),
        Some(b'{') => "an object".into(),
        Some(b'"') => format!("the string {}", shorten(&format!("{:?}", scanner.string()?))),
        Some(b'-' | b'0'..=b'9') => format!("the number {}", excerpt(number::scan(scanner)?.text)),
        _ => match ["null", "true", "false"].into_iter().find(|word| scanner.literal(word)) {
            Some(word) => word.into(),
            None => return Err(scanner.unexpected("a value")),
        },
    })
}

#[cold]
fn not_in(place: &Place<'_>, number: &number::Number<'_>, fraction: bool, element: ElementType) -> Rejection {
    let text = excerpt(number.text);
    Rejection::invalid(if fraction {
        format!("{place}: expected a whole number ({element}), got {text}")
    } else {
        format!("{place}: {text} does not fit {element}")
    })
}

fn excerpt(number: &[u8]) -> String {
    shorten(&String::from_utf8_lossy(number))
}

/// Messages stay readable whatever is sent.
pub(crate) fn shorten(text: &str) -> String {
    const LONGEST: usize = 40;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
