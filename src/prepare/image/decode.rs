//! JPEG, PNG and WebP files to upright 8-bit pixels. A file is refused unless all of it decodes, and its header alone
//! decides whether it is too large.

use std::borrow::Cow;
use std::io::Cursor;

use super::exif::Orientation;
use super::{Color, Size, jpeg, png_chunks};
use crate::error::{Code, Rejection};
use crate::prepare::survive::survive;

/// Pixels of a picture side by side, rows from top to bottom, no padding.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) size: Size,
    /// [`Color::stored`] bytes each: gray, or red, green, blue and opacity; the last means nothing but for `rgba`.
    pub(super) pixels: Vec<u8>,
}

/// What a file holds, before it is turned and its colour is converted.
pub(super) struct Decoded {
    pub(super) size: Size,
    pub(super) channels: Channels,
    pub(super) pixels: Vec<u8>,
    pub(super) orientation: Orientation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    Gray,
    GrayAlpha,
    Rgb,
    Rgba,
}

/// Predicts what decoding costs, in pixels, by the headers alone: a scan after the first costs a sixteenth of
/// them (as measured, at most; of a progressive JPEG, a few bytes can be a scan). None where the file is not
/// one that is decoded.
pub(super) fn cost(bytes: &[u8]) -> Option<(Size, u64)> {
    let (size, scans) = match bytes {
        [0xff, 0xd8, 0xff, ..] => jpeg::extent(bytes)?,
        [0x89, b'P', b'N', b'G', ..] => {
            let side = |at: usize| bytes.get(at..)?.first_chunk().map(|side| u32::from_be_bytes(*side));
            (Size { width: side(16)?, height: side(20)? }, 1)
        }
        [b'R', b'I', b'F', b'F', ..] => {
            let (width, height) = image_webp::WebPDecoder::new(Cursor::new(bytes)).ok()?.dimensions();
            (Size { width, height }, 1)
        }
        _ => return None,
    };
    let pixels = u64::from(size.width) * u64::from(size.height);
    Some((size, pixels.saturating_add((pixels / 16).saturating_mul(scans.saturating_sub(1)))))
}

/// One frame: of a moving picture, the first.
pub(super) fn decode(bytes: &[u8], color: Color, max_pixels: u64) -> Result<Picture, Rejection> {
    // A fault in a decoder must cost no more than this one request.
    survive(|| decode_unguarded(bytes, color, max_pixels))
        .unwrap_or_else(|| Err(Rejection::invalid("the picture cannot be decoded: it defeats the decoder")))
}

pub(super) fn decode_unguarded(bytes: &[u8], color: Color, max_pixels: u64) -> Result<Picture, Rejection> {
    let Decoded { size, channels, pixels, orientation } = match bytes {
        [0xff, 0xd8, 0xff, ..] => jpeg::decode(bytes, max_pixels),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => png(bytes, max_pixels),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(bytes, max_pixels),
        _ => {
            let came = name(bytes);
            Err(Rejection::invalid(format!("expected a JPEG, PNG or WebP picture, but {came} came")))
        }
    }?;
    let pixels = convert(pixels, channels, color);
    let width = size.width as usize;
    let pixels = match color.stored() {
        1 => orientation.apply::<1>(pixels, width),
        _ => orientation.apply::<4>(pixels, width),
    };
    let size = if orientation.transpose { Size { width: size.height, height: size.width } } else { size };
    Ok(Picture { size, pixels })
}

/// Refuses what is too large before anything is allocated for it; the number of pixels otherwise.
pub(super) fn within_limit(size: Size, max_pixels: u64) -> Result<usize, Rejection> {
    let count = u64::from(size.width) * u64::from(size.height);
    if count > max_pixels {
        return Err(Rejection::new(
            Code::InputTooLarge,
            format!(
                "a picture of {size} has {count} pixels, at most {max_pixels} are allowed; send a smaller one"
            ),
        ));
    }
    usize::try_from(count)
        .map_err(|_| Rejection::new(Code::InputTooLarge, format!("a picture of {size} is too large")))
}

pub(super) fn broken(format: &str, why: impl std::fmt::Display) -> Rejection {
    Rejection::invalid(format!(
        "the {format} picture cannot be decoded: {why}; send an undamaged file, or save it anew as JPEG or PNG"
    ))
}

pub(super) fn cut_short(format: &str) -> Rejection {
    Rejection::invalid(format!("the {format} picture is cut short; send the whole file"))
}

