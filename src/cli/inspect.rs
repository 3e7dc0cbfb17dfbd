//! `predictd inspect`: the inputs and outputs of a model, and a command for each form of request that fits
//! it.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::Value;

use super::sample::samples;
use crate::http::info::VersionInfo;
use crate::model::Models;
use crate::model::bundle::declaration::Declaration;
use crate::sample::Sample;
use crate::tensor::signature::TensorSpec;

/// Most characters of a command on a terminal.
const LONGEST_COMMAND: usize = 4096;
/// Most characters of a value of the metadata on a terminal.
const LONGEST_VALUE: usize = 200;
/// Most elements of a list on a terminal.
const LONGEST_LIST: usize = 20;

/// The output of `--json`.
#[derive(serde::Serialize)]
struct Inspected {
    #[serde(flatten)]
    version: VersionInfo,
    /// The declarations of `model.yaml`, with the defaults of the parts that it mentions; null where there
    /// are none.
    #[serde(skip_serializing_if = "Value::is_null")]
    declared: Value,
    samples: Vec<Sample>,
}

/// Renders the one model as a table or as JSON.
pub fn render(models: &Models, serving_example: Option<String>, json: bool) -> anyhow::Result<String> {
    let serving = models.serving();
    let model = serving.values().next().context("no model is loaded")?;
    let samples = samples(models, model, serving_example);
    let declared = declared(&model.declaration)?;
    if json {
        let inspected = Inspected { version: VersionInfo::of(model), declared, samples };
        return Ok(serde_json::to_string_pretty(&inspected)? + "\n");
    }
    let mut text = String::new();
    writeln!(text, "model     {} version {}", model.name, model.version)?;
    writeln!(text, "from      {}", model.from)?;
    writeln!(text, "batching  {}\n", model.executor.batching())?;
    let signature = &model.signature;
    table(&mut text, "inputs", &signature.inputs)?;
    let own_inputs = &model.executor.inputs;
    let is_same =
        |(own, shown): (&TensorSpec, &TensorSpec)| (&own.name, own.element) == (&shown.name, shown.element);
    if own_inputs.len() != signature.inputs.len() || !own_inputs.iter().zip(&signature.inputs).all(is_same) {
        table(&mut text, "inputs of the model itself, which model.yaml makes of these", own_inputs)?;
    }
    table(&mut text, "outputs", &signature.outputs)?;
    if let Some(columns) = &signature.columns {
        writeln!(text, "columns\n  {}", columns.join(", "))?;
    }
    if !declared.is_null() {
        let yaml = serde_saphyr::to_string(&shortened(declared))?;
        let lines: Vec<String> = yaml.lines().map(|line| format!("  {line}\n")).collect();
        write!(text, "declared in model.yaml\n{}", lines.concat())?;
    }
    if !model.metadata.is_empty() {
        writeln!(text, "metadata")?;
    }
    for (key, value) in &model.metadata {
        writeln!(text, "  {key:<8} {}", one_line(value))?;
    }
    if samples.is_empty() {
        writeln!(text, "\nno sample requests: the model refuses zeros in every form")?;
    }
    for Sample { protocol, command, body, .. } in samples {
        if command.len() <= LONGEST_COMMAND {
            writeln!(text, "\n# {protocol}\n{command}")?;
        } else {
            let length = body.bytes().len();
            writeln!(text, "\n# {protocol}: {length} bytes, which `predictd inspect --json` shows")?;
        }
    }
    Ok(text)
}

/// The declarations of `model.yaml`, with the defaults of the parts that it mentions; null where there are
/// none.
fn declared(declaration: &Declaration) -> anyhow::Result<Value> {
    let nothing = serde_json::to_value(Declaration::default())?;
    let mut said = serde_json::to_value(declaration)?;
    if let Value::Object(parts) = &mut said {
        parts.retain(|name, part| nothing[name] != *part);
        // Only their number: samples may be long.
        if let Some(samples) = parts.get_mut("samples") {
            let count = samples.as_array().map_or(0, Vec::len);
            *samples = format!("{count}, which the model answers as declared").into();
        }
    }
    prune(&mut said);
    Ok(if said == serde_json::json!({}) { Value::Null } else { said })
}

/// Puts a value of the metadata on one line, and cuts it; `--json` has all of it.
fn one_line(value: &str) -> String {
    let words: Vec<&str> = value.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => {
            format!("{}… ({} characters in all)", line[..end].trim_end(), value.chars().count())
        }
        None => line,
    }
}

/// Cuts long lists, such as thousands of labels.
fn shortened(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => members.values_mut().for_each(|member| *member = shortened(member.take())),
        Value::Array(elements) => {
            let length = elements.len();
            elements.iter_mut().for_each(|element| *element = shortened(element.take()));
            if length > LONGEST_LIST {
                elements.truncate(LONGEST_LIST);
                elements.push(format!("… ({length} in all)").into());
            }
        }
        _ => {}
    }
    value
}

/// Removes nulls.
fn prune(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(prune);
            members.retain(|_, member| !member.is_null());
        }
        Value::Array(elements) => elements.iter_mut().for_each(prune),
        _ => {}
    }
}

fn table(text: &mut String, title: &str, specs: &[TensorSpec]) -> std::fmt::Result {
    writeln!(text, "{title}")?;
    let width = specs.iter().map(|spec| spec.name.len()).max().unwrap_or(0);
    for spec in specs {
        writeln!(text, "  {:width$}  {}", spec.name, spec.describe())?;
    }
    Ok(())
}
