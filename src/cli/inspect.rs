//! `predictd inspect`: what a model takes and gives, with requests that work when pasted back.

use std::fmt::Write as _;

use super::sample::{Sample, samples};
use crate::http::VersionInfo;
use crate::model::Model;
use crate::model::rows::Rows;
use crate::tensor::TensorSpec;

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Inspected {
    #[serde(flatten)]
    version: VersionInfo,
    batching: String,
    samples: Vec<Sample>,
}

/// The table, or JSON.
pub fn render(model: &Model, json: bool) -> anyhow::Result<String> {
    if json {
        let inspected =
            Inspected { version: VersionInfo::of(model), batching: batching(model), samples: samples(model) };
        return Ok(serde_json::to_string_pretty(&inspected)? + "\n");
    }
    let mut text = String::new();
    writeln!(text, "model     {} version {}", model.name, model.version)?;
    writeln!(text, "from      {}", model.from)?;
    for (key, value) in &model.metadata {
        writeln!(text, "{key:<9} {value}")?;
    }
    writeln!(text, "batching  {}\n", batching(model))?;
    let signature = &model.signature;
    table(&mut text, "inputs", &signature.inputs)?;
    if model.engine.inputs.iter().map(|spec| &spec.name).ne(signature.inputs.iter().map(|spec| &spec.name))
        || model
            .engine
            .inputs
            .iter()
            .map(|spec| spec.element)
            .ne(signature.inputs.iter().map(|spec| spec.element))
    {
        table(
            &mut text,
            "inputs of the model itself, which model.yaml makes of these",
            &model.engine.inputs,
        )?;
    }
    table(&mut text, "outputs", &signature.outputs)?;
    if let Some(columns) = &signature.columns {
        writeln!(text, "columns\n  {}", columns.join(", "))?;
    }
    for Sample { protocol, content_type, body } in samples(model) {
        write!(text, "\na request of {protocol} (pipe it into `predictd predict --model {}", model.from)?;
        let declared =
            if protocol == "csv" { format!(" --content-type '{content_type}'") } else { String::new() };
        writeln!(text, "{declared}`)\n{}", body.trim_end())?;
    }
    Ok(text)
}

fn table(text: &mut String, title: &str, specs: &[TensorSpec]) -> std::fmt::Result {
    writeln!(text, "{title}")?;
    let width = specs.iter().map(|spec| spec.name.len()).max().unwrap_or(0);
    for spec in specs {
        writeln!(text, "  {:width$}  {}", spec.name, spec.describe())?;
    }
    Ok(())
}

fn batching(model: &Model) -> String {
    match model.engine.rows {
        Rows::Any => "rows of several requests share a batch".to_owned(),
        Rows::Fixed(length) => {
            format!("rows of several requests share calls of {length}, the last one filled up")
        }
        Rows::Single => "one request at a time, the rows of a list one by one".to_owned(),
        Rows::One => "one request at a time, the instances of a list one by one".to_owned(),
    }
}
