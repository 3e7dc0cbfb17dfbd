//! Compression by gzip, for responses and telemetry.

use std::io::Write as _;

/// Compresses at the fastest level: a client waits for the response, and other levels make JSON's digits
/// hardly smaller.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 2), flate2::Compression::fast());
    let compressed = encoder.write_all(bytes).and_then(|()| encoder.finish());
    compressed.expect("writing to memory does not fail")
}
