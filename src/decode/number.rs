//! Numbers by JSON's grammar, correctly rounded: the result equals `str::parse` bit for bit. A parser of our
//! own, because the same scan serves every element type, and a body's numbers are most of its bytes.

use super::error::{DecodeError, Decoded, refuse};
use super::scanner::Scanner;

/// A JSON number as it is in the body: `(-1)^negative * mantissa * 10^exponent`, unless `truncated`.
pub(super) struct Number<'a> {
    body: &'a str,
    start: usize,
    end: usize,
    negative: bool,
    mantissa: u64,
    exponent: i32,
    /// More than [`MAX_DIGITS`] significant digits, or an exponent beyond [`MAX_EXPONENT`]: only the text is
    /// exact.
    truncated: bool,
    /// Written without a fraction and without an exponent.
    plain: bool,
}

/// Digits that always fit into a u64.
const MAX_DIGITS: usize = 19;

/// Exponents beyond this are out of every type's range.
const MAX_EXPONENT: i32 = 9999;

/// Powers of ten that an f64 holds exactly.
pub(super) const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// True if an f64 that is a few units off in its last place still rounds to the right f32. False if it is so
/// close to the middle of two f32s that its error (three roundings, at most three units) could carry it
/// across, or so small that an f32 has fewer bits.
#[inline(always)]
pub(super) fn rounds_to_f32(value: f64) -> bool {
    /// The bits that an f32 drops, and the middle of their range.
    const DROPPED: u64 = (1 << 29) - 1;
    const MIDDLE: u64 = 1 << 28;
    const MARGIN: u64 = 8;
    let distance = (value.to_bits() & DROPPED).abs_diff(MIDDLE);
    distance > MARGIN && (value >= f64::from(f32::MIN_POSITIVE) || value == 0.0)
}

/// The f32 with an odd last bit next to a value, or the value itself if it is an f32. Rounding the result to
/// fewer bits gives the same as rounding the value once (Boldo and Melquiond, "Emulation of FMA and Correctly
/// Rounded Sums", 2008).
pub(super) fn odd_f32(value: f64) -> f32 {
    let near = value as f32;
    let (bits, back) = (near.to_bits(), f64::from(near));
    if back == value || bits & 1 == 1 || near.is_infinite() {
        return near;
    }
    f32::from_bits(if back.abs() > value.abs() { bits - 1 } else { bits + 1 })
}

/// Scans any JSON number, byte by byte. The next byte must be `-` or a digit.
pub(super) fn scan_number<'a>(scanner: &mut Scanner<'a>) -> Decoded<Number<'a>> {
    let bytes = scanner.bytes;
    let start = scanner.at;
    let digit = |at: usize| bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10);
    let mut at = start;
    let negative = bytes.get(at) == Some(&b'-');
    at += usize::from(negative);

    let mut mantissa = 0_u64;
    let whole_start = at;
    while let Some(value) = digit(at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(value));
        at += 1;
    }
    let mut digits = at - whole_start;
    if digits == 0 {
        return Err(malformed(scanner, at, "a digit"));
    }
    if digits > 1 && bytes[whole_start] == b'0' {
        return refuse(format!("expected a number without leading zeros at byte {whole_start}"));
    }
    let mut exponent = 0_i32;
    let mut plain = true;
    let mut truncated = false;
    if bytes.get(at) == Some(&b'.') {
        plain = false;
        at += 1;
        let fraction_start = at;
        while let Some(value) = digit(at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(value));
            at += 1;
        }
        if at == fraction_start {
            return Err(malformed(scanner, at, "a digit after the decimal point"));
        }
        digits += at - fraction_start;
        // Saturates only if `digits` sets `truncated` anyway.
        exponent = -i32::try_from(at - fraction_start).unwrap_or(i32::MAX);
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        plain = false;
        at += 1;
        let down = bytes.get(at) == Some(&b'-');
        at += usize::from(down || bytes.get(at) == Some(&b'+'));
        let exponent_start = at;
        let mut written = 0_i32;
        while let Some(value) = digit(at) {
            written = written.saturating_mul(10).saturating_add(i32::from(value));
            at += 1;
        }
        if at == exponent_start {
            return Err(malformed(scanner, at, "a digit in the exponent"));
        }
        truncated = written > MAX_EXPONENT;
        exponent = exponent.saturating_add(if down { -written } else { written });
    }
    scanner.at = at;
    truncated |= digits > MAX_DIGITS;
    Ok(Number { body: scanner.text, start, end: at, negative, mantissa, exponent, truncated, plain })
}

