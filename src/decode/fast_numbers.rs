//! A fast path for numbers of fewer than 19 digits without an exponent, eight bytes at a time. Other numbers,
//! malformed ones and those in the last bytes of the body are left to [`super::number`], which gives the same
//! results byte by byte.

use half::{bf16, f16};

use super::number::{POWERS, odd_f32, rounds_to_f32};
use super::scanner::Scanner;

/// `(-1)^negative * mantissa / 10^fraction`.
pub(super) struct FastNumber {
    negative: bool,
    mantissa: i64,
    /// Digits behind the point.
    fraction: usize,
    length: usize,
}

/// A type that fast numbers convert to.
pub(super) trait FromFast: Copy + Default {
    /// `None` if the result may be inexact or is out of range.
    fn from_long(number: &FastNumber) -> Option<Self>;

    /// For numbers of at most 7 digits.
    #[inline(always)]
    fn from_short(number: &FastNumber) -> Option<Self> {
        Self::from_long(number)
    }
}

impl FastNumber {
    #[inline(always)]
    fn signed<T: std::ops::Neg<Output = T>>(&self, magnitude: T) -> T {
        if self.negative { -magnitude } else { magnitude }
    }
}

/// Reads the next number, if it is a fast one.
#[inline(always)]
pub(super) fn read_fast<T: FromFast>(scanner: &mut Scanner<'_>) -> Option<T> {
    let bytes = scanner.bytes.get(scanner.at..)?;
    let (value, length) = match short(bytes) {
        Some(number) => (T::from_short(&number)?, number.length),
        None => {
            let number = long(bytes)?;
            (T::from_long(&number)?, number.length)
        }
    };
    if bytes.get(length).is_some_and(|byte| byte | 0x20 == b'e') {
        return None;
    }
    scanner.at += length;
    Some(value)
}

/// Appends the next numbers of a list as long as they are fast ones, `most` at most, with a `,` and at most
/// one space between them. Returns their number, and consumes nothing behind the last one.
#[inline(never)]
pub(super) fn read_run<T: FromFast>(scanner: &mut Scanner<'_>, out: &mut Vec<T>, most: usize) -> usize {
    scanner.peek();
    let begin = out.len();
    out.resize(begin + most, T::default());
    let count = fill(scanner, &mut out[begin..]);
    out.truncate(begin + count);
    count
}

#[inline(always)]
fn fill<T: FromFast>(scanner: &mut Scanner<'_>, places: &mut [T]) -> usize {
    let bytes = scanner.bytes;
    let mut at = scanner.at;
    // A guess: the processor need not wait for the bytes before a number to know its start.
    let step = 1 + usize::from(scanner.is_spaced);
    let mut count = 0;
    for place in places {
        let Some(window) = bytes.get(at..).and_then(|rest| rest.first_chunk::<WINDOW>()) else { break };
        let delimiters = delimiters(word(window));
        let (value, length, ahead) = match layout_of(window, delimiters) {
            Some((layout, values)) => {
                let number = layout.number(values, first(delimiters));
                let after = usize::from(layout.end) & 7;
                (T::from_short(&number), number.length, [window[after], window[after + 1]])
            }
            None => {
                let Some(number) = long(&bytes[at..]) else { break };
                let ahead = bytes.get(at + number.length..).and_then(|rest| rest.first_chunk::<2>());
                let Some(ahead) = ahead else { break };
                (T::from_long(&number), number.length, *ahead)
            }
        };
        let Some(value) = value else { break };
        if ahead[0] != b',' && ahead[0] != b']' {
            break;
        }
        *place = value;
        count += 1;
        at += length;
        scanner.at = at;
        if ahead[0] == b']' {
            break;
        }
        if (ahead[1] == b' ') != (step == 2) {
            scanner.is_spaced = ahead[1] == b' ';
            break;
        }
        at += step;
    }
    count
}

const EACH: u64 = 0x0101_0101_0101_0101;

/// Bytes that [`layout_of`] may look at: a word, and one behind it.
const WINDOW: usize = 9;

#[inline(always)]
fn word(window: &[u8; WINDOW]) -> u64 {
    u64::from_le_bytes(*window.first_chunk().expect("a window is longer than a word"))
}

/// The high bit of each of eight bytes that is no digit, given the bytes minus `'0'`. Carries stay inside
/// their bytes.
#[inline(always)]
fn others(values: u64) -> u64 {
    (((values & (EACH * 0x7f)) + EACH * 0x76) | values) & (EACH * 0x80)
}

/// The high bit of each of eight bytes that no number without an exponent contains: all but digits, `.`, `-`
/// and `/`.
#[inline(always)]
fn delimiters(word: u64) -> u64 {
    let from_minus = (word | (EACH * 0x80)) - EACH * 0x2d;
    let above_nine = (word & (EACH * 0x7f)) + EACH * 0x46;
    (!from_minus | above_nine | word) & (EACH * 0x80)
}

