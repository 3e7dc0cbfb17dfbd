//! Owns the position in a table of comma-separated values (RFC 4180). Lines end in LF or CRLF. A cell may
//! be in quotes; commas and line ends between them belong to the cell, and a doubled quote is one. Cells are
//! borrowed from the body, except those with doubled quotes.

use std::borrow::Cow;

use crate::decode::error::{DecodeError, Decoded, quoted, refuse};
use crate::decode::scanner::Scanner;

pub(super) struct Cell<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) is_quoted: bool,
}

/// A position in a table: at the start of a cell, or right behind a cell.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    /// The position, from which numbers are read.
    pub(super) scanner: Scanner<'a>,
    /// The current line, counted from 1.
    pub(super) line: usize,
    /// The current row, counted from 1 without the header; 0 in the header.
    pub(super) row: usize,
    /// Names of the columns, for messages; empty if they have none.
    pub(super) names: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Decoded<Self> {
        Ok(Self { scanner: Scanner::new(body)?, line: 1, row: 0, names: Vec::new() })
    }

    #[inline(always)]
    fn next(&self) -> Option<u8> {
        self.scanner.bytes.get(self.scanner.at).copied()
    }

    #[inline(always)]
    pub(super) fn is_end_of_cell(&self) -> bool {
        matches!(self.next(), None | Some(b',' | b'\n' | b'\r'))
    }

    /// Consumes an empty cell if one comes next. Spaces count as empty, except in strings.
    pub(super) fn takes_empty(&mut self, is_string: bool) -> bool {
        if self.is_end_of_cell() {
            return true;
        }
        !is_string && self.takes(|text| text.is_empty().then_some(())).is_some()
    }

    /// Consumes `true` or `false`, in any case; returns the digit that replaces it.
    pub(super) fn takes_boolean(&mut self) -> Option<&'static str> {
        self.takes(|text| match text {
            _ if text.eq_ignore_ascii_case("true") => Some("1"),
            _ if text.eq_ignore_ascii_case("false") => Some("0"),
            _ => None,
        })
    }

    /// Consumes the next cell if `find` finds something in it, without the spaces around it.
    fn takes<T>(&mut self, find: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let (at, line) = (self.scanner.at, self.line);
        let found = self.cell().ok().and_then(|cell| find(cell.text.trim()));
        if found.is_none() {
            (self.scanner.at, self.line) = (at, line);
        }
        found
    }

    /// Consumes a comma if it comes next.
    #[inline(always)]
    pub(super) fn comma(&mut self) -> bool {
        let found = self.next() == Some(b',');
        self.scanner.at += usize::from(found);
        found
    }

    /// Consumes LF or CRLF if it comes next.
    pub(super) fn line_end(&mut self) -> bool {
        let rest = &self.scanner.bytes[self.scanner.at..];
        let length = match rest {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return false,
        };
        self.scanner.at += length;
        self.line += 1;
        true
    }

    /// True if nothing but line ends is left.
    pub(super) fn is_end(&self) -> bool {
        match self.next() {
            None => true,
            Some(b'\n' | b'\r') => {
                let rest = &self.scanner.bytes[self.scanner.at..];
                rest.iter().all(|byte| matches!(byte, b'\n' | b'\r'))
            }
            Some(_) => false,
        }
    }

    /// Consumes the next cell, which ends before a comma, a line end or the end of the body.
    pub(super) fn cell(&mut self) -> Decoded<Cell<'a>> {
        if self.next() == Some(b'"') {
            let text = self.quoted_cell()?;
            if !self.is_end_of_cell() {
                return refuse(
                    "expected a comma or the end of the line after a closing quote, got more text",
                );
            }
            return Ok(Cell { text, is_quoted: true });
        }
        let (begin, bytes) = (self.scanner.at, self.scanner.bytes);
        let length = bytes[begin..].iter().position(|byte| matches!(byte, b',' | b'\n' | b'"'));
        let mut end = length.map_or(bytes.len(), |length| begin + length);
        if bytes.get(end) == Some(&b'"') {
            return refuse("expected quotes around the whole cell, got one inside it");
        }
        if bytes.get(end) == Some(&b'\n') && end > begin && bytes[end - 1] == b'\r' {
            end -= 1;
        }
        self.scanner.at = end;
        Ok(Cell { text: Cow::Borrowed(&self.scanner.text[begin..end]), is_quoted: false })
    }

    /// Consumes a cell in quotes; a doubled quote is one.
    fn quoted_cell(&mut self) -> Decoded<Cow<'a, str>> {
        let opened = self.line;
        self.scanner.at += 1;
        let mut text = Cow::Borrowed("");
        loop {
            let begin = self.scanner.at;
            let Some(length) = self.scanner.bytes[begin..].iter().position(|byte| *byte == b'"') else {
                let message = format!(
                    "expected a quote to end the cell that begins in line {opened}, got the end of the body"
                );
                return refuse(message);
            };
            let part = &self.scanner.text[begin..begin + length];
            self.line += part.bytes().filter(|byte| *byte == b'\n').count();
            if text.is_empty() {
                text = Cow::Borrowed(part);
            } else {
                text.to_mut().push_str(part);
            }
            self.scanner.at = begin + length + 1;
            if self.next() != Some(b'"') {
                return Ok(text);
            }
            text.to_mut().push('"');
            self.scanner.at += 1;
        }
    }

    /// Consumes a whole line of at most `most` cells.
    pub(super) fn header(&mut self, most: usize) -> Decoded<Vec<Cow<'a, str>>> {
        let mut cells = Vec::new();
        loop {
            if cells.len() == most {
                return Err(DecodeError::too_large(format!(
                    "line {}: expected at most {most} cells, got more",
                    self.line
                )));
            }
            cells.push(self.cell().map_err(|error| error.within(&format!("line {}", self.line)))?.text);
            if !self.comma() {
                self.line_end();
                return Ok(cells);
            }
        }
    }

    /// `row 2 (line 3)`
    pub(super) fn here(&self) -> String {
        format!("row {} (line {})", self.row, self.line)
    }

    /// Adds the place to an error: the row, and the column by its name or by its number from 1.
    #[cold]
    pub(super) fn place(&self, error: Box<DecodeError>, column: usize) -> Box<DecodeError> {
        let column = self.names.get(column).map_or_else(|| (column + 1).to_string(), |name| quoted(name));
        error.within(&format!("{}, column {column}", self.here()))
    }

    #[cold]
    pub(super) fn wrong_count(&self, expected: usize, got: impl std::fmt::Display) -> Box<DecodeError> {
        let message = match self.next() {
            Some(b'\r') => "expected LF or CRLF at the end of a line, got CR alone".to_owned(),
            _ => format!("expected {expected} cells, one a column, got {got}"),
        };
        DecodeError::new(message).within(&self.here())
    }
}
