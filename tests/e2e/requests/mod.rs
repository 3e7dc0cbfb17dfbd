//! Every form of request is answered with the values that the framework of the model computes, in the form
//! that the request asked for.

mod attributes;
mod columns;
mod forms;
mod images;
mod large_results;
mod padding;
pub(crate) mod references;
pub(crate) mod tensor_types;
mod texts;
pub(crate) mod zoo;
