//! JSON numbers straight from the bytes, without a copy: floats rounded exactly as `str::parse` rounds them, integers
//! by value (`3.0` and `1e2` are integers, `3.5` is not).

use super::scanner::Scanner;
use crate::error::Rejection;

/// A number's digits: ±mantissa × 10^exponent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number<'a> {
    pub(crate) text: &'a [u8],
    negative: bool,
    /// All digits as one number; meaningless unless `exact`.
    mantissa: u64,
    exponent: i64,
    exact: bool,
}

/// Reads one number by JSON's grammar.
#[inline(always)]
pub(crate) fn scan<'a>(scanner: &mut Scanner<'a>) -> Result<Number<'a>, Rejection> {
    scanner.peek();
    let bytes = scanner.bytes;
    let from = scanner.at;
    let mut at = from;
    let negative = bytes.get(at) == Some(&b'-');
    at += usize::from(negative);

    let (mut mantissa, whole_from) = (0u64, at);
    digits(bytes, &mut at, &mut mantissa);
    let mut count = at - whole_from;
    if count == 0 || (count > 1 && bytes[whole_from] == b'0') {
        return Err(not_a_number(scanner, if count == 0 { at } else { whole_from + 1 }));
    }
    let mut exponent = 0;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let fraction_from = at;
        digits(bytes, &mut at, &mut mantissa);
        let fraction = at - fraction_from;
        if fraction == 0 {
            return Err(not_a_number(scanner, at));
        }
        count += fraction;
        exponent = -(fraction as i64);
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        exponent += power(scanner, bytes, &mut at)?;
    }
    scanner.at = at;
    // 19 digits always fit 64 bits; leading zeros are counted too, which only costs such numbers the fast path.
    Ok(Number { text: &bytes[from..at], negative, mantissa, exponent, exact: count <= 19 })
}

/// Adds decimal digits to `mantissa`, which wraps when there are too many; the caller counts them.
#[inline(always)]
fn digits(bytes: &[u8], at: &mut usize, mantissa: &mut u64) {
    while let Some(digit) = bytes.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        *at += 1;
    }
}

fn power(scanner: &mut Scanner<'_>, bytes: &[u8], at: &mut usize) -> Result<i64, Rejection> {
    *at += 1;
    let negative = bytes.get(*at) == Some(&b'-');
    *at += usize::from(matches!(bytes.get(*at), Some(b'-' | b'+')));
    let (from, mut power) = (*at, 0i64);
    while let Some(digit @ b'0'..=b'9') = bytes.get(*at) {
        // No body is long enough for its digits to outweigh such a power.
        power = (power * 10 + i64::from(digit - b'0')).min(1 << 48);
        *at += 1;
    }
    if *at == from {
        return Err(not_a_number(scanner, *at));
    }
    Ok(if negative { -power } else { power })
}

#[cold]
fn not_a_number(scanner: &mut Scanner<'_>, at: usize) -> Rejection {
    if scanner.literal("-Infinity") {
        scanner.at -= "-Infinity".len();
    } else {
        scanner.at = at;
    }
    scanner.unexpected("a number as JSON writes it")
}

const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

impl Number<'_> {
    /// Clinger's fast path: mantissa and power are both exact in 64 bits, so one operation rounds correctly.
    #[inline]
    fn simple_f64(&self) -> Option<f64> {
        if !self.exact || self.mantissa > 1 << 53 || self.exponent.unsigned_abs() > 22 {
            return None;
        }
        let power = POWERS[self.exponent.unsigned_abs() as usize];
        let mantissa = self.mantissa as f64;
        let value = if self.exponent < 0 { mantissa / power } else { mantissa * power };
        Some(if self.negative { -value } else { value })
    }

    /// Correctly rounded; infinite when too large.
    #[inline]
    pub(crate) fn f64(&self) -> f64 {
        self.simple_f64().unwrap_or_else(|| self.parse())
    }

    /// Correctly rounded; infinite when too large.
    #[inline]
    pub(crate) fn f32(&self) -> f32 {
        match self.simple_f64() {
            // Rounding twice errs only where the first rounding lands on the midpoint of two f32 (29 bits fewer), or
            // among the subnormal ones, whose midpoints lie elsewhere.
            Some(wide) if wide == 0.0 => wide as f32,
            Some(wide)
                if wide.to_bits() & 0x1FFF_FFFF != 0x1000_0000
                    && wide.abs() >= f64::from(f32::MIN_POSITIVE) =>
            {
                wide as f32
            }
            _ => self.parse(),
        }
    }

    /// The value, where it is a whole number within 64 bits.
    #[inline]
    pub(crate) fn integer(&self) -> Result<i128, NotWhole> {
        let magnitude = if self.exact && self.exponent == 0 { self.mantissa.into() } else { self.whole()? };
        Ok(if self.negative { -magnitude } else { magnitude })
    }

    #[cold]
    fn whole(&self) -> Result<i128, NotWhole> {
        let mantissa = self.text.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
        // `exponent` counts from the last digit; count from the last that is not zero instead.
        let digits: Vec<u8> =
            mantissa.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
        let Some(last) = digits.iter().rposition(|digit| *digit != 0) else { return Ok(0) };
        let zeros = self.exponent + (digits.len() - 1 - last) as i64;
        if zeros < 0 {
            return Err(NotWhole::Fraction);
        }
        let mut value = 0i128;
        for digit in digits[..=last].iter().copied().chain(std::iter::repeat_n(0, zeros.min(64) as usize)) {
            value = value * 10 + i128::from(digit);
            if value > i128::from(u64::MAX) {
                return Err(NotWhole::TooLarge);
            }
        }
        Ok(value)
    }

    fn parse<F: std::str::FromStr<Err = std::num::ParseFloatError>>(&self) -> F {
        let text = std::str::from_utf8(self.text).expect("a scanned number is ASCII");
        text.parse().expect("JSON's grammar for numbers is a part of Rust's")
    }
}

