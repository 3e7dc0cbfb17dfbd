//! Skipping of values that are not read, and objects of which some are. Apart from [`super::scanner`], because
//! it also needs [`super::number`], which is built on the scanner.

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

    /// Reads an object by the names of its keys, and skips the values of keys without a place. `find` gets a
    /// key and its position in the object; `read` gets the place and the key.
    pub(super) fn read_by_name<C>(
        &mut self,
        context: &mut C,
        find: impl Fn(&C, &str, usize) -> Decoded<Option<usize>>,
        mut read: impl FnMut(&mut C, usize, &str, &mut Self) -> Decoded<()>,
    ) -> Decoded<()> {
        self.open(b'{')?;
        let mut position = 0;
        while let Some(key) = self.key()? {
            match find(context, &key, position)? {
                Some(place) => read(context, place, &key, self)?,
                None => self.skip()?,
            }
            position += 1;
        }
        Ok(())
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
