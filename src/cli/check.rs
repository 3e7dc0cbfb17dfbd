//! `predictd check`: the problems of a configuration, or its effective values; `--connect` asks the servers
//! too.

use std::path::PathBuf;

use super::{Exit, output};
use crate::config::load::{Loaded, load};
use crate::config::{Cache, Config};
use crate::gcp::probes::{self, Finding, Verdict};
use crate::hint::Hint as _;
use crate::lifecycle::listing::Listing;
use crate::lifecycle::source::Source;

/// Writes problems and the servers' answers to standard error, the effective configuration to standard
/// output.
///
/// # Errors
/// Standard output cannot be written, or a server refuses something that the worker needs.
pub async fn run(files: &[PathBuf], connect: bool) -> anyhow::Result<Exit> {
    let Some(loaded) = load_or_report(files) else { return Ok(Exit::BadConfig) };
    for warning in loaded.config.warnings() {
        output::print_error(&format!("warning: {warning}\n"));
    }
    output::print(loaded.effective.to_string())?;
    if !connect {
        return Ok(Exit::Ok);
    }
    let findings = probes::check(&loaded.config, check_models(&loaded.config)).await;
    for finding in &findings {
        output::print_error(&format!("{finding}\n"));
    }
    let is_refused = |finding: &&Finding| matches!(finding.verdict, Verdict::Refused { .. });
    match findings.iter().filter(is_refused).count() {
        0 => Ok(Exit::Ok),
        refused => Err(anyhow::anyhow!("{refused} of {} checks failed", findings.len()))
            .hint("follow each `try:` above, then run `predictd check --connect` again"),
    }
}

/// Loads the configuration from files and variables. Prints its problems.
pub(super) fn load_or_report(files: &[PathBuf]) -> Option<Loaded> {
    let print = |problems| output::print_error(&format!("error: {problems}\n"));
    load(files, std::env::vars_os()).map_err(print).ok()
}

/// Lists the models' source, where the default model must be.
async fn check_models(config: &Config) -> Finding {
    let source = &config.models.source;
    let list = async { Source::connect(source, &Cache::default()).await?.list().await };
    let (name, verdict) = match list.await {
        Ok(listing) => judge(source.to_string(), &listing, config.models.default.as_deref()),
        Err(error) => (source.to_string(), Verdict::refused(&error)),
    };
    Finding { about: "models.source", name, verdict }
}

fn judge(source: String, listing: &Listing, default: Option<&str>) -> (String, Verdict) {
    let mut models: Vec<&str> = listing.versions.iter().map(|listed| &*listed.model).collect();
    models.dedup();
    let names = models.join(", ");
    let (why, hint) = match default {
        _ if models.is_empty() => (
            "expected MODEL/VERSION/model.onnx, found no version of a model".to_owned(),
            "upload one with `predictd push`, or correct `models.source`",
        ),
        Some(default) if !models.contains(&default) => (
            format!("the default model {default:?} is not among {names}"),
            "upload it, or correct `models.default`",
        ),
        _ => return (format!("{source} has {names}"), Verdict::Fine),
    };
    (source, Verdict::Refused { why, hint: hint.to_owned() })
}
