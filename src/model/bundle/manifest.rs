//! `manifest.json`: the files of a version with their sizes and checksums, which commit it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The manifest's name.
pub const MANIFEST: &str = "manifest.json";

/// The manifest of a version. It is written last, so that it commits the version.
#[derive(Debug, Deserialize, Serialize)]
pub struct Manifest {
    pub files: BTreeMap<String, ManifestFile>,
    /// See [`super::declaration::Declaration::new_signature`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_signature: bool,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct ManifestFile {
    /// Bytes.
    pub size: u64,
    /// Base64 of the 4 big-endian bytes, the form of Cloud Storage.
    pub crc32c: String,
}

/// Bytes and checksum of a file, read in pieces: model files may be larger than the memory.
pub fn size_and_crc32c(path: &Path) -> std::io::Result<(u64, u32)> {
    let mut file = std::fs::File::open(path)?;
    let mut piece = vec![0; 256 << 10];
    let (mut size, mut crc) = (0, 0);
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok((size, crc));
        }
        size += count as u64;
        crc = crc32c::crc32c_append(crc, &piece[..count]);
    }
}

/// A crc32c in the form of Cloud Storage.
pub fn base64_be(crc: u32) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes())
}