/// The index of the first byte whose high bit is set; 8 if there is none.
#[inline(always)]
fn first(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}

/// The value of eight digits minus `'0'`, the first in the lowest byte. No branch depends on the number of
/// digits, so mixed lengths do not stall the processor (Lemire, "Number Parsing at a Gigabyte per Second",
/// 2021).
#[inline(always)]
fn eight_digits(digits: u64) -> u64 {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let twos = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (twos & PAIRS).wrapping_mul(100 + (1_000_000 << 32));
    let high = ((twos >> 16) & PAIRS).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
}

/// The layout of a number of up to 7 bytes: the places of its sign, its point and its end.
#[derive(Clone, Copy)]
struct Layout {
    /// A mask of the sign and the point, and the bytes that they must be.
    signs: u64,
    are: u64,
    /// A mask of the digits before the point, and of those behind it once they have moved into its place.
    whole: u64,
    behind: u64,
    /// A mask of the first digit, which must not be zero if several precede the point; `single` is 1 if only
    /// one does.
    leading: u16,
    single: u16,
    /// Bits by which the digits move to the end of their word.
    shift: u8,
    fraction: u8,
    end: u8,
    negative: bool,
}

/// Layouts by the places of the bytes that are no digits, up to the number's end.
static LAYOUTS: [Layout; 256] = {
    /// For bytes that are no number: the first byte is never what it must be.
    const NONE: Layout = Layout {
        signs: 0,
        are: 1,
        whole: 0,
        behind: 0,
        leading: 0,
        single: 0,
        shift: 0,
        fraction: 0,
        end: 0,
        negative: false,
    };
    let mut all = [NONE; 256];
    let mut end = 1;
    while end < 8 {
        let mut sign = 0;
        while sign < 2 {
            // A point right before the end makes no number.
            let mut point = sign + 1;
            while point <= end {
                if point + 1 != end {
                    all[sign | 1 << point | 1 << end] = layout(sign, point, end);
                }
                point += 1;
            }
            sign += 1;
        }
        end += 1;
    }
    all
};

/// The layout of a number with `sign` signs, 0 or 1, and its point and end at these bytes.
const fn layout(sign: usize, point: usize, end: usize) -> Layout {
    const fn byte(at: usize, byte: u8) -> u64 {
        (byte as u64) << (8 * at)
    }
    const fn before(at: usize) -> u64 {
        (1 << (8 * at)) - 1
    }
    let has_point = point < end;
    let digits_end = if has_point { end - 1 } else { end };
    let is_single = point == sign + 1;
    Layout {
        signs: byte(0, 0xff * sign as u8) | byte(point, 0xff * has_point as u8),
        are: byte(0, (b'-' ^ b'0') * sign as u8) | byte(point, (b'.' ^ b'0') * has_point as u8),
        whole: before(point) ^ before(sign),
        behind: before(digits_end) ^ before(point),
        leading: if is_single { 0 } else { 0xff << (8 * sign) },
        single: is_single as u16,
        shift: 64 - 8 * digits_end as u8,
        fraction: (digits_end - point) as u8,
        end: end as u8,
        negative: sign == 1,
    }
}

impl Layout {
    /// `length` equals the layout's end, and is known earlier.
    #[inline(always)]
    fn number(&self, values: u64, length: usize) -> FastNumber {
        let digits = (values & self.whole) | ((values >> 8) & self.behind);
        FastNumber {
            negative: self.negative,
            mantissa: eight_digits(digits << (self.shift & 63)) as i64,
            fraction: usize::from(self.fraction),
            length,
        }
    }
}

/// The layout of the short number in `window`, and the bytes minus `'0'`. The caller checks the byte behind
/// the number.
#[inline(always)]
fn layout_of(window: &[u8; WINDOW], delimiters: u64) -> Option<(&'static Layout, u64)> {
    if delimiters == 0 {
        return None;
    }
    let values = word(window) ^ (EACH * 0x30);
    let places = others(values) & (delimiters ^ delimiters.wrapping_sub(1));
    // Gathers the high bits of all bytes in the highest byte.
    let layout = &LAYOUTS[(places.wrapping_mul(0x0002_0408_1020_4081) >> 56) as usize];
    let is_number =
        values & layout.signs == layout.are && (values as u16 & layout.leading) | layout.single != 0;
    is_number.then_some((layout, values))
}

/// A number of up to 7 bytes.
#[inline(always)]
fn short(bytes: &[u8]) -> Option<FastNumber> {
    let window = bytes.first_chunk()?;
    let delimiters = delimiters(word(window));
    let (layout, values) = layout_of(window, delimiters)?;
    Some(layout.number(values, first(delimiters)))
}

