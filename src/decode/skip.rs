//! Skipping of values that are not read. Apart from [`super::scanner`], because it also needs
//! [`super::number`], which is built on the scanner.

use super::error::Decoded;
use super::number::scan_number;
use super::scanner::Scanner;

impl Scanner<'_> {
    /// Steps over one value and returns its position, to read it later.
    pub(super) fn set_aside(&mut self) -> Decoded<Self> {
        self.peek();
        let position = self.clone();
        self.skip()?;
        Ok(position)
    }

    /// Steps over one value of any kind, and checks that it is JSON.
    pub(super) fn skip(&mut self) -> Decoded<()> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => {
                self.open(b'{')?;
                while self.key()?.is_some() {
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.open(b'[')?;
                while self.another(b']')? {
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => scan_number(self).map(drop),
            _ if self.word("true") || self.word("false") || self.word("null") => Ok(()),
            _ => Err(self.unexpected("a value")),
        }
    }
}
