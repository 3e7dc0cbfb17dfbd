//! JSON bytes to tokens: one pass, no tree, nothing allocated but strings that hold escapes.
//!
//! Strict RFC 8259 grammar (a leading UTF-8 byte order mark is passed over), at most [`MAX_DEPTH`] deep, so that
//! neither the stack nor the time grows beyond the body's length. Errors name the byte where reading stopped.

use std::borrow::Cow;

use crate::error::Rejection;

/// Deeper nesting is refused: no tensor needs it, and skipping a value recurses.
pub(crate) const MAX_DEPTH: usize = 64;

/// A cursor over a body. Copies are cheap: a look ahead is a copy thrown away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scanner<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let at = if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        Self { bytes, at, depth: 0 }
    }

    /// The next byte that is no white space, left unread; `None` at the end.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Opens a list or an object (`open` is `[` or `{`); false when it is empty, and then it is closed as well.
    #[inline]
    pub(crate) fn open(&mut self, open: u8) -> Result<bool, Rejection> {
        if self.peek() != Some(open) {
            return Err(self.unexpected(if open == b'[' { "a list" } else { "an object" }));
        }
        if self.depth == MAX_DEPTH {
            return Err(Rejection::invalid(format!(
                "JSON nested more than {MAX_DEPTH} deep at byte {}: send lists no deeper than the model's shape",
                self.at
            )));
        }
        self.at += 1;
        if self.peek() == Some(closing(open)) {
            self.at += 1;
            return Ok(false);
        }
        self.depth += 1;
        Ok(true)
    }

    /// After an element: whether another follows, else the list or object is closed.
    #[inline]
    pub(crate) fn another(&mut self, open: u8) -> Result<bool, Rejection> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == closing(open) => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            _ => Err(self.unexpected(if open == b'[' { "',' or ']'" } else { "',' or '}'" })),
        }
    }

    /// An object's next key and its colon.
    pub(crate) fn key(&mut self) -> Result<Cow<'a, str>, Rejection> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in double quotes"));
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.unexpected("':'"));
        }
        self.at += 1;
        Ok(key)
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Result<(), Rejection> {
        if self.peek().is_some() { Err(self.unexpected("the end of the body")) } else { Ok(()) }
    }

    /// Reads `word` when it comes next, as a whole.
    pub(crate) fn literal(&mut self, word: &str) -> bool {
        self.peek();
        let found = self.bytes[self.at..].starts_with(word.as_bytes())
            && !self.bytes.get(self.at + word.len()).is_some_and(u8::is_ascii_alphanumeric);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Passes over any one value, checking its grammar.
    pub(crate) fn skip(&mut self) -> Result<(), Rejection> {
        match self.peek() {
            Some(open @ (b'[' | b'{')) => {
                let mut more = self.open(open)?;
                while more {
                    if open == b'{' {
                        self.key()?;
                    }
                    self.skip()?;
                    more = self.another(open)?;
                }
                Ok(())
            }
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => super::number::scan(self).map(drop),
            _ if self.literal("true") || self.literal("false") || self.literal("null") => Ok(()),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// A string, the cursor on its opening quote: borrowed when nothing in it is escaped.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Rejection> {
        let open = self.at;
        let from = open + 1;
        self.at = from;
        let mut unescaped: Option<Vec<u8>> = None;
        let mut copied = from;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    let text = unescaped.get_or_insert_default();
                    text.extend_from_slice(&self.bytes[copied..self.at]);
                    let escaped = self.escape()?;
                    text.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
                    copied = self.at;
                }
                Some(0..0x20) => return Err(self.malformed("control characters must be escaped in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.malformed(&format!("the string begun at byte {open} has no end"))),
            }
        }
        let rest = &self.bytes[copied..self.at];
        self.at += 1;
        let invalid = || Rejection::invalid(format!("the string at byte {open} is not UTF-8"));
        match unescaped {
            None => std::str::from_utf8(rest).map(Cow::Borrowed).map_err(|_| invalid()),
            Some(mut text) => {
                text.extend_from_slice(rest);
                String::from_utf8(text).map(Cow::Owned).map_err(|_| invalid())
            }
        }
    }

    /// One escape, the cursor on its backslash; a surrogate pair is one.
    fn escape(&mut self) -> Result<char, Rejection> {
        let plain = match self.bytes.get(self.at + 1) {
            Some(c @ (b'"' | b'\\' | b'/')) => *c as char,
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.malformed("a backslash begins no known escape")),
        };
        self.at += 2;
        Ok(plain)
    }

    fn unicode_escape(&mut self) -> Result<char, Rejection> {
        let unit = |at: usize| {
            let escape = self.bytes.get(at..at + 6).filter(|escape| escape.starts_with(b"\\u"))?;
            let digit = |value: u32, hex: &u8| Some(value * 16 + (*hex as char).to_digit(16)?);
            escape[2..].iter().try_fold(0, digit)
        };
        let (code, length) = match (unit(self.at), unit(self.at + 6)) {
            (Some(high @ 0xD800..0xDC00), Some(low @ 0xDC00..0xE000)) => {
                (Some(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), 12)
            }
            (single, _) => (single, 6),
        };
        let Some(found) = code.and_then(char::from_u32) else {
            return Err(self.malformed("\\u must begin four hex digits, surrogates in pairs"));
        };
        self.at += length;
        Ok(found)
    }

    /// The error for a byte that does not belong here.
    #[cold]
    pub(crate) fn unexpected(&mut self, expected: &str) -> Rejection {
        for word in ["NaN", "Infinity", "-Infinity"] {
            if self.literal(word) {
                self.at -= word.len();
                return self.malformed(&format!(
                    "{word} is not JSON: send a finite number, or the string \"{word}\" if the model takes it"
                ));
            }
        }
        let found = match self.peek() {
            None => "the end of the body".to_owned(),
            Some(byte @ 0x21..0x7f) => format!("'{}'", byte as char),
            Some(byte) => format!("byte 0x{byte:02x}"),
        };
        self.malformed(&format!("expected {expected}, got {found}"))
    }

    #[cold]
    pub(crate) fn malformed(&self, what: &str) -> Rejection {
        Rejection::invalid(format!("malformed JSON at byte {}: {what}", self.at))
    }
}

#[inline]
fn closing(open: u8) -> u8 {
    if open == b'[' { b']' } else { b'}' }
}
