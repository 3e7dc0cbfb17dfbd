//! What is wrong with a body and where, built from the inside out: who reads an element adds its place on the way back.

use super::MAX_ID_BYTES;
use crate::error::{Code, Rejection};
use crate::names::nearest;
pub(super) use crate::names::quoted;

pub(super) type Decoded<T> = Result<T, Box<DecodeError>>;

/// A rejection in the making. Boxed, so that the hot path returns small results.
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
    pub(super) fn too_large(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { code: Code::InputTooLarge, place: String::new(), message: message.into() })
    }

    #[cold]
    pub(super) fn forbidden(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { code: Code::InputForbidden, place: String::new(), message: message.into() })
    }

    /// What else there is to say.
    #[cold]
    pub(super) fn and(mut self: Box<Self>, more: &str) -> Box<Self> {
        self.message += "; ";
        self.message += more;
        self
    }

    /// It happened in element `index` of what encloses it.
    #[cold]
    pub(super) fn at(mut self: Box<Self>, index: usize) -> Box<Self> {
        self.place.insert_str(0, &format!("[{index}]"));
        self
    }

    /// It happened in what is called `name`: a key of the body, or an input.
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

/// Refuses what a response repeats of its request and could not, for its length.
pub(super) fn check_id(id: &str) -> Decoded<()> {
    if id.len() <= MAX_ID_BYTES {
        return Ok(());
    }
    Err(DecodeError::new(format!("expected at most {MAX_ID_BYTES} bytes, got {}", id.len())))
}

/// `; did you mean "alcohol"?` where one of `names` is like this one, else nothing.
pub(super) fn did_you_mean(name: &str, names: &[&str]) -> String {
    match nearest(name, names.iter().copied(), 1)[..] {
        [known] => format!("; did you mean {}?", quoted(known)),
        _ => String::new(),
    }
}
