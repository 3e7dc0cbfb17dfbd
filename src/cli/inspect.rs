//! `predictd inspect`: what a model takes and gives, with a request that works when pasted back.

use std::fmt::Write as _;

use crate::http::VersionInfo;
use crate::model::Model;
use crate::tensor::{Dim, ElementType, TensorSpec};

/// The table, or JSON.
pub fn render(model: &Model, json: bool) -> anyhow::Result<String> {
    if json {
        return Ok(serde_json::to_string_pretty(&VersionInfo::of(model))? + "\n");
    }
    let mut text = String::new();
    writeln!(text, "model     {} version {}", model.name, model.version)?;
    writeln!(text, "from      {}", model.from)?;
    for (key, value) in &model.metadata {
        writeln!(text, "{key:<9} {value}")?;
    }
    let rows = if model.signature.batched {
        "rows of several requests share a batch"
    } else {
        "one request at a time"
    };
    writeln!(text, "batching  {rows}\n")?;
    for (kind, specs) in [("inputs", &model.signature.inputs), ("outputs", &model.signature.outputs)] {
        writeln!(text, "{kind}")?;
        let width = specs.iter().map(|spec| spec.name.len()).max().unwrap_or(0);
        for spec in specs {
            writeln!(text, "  {:width$}  {}", spec.name, spec.describe())?;
        }
    }
    if let Some(columns) = &model.signature.columns {
        writeln!(text, "columns\n  {}", columns.join(", "))?;
    }
    writeln!(text, "\na request (pipe it into `predictd predict --model {}`)", model.from)?;
    writeln!(text, "{}", sample(model))?;
    Ok(text)
}

/// A request of rows whose values are zeros: of the right shape, not of sense.
pub fn sample(model: &Model) -> String {
    let signature = &model.signature;
    let instance = match &signature.inputs[..] {
        [only] => value(only, signature.batched),
        several => {
            let named: Vec<String> = several
                .iter()
                .map(|spec| {
                    format!(
                        "{}: {}",
                        serde_json::Value::from(spec.name.as_str()),
                        value(spec, signature.batched)
                    )
                })
                .collect();
            format!("{{{}}}", named.join(", "))
        }
    };
    format!("{{\"instances\": [{instance}]}}")
}

fn value(spec: &TensorSpec, batched: bool) -> String {
    let zero = match spec.element {
        ElementType::Bool => "false",
        ElementType::Text => "\"\"",
        ElementType::F16 | ElementType::F32 | ElementType::F64 => "0.0",
        _ => "0",
    };
    let dims = if batched { &spec.shape[1..] } else { &spec.shape[..] };
    dims.iter().rev().fold(zero.to_owned(), |inner, dim| {
        let length = if let Dim::Fixed(n) = dim { *n } else { 1 };
        format!("[{}]", vec![inner; length].join(", "))
    })
}
