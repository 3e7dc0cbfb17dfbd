//! `content-encoding: gzip` (RFC 1952): one member, never more bytes than it claims, never more than the
//! limit.
//!
//! The last four bytes claim the decompressed size. It is taken as an upper bound, so that the memory of a
//! body is known, and can be accounted for, before it is decompressed.

use std::io::Read as _;

use flate2::bufread::GzDecoder;

use super::error::{DecodeError, Decoded, refuse};

/// The first bytes of gzip, and its only compression method.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// The decompressed size that a body claims; 0 if it is no gzip.
pub(super) fn claimed_size(body: &[u8]) -> usize {
    // A header of 10 bytes and a trailer of 8.
    match body.last_chunk::<4>() {
        Some(size) if body.len() >= 18 && body.starts_with(&MAGIC) => u32::from_le_bytes(*size) as usize,
        _ => 0,
    }
}

pub(super) fn decompress(body: &[u8], max_bytes: usize) -> Decoded<Vec<u8>> {
    let claimed = claimed_size(body);
    if claimed > max_bytes {
        return Err(too_large_or_broken(body, max_bytes));
    }
    // Deflate compresses by a factor of 1032 at best (RFC 1951), which bounds what a short body with a large
    // claim may reserve.
    let mut out = Vec::with_capacity(claimed.min(body.len().saturating_mul(1032)));
    let mut decoder = GzDecoder::new(body);
    let room = u64::try_from(claimed).unwrap_or(u64::MAX).saturating_add(1);
    let read = decoder.by_ref().take(room).read_to_end(&mut out);
    if out.len() > claimed {
        return refuse(format!(
            "expected gzip that decompresses to the {claimed} bytes its trailer says, got more; compress \
             the body as one member"
        ));
    }
    read.map_err(|error| broken(&error))?;
    match decoder.into_inner() {
        [] => Ok(out),
        rest => Err(more_behind(rest)),
    }
}

/// The error about a claim beyond the limit. A body that was cut off, or has more behind it, claims any size,
/// so the bytes are counted without keeping them.
#[cold]
fn too_large_or_broken(body: &[u8], max_bytes: usize) -> Box<DecodeError> {
    let mut decoder = GzDecoder::new(body);
    let room = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    match std::io::copy(&mut decoder.by_ref().take(room), &mut std::io::sink()) {
        Ok(count) if count == room => DecodeError::too_large(format!(
            "expected at most {max_bytes} bytes after decompression, got more; send several requests"
        )),
        Ok(_) => more_behind(decoder.into_inner()),
        Err(error) => broken(&error),
    }
}

#[cold]
fn broken(error: &std::io::Error) -> Box<DecodeError> {
    DecodeError::new(format!(
        "expected a body compressed by gzip, as content-encoding says, got an error: {error}"
    ))
}

#[cold]
fn more_behind(rest: &[u8]) -> Box<DecodeError> {
    DecodeError::new(format!(
        "expected one gzip member, got {} bytes behind it; compress the body as one member",
        rest.len()
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::error::Code;

    fn compress(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_is_stopped_before_it_takes_memory() {
        let bomb = compress(&vec![0; 1 << 20]);
        assert!(bomb.len() < 2000);
        let rejection = decompress(&bomb, 1 << 19).unwrap_err().into_rejection();
        assert_eq!(rejection.code, Code::InputTooLarge);
        assert_eq!(
            rejection.message,
            "expected at most 524288 bytes after decompression, got more; send several requests"
        );
        // A body that was cut off, or has more behind it, does not end with its size.
        let text: Vec<u8> = (0..9999_u32).flat_map(u32::to_le_bytes).collect();
        let compressed = compress(&text);
        let cut = decompress(&compressed[..compressed.len() - 9], 1 << 19).unwrap_err().into_rejection();
        assert_eq!(cut.code, Code::InvalidInput, "{cut}");
        assert!(cut.message.starts_with("expected a body compressed by gzip"), "{cut}");
        let more = decompress(&[&compressed, &[0xff; 9][..]].concat(), 1 << 19).unwrap_err().into_rejection();
        assert_eq!(
            more.message,
            "expected one gzip member, got 9 bytes behind it; compress the body as one member"
        );
        // A body that claims less than it has.
        let mut liar = bomb.clone();
        let end = liar.len() - 4;
        liar[end..].copy_from_slice(&100_u32.to_le_bytes());
        let rejection = decompress(&liar, 1 << 19).unwrap_err().into_rejection();
        assert_eq!(
            rejection.message,
            "expected gzip that decompresses to the 100 bytes its trailer says, got more; compress the body \
             as one member"
        );
        assert_eq!(rejection.code, Code::InvalidInput);
    }

    #[test]
    fn what_is_not_one_whole_member_is_refused() {
        let good = compress(b"hello");
        assert_eq!(decompress(&good, 5).unwrap(), b"hello");
        let mut damaged = good.clone();
        let at = damaged.len() - 8;
        damaged[at] ^= 1;
        for (body, says) in [
            (
                b"{\"instances\": [[1, 2]]}".to_vec(),
                "expected a body compressed by gzip, as content-encoding says, got an error: ",
            ),
            (b"{}".to_vec(), "expected a body compressed by gzip, as content-encoding says, got an error: "),
            (Vec::new(), "expected a body compressed by gzip, as content-encoding says, got an error: "),
            (damaged, "expected a body compressed by gzip, as content-encoding says, got an error: "),
            ([good.clone(), good.clone()].concat(), "expected one gzip member, got 25 bytes behind it"),
            (
                [compress(b"longer text"), good.clone()].concat(),
                "decompresses to the 5 bytes its trailer says, got more",
            ),
        ] {
            let message = decompress(&body, 100).unwrap_err().into_rejection().message;
            assert!(message.contains(says), "{message}");
        }
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_out(data: Vec<u8>) {
            let compressed = compress(&data);
            prop_assert_eq!(claimed_size(&compressed), data.len());
            prop_assert_eq!(decompress(&compressed, data.len()).unwrap(), data);
        }

        #[test]
        fn any_bytes_are_answered(data: Vec<u8>, at in any::<prop::sample::Index>(), byte: u8) {
            let _ = decompress(&data, 1000);
            let mut compressed = compress(&data);
            let at = at.index(compressed.len());
            compressed[at] = byte;
            if let Ok(decompressed) = decompress(&compressed, 1000) {
                prop_assert_eq!(decompressed, data);
            }
        }
    }
}
