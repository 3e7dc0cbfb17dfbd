//! ONNX Runtime in the process of the tests.

use std::sync::LazyLock;

use predictd::config::Inference;
use predictd::model::onnx::runtime::Runtime;

use super::harness::onnxruntime;

/// A process has one.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Runtime::load(&Inference { library: Some(onnxruntime().into()), ..Inference::default() }).unwrap()
});
