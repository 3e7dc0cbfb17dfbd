//! Hints: the one line that tells the user what to do about an error.

use std::fmt;

/// What to do about an error; stands in its chain.
#[derive(Debug)]
struct Hinted {
    error: anyhow::Error,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl std::error::Error for Hinted {}

/// Adds a hint to an error.
pub trait Hint<T> {
    /// # Errors
    /// The same, with `hint` to be printed last.
    fn hint(self, hint: &str) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Hint<T> for Result<T, E> {
    fn hint(self, hint: &str) -> anyhow::Result<T> {
        self.map_err(|error| Hinted { error: error.into(), hint: hint.to_owned() }.into())
    }
}

/// What to do about it, where that is known.
pub fn hint(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()).map(|hinted| hinted.hint.as_str())
}

/// [`hint`], or how to learn more.
pub fn hint_or_usual(error: &anyhow::Error) -> &str {
    hint(error).unwrap_or("PREDICTD_LOG=debug shows more of what led to this")
}
