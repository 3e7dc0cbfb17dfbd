//! Versions of models, from their source into service: listed, chosen, downloaded, loaded, checked and swapped in.
//!
//! [`watch`] alone, with what it starts, writes [`crate::model::Models`].

pub mod cache;
pub(crate) mod choice;
pub mod crashes;
mod download;
pub mod load;
pub mod loader;
pub(crate) mod memory;
mod reconcile;
mod samples;
pub mod source;
pub mod version;
mod warm_up;
pub mod watch;
