//! Errors that another attempt does not change.

/// A place that a job must not touch, or that is no address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Forbidden(pub String);

/// A file that is larger than its reader allows.
#[derive(Debug, thiserror::Error)]
#[error("expected a file of at most {most} bytes, got {size} in {address}")]
pub(super) struct TooLarge {
    pub(super) address: String,
    pub(super) size: u64,
    pub(super) most: u64,
}
