//! Hints: the one line after an error that says what the user can do about it.

use std::fmt;

/// An error with its hint, anywhere in a chain.
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

/// Adds a hint to the error of a result.
pub trait Hint<T> {
    /// # Errors
    /// The same error, with `hint` to be printed last.
    fn hint(self, hint: &str) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Hint<T> for Result<T, E> {
    fn hint(self, hint: &str) -> anyhow::Result<T> {
        self.map_err(|error| with_hint(error, hint))
    }
}

/// Adds a hint to an error.
pub fn with_hint(error: impl Into<anyhow::Error>, hint: &str) -> anyhow::Error {
    Hinted { error: error.into(), hint: hint.to_owned() }.into()
}

/// The outermost hint of an error, if it has one.
pub fn hint(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()).map(|hinted| hinted.hint.as_str())
}

/// All causes of an error, also those below a hint.
pub fn causes(error: &anyhow::Error) -> Vec<&(dyn std::error::Error + 'static)> {
    let mut found = Vec::new();
    for cause in error.chain() {
        found.push(cause);
        if let Some(hinted) = cause.downcast_ref::<Hinted>() {
            found.extend(causes(&hinted.error));
        }
    }
    found
}

/// The [`hint`] of an error, or how to learn more about it.
pub fn hint_or_default(error: &anyhow::Error) -> &str {
    hint(error).unwrap_or("PREDICTD_LOG=debug shows more of what led to this")
}
