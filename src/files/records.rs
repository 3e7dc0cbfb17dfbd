//! Cuts a file into records: lines, or rows of a table. Reads in a stream, so that files may be larger than
//! memory.
//!
//! A quote opens a cell of a table only at its start, as in [`crate::decode`]. A cell that is never closed
//! spoils its own first line alone.

use std::io::{self, Read};
use std::ops::Range;

/// Longest record.
pub const MAX_RECORD: usize = 16 << 20;
/// Bytes of a chunk, unless its last record goes beyond.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Bytes that are read at a time.
const READ: usize = 256 << 10;

/// Records that are computed together.
#[derive(Debug, Default)]
pub struct Chunk {
    pub text: Vec<u8>,
    pub records: Vec<Record>,
    /// Position behind the last record in its file.
    pub end: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Place in the chunk's text, without the line end.
    pub range: Range<usize>,
    /// Number of its first line in its file, from 1.
    pub line: u64,
    /// It has more than [`MAX_RECORD`] bytes; `range` is its beginning.
    pub is_too_long: bool,
}

impl Chunk {
    pub fn bytes(&self, record: &Record) -> &[u8] {
        &self.text[record.range.clone()]
    }
}

/// A reader of records.
pub struct Records<R> {
    source: R,
    is_table: bool,
    buffer: Vec<u8>,
    /// Begin of the next record in the buffer.
    at: usize,
    /// Position of the buffer's first byte in the file.
    offset: u64,
    line: u64,
    is_end: bool,
}

impl<R: Read> Records<R> {
    /// The source begins with a record, at this position and line of its file.
    pub fn new(source: R, is_table: bool, offset: u64, line: u64) -> Self {
        Self { source, is_table, buffer: Vec::new(), at: 0, offset, line, is_end: false }
    }

    /// The next records: at most `most` of them, and none behind the first that goes beyond `bytes`. None at the
    /// end. Blank lines are no records.
    pub fn next(&mut self, most: usize, bytes: usize) -> io::Result<Option<Chunk>> {
        let mut chunk = Chunk::default();
        while chunk.records.len() < most && chunk.text.len() < bytes {
            let Some((length, is_too_long)) = self.find_record()? else { break };
            let bytes = &self.buffer[self.at..self.at + length];
            if self.offset == 0 && self.at == 0 && bytes.starts_with(b"\xef\xbb\xbf") {
                // A byte order mark is no part of the first record.
                self.at = 3;
                continue;
            }
            let content = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            if !content.trim_ascii().is_empty() {
                let begin = chunk.text.len();
                chunk.text.extend_from_slice(content);
                let record = Record { range: begin..chunk.text.len(), line: self.line, is_too_long };
                chunk.text.push(b'\n');
                chunk.records.push(record);
            }
            self.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
            self.at += length;
            if is_too_long {
                self.skip_line()?;
            }
        }
        chunk.end = self.offset + self.at as u64;
        Ok((!chunk.records.is_empty()).then_some(chunk))
    }

    /// The line on which the next record begins.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The length of the next record with its line end, and true if it goes on beyond that.
    fn find_record(&mut self) -> io::Result<Option<(usize, bool)>> {
        loop {
            let rest = &self.buffer[self.at..];
            // No further than the limit, so that a record does not depend on how much is read at a time.
            let within = &rest[..rest.len().min(MAX_RECORD + 1)];
            let is_whole = self.is_end && within.len() == rest.len();
            let line_end = || memchr::memchr(b'\n', within).map(|at| at + 1);
            let found = if self.is_table { row_end(within, is_whole) } else { line_end() };
            if let Some(length) = found {
                return Ok(Some((length.min(MAX_RECORD), length > MAX_RECORD)));
            }
            if self.is_end || rest.len() > MAX_RECORD {
                return Ok(match (rest.len(), line_end()) {
                    (0, _) => None,
                    // An open quote.
                    (_, Some(end)) if end <= MAX_RECORD => Some((end, false)),
                    (length, _) => Some((length.min(MAX_RECORD), length > MAX_RECORD)),
                });
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.at);
        self.offset += self.at as u64;
        self.at = 0;
        let length = self.buffer.len();
        // Doubles, so that a long record is not searched again for each small part.
        let more = READ.max(length);
        self.buffer.resize(length + more, 0);
        let mut filled = length;
        while filled < self.buffer.len() {
            match self.source.read(&mut self.buffer[filled..]) {
                Ok(0) => {
                    self.is_end = true;
                    break;
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }

    /// Steps behind the next line end.
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.at..]) {
                self.at += at + 1;
                self.line += 1;
                return Ok(());
            }
            self.at = self.buffer.len();
            if self.is_end {
                return Ok(());
            }
            self.fill()?;
        }
    }
}

