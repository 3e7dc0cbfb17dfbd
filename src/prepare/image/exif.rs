//! The orientation tag of an image's metadata, the only one that matters to a model. Exif 2.3 (CIPA DC-008),
//! TIFF 6.0 section 2, XMP part 1.
//!
//! Our own reader: it must read damaged metadata exactly as Pillow's `ImageOps.exif_transpose` does, by which
//! training pipelines turn images.

/// The steps that turn the stored pixels upright.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orientation {
    /// Swaps rows and columns, before the flips.
    pub(super) transpose: bool,
    pub(super) flip_x: bool,
    pub(super) flip_y: bool,
}

const ORIENTATION: u16 = 0x0112;
const ENTRY: usize = 12;

impl Orientation {
    /// Reads EXIF, a TIFF structure with or without `Exif\0\0` before it, or XMP if EXIF has no orientation.
    /// Without a valid one, the image is upright.
    pub(super) fn new(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Self {
        exif.and_then(read_exif).or_else(|| xmp.and_then(read_xmp)).map_or_else(Self::default, Self::from_tag)
    }

    fn from_tag(value: u64) -> Self {
        let (transpose, flip_x, flip_y) = match value {
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => (false, false, false),
        };
        Self { transpose, flip_x, flip_y }
    }

    /// Turns `pixels` of `N` bytes upright; `width` is the length of a row.
    pub(super) fn apply<const N: usize>(self, pixels: Vec<u8>, width: usize) -> Vec<u8> {
        if self == Self::default() {
            return pixels;
        }
        let (from, _) = pixels.as_chunks::<N>();
        let height = from.len() / width;
        let (new_width, new_height) = if self.transpose { (height, width) } else { (width, height) };
        let (step_x, step_y) = if self.transpose { (width, 1) } else { (1, width) };
        let mut out = Vec::with_capacity(pixels.len());
        for y in 0..new_height {
            let y = if self.flip_y { new_height - 1 - y } else { y };
            for x in 0..new_width {
                let x = if self.flip_x { new_width - 1 - x } else { x };
                out.extend_from_slice(&from[x * step_x + y * step_y]);
            }
        }
        out
    }
}

/// The tag's value in the first image file directory; 0 if it is no whole number.
fn read_exif(mut exif: &[u8]) -> Option<u64> {
    for _ in 0..2 {
        exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    }
    let little = match exif.get(..4)? {
        b"II*\0" | b"II\0*" => true,
        b"MM\0*" | b"MM*\0" => false,
        _ => return None,
    };
    let number = |at: usize, width: usize| {
        let bytes = exif.get(at..at.checked_add(width)?)?.iter();
        let join = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if little { bytes.rev().fold(0, join) } else { bytes.fold(0, join) })
    };
    let offset = |at: usize| usize::try_from(number(at, 4)?).ok();
    let directory = offset(4)?;
    let count = number(directory, 2)?;
    (0..usize::try_from(count).ok()?).find_map(|index| {
        let at = directory.checked_add(2 + index * ENTRY)?;
        if number(at, 2)? != u64::from(ORIENTATION) {
            return None;
        }
        // Bytes of an element; true for whole numbers.
        let (width, is_whole) = match number(at + 2, 2)? {
            1 | 2 | 7 => (1, false),
            6 => (1, true),
            3 | 8 => (2, true),
            4 | 9 | 13 => (4, true),
            11 => (4, false),
            5 | 10 | 12 => (8, false),
            16 => (8, true),
            _ => return None,
        };
        let length = offset(at + 4)?.checked_mul(width).filter(|length| *length > 0)?;
        let value = number(if length > 4 { offset(at + 8)? } else { at + 8 }, width)?;
        Some(if is_whole { value } else { 0 })
    })
}

/// The first `tiff:Orientation`, as an attribute or an element.
fn read_xmp(xmp: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"tiff:Orientation";
    memchr::memmem::find_iter(xmp, NAME).find_map(|at| {
        let rest = &xmp[at + NAME.len()..];
        let value = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?.first()?;
        value.is_ascii_digit().then(|| u64::from(value - b'0'))
    })
}
