//! Versions of models, from their source into service: listed, chosen, downloaded, loaded, checked and
//! swapped in.
//!
//! [`watch`] and the tasks that it starts are the only writers of [`crate::model::Models`] and
//! [`not_served`].

pub mod cache;
pub(crate) mod choice;
pub mod crashes;
mod download;
mod findings;
pub mod listing;
pub mod load;
pub mod loader;
pub(crate) mod memory;
pub mod not_served;
pub mod reconcile;
mod samples;
pub mod source;
pub mod version;
mod warm_up;
pub mod watch;
