//! Errors of a body and their place in it, built from the inside out: each caller adds its own part of the
//! place.

use crate::error::{Code, Rejection};
use crate::names::nearest;
pub(super) use crate::names::quoted;

pub(super) type Decoded<T> = Result<T, Box<DecodeError>>;

/// A rejection without its final text. Boxed, so that the results on the hot path are small.
#[derive(Debug)]
pub(super) struct DecodeError {
    code: Code,
    /// `instances[2].x[3]` or `input "x"`; empty for the body as a whole.
    place: String,
    message: String,
}

impl DecodeError {
    #[cold]
    pub(super) fn new(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { code: Code::InvalidInput, place: String::new(), message: message.into() })
    }

    #[cold]
    pub(super) fn unsupported_type(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { code: Code::UnsupportedType, place: String::new(), message: message.into() })
    }

    #[cold]
    pub(super) fn too_large(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { code: Code::InputTooLarge, place: String::new(), message: message.into() })
    }

    #[cold]
    pub(super) fn forbidden(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { code: Code::InputForbidden, place: String::new(), message: message.into() })
    }

    /// Appends a hint.
    #[cold]
    pub(super) fn with_hint(mut self: Box<Self>, hint: &str) -> Box<Self> {
        self.message += "; ";
        self.message += hint;
        self
    }

    /// Puts the index of an element before the place.
    #[cold]
    pub(super) fn at(mut self: Box<Self>, index: usize) -> Box<Self> {
        self.place.insert_str(0, &format!("[{index}]"));
        self
    }

    /// Puts the name of a key or an input before the place.
    #[cold]
    pub(super) fn within(mut self: Box<Self>, name: &str) -> Box<Self> {
        self.place.insert_str(0, name);
        self
    }

    pub(super) fn into_rejection(self) -> Rejection {
        let message =
            if self.place.is_empty() { self.message } else { format!("{}: {}", self.place, self.message) };
        Rejection::new(self.code, message)
    }
}

/// `INVALID_INPUT` with this message.
#[cold]
pub(super) fn refuse<T>(message: impl Into<String>) -> Decoded<T> {
    Err(DecodeError::new(message))
}

/// The error about a key, a column or an output that occurs twice.
#[cold]
pub(super) fn twice(kind: &str, name: &str) -> Box<DecodeError> {
    DecodeError::new(format!("expected each {kind} once, got {} twice", quoted(name)))
}

/// Sets the value of a key, which an object may have only once.
pub(super) fn set_once<T>(place: &mut Option<T>, value: T, key: &str) -> Decoded<()> {
    if place.replace(value).is_some() { Err(twice("key", key)) } else { Ok(()) }
}

/// The error about a name that the model does not have.
#[cold]
pub(super) fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Box<DecodeError> {
    let known: Vec<&str> = known.collect();
    let (expected, hint) = (one_of(kind, &known), did_you_mean(name, &known));
    DecodeError::new(format!("expected {expected}, got unknown {kind} {}{hint}", quoted(name)))
}

/// The place of a result's error, from the inside out.
pub(super) trait Located {
    /// Puts the index of an element before the place.
    fn at(self, index: usize) -> Self;
    /// Puts a part that is ready before the place.
    fn within(self, part: &str) -> Self;
    /// Puts `["key"]` before the place.
    fn in_key(self, key: &str) -> Self;
    /// Puts `input "name"` before the place.
    fn in_input(self, name: &str) -> Self;
}

impl<T> Located for Decoded<T> {
    #[inline]
    fn at(self, index: usize) -> Self {
        self.map_err(|error| error.at(index))
    }

    #[inline]
    fn within(self, part: &str) -> Self {
        self.map_err(|error| error.within(part))
    }

    #[inline]
    fn in_key(self, key: &str) -> Self {
        self.map_err(|error| error.within(&format!("[{}]", quoted(key))))
    }

    #[inline]
    fn in_input(self, name: &str) -> Self {
        self.map_err(|error| error.within(&format!("input {}", quoted(name))))
    }
}

/// `; did you mean "alcohol"?` if one of `names` is like `name`, else nothing.
pub(super) fn did_you_mean(name: &str, names: &[&str]) -> String {
    match nearest(name, names.iter().copied(), 1)[..] {
        [known] => format!("; did you mean {}?", quoted(known)),
        _ => String::new(),
    }
}

/// Names that a message lists at most.
const MAX_LISTED: usize = 20;

/// `input "x"`, or `one of the inputs "x", "y"`.
pub(super) fn one_of(kind: &str, names: &[&str]) -> String {
    let list: Vec<String> = names.iter().take(MAX_LISTED).map(|name| quoted(name)).collect();
    let more = if names.len() > MAX_LISTED { ", …" } else { "" };
    if names.len() == 1 {
        return format!("{kind} {}", list[0]);
    }
    format!("one of the {kind}s {}{more}", list.join(", "))
}

pub(super) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
