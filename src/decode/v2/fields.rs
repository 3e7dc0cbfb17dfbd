//! Values of keys that several objects of the protocol have.

use crate::decode::element::Element;
use crate::decode::error::{Decoded, Located, refuse, set_once};
use crate::decode::scanner::Scanner;

pub(super) fn read_string(scanner: &mut Scanner<'_>, key: &str) -> Decoded<String> {
    if scanner.peek() != Some(b'"') {
        return Err(scanner.unexpected(&format!("a string in \"{key}\"")));
    }
    Ok(scanner.string()?.into_owned())
}

pub(super) fn read_dimensions(scanner: &mut Scanner<'_>) -> Decoded<Vec<usize>> {
    scanner.enter(b'[', "a list of dimensions")?;
    let mut shape = Vec::new();
    while scanner.another(b']')? {
        // Far more than any tensor has. Bounds the length of the error about a wrong shape.
        if shape.len() == 64 {
            return refuse("expected at most 64 dimensions, got more");
        }
        let length = u64::read_element(scanner).at(shape.len())?;
        shape.push(usize::try_from(length).unwrap_or(usize::MAX));
    }
    Ok(shape)
}

/// Reads an object and returns the parameter called `name`; the others are ignored.
pub(super) fn read_parameter<'a, T>(
    scanner: &mut Scanner<'a>,
    name: &str,
    read: impl Fn(&mut Scanner<'a>) -> Decoded<T>,
) -> Decoded<Option<T>> {
    if !scanner.open(b'{')? {
        if scanner.word("null") {
            return Ok(None);
        }
        return Err(scanner.unexpected("an object"));
    }
    let mut found = None;
    while let Some(key) = scanner.key()? {
        // Some clients write null for a parameter that they do not set.
        if key == name && scanner.word("null") {
            continue;
        }
        if key != name {
            scanner.skip()?;
            continue;
        }
        let value = read(scanner).map_err(|error| error.within(&format!(".{name}")))?;
        set_once(&mut found, value, &key)?;
    }
    Ok(found)
}