/// Why a number is none of the integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotWhole {
    Fraction,
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number<'_> {
        let mut scanner = Scanner::new(text.as_bytes());
        let number = scan(&mut scanner).unwrap();
        scanner.end().unwrap();
        number
    }

    fn assert_as_std(text: &str) {
        assert_eq!(number(text).f64().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text} as f64");
        assert_eq!(number(text).f32().to_bits(), text.parse::<f32>().unwrap().to_bits(), "{text} as f32");
    }

    #[test]
    fn hard_floats_round_as_in_std() {
        for text in [
            "0",
            "-0",
            "0.0",
            "-0.0e5",
            "1",
            "0.1",
            "13.2",
            "16777217",
            "16777217.0000001",
            "16777216.9999999",
            "9007199254740993",
            "9007199254740992.5",
            "1e22",
            "1e23",
            "1e-22",
            "1e-23",
            "3.4028235e38",
            "3.4028236e38",
            "1e39",
            "1e400",
            "-1e400",
            "1e-400",
            "1.1754943e-38",
            "1.4e-45",
            "7e-46",
            "5e-324",
            "2.2250738585072011e-308",
            "0.000000000000000000000000000000000000011754943508222875",
            "123456789012345678901234567890",
            "0.10000000149011611938476562500",
            "8.5899345930e9",
            "1E+2",
            "1e-0",
            "0e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            assert_as_std(text);
        }
    }

    #[test]
    fn integers_are_taken_by_value() {
        for (text, value) in [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("-0.0", Ok(0)),
            ("3.0", Ok(3)),
            ("-3.00e0", Ok(-3)),
            ("1e2", Ok(100)),
            ("150e-1", Ok(15)),
            ("1.5e1", Ok(15)),
            ("18446744073709551615", Ok(u64::MAX.into())),
            ("-9223372036854775808", Ok(i64::MIN.into())),
            ("1.00000000000000000000000000000000000000000000", Ok(1)),
            ("18446744073709551616", Err(NotWhole::TooLarge)),
            ("1e999999999999", Err(NotWhole::TooLarge)),
            ("0e999999999999", Ok(0)),
            ("3.5", Err(NotWhole::Fraction)),
            ("15e-2", Err(NotWhole::Fraction)),
            ("1e-999999999999", Err(NotWhole::Fraction)),
        ] {
            assert_eq!(number(text).integer(), value, "{text}");
        }
    }

    #[test]
    fn other_grammars_are_refused() {
        for text in ["", "-", "+1", ".5", "1.", "01", "-01", "1e", "1e+", "1.e5", "0x10", "1_0", "--1"] {
            let mut scanner = Scanner::new(text.as_bytes());
            assert!(scan(&mut scanner).and_then(|_| scanner.end()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_decimal_rounds_as_in_std(text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?([eE][-+]?[0-9]{1,3})?") {
            assert_as_std(&text);
        }

        #[test]
        fn short_decimals_round_as_in_std(text in "-?[1-9][0-9]{0,8}(\\.[0-9]{1,9})?(e-?[0-9]{1,2})?") {
            assert_as_std(&text);
        }

        #[test]
        fn what_std_prints_comes_back(bits: u64) {
            let (wide, narrow) = (f64::from_bits(bits), f32::from_bits(bits as u32));
            prop_assume!(wide.is_finite() && narrow.is_finite());
            assert_as_std(&format!("{wide:?}"));
            assert_as_std(&format!("{narrow:?}"));
            assert_as_std(&format!("{narrow:e}"));
        }

        /// The decimal expansion of a midpoint between two f32, and its neighbours one digit up and down.
        #[test]
        fn midpoints_round_as_in_std(mantissa in (1u64 << 23)..(1 << 24), shift in 0u32..28) {
            let twice = (mantissa << 1) + 1;
            assert_as_std(&format!("{}", (twice << shift)));
            assert_as_std(&format!("{}.0000000000000001", (twice << shift)));
            assert_as_std(&format!("{}", (twice << shift) - 1));
            assert_as_std(&format!("{:?}", twice as f64 / 1024.0));
        }

        #[test]
        fn every_integer_comes_back(unsigned: u64, signed: i64) {
            prop_assert_eq!(number(&unsigned.to_string()).integer(), Ok(unsigned.into()));
            prop_assert_eq!(number(&signed.to_string()).integer(), Ok(signed.into()));
            prop_assert_eq!(number(&format!("{signed}.000")).integer(), Ok(signed.into()));
        }
    }
}
