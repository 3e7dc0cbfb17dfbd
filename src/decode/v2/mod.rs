//! Open Inference Protocol v2 (github.com/kserve/open-inference-protocol, REST specification) with its binary
//! data extension: a tensor's data is in the JSON, or behind it with its number of bytes as
//! `binary_data_size`.

mod fields;
mod outputs;
mod tensors;

pub(super) use outputs::{read_binary_output, read_outputs, read_timeout};
pub(super) use tensors::{is_next, read_tensors};
