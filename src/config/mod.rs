//! The configuration of one process, as typed values.
//!
//! `layers` takes files and variables apart into keys. [`load`] completes and checks them by [`keys`], the
//! table of every key with its default and limits; `units` and `names` read single values. [`problems`]
//! reports all errors at once, and [`effective`] prints the values in force.
//!
//! Guarantee: a [`Config`] exists only when every key is known, well formed and within its limits.

pub mod effective;
pub mod keys;
mod layers;
pub mod load;
mod names;
pub mod problems;
mod types;
pub(crate) mod units;

pub use problems::{Origin, Problem, Problems};
pub use types::{
    Batching, Cache, Config, Files, Http, Inference, Location, MAX_ROWS, Models, Provider, Requests,
    Responses, Shutdown, Source,
};
