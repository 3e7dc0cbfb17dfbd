//! One ONNX file of a bundle, and the facts about it that ONNX Runtime does not report.

use std::path::{Path, PathBuf};

use super::categories::OneHotEncoder;
use super::{categories, model_file};

#[derive(Debug, Default)]
pub struct GraphFile {
    pub path: PathBuf,
    /// The inputs and outputs for which the file declares no shape at all.
    pub without_shape: Vec<String>,
    /// Columns whose values must be known categories.
    pub(crate) encoders: Vec<OneHotEncoder>,
    /// Set when the graph takes a scale from all rows of a call, so that each row's values depend a little on
    /// the others.
    pub(crate) quantizes_dynamically: bool,
}

impl GraphFile {
    /// # Errors
    /// A sentence when `bytes` are no protobuf message.
    pub(crate) fn of(path: &Path, bytes: &[u8]) -> Result<Self, String> {
        Ok(Self {
            path: path.to_owned(),
            without_shape: model_file::without_shape(bytes)?,
            encoders: categories::encoders(bytes),
            quantizes_dynamically: model_file::has_operator(bytes, "DynamicQuantizeLinear")?,
        })
    }
}
