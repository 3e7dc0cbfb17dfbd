//! The documents, examples and Terraform modules are true: their links, commands, keys and grants work as
//! they stand.

pub(crate) mod batch_grants;
mod gallery;
mod grants;
mod guarantees;
mod pages;
mod terraform;
