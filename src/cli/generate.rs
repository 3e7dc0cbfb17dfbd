//! `predictd generate`: shell completions and the manual page, made from the definition of the command line.

use std::io::Write as _;

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::{Cli, Page};

/// Returns the completions of a shell, or the manual page of all commands as troff. They are written to
/// memory, since clap_complete panics where a writer fails.
pub fn generate(what: Page) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match what {
        Page::Shell(shell) => clap_complete::generate(shell, &mut Cli::command(), "predictd", &mut out),
        Page::Manual => manual(&mut out)?,
    }
    Ok(out)
}

/// Writes one page for all commands: they are few, and people look for them in `man predictd`.
fn manual(out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut cli = Cli::command();
    cli.build();
    let page = Man::new(cli.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_options_section(out)?;
    for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
        writeln!(out, ".SH \"PREDICTD {}\"", command.get_name().to_uppercase())?;
        let page = Man::new(command.clone());
        let mut sections = Vec::new();
        page.render_synopsis_section(&mut sections)?;
        page.render_description_section(&mut sections)?;
        page.render_options_section(&mut sections)?;
        // The sections of a command are below its own heading.
        out.write_all(String::from_utf8_lossy(&sections).replace(".SH ", ".SS ").as_bytes())?;
        preformatted(".SS EXAMPLES", command, out)?;
    }
    preformatted(".SH NOTES", &cli, out)
}

/// Writes the text after a command's help. It is laid out already, while clap_mangen would refill its lines.
fn preformatted(heading: &str, command: &clap::Command, out: &mut Vec<u8>) -> std::io::Result<()> {
    let Some(text) = command.get_after_long_help() else { return Ok(()) };
    writeln!(out, "{heading}\n.nf")?;
    for line in text.to_string().lines().filter(|line| *line != "Examples:") {
        // A dot or a quote at the start of a line would be a request to troff.
        writeln!(out, "\\&{}", line.replace('\\', "\\e").replace('-', "\\-"))?;
    }
    writeln!(out, ".fi")
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    fn generated(what: Page) -> String {
        String::from_utf8(generate(what).unwrap()).unwrap()
    }

    #[test]
    fn the_completions_of_every_shell_have_every_command() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let text = generated(Page::Shell(shell));
            for word in ["run", "check", "inspect", "predict", "push", "content-type"] {
                assert!(text.contains(word), "{word} is missing for {shell}");
            }
        }
    }

    #[test]
    fn the_manual_has_every_command_with_its_options_and_examples() {
        let text = generated(Page::Manual);
        assert!(text.contains(".TH predictd 1"), "{text}");
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let heading = format!(".SH \"PREDICTD {}\"", command.get_name().to_uppercase());
            assert!(text.contains(&heading), "{heading} is missing");
        }
        for said in ["content\\-type", "Exit codes", "\n\\&  predictd run \\-\\-config predictd.yaml\n"] {
            assert!(text.contains(said), "{said} is missing in {text}");
        }
        assert!(!text.contains("PREDICTD GENERATE"));
    }
}