fn png(bytes: &[u8], max_pixels: u64) -> Result<Decoded, Rejection> {
    let whole = png_chunks::with_end(bytes);
    let is_cut_short = matches!(whole, Cow::Owned(_));
    let fault = |error: png::DecodingError| match error {
        png::DecodingError::LimitsExceeded => Rejection::new(
            Code::InputTooLarge,
            "the PNG picture's metadata takes too much memory; send it without",
        ),
        _ if is_cut_short => cut_short("PNG"),
        error => broken("PNG", error),
    };
    let mut options = png::DecodeOptions::default();
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    options.set_ignore_adler32(false);
    let mut decoder = png::Decoder::new_with_options(Cursor::new(&whole[..]), options);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let header = decoder.read_header_info().map_err(fault)?;
    let size = Size { width: header.width, height: header.height };
    within_limit(size, max_pixels)?;
    let mut reader = decoder.read_info().map_err(fault)?;
    let length = reader.output_buffer_size().ok_or_else(|| broken("PNG", "its size overflows"))?;
    let mut pixels = vec![0; length];
    let frame = reader.next_frame(&mut pixels).map_err(fault)?;
    if (frame.width, frame.height) != (size.width, size.height) {
        return Err(broken("PNG", "its first frame does not cover it"));
    }
    reader.finish().map_err(fault)?;
    let channels = match frame.color_type {
        png::ColorType::Grayscale => Channels::Gray,
        png::ColorType::GrayscaleAlpha => Channels::GrayAlpha,
        png::ColorType::Rgb => Channels::Rgb,
        png::ColorType::Rgba => Channels::Rgba,
        png::ColorType::Indexed => return Err(broken("PNG", "its palette is not expanded")),
    };
    let exif = reader.info().exif_metadata.as_deref().map(<[u8]>::to_vec).or_else(|| png_chunks::exif(bytes));
    let orientation = Orientation::new(exif.as_deref(), png_chunks::xmp(bytes).as_deref());
    Ok(Decoded { size, channels, pixels, orientation })
}

fn webp(bytes: &[u8], max_pixels: u64) -> Result<Decoded, Rejection> {
    let fault = |error: image_webp::DecodingError| broken("WebP", error);
    // RIFF (Google's WebP container specification): the size of all that follows these 8 bytes.
    let declared = bytes[4..].first_chunk().map_or(0, |size| u32::from_le_bytes(*size)) as usize;
    if bytes.len() < declared.saturating_add(8) {
        return Err(cut_short("WebP"));
    }
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes)).map_err(fault)?;
    let (width, height) = decoder.dimensions();
    let size = Size { width, height };
    let count = within_limit(size, max_pixels)?;
    decoder.set_memory_limit(count.saturating_mul(16).saturating_add(1 << 20));
    let channels = if decoder.has_alpha() { Channels::Rgba } else { Channels::Rgb };
    let length = decoder.output_buffer_size().ok_or_else(|| broken("WebP", "its size overflows"))?;
    let mut pixels = vec![0; length];
    decoder.read_image(&mut pixels).map_err(fault)?;
    let exif = decoder.exif_metadata().ok().flatten();
    let xmp = decoder.xmp_metadata().ok().flatten();
    let orientation = Orientation::new(exif.as_deref(), xmp.as_deref());
    Ok(Decoded { size, channels, pixels, orientation })
}

/// Pillow's `convert`: opacity is dropped, luma has its 16-bit weights. What has colours takes four bytes a pixel, which
/// are quicker to handle than three.
fn convert(pixels: Vec<u8>, from: Channels, to: Color) -> Vec<u8> {
    match (from, to == Color::Gray) {
        (Channels::Gray, true) | (Channels::Rgba, false) => pixels,
        (Channels::Gray, false) => map(&pixels, |[l]| [l, l, l, 255]),
        (Channels::GrayAlpha, true) => map(&pixels, |[l, _]| [l]),
        (Channels::GrayAlpha, false) => map(&pixels, |[l, a]| [l, l, l, a]),
        (Channels::Rgb, true) => map(&pixels, |[r, g, b]| [luma(r, g, b)]),
        (Channels::Rgb, false) => map(&pixels, |[r, g, b]| [r, g, b, 255]),
        (Channels::Rgba, true) => map(&pixels, |[r, g, b, _]| [luma(r, g, b)]),
    }
}

fn map<const FROM: usize, const TO: usize>(pixels: &[u8], each: impl Fn([u8; FROM]) -> [u8; TO]) -> Vec<u8> {
    pixels.as_chunks::<FROM>().0.iter().flat_map(|pixel| each(*pixel)).collect()
}

/// ITU-R 601-2 (0.299, 0.587, 0.114) in 16-bit fixed point, to the nearest.
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// What came instead of a picture, as far as its first bytes tell.
fn name(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "nothing",
        [b'G', b'I', b'F', b'8', ..] => "a GIF",
        [b'B', b'M', ..] => "a BMP",
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "a TIFF",
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => "an AVIF",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an HEIF picture or a film",
        [b'%', b'P', b'D', b'F', ..] => "a PDF",
        [b'<', ..] => "markup",
        [b'{' | b'[', ..] => "JSON",
        _ => "something else",
    }
}
