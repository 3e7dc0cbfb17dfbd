//! Owns the position in a JSON body: one pass over the bytes, which allocates for strings with escapes only.
//! A scanner of our own, because values go straight into typed buffers, without a tree between them.
//!
//! Accepts JSON (RFC 8259) and nothing more, nested at most [`MAX_DEPTH`] deep.

use std::borrow::Cow;

use super::error::{DecodeError, Decoded, refuse};

/// Deep enough for every request (a tensor's rank is at most 8), shallow enough for any stack.
pub(super) const MAX_DEPTH: u8 = 64;

/// A position in a body. Clones are cheap: the value of a key that comes too early is kept as a clone and
/// read later.
#[derive(Clone)]
pub(super) struct Scanner<'a> {
    pub(super) text: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    depth: u8,
    /// True right behind the byte that opens an array or object.
    at_start: bool,
    /// True if a space followed the last comma between numbers: a guess for the next comma.
    pub(super) is_spaced: bool,
}

impl<'a> Scanner<'a> {
    /// Refuses a body that is not UTF-8; steps over a byte order mark. Offsets in messages count from the
    /// body's first byte.
    pub(super) fn new(body: &'a [u8]) -> Decoded<Self> {
        let text = std::str::from_utf8(body).map_err(|e| {
            DecodeError::new(format!(
                "expected UTF-8 text, got an invalid sequence at byte {}",
                e.valid_up_to()
            ))
        })?;
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Ok(Self { text, bytes: body, at, depth: 0, at_start: false, is_spaced: true })
    }

    /// Consumes white space; returns the next byte without consuming it.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Consumes `byte` if it comes next.
    #[inline(always)]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Steps into an array or object that opens with `byte`; returns false and consumes nothing if something
    /// else comes next.
    #[inline]
    pub(super) fn open(&mut self, byte: u8) -> Decoded<bool> {
        if !self.take(byte) {
            return Ok(false);
        }
        if self.depth == MAX_DEPTH {
            return refuse(format!(
                "expected at most {MAX_DEPTH} arrays and objects inside each other, got more at byte {}",
                self.at - 1
            ));
        }
        self.depth += 1;
        self.at_start = true;
        Ok(true)
    }

    /// Like [`Self::open`], but refuses anything else than `wanted`.
    pub(super) fn enter(&mut self, byte: u8, wanted: &str) -> Decoded<()> {
        if self.open(byte)? { Ok(()) } else { Err(self.unexpected(wanted)) }
    }

    /// True if another element follows; consumes the comma before it, or `close`.
    #[inline(always)]
    pub(super) fn another(&mut self, close: u8) -> Decoded<bool> {
        let first = std::mem::take(&mut self.at_start);
        match self.peek() {
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(_) if first => Ok(true),
            _ => Err(self.unexpected(if close == b']' { "`,` or `]`" } else { "`,` or `}`" })),
        }
    }

    /// Consumes the next key of an object and its colon; returns `None` if the object closes.
    pub(super) fn key(&mut self) -> Decoded<Option<Cow<'a, str>>> {
        if !self.another(b'}')? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in double quotes"));
        }
        let key = self.string()?;
        if !self.take(b':') {
            return Err(self.unexpected("`:`"));
        }
        Ok(Some(key))
    }

    /// True if an object comes next and its first key passes `test`.
    pub(super) fn first_key_is(&self, test: impl FnOnce(&str) -> bool) -> bool {
        let mut ahead = self.clone();
        matches!(ahead.open(b'{'), Ok(true)) && matches!(ahead.key(), Ok(Some(key)) if test(&key))
    }

    /// Consumes a string; borrows it if it has no escapes. The next byte must be its opening quote.
    pub(super) fn string(&mut self) -> Decoded<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        let plain = self.plain_run();
        if self.bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut owned = plain.to_owned();
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(owned));
                }
                Some(b'\\') => owned.push(self.escape()?),
                Some(control) => {
                    let what =
                        format!("a control character (0x{control:02x}) in a string at byte {}", self.at);
                    return refuse(format!("expected it as a \\u escape, got {what}"));
                }
                None => {
                    let what = format!("the string that begins at byte {}", start - 1);
                    return refuse(format!("expected `\"` to end {what}, got the end of the body"));
                }
            }
            owned.push_str(self.plain_run());
        }
    }

    /// Consumes everything up to the next quote, backslash, control character or the end.
    fn plain_run(&mut self) -> &'a str {
        let start = self.at;
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
        let length = self.bytes[start..].iter().position(special).unwrap_or(self.bytes.len() - start);
        self.at += length;
        &self.text[start..self.at]
    }

    fn escape(&mut self) -> Decoded<char> {
        let start = self.at;
        self.at += 2;
        let plain = match self.bytes.get(start + 1) {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let high = self.hex4();
                // A pair of surrogates is one character; a single one is invalid (RFC 8259, section 7).
                let code = match high {
                    Some(high @ 0xd800..=0xdbff) if self.bytes[self.at..].starts_with(b"\\u") => {
                        self.at += 2;
                        let low = self.hex4().filter(|low| (0xdc00..=0xdfff).contains(low));
                        low.map(|low| 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
                    }
                    other => other,
                };
                return code.and_then(char::from_u32).ok_or_else(|| {
                    DecodeError::new(format!(
                        "expected four hex digits that name a character, got a bad \\u escape at byte {start}"
                    ))
                });
            }
            _ => {
                return refuse(format!("expected a JSON escape, got an unknown one at byte {start}"));
            }
        };
        Ok(plain)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))
    }

    /// Consumes `word` (`true`, `null`, …) if it comes next.
    pub(super) fn word(&mut self, word: &str) -> bool {
        self.peek();
        let found = self.bytes[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Refuses everything but white space.
    pub(super) fn end(&mut self) -> Decoded<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end of the body")),
        }
    }

    /// `expected {wanted}, got {the next value} at byte {offset}`.
    #[cold]
    pub(super) fn unexpected(&mut self, wanted: &str) -> Box<DecodeError> {
        let found = match self.peek() {
            None => "the end of the body".to_owned(),
            Some(b'{') => "an object".to_owned(),
            Some(b'[') => "an array".to_owned(),
            Some(b'"') => "a string".to_owned(),
            Some(b'-' | b'0'..=b'9') if !self.text[self.at..].starts_with("-I") => "a number".to_owned(),
            _ if ["NaN", "Infinity", "-Infinity"]
                .iter()
                .any(|name| self.text[self.at..].starts_with(name)) =>
            {
                let message = "JSON has neither NaN nor Infinity: for a float send them as strings";
                return DecodeError::new(format!(
                    "expected {wanted}, got NaN or Infinity at byte {}; {message}",
                    self.at
                ));
            }
            _ => self.next_word(),
        };
        DecodeError::new(format!("expected {wanted}, got {found} at byte {}", self.at))
    }

    /// The next letters, at most 20, or the next character if it is no letter.
    fn next_word(&self) -> String {
        let rest = &self.text[self.at..];
        let letters = rest.bytes().take(20).take_while(u8::is_ascii_alphabetic).count();
        match rest.chars().next() {
            Some(character) if letters == 0 => format!("`{}`", character.escape_debug()),
            _ => format!("`{}`", &rest[..letters]),
        }
    }
}
