//! Facts of a model file that ONNX Runtime does not report: the files beside the model that hold its weights,
//! the inputs and outputs without a shape, and the operators.
//!
//! Our own reader of ONNX's protobuf (onnx.proto3): it needs few fields, and reads them without copying the
//! weights.

use std::collections::VecDeque;

use super::onnx_proto::*;
use super::protobuf::Fields;

/// TensorProto.DataLocation.
const EXTERNAL: u64 = 1;
/// StringStringEntryProto.
const KEY: u64 = 1;
const VALUE: u64 = 2;

pub(super) const NOT_ONNX: &str = "the model file is no ONNX model (not a protobuf message)";

/// The names of the inputs and outputs that declare no shape at all, not even that of a scalar.
///
/// # Errors
/// A sentence when `model` is no protobuf message.
pub(crate) fn without_shape(model: &[u8]) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for graph in Fields(model).named(MODEL_GRAPH) {
        let graph = graph.ok_or(NOT_ONNX)?;
        for value in Fields(graph).named(GRAPH_INPUT).chain(Fields(graph).named(GRAPH_OUTPUT)) {
            let value = value.ok_or(NOT_ONNX)?;
            let tensor =
                Fields(value).last(VALUE_TYPE).and_then(|declared| Fields(declared).last(TYPE_TENSOR));
            if let (Some(name), Some(tensor)) = (Fields(value).last(VALUE_NAME), tensor)
                && Fields(tensor).last(TYPE_SHAPE).is_none()
            {
                names.push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    Ok(names)
}

/// A message that may contain externally stored tensors at any depth.
#[derive(Debug, Clone, Copy)]
enum Part {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
}

impl Part {
    /// The fields that contain other parts. Nodes such as `If`, `Loop` and `Scan` have graphs as attributes.
    fn children(self) -> &'static [(u64, Self)] {
        match self {
            Self::Model => &[(MODEL_GRAPH, Self::Graph), (MODEL_FUNCTION, Self::Function)],
            Self::Graph => &[
                (GRAPH_NODE, Self::Node),
                (GRAPH_INITIALIZER, Self::Tensor),
                (GRAPH_SPARSE_INITIALIZER, Self::SparseTensor),
            ],
            Self::Function => &[(FUNCTION_NODE, Self::Node)],
            Self::Node => &[(NODE_ATTRIBUTE, Self::Attribute)],
            // One of each kind, a list of each kind.
            Self::Attribute => &[
                (ATTRIBUTE_TENSOR, Self::Tensor),
                (ATTRIBUTE_GRAPH, Self::Graph),
                (10, Self::Tensor),
                (11, Self::Graph),
                (22, Self::SparseTensor),
                (23, Self::SparseTensor),
            ],
            // Values and indices.
            Self::SparseTensor => &[(1, Self::Tensor), (2, Self::Tensor)],
            Self::Tensor => &[],
        }
    }
}

/// The `location`s of all externally stored tensors, each once, those of subgraphs last.
///
/// # Errors
/// A sentence when `model` is no protobuf message.
pub(crate) fn external_files(model: &[u8]) -> Result<Vec<String>, String> {
    let mut files = Vec::new();
    walk(model, |part, message| match part {
        Part::Tensor => add_location(message, &mut files),
        _ => Ok(()),
    })?;
    Ok(files)
}

/// True when a node, in a subgraph or not, is of this operator.
///
/// # Errors
/// A sentence when `model` is no protobuf message.
pub(crate) fn has_operator(model: &[u8], operator: &str) -> Result<bool, String> {
    let mut is_there = false;
    walk(model, |part, message| {
        is_there |=
            matches!(part, Part::Node) && Fields(message).last(NODE_OPERATOR) == Some(operator.as_bytes());
        Ok(())
    })?;
    Ok(is_there)
}

fn walk<'a>(
    model: &'a [u8],
    mut visit: impl FnMut(Part, &'a [u8]) -> Result<(), String>,
) -> Result<(), String> {
    // A queue instead of recursion: a crafted file may nest its subgraphs to any depth.
    let mut parts = VecDeque::from([(Part::Model, model)]);
    while let Some((part, message)) = parts.pop_front() {
        visit(part, message)?;
        if part.children().is_empty() {
            continue;
        }
        for field in Fields(message) {
            let field = field.ok_or(NOT_ONNX)?;
            let child = part.children().iter().find(|(number, _)| *number == field.number);
            if let (Some((_, child)), Some(bytes)) = (child, field.value.bytes()) {
                parts.push_back((*child, bytes));
            }
        }
    }
    Ok(())
}

/// Adds the file that a tensor is stored in. A tensor with its own data may have an outdated location, which
/// is ignored.
fn add_location(tensor: &[u8], files: &mut Vec<String>) -> Result<(), String> {
    if Fields(tensor).varint(TENSOR_DATA_LOCATION) != Some(EXTERNAL) {
        return Ok(());
    }
    for entry in Fields(tensor).named(TENSOR_EXTERNAL_DATA) {
        let entry = entry.ok_or(NOT_ONNX)?;
        let text =
            |field| Fields(entry).named(field).next().flatten().map(|bytes| String::from_utf8_lossy(bytes));
        if let (Some(key), Some(value)) = (text(KEY), text(VALUE))
            && key == "location"
            && !files.iter().any(|file| *file == value)
        {
            files.push(value.into_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::protobuf::Message;
    use super::*;

    fn message(number: u64, content: &[u8]) -> Vec<u8> {
        Message::default().bytes(number, content).0
    }

    /// The content of a tensor whose data is in another file.
    fn external(location: &str) -> Vec<u8> {
        let entry = |key: &str, value: &str| {
            message(13, &[message(1, key.as_bytes()), message(2, value.as_bytes())].concat())
        };
        [entry("offset", "0"), entry("location", location), vec![14 << 3, 1]].concat()
    }

    #[test]
    fn external_weights_are_found() {
        let tensor = message(5, &external("weights.bin"));
        let model = [vec![8, 9], message(7, &[tensor.clone(), tensor].concat())].concat();
        assert_eq!(external_files(&model), Ok(vec!["weights.bin".to_owned()]));
    }

    #[test]
    fn a_location_beside_data_of_its_own_does_not_count() {
        let stale = external("weights.bin");
        for end in [vec![], vec![14 << 3, 0]] {
            let tensor = [&stale[..stale.len() - 2], message(9, b"raw").as_slice(), end.as_slice()].concat();
            assert_eq!(external_files(&message(7, &message(5, &tensor))), Ok(vec![]));
        }
    }

    #[test]
    fn weights_of_subgraphs_and_functions_are_found() {
        // An attribute `then_branch`, which is a graph with one tensor.
        let branch = message(6, &message(5, &external("branch.bin")));
        let node = message(1, &message(5, &branch));
        let constant = message(5, &message(5, &external("constant.bin")));
        let function = message(25, &message(7, &constant));
        let sparse = message(15, &message(1, &external("sparse.bin")));
        let model = [message(7, &[node, sparse].concat()), function].concat();
        let mut found = external_files(&model).unwrap();
        found.sort();
        assert_eq!(found, ["branch.bin", "constant.bin", "sparse.bin"]);
    }

    #[test]
    fn deep_subgraphs_do_not_exhaust_the_stack() {
        let mut graph = Message::default().bytes(5, external("deep.bin"));
        for _ in 0..20_000 {
            let attribute = Message::default().bytes(6, &graph);
            let node = Message::default().bytes(5, attribute);
            graph = Message::default().bytes(1, node);
        }
        let model = Message::default().bytes(7, graph);
        assert_eq!(external_files(&model.0), Ok(vec!["deep.bin".to_owned()]));
    }

    #[test]
    fn a_missing_shape_is_distinguished_from_a_scalar() {
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
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = external_files(&bytes);
            let _ = without_shape(&bytes);
        }
    }
}
