//! Prepares requests as a bundle's `model.yaml` declares: images and texts become the model's tensors.
//!
//! A declaration is plain data. It is validated against the model once, when a version is loaded. Preparing a
//! request never panics, whatever the request holds.

pub mod catch_panic;
pub mod image;
pub mod text;
