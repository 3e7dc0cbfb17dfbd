//! Numbers from their digits, correctly rounded: what comes out equals `str::parse` bit for bit.

use super::fault::{Fault, Read};
use super::scanner::Scanner;

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

const EACH: u64 = 0x0101_0101_0101_0101;

/// For each of eight bytes less `'0'`, its high bit where it is no digit. Carries stay inside their bytes.
#[inline(always)]
fn others(values: u64) -> u64 {
    (((values & (EACH * 0x7f)) + EACH * 0x76) | values) & (EACH * 0x80)
}

/// The number that eight digits spell, the first in the lowest byte, each less `'0'`. No branch depends on how many there
/// are, so numbers of mixed lengths do not stall the processor (Lemire, "Number Parsing at a Gigabyte per Second", 2021).
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let twos = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (twos & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let high = ((twos >> 16) & PAIRS).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
}

/// The digits at the start of eight bytes: their value and how many they are.
#[inline(always)]
fn leading_digits(word: [u8; 8]) -> (u64, usize) {
    let values = u64::from_le_bytes(word) ^ (EACH * 0x30);
    let count = others(values).trailing_zeros() as usize / 8;
    // The digits move to the end, zeros go before them; in two steps, since shifting by 64 is no shift.
    let digits = (values << (4 * (8 - count))) << (4 * (8 - count));
    (eight_digits(digits), count)
}

const WORD_POWERS: [u64; 9] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// A usual number: fewer than 8 digits before the point, [`SHORT_DIGITS`] in all, no exponent.
struct Short {
    negative: bool,
    mantissa: i64,
    /// Digits behind the point.
    fraction: usize,
    end: usize,
}

/// As many digits as always fit an i64, which turns into a float in one instruction.
const SHORT_DIGITS: usize = 18;

/// Reads eight bytes at a time. Answers none for numbers that are not usual, malformed, or at the very end of the body.
#[inline(always)]
fn short(bytes: &[u8], start: usize) -> Option<Short> {
    let negative = bytes.get(start) == Some(&b'-');
    let whole_start = start + usize::from(negative);
    let word = |at: usize| bytes.get(at..at + 8).and_then(|slice| slice.try_into().ok()).map(leading_digits);
    let (mut mantissa, whole) = word(whole_start)?;
    if whole == 0 || whole == 8 || (whole > 1 && bytes[whole_start] == b'0') {
        return None;
    }
    let mut end = whole_start + whole;
    let mut fraction = 0;
    if bytes[end] == b'.' {
        loop {
            let (value, count) = word(end + 1 + fraction)?;
            fraction += count;
            if whole + fraction > SHORT_DIGITS {
                return None;
            }
            mantissa = mantissa * WORD_POWERS[count] + value;
            if count < 8 {
                break;
            }
        }
        if fraction == 0 {
            return None;
        }
        end += 1 + fraction;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        return None;
    }
    Some(Short { negative, mantissa: mantissa as i64, fraction, end })
}

