//! `predictd check`: what is wrong with a configuration, or what it comes to. Connects to nothing.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

use super::Exit;
use super::report::Hint as _;
use crate::config::load::load;

/// Problems go to standard error, the effective configuration to standard output.
///
/// # Errors
/// When standard output takes nothing more.
pub fn run(files: &[PathBuf]) -> anyhow::Result<Exit> {
    match load(files, std::env::vars_os()) {
        Ok(loaded) => write!(std::io::stdout().lock(), "{}", loaded.effective)
            .context("cannot write to standard output")
            .hint("let the reader of this command's output read all of it")
            .map(|()| Exit::Ok),
        Err(problems) => {
            eprintln!("error: {problems}");
            Ok(Exit::BadConfig)
        }
    }
}
