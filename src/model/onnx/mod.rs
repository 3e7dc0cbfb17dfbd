//! ONNX Runtime and ONNX files: the library, sessions and values, and the facts that only the model file
//! shows.

pub(crate) mod categories;
pub(crate) mod chain;
pub mod graph_file;
pub(crate) mod graph_io;
mod library;
pub(crate) mod model_file;
mod onnx_proto;
mod ort_values;
mod protobuf;
mod rewrite_optional;
pub mod runtime;
pub(crate) mod sizes;
