//! Just enough of ONNX's protobuf (onnx.proto3) to see which files beside the model its weights are in.

use super::protobuf::Fields;

/// The field numbers of ModelProto.graph, GraphProto.initializer, TensorProto.external_data, StringStringEntryProto.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const EXTERNAL_DATA: u64 = 13;
const KEY: u64 = 1;
const VALUE: u64 = 2;

/// The `location`s of all externally stored initializers, each once, in order.
///
/// # Errors
/// A sentence when `model` is no protobuf message.
pub(super) fn external_files(model: &[u8]) -> Result<Vec<String>, String> {
    let broken = || "the model file is no ONNX model (not a protobuf message)".to_owned();
    let mut files = Vec::new();
    for graph in Fields(model).named(GRAPH) {
        for tensor in Fields(graph.ok_or_else(broken)?).named(INITIALIZER) {
            for entry in Fields(tensor.ok_or_else(broken)?).named(EXTERNAL_DATA) {
                let entry = entry.ok_or_else(broken)?;
                let text = |field| {
                    Fields(entry).named(field).next().flatten().map(|bytes| String::from_utf8_lossy(bytes))
                };
                if let (Some(key), Some(value)) = (text(KEY), text(VALUE))
                    && key == "location"
                    && !files.iter().any(|file| *file == value)
                {
                    files.push(value.into_owned());
                }
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        bytes.extend_from_slice(content);
        bytes
    }

    #[test]
    fn external_weights_are_found() {
        let entry = |key: &str, value: &str| {
            message(13, &[message(1, key.as_bytes()), message(2, value.as_bytes())].concat())
        };
        let tensor = message(5, &[entry("offset", "0"), entry("location", "weights.bin")].concat());
        let model = [vec![8, 9], message(7, &[tensor.clone(), tensor].concat())].concat();
        assert_eq!(external_files(&model), Ok(vec!["weights.bin".to_owned()]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = external_files(&bytes);
        }
    }
}
