//! What a bundle's `model.yaml` declares to stand between a payload and the model: pictures and texts become tensors.
//!
//! Declarations are plain data, checked once against the model when a version is loaded; preparing has no
//! effect but its result and never panics on what it is given.

pub mod image;
pub mod survive;
pub mod text;
