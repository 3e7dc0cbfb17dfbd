//! `/console/sample.json`: the form that fits a model, filled in with a request that it takes.

use serde::Serialize;

use crate::error::Rejection;
use crate::model::{Model, Models};
use crate::sample::Zeros;
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, ValueKind};

/// Most fields of a form. A model with more columns has JSON alone.
const MOST_FIELDS: usize = 200;

#[derive(Serialize)]
pub(super) struct Form {
    model: String,
    version: String,
    kind: Kind,
    fields: Vec<Field>,
    /// A request in JSON: the first sample of `model.yaml`, else one of zeros. Empty where it would be too
    /// long.
    body: String,
    /// True when `body` is a sample of `model.yaml`, which the model answered when it was loaded.
    is_declared: bool,
}

#[derive(Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Image,
    Text,
    Columns,
    Json,
}

/// A named column.
#[derive(Serialize)]
struct Field {
    name: String,
    /// Its value in JSON.
    value: String,
    /// The allowed strings; empty: any value.
    choices: Vec<String>,
}

/// # Errors
/// `MODEL_NOT_FOUND`.
pub(super) fn sample(models: &Models, model: Option<&str>) -> Result<Form, Rejection> {
    let model = models.resolve(model)?;
    let zeros = Zeros { model: &model, text: "a", size: 1, open: 0, image: None };
    let declared = model.declaration.samples.first().map(|sample| sample.request.to_string());
    let (kind, fields) = form(&model, &zeros);
    Ok(Form {
        model: model.name.to_string(),
        version: model.version.to_string(),
        kind,
        fields,
        is_declared: declared.is_some(),
        body: declared.unwrap_or_else(|| if zeros.is_too_large() { String::new() } else { zeros.rows() }),
    })
}

fn form(model: &Model, zeros: &Zeros<'_>) -> (Kind, Vec<Field>) {
    if let ([only], true) = (&model.signature.inputs[..], model.declaration.columns.is_empty()) {
        let is_cell = only.kind == ValueKind::Tensor && matches!(only.shape[..], [_] | [_, Dim::Fixed(1)]);
        match only.element {
            ElementType::Bytes => return (Kind::Image, Vec::new()),
            ElementType::String if is_cell => return (Kind::Text, Vec::new()),
            _ => {}
        }
    }
    let Some((Some(names), cells)) = zeros.table().filter(|(_, cells)| cells.len() <= MOST_FIELDS) else {
        return (Kind::Json, Vec::new());
    };
    let choices = |name: &str| {
        let column = model.declaration.columns.iter().find(|column| column.name == *name);
        column.and_then(|column| column.categories.clone()).unwrap_or_default()
    };
    let fields = names.into_iter().zip(cells).map(|(name, value)| {
        let choices = choices(&name);
        Field { name, value, choices }
    });
    (Kind::Columns, fields.collect())
}
