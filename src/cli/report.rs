//! Errors as a person at a terminal meets them: the chain on one line, then what to do.

use super::output;
use crate::hint::hint_or_default;
use crate::ops::logs;

/// `error: …` and `hint: …`.
pub fn render(error: &anyhow::Error) -> String {
    format!("error: {error:#}\nhint: {}\n", hint_or_default(error))
}

/// Prints it to standard error: where the log is for machines, as a line of the log, and then the hint.
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
