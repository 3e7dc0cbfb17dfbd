//! Errors as a person at a terminal meets them: the chain on one line, then what to do.

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

/// `error: …` and `hint: …`.
pub fn render(error: &anyhow::Error) -> String {
    let hint = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Hinted>())
        .map_or_else(|| "PREDICTD_LOG=debug shows more of what led to this", |hinted| hinted.hint.as_str());
    format!("error: {error:#}\nhint: {hint}\n")
}

/// Prints it to standard error.
pub fn report(error: &anyhow::Error) {
    eprint!("{}", render(error));
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
