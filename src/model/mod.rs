//! One version of a model, loaded, and the registry of those that are served.
//!
//! | file | contents |
//! |---|---|
//! | [`bundle`] | the files of a version: `model.yaml`, MLflow's metadata, the manifest |
//! | [`onnx`] | ONNX Runtime, ONNX files, and the chain of a version's graphs |
//! | [`batch_mode`], [`sharing`], `probe`, `made_up_rows` | the decision whether requests share calls |
//! | `input_adapter`, `output_format`, `activation` | the declared preparation of inputs and form of outputs |
//! | [`open`], [`executor`], [`run`], `split_runs` | a version opened from its bundle, and its runs |
//! | [`interface`] | the comparison of the signatures of two versions |

mod activation;
pub mod batch_mode;
pub mod bundle;
pub mod executor;
pub(crate) mod input_adapter;
pub mod interface;
mod loaded;
pub(crate) mod made_up_rows;
pub mod onnx;
pub mod open;
mod output_format;
mod probe;
mod registry;
pub mod run;
mod sessions;
pub mod sharing;
mod split_runs;

pub use loaded::Model;
pub use registry::Models;