#[cold]
fn malformed(scanner: &mut Scanner<'_>, at: usize, wanted: &str) -> Box<DecodeError> {
    if scanner.text[scanner.at..].starts_with("-I") {
        return scanner.unexpected("a number");
    }
    scanner.at = at;
    scanner.unexpected(wanted)
}

impl<'a> Number<'a> {
    pub(super) fn text(&self) -> &'a str {
        &self.body[self.start..self.end]
    }

    /// The magnitude by one multiplication or division of f64s. It is rounded once if the mantissa has at
    /// most 53 bits (Clinger, "How to Read Floating Point Numbers Accurately", 1990).
    #[inline(always)]
    fn scaled(&self) -> Option<f64> {
        let power = POWERS.get(self.exponent.unsigned_abs() as usize)?;
        if self.truncated {
            return None;
        }
        let mantissa = self.mantissa as f64;
        Some(if self.exponent < 0 { mantissa / power } else { mantissa * power })
    }

    #[inline]
    pub(super) fn f64(&self) -> f64 {
        match self.scaled() {
            Some(value) if self.mantissa <= 1 << 53 => self.sign(value),
            _ => self.text().parse().expect("every JSON number is a number of Rust"),
        }
    }

    pub(super) fn f32(&self) -> f32 {
        match self.scaled() {
            Some(value) if rounds_to_f32(value) => self.sign(value) as f32,
            _ => self.text().parse().expect("every JSON number is a number of Rust"),
        }
    }

    #[inline(always)]
    fn sign(&self, magnitude: f64) -> f64 {
        if self.negative { -magnitude } else { magnitude }
    }

    /// The whole number, however it is written (`3`, `3.0`, `1e2`). `None` if it has a fraction
    /// ([`Self::has_fraction`]) or is out of every integer type's range.
    #[inline]
    pub(super) fn integer(&self) -> Option<i128> {
        let magnitude =
            if self.plain && !self.truncated { i128::from(self.mantissa) } else { self.integer_slow()? };
        Some(if self.negative { -magnitude } else { magnitude })
    }

    #[cold]
    fn integer_slow(&self) -> Option<i128> {
        let (digits, exponent) = self.significant();
        if digits.is_empty() {
            return Some(0);
        }
        // 20 digits hold every u64.
        if exponent < 0 || digits.len() as i64 + exponent > 20 {
            return None;
        }
        digits.parse::<i128>().ok()?.checked_mul(10_i128.pow(u32::try_from(exponent).ok()?))
    }

    pub(super) fn has_fraction(&self) -> bool {
        let (digits, exponent) = self.significant();
        !digits.is_empty() && exponent < 0
    }

    /// The digits without zeros at either end, and the power of ten that multiplies them.
    fn significant(&self) -> (String, i64) {
        let unsigned = self.text().trim_start_matches('-');
        let (mantissa, written) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        // An exponent that does not parse has more than 18 digits, and is out of every range.
        let far = if written.starts_with('-') { i64::MIN / 4 } else { i64::MAX / 4 };
        let written = written.parse::<i64>().unwrap_or(far).clamp(i64::MIN / 4, i64::MAX / 4);
        let digits = format!("{whole}{fraction}");
        let trimmed = digits.trim_end_matches('0');
        let exponent = written - fraction.len() as i64 + (digits.len() - trimmed.len()) as i64;
        (trimmed.trim_start_matches('0').to_owned(), exponent)
    }

    /// The number for a message, shortened if it is long.
    pub(super) fn shortened(&self) -> String {
        let text = self.text();
        if text.len() > 40 { format!("{}…", &text[..40]) } else { text.to_owned() }
    }
}
