//! `predictd check`: what is wrong with a configuration, or what it comes to. Connects to nothing.

use std::path::PathBuf;

use super::{Exit, output};
use crate::config::load::load;

/// Problems go to standard error, the effective configuration to standard output.
///
/// # Errors
/// When standard output takes nothing more.
pub fn run(files: &[PathBuf]) -> anyhow::Result<Exit> {
    let loaded = match load(files, std::env::vars_os()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            output::print_error(&format!("error: {problems}\n"));
            return Ok(Exit::BadConfig);
        }
    };
    for warning in loaded.config.warnings() {
        output::print_error(&format!("warning: {warning}\n"));
    }
    output::print(loaded.effective.to_string())?;
    Ok(Exit::Ok)
}
