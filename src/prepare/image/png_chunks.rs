//! The chunks of a PNG (PNG 3, section 5.3) that its decoder does not handle: a missing end, and the texts
//! (section 11.3.3) in which older programs store EXIF, and all programs store XMP.

use std::borrow::Cow;
use std::io::Read as _;

use flate2::read::ZlibDecoder;

/// Bytes of an inflated text: Pillow's own limit.
const LONGEST: u64 = 1 << 20;

const CHECKSUM: usize = 4;
/// The last chunk of a file, which is empty.
const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";

/// The file, with an end after its last whole chunk if it has none.
pub(super) fn with_end(png: &[u8]) -> Cow<'_, [u8]> {
    let mut whole = png.len();
    for (kind, _, end) in chunks(png) {
        if kind == b"IEND" {
            return Cow::Borrowed(png);
        }
        whole = end;
    }
    Cow::Owned([&png[..whole], END].concat())
}

/// The XMP packet.
pub(super) fn xmp(png: &[u8]) -> Option<Vec<u8>> {
    text(png, b"XML:com.adobe.xmp")
}

/// EXIF as ImageMagick and exiftool wrote it before PNG had a chunk for it: hexadecimal, after three lines.
pub(super) fn exif(png: &[u8]) -> Option<Vec<u8>> {
    let text = text(png, b"Raw profile type exif")?;
    let digits =
        text.splitn(4, |byte| *byte == b'\n').nth(3)?.iter().filter(|byte| !byte.is_ascii_whitespace());
    let digits: Vec<u8> =
        digits.map(|byte| Some(char::from(*byte).to_digit(16)? as u8)).collect::<Option<_>>()?;
    Some(digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect())
}

/// The last text of that keyword.
fn text(png: &[u8], keyword: &[u8]) -> Option<Vec<u8>> {
    let texts = chunks(png).filter_map(|(kind, data, _)| {
        let value = data.strip_prefix(keyword)?.strip_prefix(b"\0")?;
        matches!(kind, b"tEXt" | b"zTXt" | b"iTXt").then_some((kind, value))
    });
    // Only one is inflated, however many there are.
    let (kind, value) = texts.last()?;
    text_value(kind, value)
}

/// The kind and data of every whole chunk, and the chunk's end in the file.
fn chunks(png: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8], usize)> {
    const SIGNATURE: usize = 8;
    let mut rest = png.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let (data, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        (_, rest) = after.split_first_chunk::<CHECKSUM>()?;
        Some((kind, data, png.len() - rest.len()))
    })
}

fn text_value(kind: &[u8; 4], value: &[u8]) -> Option<Vec<u8>> {
    match (kind, value) {
        (b"tEXt", text) => Some(text.to_vec()),
        (b"zTXt", [0, text @ ..]) => inflate(text),
        (b"iTXt", [compressed, method, rest @ ..]) => {
            // A language and a translated keyword come first.
            let text = rest.splitn(3, |byte| *byte == 0).nth(2)?;
            match (compressed, method) {
                (0, _) => Some(text.to_vec()),
                (_, 0) => inflate(text),
                _ => None,
            }
        }
        _ => None,
    }
}

fn inflate(text: &[u8]) -> Option<Vec<u8>> {
    let mut inflated = Vec::new();
    ZlibDecoder::new(text).take(LONGEST).read_to_end(&mut inflated).ok()?;
    Some(inflated)
}