/// Digits that always fit into an i64, which one instruction converts to a float.
const LONG_DIGITS: usize = 18;

/// A number of more than 7 bytes and at most [`LONG_DIGITS`] digits.
#[inline(always)]
fn long(bytes: &[u8]) -> Option<FastNumber> {
    let (head, tail) = bytes.split_first_chunk()?;
    let word = u64::from_le_bytes(*head) ^ (EACH * 0x30);
    let negative = head[0] == b'-';
    let sign = usize::from(negative);
    // The sign counts as a digit 0 from here on.
    let values = if negative { word & !0xff } else { word };
    let others = others(values);
    let (mantissa, whole, fraction, length);
    if others == 0 {
        let (number, more) = digits(tail, eight_digits(values))?;
        whole = 8 - sign + more;
        if tail[more] == b'.' {
            (mantissa, fraction) = digits(&tail[more + 1..], number)?;
            length = 8 + more + 1 + fraction;
            if fraction == 0 {
                return None;
            }
        } else {
            (mantissa, fraction, length) = (number, 0, 8 + more);
        }
    } else {
        let point = first(others);
        if others & (others - 1) != 0 || head[point] != b'.' {
            return None;
        }
        let before = (1 << (8 * point)) - 1;
        let closed = (values & before) | ((values >> 8) & !before);
        let more;
        (mantissa, more) = digits(tail, eight_digits(closed << 8))?;
        (whole, fraction, length) = (point - sign, 7 - point + more, 8 + more);
        if whole == 0 || fraction == 0 {
            return None;
        }
    }
    if whole + fraction > LONG_DIGITS || (whole > 1 && head[sign] == b'0') {
        return None;
    }
    Some(FastNumber { negative, mantissa: mantissa as i64, fraction, length })
}

/// Appends the next digits to those of `number`; returns the result and the number of digits. Wrong beyond 19
/// digits in all.
#[inline(always)]
fn digits(bytes: &[u8], mut number: u64) -> Option<(u64, usize)> {
    const POWERS: [u64; 8] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];
    let mut at = 0;
    loop {
        let word: &[u8; 8] = bytes.get(at..)?.first_chunk()?;
        let values = u64::from_le_bytes(*word) ^ (EACH * 0x30);
        let others = others(values);
        if others != 0 {
            let count = first(others);
            // Moves the digits to the end, behind zeros. Two steps, because a shift by 64 overflows.
            let last = eight_digits((values << (4 * (8 - count))) << (4 * (8 - count)));
            return Some((number.wrapping_mul(POWERS[count & 7]).wrapping_add(last), at + count));
        }
        // A step of constant length: the next word is loaded without waiting for this one.
        number = number.wrapping_mul(100_000_000).wrapping_add(eight_digits(values));
        at += 8;
        if at > LONG_DIGITS {
            return None;
        }
    }
}

/// Inverses of powers of ten, each the nearest f64.
const INVERSES: [f64; LONG_DIGITS + 1] = [
    1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15,
    1e-16, 1e-17, 1e-18,
];

impl FromFast for f32 {
    #[inline(always)]
    fn from_short(number: &FastNumber) -> Option<Self> {
        /// An f32 holds these and every whole number of 7 digits exactly, so one division rounds once.
        const POWERS: [f32; 8] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];
        Some(number.signed(number.mantissa as Self / POWERS[number.fraction & 7]))
    }

    #[inline(always)]
    fn from_long(number: &FastNumber) -> Option<Self> {
        let value = number.mantissa as f64 * INVERSES[number.fraction];
        rounds_to_f32(value).then_some(number.signed(value as Self))
    }
}

impl FromFast for f64 {
    #[inline(always)]
    fn from_long(number: &FastNumber) -> Option<Self> {
        let value = number.mantissa as Self / POWERS[number.fraction];
        (number.mantissa <= 1 << 53).then_some(number.signed(value))
    }
}

macro_rules! halves {
    ($($rust:ident),+) => { $(
        impl FromFast for $rust {
            #[inline(always)]
            fn from_long(number: &FastNumber) -> Option<Self> {
                let value = $rust::from_f32(odd_f32(f64::from_long(number)?));
                value.is_finite().then_some(value)
            }
        }
    )+ };
}
halves!(f16, bf16);

macro_rules! integers {
    ($($rust:ident),+) => { $(
        impl FromFast for $rust {
            #[inline(always)]
            fn from_long(number: &FastNumber) -> Option<Self> {
                if number.fraction > 0 { None } else { Self::try_from(number.signed(number.mantissa)).ok() }
            }
        }
    )+ };
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);
