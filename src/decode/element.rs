//! One element of each type from the body, range-checked at its own width.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use half::{bf16, f16};

use super::error::{DecodeError, Decoded, quoted, refuse};
use super::fast_numbers;
use super::number::{Number, odd_f32, scan_number};
use super::scanner::Scanner;
use crate::names::with_article;
use crate::tensor::Composite;

pub(super) trait Element: Default + Clone {
    /// Reads one element and the white space before it.
    fn read_element(scanner: &mut Scanner<'_>) -> Decoded<Self>;

    /// Appends the next elements of a list as long as they are fast to read, `most` at most. Returns their
    /// number, and consumes nothing behind the last one.
    #[inline(always)]
    fn read_run(_: &mut Scanner<'_>, _: &mut Vec<Self>, _most: usize) -> usize {
        0
    }
}

#[inline(never)]
fn read_number<'a>(scanner: &mut Scanner<'a>) -> Decoded<Number<'a>> {
    match scanner.peek() {
        Some(b'-' | b'0'..=b'9') => scan_number(scanner),
        _ => Err(unexpected(scanner, "a number")),
    }
}

/// A hint for `null` and for empty cells.
pub(super) const DECLARE_MISSING: &str =
    "to accept missing values, declare columns.missing in the bundle's model.yaml";

/// [`Scanner::unexpected`], with a hint for `null`.
#[cold]
fn unexpected(scanner: &mut Scanner<'_>, wanted: &str) -> Box<DecodeError> {
    let error = scanner.unexpected(wanted);
    if scanner.clone().word("null") { error.with_hint(DECLARE_MISSING) } else { error }
}

#[cold]
fn out_of_range(
    number: &Number<'_>,
    name: &str,
    low: impl std::fmt::Display,
    high: impl std::fmt::Display,
) -> Box<DecodeError> {
    DecodeError::new(format!("expected {} ({low} to {high}), got {}", with_article(name), number.shortened()))
}

macro_rules! integers {
    ($($rust:ident $name:literal),+) => { $(
        impl Element for $rust {
            #[inline(always)]
            fn read_element(scanner: &mut Scanner<'_>) -> Decoded<Self> {
                scanner.peek();
                if let Some(value) = fast_numbers::read_fast(scanner) {
                    return Ok(value);
                }
                let number = read_number(scanner)?;
                match number.integer().map(Self::try_from) {
                    Some(Ok(value)) => Ok(value),
                    None if number.has_fraction() => {
                        let got = number.shortened();
                        refuse(format!("expected a whole number for {}, got {got}", $name))
                    }
                    _ => Err(out_of_range(&number, $name, Self::MIN, Self::MAX)),
                }
            }

            #[inline(always)]
            fn read_run(scanner: &mut Scanner<'_>, out: &mut Vec<Self>, most: usize) -> usize {
                fast_numbers::read_run(scanner, out, most)
            }
        }
    )+ };
}
integers!(u8 "uint8", u16 "uint16", u32 "uint32", u64 "uint64", i8 "int8", i16 "int16", i32 "int32", i64 "int64");

/// Reads the strings for NaN and the infinities, which JSON has no numbers for. Responses have the same
/// strings.
#[cold]
fn not_finite(scanner: &mut Scanner<'_>) -> Decoded<f64> {
    let mut ahead = scanner.clone();
    let value = match &*ahead.string()? {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => return Err(scanner.unexpected("a number")),
    };
    *scanner = ahead;
    Ok(value)
}