/// The shortest numbers, which are most: up to 7 bytes with their point, read from the body as one word.
#[inline(always)]
fn tiny(bytes: &[u8], start: usize) -> Option<Short> {
    let negative = bytes.get(start) == Some(&b'-');
    let at = start + usize::from(negative);
    let word: &[u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
    let values = u64::from_le_bytes(*word) ^ (EACH * 0x30);
    let others = others(values);
    let whole = others.trailing_zeros() as usize / 8;
    if whole == 0 || whole == 8 || (whole > 1 && word[0] == b'0') {
        return None;
    }
    let (mut digits, mut count, mut end) = (values, whole, whole);
    if word[whole] == b'.' {
        end = (others & (others - 1)).trailing_zeros() as usize / 8;
        if end == 8 || end == whole + 1 {
            return None;
        }
        // Closes the gap that the point leaves: everything below its byte stays, everything above moves down.
        let before = ((others & others.wrapping_neg()) >> 7) - 1;
        digits = (values & before) | ((values >> 8) & !before);
        count = end - 1;
    }
    if word[end] | 0x20 == b'e' {
        return None;
    }
    let mantissa = eight_digits(digits << (8 * (8 - count))) as i64;
    Some(Short { negative, mantissa, fraction: count - whole, end: at + end })
}

/// The f64 that comes next, where it is a usual number whose value one exact division gives.
#[inline(always)]
pub(super) fn short_f64(scanner: &mut Scanner<'_>) -> Option<f64> {
    let usual = || short(scanner.bytes, scanner.at).filter(|short| short.mantissa <= 1 << 53);
    let Short { negative, mantissa, fraction, end } = tiny(scanner.bytes, scanner.at).or_else(usual)?;
    scanner.at = end;
    let value = mantissa as f64 / POWERS[fraction];
    Some(if negative { -value } else { value })
}

/// The f32 that comes next, where it is a usual number that is not too close to the middle between two f32s.
#[inline(always)]
pub(super) fn short_f32(scanner: &mut Scanner<'_>) -> Option<f32> {
    /// f32 holds these exactly, as it does every whole number of 7 digits: one division rounds once.
    const POWERS: [f32; 8] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];
    let (negative, value, end) = match tiny(scanner.bytes, scanner.at) {
        Some(tiny) => (tiny.negative, tiny.mantissa as f32 / POWERS[tiny.fraction & 7], tiny.end),
        None => {
            let Short { negative, mantissa, fraction, end } = short(scanner.bytes, scanner.at)?;
            let value = mantissa as f64 * INVERSES[fraction];
            if !rounds_to_f32(value) {
                return None;
            }
            (negative, value as f32, end)
        }
    };
    scanner.at = end;
    Some(if negative { -value } else { value })
}

/// The whole number that comes next, where it is a usual one without a fraction.
#[inline(always)]
pub(super) fn short_integer(scanner: &mut Scanner<'_>) -> Option<i64> {
    let Short { negative, mantissa, fraction, end } = tiny(scanner.bytes, scanner.at)?;
    if fraction > 0 {
        return None;
    }
    scanner.at = end;
    Some(if negative { -mantissa } else { mantissa })
}

/// Whether an f64 a few units off in its last place still rounds to the right f32: not where it lies so close to the middle
/// between two f32s that its own error (three roundings, at most three units) could have carried it across, nor where it is
/// so small that an f32 has fewer bits.
#[inline(always)]
fn rounds_to_f32(value: f64) -> bool {
    /// The bits that an f32 drops, and the middle of what they count.
    const DROPPED: u64 = (1 << 29) - 1;
    const MIDDLE: u64 = 1 << 28;
    const MARGIN: u64 = 8;
    let distance = (value.to_bits() & DROPPED).abs_diff(MIDDLE);
    distance > MARGIN && (value >= f64::from(f32::MIN_POSITIVE) || value == 0.0)
}

/// Reads any number by JSON's grammar, byte by byte. The next byte must be `-` or a digit.
pub(super) fn scan<'a>(scanner: &mut Scanner<'a>) -> Read<Number<'a>> {
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
        return Err(Fault::new(format!("expected a number without leading zeros at byte {whole_start}")));
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
fn malformed(scanner: &mut Scanner<'_>, at: usize, wanted: &str) -> Box<Fault> {
    if scanner.text[scanner.at..].starts_with("-I") {
        return scanner.unexpected("a number");
    }
    scanner.at = at;
    scanner.unexpected(wanted)
}

/// The powers of ten that an f64 holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Their inverses, each the nearest f64.
const INVERSES: [f64; SHORT_DIGITS + 1] = [
    1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15,
    1e-16, 1e-17, 1e-18,
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
    pub(super) fn shown(&self) -> String {
        let text = self.text();
        if text.len() > 40 { format!("{}…", &text[..40]) } else { text.to_owned() }
    }
}
