//! Just enough of ONNX's protobuf (onnx.proto3) to see what ONNX Runtime does not tell: which files beside the model its weights
//! are in, and which inputs and outputs have no shape.

use super::protobuf::Fields;

/// The field numbers of ModelProto.graph, GraphProto.initializer, .input and .output, ValueInfoProto, TypeProto.tensor_type and its shape,
/// TensorProto.external_data, StringStringEntryProto.
const GRAPH: u64 = 7;
const INITIALIZER: u64 = 5;
const INPUT: u64 = 11;
const OUTPUT: u64 = 12;
const VALUE_NAME: u64 = 1;
const VALUE_TYPE: u64 = 2;
const TENSOR: u64 = 1;
const SHAPE: u64 = 2;
const EXTERNAL_DATA: u64 = 13;
const KEY: u64 = 1;
const VALUE: u64 = 2;

const NOT_ONNX: &str = "the model file is no ONNX model (not a protobuf message)";

/// The names of the inputs and outputs that declare no shape at all, not even that of a scalar.
///
/// # Errors
/// A sentence when `model` is no protobuf message.
pub(super) fn without_shape(model: &[u8]) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for graph in Fields(model).named(GRAPH) {
        let graph = graph.ok_or(NOT_ONNX)?;
        for value in Fields(graph).named(INPUT).chain(Fields(graph).named(OUTPUT)) {
            let value = value.ok_or(NOT_ONNX)?;
            let tensor = Fields(value).last(VALUE_TYPE).and_then(|declared| Fields(declared).last(TENSOR));
            if let (Some(name), Some(tensor)) = (Fields(value).last(VALUE_NAME), tensor)
                && Fields(tensor).last(SHAPE).is_none()
            {
                names.push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    Ok(names)
}

/// The `location`s of all externally stored initializers, each once, in order.
///
/// # Errors
/// A sentence when `model` is no protobuf message.
pub(super) fn external_files(model: &[u8]) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    for graph in Fields(model).named(GRAPH) {
        for tensor in Fields(graph.ok_or(NOT_ONNX)?).named(INITIALIZER) {
            for entry in Fields(tensor.ok_or(NOT_ONNX)?).named(EXTERNAL_DATA) {
                let entry = entry.ok_or(NOT_ONNX)?;
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

    #[test]
    fn what_has_no_shape_is_told_from_a_scalar() {
        let value = |field, name: &str, tensor: &[u8]| {
            message(field, &[message(1, name.as_bytes()), message(2, &message(1, tensor))].concat())
        };
        let open = [value(11, "x", &[8, 1]), value(12, "y", &[8, 1])].concat();
        let scalars = [value(11, "a", &[8, 1, 0x12, 0]), value(12, "b", &[8, 1, 0x12, 0])].concat();
        let sequence = message(11, &[message(1, b"s"), message(2, &message(4, &[]))].concat());
        let model = message(7, &[open, scalars, sequence].concat());
        assert_eq!(without_shape(&model), Ok(vec!["x".to_owned(), "y".to_owned()]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = external_files(&bytes);
            let _ = without_shape(&bytes);
        }
    }
}
