//! The `output` part of a `model.yaml`, as data.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One output of the response.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputDeclaration {
    /// The model's output, or that of the postprocessing graph.
    pub from: String,
    /// Its name in the response. Default: the output's own.
    #[serde(default)]
    pub name: Option<String>,
    /// Applied to the innermost dimension. Softmax needs a dimension besides that of the rows.
    #[serde(default)]
    pub activation: Activation,
    /// The names of the innermost dimension: a list, or a file in the bundle with one name a line. If a row
    /// is one whole number, the position of a class from 0 on, its name replaces the number.
    #[serde(default)]
    pub labels: Option<Labels>,
    /// Shows only this number of the highest scores, highest first, as `{"label", "score"}`.
    #[serde(default)]
    pub top: Option<usize>,
    /// Shows only scores of at least this value, highest first, as `{"label", "score"}`.
    #[serde(default)]
    pub threshold: Option<f64>,
}

/// A function over the innermost dimension, computed in the output's own float type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    #[default]
    None,
    /// Turns the scores into probabilities that add up to 1.
    Softmax,
    /// Turns each score into a probability of its own.
    Sigmoid,
}

/// The names of classes: a list, or a file with one name a line, in which white space counts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a list of strings (numbers, true, false and null in quotes), or the name of a file \
     with one a line"
)]
pub enum Labels {
    List(Vec<String>),
    File(String),
}

impl Labels {
    /// The names, read from `folder` where they are in a file.
    pub(crate) fn names(&self, folder: &Path) -> Result<Vec<String>, String> {
        match self {
            Self::List(names) => Ok(names.clone()),
            Self::File(name) => {
                let text = std::fs::read_to_string(folder.join(name))
                    .map_err(|error| format!("cannot read the labels {name:?}: {error}"))?;
                // Some editors begin the file with a byte order mark. Lines of white space are labels too.
                let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                Ok(text.lines().map(str::to_owned).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_labels_has_one_a_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("labels.txt"), "\u{feff}cat\r\ndog \n\n\u{3000}\r\n\t\n \r\n")
            .unwrap();
        let read = || Labels::File("labels.txt".to_owned()).names(folder.path()).unwrap();
        assert_eq!(read(), ["cat", "dog ", "", "\u{3000}", "\t", " "]);
        std::fs::write(folder.path().join("labels.txt"), "cat\n ").unwrap();
        assert_eq!(read(), ["cat", " "], "without a line end behind the last");
    }
}
