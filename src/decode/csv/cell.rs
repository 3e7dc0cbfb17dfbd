//! Cells of a table in each type: numbers as in JSON, straight from the body, and the spellings of other
//! programs.

use half::{bf16, f16};

use super::reader::Reader;
use crate::decode::element::{DECLARE_MISSING, Element, decode_base64};
use crate::decode::error::{DecodeError, Decoded, quoted};
use crate::decode::scanner::Scanner;
use crate::for_each_element_type;
use crate::tensor::signature::ColumnRules;
use crate::tensor::{Composite, ElementType, Elements};

/// An element with further spellings beside those of JSON.
pub(super) trait FromCell: Element {
    /// The expected cell, for messages.
    const WANTED: &'static str;

    /// The value of an empty cell, if it may be empty.
    fn missing() -> Option<Self> {
        None
    }

    /// The value of a cell in another spelling than JSON's.
    fn from_spelling(text: &str) -> Option<Self>;

    fn read_cell(reader: &mut Reader<'_>) -> Decoded<Self> {
        // Nearly every cell is a plain number: it is read without looking for its end first.
        let begin = reader.scanner.at;
        if matches!(reader.scanner.bytes.get(begin), Some(b'-' | b'0'..=b'9')) {
            if let Ok(value) = Self::read_element(&mut reader.scanner)
                && reader.is_end_of_cell()
            {
                return Ok(value);
            }
            reader.scanner.at = begin;
        }
        let cell = reader.cell()?;
        Self::parse(cell.text.trim())
    }

    fn parse(text: &str) -> Decoded<Self> {
        if text.is_empty() {
            return Self::missing().ok_or_else(|| empty_cell(Self::WANTED));
        }
        if let Some(value) = Self::from_spelling(text) {
            return Ok(value);
        }
        let mut scanner = Scanner::new(text.as_bytes())?;
        let value = match scanner.peek() {
            Some(b'-' | b'0'..=b'9') => Self::read_element(&mut scanner)?,
            _ => return Err(Self::unexpected(text)),
        };
        if scanner.at < text.len() { Err(Self::unexpected(text)) } else { Ok(value) }
    }

    #[cold]
    fn unexpected(text: &str) -> Box<DecodeError> {
        DecodeError::new(format!("expected {}, got {}", Self::WANTED, quoted(text)))
    }
}

#[cold]
pub(super) fn empty_cell(wanted: &str) -> Box<DecodeError> {
    DecodeError::new(format!("expected {wanted}, got an empty cell")).with_hint(DECLARE_MISSING)
}

/// Reads a cell of a column that takes `true` and `false` for 1 and 0.
fn read_boolean<T: FromCell>(reader: &mut Reader<'_>) -> Decoded<T> {
    reader.takes_boolean().map_or_else(|| T::read_cell(reader), T::parse)
}

macro_rules! integers {
    ($($rust:ty),+) => { $(
        impl FromCell for $rust {
            const WANTED: &'static str = "a whole number";
            fn from_spelling(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )+ };
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! floats {
    ($($rust:ty),+) => { $(
        impl FromCell for $rust {
            const WANTED: &'static str = "a number";
            fn missing() -> Option<Self> {
                Some(<$rust>::NAN)
            }
            /// Rust's spellings: `.5`, `+1`, and in any case `nan` and `inf`.
            fn from_spelling(text: &str) -> Option<Self> {
                let value: $rust = text.parse().ok()?;
                let digits = text.trim_start_matches(['+', '-']);
                let is_word = digits.starts_with(|first: char| first.is_ascii_alphabetic());
                (is_word || !value.is_infinite()).then_some(value)
            }
        }
    )+ };
}
floats!(f16, bf16, f32, f64);

impl FromCell for bool {
    const WANTED: &'static str = "true or false (or 1 or 0)";

    /// `true` and `false` in any case: Python, R and spreadsheets write them differently.
    fn from_spelling(text: &str) -> Option<Self> {
        match text {
            _ if text.eq_ignore_ascii_case("true") => Some(true),
            _ if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }
}

impl FromCell for String {
    const WANTED: &'static str = "a string (\"\" for an empty one)";

    fn from_spelling(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    /// Spaces are part of the string. An empty string needs quotes, since an empty cell is a missing value.
    fn read_cell(reader: &mut Reader<'_>) -> Decoded<Self> {
        let cell = reader.cell()?;
        if cell.text.is_empty() && !cell.is_quoted {
            return Err(empty_cell(Self::WANTED));
        }
        Ok(cell.text.into_owned())
    }
}

/// Base64, as in JSON.
impl FromCell for Vec<u8> {
    const WANTED: &'static str = "base64";

    fn from_spelling(text: &str) -> Option<Self> {
        decode_base64(text).ok()
    }
}

/// Reads a row's cells. Cell `i` becomes element `begin + places[i]`, or is ignored.
fn fill<T: FromCell>(
    out: &mut [T],
    begin: usize,
    width: usize,
    places: Option<&[Option<usize>]>,
    rules: &ColumnRules,
    reader: &mut Reader<'_>,
) -> Decoded<()> {
    for column in 0..width {
        if column > 0 && !reader.comma() {
            return Err(reader.wrong_count(width, column));
        }
        let Some(place) = places.map_or(Some(column), |places| places[column]) else {
            reader.cell().map_err(|error| reader.place(error, column))?;
            continue;
        };
        let read = if rules.is_boolean(place) { read_boolean(reader) } else { T::read_cell(reader) };
        out[begin + place] = read.map_err(|error| reader.place(error, column))?;
    }
    Ok(())
}

/// Refused: a table has no maps and no sequences.
impl FromCell for Composite {
    const WANTED: &'static str = "JSON";

    fn from_spelling(_: &str) -> Option<Self> {
        None
    }
}

macro_rules! dispatch {
    ($(($variant:ident, $rust:ty, $name:literal, $datatype:literal)),+ $(,)?) => {
        /// Reads the next `width` cells into the elements from `begin` on: cell `i` into number `places[i]`,
        /// or `i` without places.
        pub(super) fn fill_row(
            elements: &mut Elements,
            begin: usize,
            width: usize,
            places: Option<&[Option<usize>]>,
            rules: &ColumnRules,
            reader: &mut Reader<'_>,
        ) -> Decoded<()> {
            match elements { $(Elements::$variant(out) => fill::<$rust>(out, begin, width, places, rules, reader)),+ }
        }

        /// Reads one cell into element `at`.
        pub(super) fn fill_one(
            elements: &mut Elements,
            at: usize,
            is_boolean: bool,
            reader: &mut Reader<'_>,
        ) -> Decoded<()> {
            match elements {
                $(Elements::$variant(out) if is_boolean => out[at] = read_boolean::<$rust>(reader)?,)+
                $(Elements::$variant(out) => out[at] = <$rust as FromCell>::read_cell(reader)?),+
            }
            Ok(())
        }

        /// True if a cell can be an element of this type. `is_boolean`: the column takes `true` and `false`,
        /// too.
        pub(super) fn could_be(element: ElementType, is_boolean: bool, text: &str) -> bool {
            if is_boolean && ["true", "false"].iter().any(|word| text.trim().eq_ignore_ascii_case(word)) {
                return true;
            }
            match element { $(ElementType::$variant => <$rust as FromCell>::parse(text.trim()).is_ok()),+ }
        }
    };
}
for_each_element_type!(dispatch);
