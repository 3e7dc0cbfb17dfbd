//! Numbers from their digits, correctly rounded: what comes out equals `str::parse` bit for bit.

use super::scanner::Scanner;
use crate::decode::error::{DecodeError, Decoded};

/// A JSON number as it stands in the body: `(-1)^negative * mantissa * 10^exponent`, unless `truncated`.
pub(super) struct Number<'a> {
    body: &'a str,
    start: usize,
    end: usize,
    pub(super) negative: bool,
    pub(super) mantissa: u64,
    pub(super) exponent: i32,
    /// More than 19 significant digits, or an absurd exponent: only the text is exact.
    pub(super) truncated: bool,
    /// Neither a fraction nor an exponent was written.
    pub(super) plain: bool,
}

/// As many digits as always fit an u64.
const MAX_DIGITS: usize = 19;

/// Whether an f64 a few units off in its last place still rounds to the right f32: not where it lies so close to the middle
/// between two f32s that its own error (three roundings, at most three units) could have carried it across, nor where it is
/// so small that an f32 has fewer bits.
#[inline(always)]
pub(super) fn rounds_to_f32(value: f64) -> bool {
    /// The bits that an f32 drops, and the middle of what they count.
    const DROPPED: u64 = (1 << 29) - 1;
    const MIDDLE: u64 = 1 << 28;
    const MARGIN: u64 = 8;
    let distance = (value.to_bits() & DROPPED).abs_diff(MIDDLE);
    distance > MARGIN && (value >= f64::from(f32::MIN_POSITIVE) || value == 0.0)
}

/// Reads any number by JSON's grammar, byte by byte. The next byte must be `-` or a digit.
pub(super) fn scan<'a>(scanner: &mut Scanner<'a>) -> Decoded<Number<'a>> {
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
        return Err(DecodeError::new(format!(
            "expected a number without leading zeros at byte {whole_start}"
        )));
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
        // Saturates only where `digits` says truncated anyway.
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
        truncated = written > 9999;
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

/// The powers of ten that an f64 holds exactly.
pub(super) const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

impl<'a> Number<'a> {
    pub(super) fn text(&self) -> &'a str {
        &self.body[self.start..self.end]
    }

    /// The magnitude by one multiplication or division of f64s, each exact but for its last rounding where the mantissa
    /// has at most 53 bits (Clinger, "How to Read Floating Point Numbers Accurately", 1990).
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
            _ => self.text().parse().expect("JSON's numbers are a part of Rust's"),
        }
    }

    pub(super) fn f32(&self) -> f32 {
        match self.scaled() {
            Some(value) if rounds_to_f32(value) => self.sign(value) as f32,
            _ => self.text().parse().expect("JSON's numbers are a part of Rust's"),
        }
    }

    #[inline(always)]
    fn sign(&self, magnitude: f64) -> f64 {
        if self.negative { -magnitude } else { magnitude }
    }

    /// The whole number that this is, however it is written (`3`, `3.0`, `1e2`); none when it has a fraction or is beyond
    /// what any integer type holds, and then [`Self::has_fraction`] tells which.
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

    /// The digits without zeros at either end, and the power of ten to multiply them by.
    fn significant(&self) -> (String, i64) {
        let unsigned = self.text().trim_start_matches('-');
        let (mantissa, written) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        // Only an exponent of more than 18 digits does not parse: as far out of every range as any.
        let far = if written.starts_with('-') { i64::MIN / 4 } else { i64::MAX / 4 };
        let written = written.parse::<i64>().unwrap_or(far).clamp(i64::MIN / 4, i64::MAX / 4);
        let digits = format!("{whole}{fraction}");
        let trimmed = digits.trim_end_matches('0');
        let exponent = written - fraction.len() as i64 + (digits.len() - trimmed.len()) as i64;
        (trimmed.trim_start_matches('0').to_owned(), exponent)
    }

    /// The number as messages show it: cut when it is long.
    pub(super) fn shortened(&self) -> String {
        let text = self.text();
        if text.len() > 40 { format!("{}…", &text[..40]) } else { text.to_owned() }
    }
}
