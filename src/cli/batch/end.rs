//! The report of a finished job.

use anyhow::Context as _;

use crate::cli::{Exit, output};
use crate::files::job::{OutputFormat, Plan};
use crate::files::summary::Summary;

/// Prints how a job ended.
pub(super) fn report(plan: &Plan, summary: &Summary, first_error: Option<&str>) -> anyhow::Result<Exit> {
    let Summary { model, model_version, rows, successful, failed, seconds, .. } = summary;
    let mut text = format!(
        "{model} {model_version}: {rows} rows, {successful} predicted, {failed} failed, {seconds:.1} s\n"
    );
    let end = if plan.job.output_format == OutputFormat::Csv { ".csv" } else { "" };
    text += &format!("results: {}\n", plan.path(&format!("prediction.results-*{end}")));
    if *failed > 0 {
        text += &format!("errors: {}\n", plan.path("prediction.errors_stats-*"));
    }
    if let Some(first) = first_error {
        text += &format!("the first: {first}\n");
    }
    output::print(text).context("cannot report the end of the job")?;
    if *rows == 0 {
        output::print_error("warning: the input has no rows\n");
    }
    Ok(if *failed > 0 { Exit::FailedRows } else { Exit::Ok })
}
