//! Errors as a person at a terminal meets them: the chain on one line, then what to do.

use std::fmt;

use super::output;
use crate::telemetry::logs;

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

/// `error: …` and `hint: …`.
pub fn render(error: &anyhow::Error) -> String {
    format!("error: {error:#}\nhint: {}\n", hint_or_usual(error))
}

/// Prints it to standard error: where the log is for machines, as a line of the log, and then the hint.
pub fn report(error: &anyhow::Error) {
    if logs::are_structured() {
        let hint = hint_or_usual(error);
        tracing::error!(why = format!("{error:#}"), hint, "predictd ends");
        output::print_error(&format!("hint: {hint}\n"));
    } else {
        output::print_error(&render(error));
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_hint_comes_last_whatever_was_wrapped_around_it() {
        let error = Err::<(), _>(anyhow::anyhow!("no such file"))
            .context("cannot open x")
            .hint("name another")
            .context("start-up");
        assert_eq!(
            render(&error.unwrap_err()),
            "error: start-up: cannot open x: no such file\nhint: name another\n"
        );
    }
}
