//! Outputs to a response body: pure functions that mirror [`decode`](crate::decode).
//!
//! Floats are written in the shortest form that reads back the same at their own width. JSON has neither NaN
//! nor Infinity: they become the strings `"NaN"`, `"Infinity"` and `"-Infinity"`. [`envelope`] then wraps the
//! body like the request.

mod binary;
pub mod envelope;
mod outputs;
mod ranking;
pub mod response;
#[cfg(test)]
mod tests;
pub mod unpad;
mod v2;
mod value;

pub use response::{Body, MAX_ELEMENTS, ServedModel, error, reference, response, too_large};