/// The length of the next row of a table with its line end; none if it does not end in this text. The last
/// row of a file may lack its line end.
fn row_end(text: &[u8], is_whole: bool) -> Option<usize> {
    let mut at = 0;
    loop {
        let Some(found) = memchr::memchr2(b'"', b'\n', &text[at..]) else {
            return (is_whole && !text.is_empty()).then_some(text.len());
        };
        let found = at + found;
        if text[found] == b'\n' {
            return Some(found + 1);
        }
        at = found + 1;
        if found > 0 && text[found - 1] != b',' {
            continue;
        }
        // Behind the quote that closes the cell; a doubled quote is a part of it.
        loop {
            at += memchr::memchr(b'"', &text[at..])? + 1;
            if text.get(at) != Some(&b'"') {
                break;
            }
            at += 1;
        }
        // More behind that quote: it opens another cell, so this one was never closed.
        if text.get(at).is_some_and(|next| !matches!(next, b',' | b'\r' | b'\n')) {
            return memchr::memchr(b'\n', text).map(|end| end + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &[u8], is_table: bool, most: usize) -> Vec<(u64, Vec<u8>)> {
        let mut records = Records::new(text, is_table, 0, 1);
        let mut found = Vec::new();
        let mut end = 0;
        while let Some(chunk) = records.next(most, CHUNK_BYTES).unwrap() {
            assert!(chunk.end > end);
            end = chunk.end;
            found.extend(chunk.records.iter().map(|record| (record.line, chunk.bytes(record).to_vec())));
        }
        found
    }

    fn lines(found: &[(u64, Vec<u8>)]) -> Vec<(u64, &str)> {
        found.iter().map(|(line, text)| (*line, std::str::from_utf8(text).unwrap())).collect()
    }

    #[test]
    fn lines_are_records_and_blank_ones_are_counted() {
        let found = all(b"\xef\xbb\xbf[1]\n\n \r\n[2]\r\n[3]", false, 2);
        assert_eq!(lines(&found), [(1, "[1]"), (4, "[2]"), (5, "[3]")]);
        assert_eq!(all(b"", false, 2), []);
        assert_eq!(all(b"\n\n", false, 2), []);
    }

    #[test]
    fn a_quoted_cell_may_have_line_ends_and_a_stray_quote_spoils_its_row_alone() {
        let table = "a,\"x\ny\"\"\n\",b\n3\"4,5\n6,7\n\"8,9\n10,11\n";
        let found = all(table.as_bytes(), true, 10);
        let expected = [(1, "a,\"x\ny\"\"\n\",b"), (4, "3\"4,5"), (5, "6,7"), (6, "\"8,9"), (7, "10,11")];
        assert_eq!(lines(&found), expected);
        let found = all(b"\"1,2\n3,4\n\"5\",6\n7,\"8\"\n", true, 10);
        assert_eq!(lines(&found), [(1, "\"1,2"), (2, "3,4"), (3, "\"5\",6"), (4, "7,\"8\"")]);
        // The last row without its line end.
        assert_eq!(lines(&all(b"1\n\"2\n3\"", true, 10)), [(1, "1"), (2, "\"2\n3\"")]);
    }

    #[test]
    fn a_record_beyond_the_limit_is_told_from_its_neighbours() {
        let mut text = b"[1]\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', MAX_RECORD * 2 + 7));
        text.extend_from_slice(b"\n[2]\n");
        let mut records = Records::new(&text[..], false, 0, 1);
        let mut found = Vec::new();
        while let Some(chunk) = records.next(10, CHUNK_BYTES).unwrap() {
            found.extend(chunk.records);
        }
        let seen: Vec<(u64, bool)> = found.iter().map(|record| (record.line, record.is_too_long)).collect();
        assert_eq!(seen, [(1, false), (2, true), (3, false)]);
    }

    proptest! {
        /// Reading on at the end of any chunk gives the same records.
        #[test]
        fn a_file_may_be_read_in_parts(text in "[a,\"\n\r]{0,60}", most in 1usize..4, is_table: bool) {
            let whole = all(text.as_bytes(), is_table, 1000);
            let mut records = Records::new(text.as_bytes(), is_table, 0, 1);
            let mut parts = Vec::new();
            let mut start = 0;
            while let Some(chunk) = records.next(most, CHUNK_BYTES).unwrap() {
                let part = &text.as_bytes()[start..chunk.end as usize];
                let line = chunk.records[0].line;
                let first = all(part, is_table, 1000);
                parts.extend(first.iter().map(|(_, text)| text.clone()));
                prop_assert!(line >= 1);
                start = chunk.end as usize;
            }
            let whole: Vec<Vec<u8>> = whole.into_iter().map(|(_, text)| text).collect();
            prop_assert_eq!(parts, whole);
        }
    }
}
