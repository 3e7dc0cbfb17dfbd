//! Limits of one request, checked before memory is taken.

use super::error::{DecodeError, Decoded, refuse};
use crate::tensor::{ElementType, Elements};

/// Limits of one request; more is refused with `INPUT_TOO_LARGE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Elements in all inputs together, each counted by its weight: a string counts for 8.
    pub max_elements: usize,
    pub max_rows: usize,
    /// Bytes of a body, decompressed.
    pub max_body_bytes: usize,
    /// Cells in a line of a table.
    pub max_fields: usize,
}

impl Limits {
    /// 8 Mi elements (64 MiB of float64), 100,000 rows and 64 MiB: more than a Pub/Sub message of 10 MB
    /// usually carries, compressed or not. 65,536 cells in a line: the columns of the widest tables.
    pub const DEFAULT: Self =
        Self { max_elements: 8 << 20, max_rows: 100_000, max_body_bytes: 64 << 20, max_fields: 1 << 16 };

    pub(super) fn check_rows(&self, rows: usize) -> Decoded<()> {
        if rows <= self.max_rows {
            return Ok(());
        }
        let most = self.max_rows;
        Err(DecodeError::too_large(format!("expected at most {most} rows, got more; send several requests")))
    }
}

/// Refuses a request without rows.
pub(super) fn at_least_one_row(rows: usize) -> Decoded<usize> {
    if rows == 0 { refuse("expected at least one row, got none") } else { Ok(rows) }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Memory of one element in units of 8 bytes, without the bytes that it has in the body. A string is 24 bytes
/// and an allocation of 32 or more, a map two lists.
pub(super) fn element_weight(element: ElementType) -> usize {
    match element {
        ElementType::String | ElementType::Bytes | ElementType::Composite => 8,
        _ => 1,
    }
}

/// Memory of each copy of a declared value, in units of 8 bytes.
pub(super) fn copy_weight(value: &Elements) -> usize {
    let string =
        if let Elements::String(strings) = value { strings.first().map_or(0, String::len) } else { 0 };
    element_weight(value.element()) + string / 8
}

/// Elements that a request may still have, each counted by its [`element_weight`].
pub(super) struct ElementBudget {
    pub(super) left: usize,
    /// The request's limit of elements, for messages.
    pub(super) max_elements: usize,
}

impl ElementBudget {
    /// Takes `count` elements of this weight, before memory is taken for them.
    pub(super) fn take(&mut self, weight: usize, count: usize) -> Decoded<()> {
        let left = weight.checked_mul(count).and_then(|taken| self.left.checked_sub(taken));
        self.left = left.ok_or_else(|| too_many_elements(self.max_elements, weight))?;
        Ok(())
    }
}

/// The error about too many elements; each of this input counts for `weight`.
#[cold]
pub(super) fn too_many_elements(max_elements: usize, weight: usize) -> Box<DecodeError> {
    let counted =
        if weight > 1 { format!(" (one of this input counts for {weight})") } else { String::new() };
    DecodeError::too_large(format!(
        "expected at most {max_elements} elements in all inputs, got more{counted}"
    ))
}

/// The longest id of a request, in bytes: the limit of an attribute's value in Pub/Sub.
pub const MAX_ID_BYTES: usize = 1024;

/// Refuses an id that a response could not repeat.
pub(super) fn check_id(id: &str) -> Decoded<()> {
    if id.len() <= MAX_ID_BYTES {
        return Ok(());
    }
    refuse(format!("expected at most {MAX_ID_BYTES} bytes, got {}", id.len()))
}
