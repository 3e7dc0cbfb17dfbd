//! The report of an error that ends a command: the chain on one line, then its hint.

use super::output;
use crate::hint::hint_or_default;
use crate::ops::logs;

/// Formats an error as `error: …` and `hint: …`.
pub fn render(error: &anyhow::Error) -> String {
    format!("error: {error:#}\nhint: {}\n", hint_or_default(error))
}

/// Prints an error to standard error. Where the log is JSON, the error is a line of it, and the hint follows
/// in plain text.
pub fn report(error: &anyhow::Error) {
    if logs::are_structured() {
        let hint = hint_or_default(error);
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
    use crate::hint::Hint as _;

    #[test]
    fn the_hint_comes_last_even_below_other_contexts() {
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
