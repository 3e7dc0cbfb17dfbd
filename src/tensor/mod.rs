//! Tensors as they cross the engine, and the signatures that describe them. Knows neither a wire format nor
//! ONNX Runtime.

mod convert;
pub mod elements;
pub mod output;
pub mod signature;

pub use elements::{Composite, ElementType, Elements, Tensor, View};
pub use output::{Output, Show};
