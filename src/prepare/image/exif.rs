//! The one EXIF tag that matters to a model: how the camera was held. Exif 2.3 (CIPA DC-008), TIFF 6.0 section 2.

/// How the stored pixels must be turned to stand upright.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orientation {
    /// Rows become columns, before the flips.
    pub(super) transpose: bool,
    pub(super) flip_x: bool,
    pub(super) flip_y: bool,
}

const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;
const ENTRY: usize = 12;

impl Orientation {
    /// From a TIFF structure, with or without `Exif\0\0` before it; upright where it says nothing that makes sense.
    pub(super) fn from_exif(exif: &[u8]) -> Self {
        read(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)).map_or_else(Self::default, Self::from_tag)
    }

    fn from_tag(value: u16) -> Self {
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

    /// `pixels` of `N` bytes, `width` a row, turned upright.
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

/// The tag's value in the first image file directory.
fn read(tiff: &[u8]) -> Option<u16> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<2>()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let offset = *tiff.get(4..)?.first_chunk::<4>()?;
    let offset = if little { u32::from_le_bytes(offset) } else { u32::from_be_bytes(offset) } as usize;
    let entries = offset.checked_add(2)?;
    (0..usize::from(short(offset)?))
        .map(|index| entries.saturating_add(index * ENTRY))
        .find(|at| short(*at) == Some(ORIENTATION))
        .filter(|at| short(at.saturating_add(2)) == Some(SHORT))
        .and_then(|at| short(at.saturating_add(8)))
}
