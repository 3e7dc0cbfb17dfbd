//! `predictd check`: the problems of a configuration, or its effective values; `--connect` asks the servers, too.

use std::path::PathBuf;

use super::{Exit, output};
use crate::config::load::load;
use crate::gcp::probes;
use crate::gcp::probes::Verdict;
use crate::hint::Hint as _;

/// Problems and the servers' answers go to standard error, the effective configuration to standard output.
///
/// # Errors
/// Standard output takes nothing more, or a server refuses something that the worker needs.
pub async fn run(files: &[PathBuf], connect: bool) -> anyhow::Result<Exit> {
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
    if !connect {
        return Ok(Exit::Ok);
    }
    let findings = probes::check(&loaded.config).await;
    for finding in &findings {
        output::print_error(&format!("{finding}\n"));
    }
    let is_refused = |finding: &&probes::Finding| matches!(finding.verdict, Verdict::Refused { .. });
    match findings.iter().filter(is_refused).count() {
        0 => Ok(Exit::Ok),
        refused => Err(anyhow::anyhow!("{refused} of {} checks failed", findings.len()))
            .hint("follow each `try:` above, then run `predictd check --connect` again"),
    }
}
