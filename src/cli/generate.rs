//! `predictd generate`: shell completions and the manual page, from the definition that parses the command
//! line.

use std::io::Write;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, GenerateCommand, Page};

/// Writes the completions of a shell, or the manual page of predictd and all its commands as troff.
///
/// # Errors
/// When `out` takes nothing more.
pub fn generate(what: &GenerateCommand, out: &mut impl Write) -> std::io::Result<()> {
    match what {
        GenerateCommand::Completions { what: Page::Shell(shell) } => completions(*shell, out),
        GenerateCommand::Completions { what: Page::Manual } => manual(out),
    }
}

fn completions(shell: Shell, out: &mut impl Write) -> std::io::Result<()> {
    let mut text = Vec::new(); // clap_complete panics where a writer fails, and memory never does
    clap_complete::generate(shell, &mut Cli::command(), "predictd", &mut text);
    out.write_all(&text)
}

/// One page: its commands are few, and `man predictd` is where they are looked for.
fn manual(out: &mut impl Write) -> std::io::Result<()> {
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
        // The sections of a command are parts of its own.
        out.write_all(String::from_utf8_lossy(&sections).replace(".SH ", ".SS ").as_bytes())?;
        as_it_stands(".SS EXAMPLES", command, out)?;
    }
    as_it_stands(".SH NOTES", &cli, out)
}

/// What follows a command's help is laid out already: clap_mangen would fill its lines anew.
fn as_it_stands(heading: &str, command: &clap::Command, out: &mut impl Write) -> std::io::Result<()> {
    let Some(text) = command.get_after_long_help() else { return Ok(()) };
    writeln!(out, "{heading}\n.nf")?;
    for line in text.to_string().lines().filter(|line| *line != "Examples:") {
        // A line must not begin with a dot or a quote, which are requests to troff.
        writeln!(out, "\\&{}", line.replace('\\', "\\e").replace('-', "\\-"))?;
    }
    writeln!(out, ".fi")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(what: Page) -> String {
        let mut out = Vec::new();
        generate(&GenerateCommand::Completions { what }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_shell_learns_every_command() {
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
