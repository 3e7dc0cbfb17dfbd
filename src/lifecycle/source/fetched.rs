//! A version's files on the local disk.

use std::path::PathBuf;

use super::super::cache::{Lease, Partial};

/// The folder of a version's files, and whatever keeps them there.
#[derive(Debug)]
pub struct Fetched {
    pub folder: PathBuf,
    /// Keeps downloaded files in the cache.
    pub lease: Option<Lease>,
    /// The private copy of a directory's version; dropping it removes the files.
    pub copy: Option<Partial>,
}