macro_rules! floats {
    ($($rust:ident $name:literal $convert:expr, $from:expr);+) => { $(
        impl Element for $rust {
            #[inline(always)]
            fn read_element(scanner: &mut Scanner<'_>) -> Decoded<Self> {
                scanner.peek();
                if let Some(value) = fast_numbers::read_fast(scanner) {
                    return Ok(value);
                }
                if scanner.peek() == Some(b'"') {
                    return not_finite(scanner).map(|value| ($from)(value));
                }
                // A missing value, like an empty cell of a table: pandas and JavaScript write NaN as null.
                if scanner.word("null") {
                    return Ok(($from)(f64::NAN));
                }
                let number = read_number(scanner)?;
                let value: Self = ($convert)(&number);
                // The digits are finite, so infinity means out of range.
                if value.is_infinite() {
                    // Debug writes an exponent, Display hundreds of digits.
                    let (low, high) = (format_args!("{:?}", Self::MIN), format_args!("{:?}", Self::MAX));
                    return Err(out_of_range(&number, $name, low, high));
                }
                Ok(value)
            }

            #[inline(always)]
            fn read_run(scanner: &mut Scanner<'_>, out: &mut Vec<Self>, most: usize) -> usize {
                fast_numbers::read_run(scanner, out, most)
            }
        }
    )+ };
}
floats!(
    f16 "float16" |number: &Number<'_>| f16::from_f32(odd_f32(number.f64())), f16::from_f64;
    bf16 "bfloat16" |number: &Number<'_>| bf16::from_f32(odd_f32(number.f64())), bf16::from_f64;
    f32 "float32" Number::f32, |value: f64| value as f32;
    f64 "float64" Number::f64, std::convert::identity
);

/// Reads `true` and `false`, also 1 and 0 as some clients of the Open Inference Protocol write them.
impl Element for bool {
    fn read_element(scanner: &mut Scanner<'_>) -> Decoded<Self> {
        if scanner.word("true") {
            return Ok(true);
        }
        if scanner.word("false") {
            return Ok(false);
        }
        if !matches!(scanner.peek(), Some(b'-' | b'0'..=b'9')) {
            return Err(unexpected(scanner, "true or false"));
        }
        let number = scan_number(scanner)?;
        match number.integer() {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            _ => refuse(format!("expected true or false (or 1 or 0), got {}", number.shortened())),
        }
    }
}

/// Reads a string, or `{"b64": "…"}`: base64 (RFC 4648, section 4) of UTF-8.
impl Element for String {
    fn read_element(scanner: &mut Scanner<'_>) -> Decoded<Self> {
        if scanner.peek() == Some(b'"') {
            return Ok(scanner.string()?.into_owned());
        }
        let wanted = "a string or {\"b64\": \"…\"}";
        if scanner.peek() != Some(b'{') {
            return Err(unexpected(scanner, wanted));
        }
        let bytes = read_base64(scanner, wanted)?;
        Self::from_utf8(bytes).map_err(|e| {
            let offset = e.utf8_error().valid_up_to();
            DecodeError::new(format!(
                "expected UTF-8 in \"b64\", got an invalid sequence at its byte {offset}"
            ))
        })
    }
}

/// Reads `{"b64": "…"}`, or a bare string of base64.
impl Element for Vec<u8> {
    fn read_element(scanner: &mut Scanner<'_>) -> Decoded<Self> {
        const WANTED: &str = "an image: {\"b64\": \"…\"}";
        if scanner.peek() != Some(b'"') {
            return read_base64(scanner, WANTED);
        }
        let text = scanner.string()?;
        STANDARD.decode(text.as_bytes()).map_err(|_| {
            DecodeError::new(format!("expected {WANTED}, got {}, which is not base64", quoted(&text)))
        })
    }
}

/// Refused: [`super::composite`] reads composites, since it knows the types inside.
impl Element for Composite {
    fn read_element(scanner: &mut Scanner<'_>) -> Decoded<Self> {
        Err(scanner.unexpected("a map or a sequence of a known type"))
    }
}

/// Reads the object `{"b64": "…"}`.
fn read_base64(scanner: &mut Scanner<'_>, wanted: &str) -> Decoded<Vec<u8>> {
    scanner.enter(b'{', wanted)?;
    match scanner.key()?.as_deref() {
        Some("b64") if scanner.peek() == Some(b'"') => {}
        Some("b64") => return Err(scanner.unexpected("a string of base64 in \"b64\"")),
        _ => return refuse(format!("expected {wanted}, got another object")),
    }
    let encoded = scanner.string()?;
    if scanner.key()?.is_some() {
        return refuse("expected nothing beside \"b64\", got another key");
    }
    decode_base64(&encoded)
}

pub(super) fn decode_base64(encoded: &str) -> Decoded<Vec<u8>> {
    STANDARD
        .decode(encoded.as_bytes())
        .map_err(|e| DecodeError::new(format!("expected padded base64 in \"b64\", got an error: {e}")))
}
