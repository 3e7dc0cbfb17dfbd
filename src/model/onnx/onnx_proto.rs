//! Field numbers of the messages in onnx.proto3, each named by its message and its field.

pub(super) const MODEL_GRAPH: u64 = 7;
pub(super) const MODEL_FUNCTION: u64 = 25;
pub(super) const FUNCTION_NODE: u64 = 7;

pub(super) const GRAPH_NODE: u64 = 1;
pub(super) const GRAPH_NAME: u64 = 2;
pub(super) const GRAPH_INITIALIZER: u64 = 5;
pub(super) const GRAPH_INPUT: u64 = 11;
pub(super) const GRAPH_OUTPUT: u64 = 12;
pub(super) const GRAPH_SPARSE_INITIALIZER: u64 = 15;

pub(super) const NODE_INPUT: u64 = 1;
pub(super) const NODE_OUTPUT: u64 = 2;
pub(super) const NODE_OPERATOR: u64 = 4;
pub(super) const NODE_ATTRIBUTE: u64 = 5;

pub(super) const ATTRIBUTE_NAME: u64 = 1;
pub(super) const ATTRIBUTE_INTEGER: u64 = 3;
pub(super) const ATTRIBUTE_TENSOR: u64 = 5;
pub(super) const ATTRIBUTE_GRAPH: u64 = 6;
pub(super) const ATTRIBUTE_INTEGERS: u64 = 8;
pub(super) const ATTRIBUTE_STRINGS: u64 = 9;
pub(super) const ATTRIBUTE_TYPE_PROTO: u64 = 14;
pub(super) const ATTRIBUTE_TYPE: u64 = 20;

/// The name and the type of an input or an output.
pub(super) const VALUE_NAME: u64 = 1;
pub(super) const VALUE_TYPE: u64 = 2;

pub(super) const TYPE_TENSOR: u64 = 1;
pub(super) const TYPE_SEQUENCE: u64 = 4;
pub(super) const TYPE_OPTIONAL: u64 = 9;
/// The element of a tensor, a sequence or an optional value.
pub(super) const TYPE_ELEMENT: u64 = 1;
pub(super) const TYPE_SHAPE: u64 = 2;

pub(super) const TENSOR_DIMENSIONS: u64 = 1;
pub(super) const TENSOR_DATA_TYPE: u64 = 2;
pub(super) const TENSOR_INTEGERS: u64 = 7;
pub(super) const TENSOR_NAME: u64 = 8;
pub(super) const TENSOR_BYTES: u64 = 9;
pub(super) const TENSOR_EXTERNAL_DATA: u64 = 13;
pub(super) const TENSOR_DATA_LOCATION: u64 = 14;
