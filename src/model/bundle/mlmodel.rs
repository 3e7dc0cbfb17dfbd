//! `MLmodel`: the metadata that MLflow writes beside a model.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::mlflow;

/// The name of the model's file, and the columns of its pandas signature; see [`columns`].
///
/// # Errors
/// A sentence when the file is not understood or names no ONNX model.
pub(super) fn read(text: &str) -> Result<(String, Option<Vec<mlflow::Column>>), String> {
    let model: MlModel =
        serde_saphyr::from_str(text).map_err(|error| format!("\"MLmodel\" is not understood: {error}"))?;
    let inputs = model.signature.as_ref().and_then(|signature| signature.inputs.as_deref());
    Ok((model.model_file()?, inputs.map_or(Ok(None), columns)?))
}

#[derive(Debug, Deserialize)]
struct MlModel {
    flavors: BTreeMap<String, serde_json::Value>,
    signature: Option<MlSignature>,
}

#[derive(Debug, Deserialize)]
struct MlSignature {
    /// A JSON array of columns or tensors, as a string.
    inputs: Option<String>,
}

impl MlModel {
    /// The name of the model's file.
    ///
    /// # Errors
    /// The model has no ONNX flavour.
    fn model_file(&self) -> Result<String, String> {
        let onnx = self.flavors.get("onnx").ok_or_else(|| {
            let flavors: Vec<_> = self.flavors.keys().collect();
            format!("\"MLmodel\" has no flavour `onnx`, only {flavors:?}")
        })?;
        let data = onnx.get("data").and_then(serde_json::Value::as_str);
        Ok(data.unwrap_or("model.onnx").to_owned())
    }
}

/// The columns of a pandas signature; `None` for a tensor signature, or if columns have no names.
///
/// # Errors
/// The signature cannot be parsed.
pub(super) fn columns(inputs: &str) -> Result<Option<Vec<mlflow::Column>>, String> {
    #[derive(Deserialize)]
    struct Column {
        #[serde(rename = "type")]
        kind: String,
        name: Option<Name>,
        required: Option<bool>,
        /// Its opposite in MLflow before 2.9.
        optional: Option<bool>,
    }
    /// A column's name; a frame that was made from an array has numbers.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Name {
        Text(String),
        Number(i64),
    }
    let columns: Vec<Column> = serde_json::from_str(inputs)
        .map_err(|error| format!("the signature's inputs in \"MLmodel\" are not understood: {error}"))?;
    if columns.iter().any(|column| column.kind == "tensor") {
        return Ok(None);
    }
    let named = |column: Column| {
        let Column { kind, name, required, optional } = column;
        let name = match name? {
            Name::Text(text) => text,
            Name::Number(number) => number.to_string(),
        };
        let required = required.unwrap_or(!optional.unwrap_or(false));
        Some(mlflow::Column { name, kind, required })
    };
    Ok(columns.into_iter().map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_every_mlflow_are_read() {
        let columns = |inputs: &str| {
            let text = format!("flavors:\n  onnx: {{data: model.onnx}}\nsignature:\n  inputs: '{inputs}'\n");
            read(&text).unwrap().1.unwrap()
        };
        let column = |name: &str, required: bool| mlflow::Column {
            name: name.to_owned(),
            kind: "double".to_owned(),
            required,
        };
        // A frame made from an array numbers its columns. MLflow 2.4 wrote `optional`.
        let numbered = r#"[{"type": "double", "name": 0}, {"type": "double", "name": 1, "required": true}]"#;
        assert_eq!(columns(numbered), [column("0", true), column("1", true)]);
        let optional = r#"[{"type": "double", "name": "a", "optional": true}, {"type": "double", "name": "b",
            "optional": false}, {"type": "double", "name": "c", "required": false}]"#
            .replace('\n', " ");
        assert_eq!(columns(&optional), [column("a", false), column("b", true), column("c", false)]);
    }
}
