//! Decodes JPEG, PNG and WebP files to upright 8-bit pixels. A file is refused unless all of it decodes. Its
//! header alone decides whether it is too large.

use std::borrow::Cow;
use std::io::Cursor;

use super::declaration::{Color, Size};
use super::exif::Orientation;
use super::raster::{Channels, DecodedFile, Raster, check_size, damaged, truncated};
use super::{jpeg, png_chunks};
use crate::error::{Code, Rejection};
use crate::prepare::catch_panic::catch_panic;

/// Estimates the cost of decoding, in pixels, by the headers alone; `None` for files that are not decoded.
/// Each scan after the first counts a sixteenth of the pixels, the highest cost measured: in a progressive
/// JPEG, a few bytes make a scan.
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

/// Decodes one image: the first frame of an animation.
pub(super) fn decode(bytes: &[u8], color: Color, max_pixels: u64) -> Result<Raster, Rejection> {
    // A panic in a decoder must cost only this request.
    catch_panic(|| decode_unguarded(bytes, color, max_pixels))
        .unwrap_or_else(|| Err(Rejection::invalid("cannot decode the image: the decoder failed on it")))
}

pub(super) fn decode_unguarded(bytes: &[u8], color: Color, max_pixels: u64) -> Result<Raster, Rejection> {
    let DecodedFile { size, channels, pixels, orientation } = match bytes {
        [0xff, 0xd8, 0xff, ..] => jpeg::decode(bytes, max_pixels),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => png(bytes, max_pixels),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp(bytes, max_pixels),
        _ => {
            let kind = kind_name(bytes);
            Err(Rejection::invalid(format!("expected a JPEG, PNG or WebP image, got {kind}")))
        }
    }?;
    let pixels = convert(pixels, channels, color);
    let width = size.width as usize;
    let pixels = match color.bytes_per_pixel() {
        1 => orientation.apply::<1>(pixels, width),
        _ => orientation.apply::<4>(pixels, width),
    };
    let size = if orientation.transpose { Size { width: size.height, height: size.width } } else { size };
    Ok(Raster { size, pixels })
}

fn png(bytes: &[u8], max_pixels: u64) -> Result<DecodedFile, Rejection> {
    let whole = png_chunks::with_end(bytes);
    let is_cut_short = matches!(whole, Cow::Owned(_));
    let fault = |error: png::DecodingError| match error {
        png::DecodingError::LimitsExceeded => Rejection::new(
            Code::InputTooLarge,
            "the PNG image's metadata takes too much memory; send it without",
        ),
        _ if is_cut_short => truncated("PNG"),
        error => damaged("PNG", error),
    };
    let mut options = png::DecodeOptions::default();
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    options.set_ignore_adler32(false);
    let mut decoder = png::Decoder::new_with_options(Cursor::new(&whole[..]), options);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let header = decoder.read_header_info().map_err(fault)?;
    let size = Size { width: header.width, height: header.height };
    check_size(size, max_pixels)?;
    let mut reader = decoder.read_info().map_err(fault)?;
    let length = reader.output_buffer_size().ok_or_else(|| damaged("PNG", "its size overflows"))?;
    let mut pixels = vec![0; length];
    let frame = reader.next_frame(&mut pixels).map_err(fault)?;
    if (frame.width, frame.height) != (size.width, size.height) {
        return Err(damaged("PNG", "its first frame does not cover it"));
    }
    reader.finish().map_err(fault)?;
    let channels = match frame.color_type {
        png::ColorType::Grayscale => Channels::Gray,
        png::ColorType::GrayscaleAlpha => Channels::GrayAlpha,
        png::ColorType::Rgb => Channels::Rgb,
        png::ColorType::Rgba => Channels::Rgba,
        png::ColorType::Indexed => return Err(damaged("PNG", "its palette is not expanded")),
    };
    let exif = reader.info().exif_metadata.as_deref().map(<[u8]>::to_vec).or_else(|| png_chunks::exif(bytes));
    let orientation = Orientation::new(exif.as_deref(), png_chunks::xmp(bytes).as_deref());
    Ok(DecodedFile { size, channels, pixels, orientation })
}

fn webp(bytes: &[u8], max_pixels: u64) -> Result<DecodedFile, Rejection> {
    let fault = |error: image_webp::DecodingError| damaged("WebP", error);
    // The RIFF header (Google's WebP container specification): the size of everything after these 8 bytes.
    let declared = bytes[4..].first_chunk().map_or(0, |size| u32::from_le_bytes(*size)) as usize;
    if bytes.len() < declared.saturating_add(8) {
        return Err(truncated("WebP"));
    }
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes)).map_err(fault)?;
    let (width, height) = decoder.dimensions();
    let size = Size { width, height };
    let count = check_size(size, max_pixels)?;
    decoder.set_memory_limit(count.saturating_mul(16).saturating_add(1 << 20));
    let channels = if decoder.has_alpha() { Channels::Rgba } else { Channels::Rgb };
    let length = decoder.output_buffer_size().ok_or_else(|| damaged("WebP", "its size overflows"))?;
    let mut pixels = vec![0; length];
    decoder.read_image(&mut pixels).map_err(fault)?;
    let exif = decoder.exif_metadata().ok().flatten();
    let xmp = decoder.xmp_metadata().ok().flatten();
    let orientation = Orientation::new(exif.as_deref(), xmp.as_deref());
    Ok(DecodedFile { size, channels, pixels, orientation })
}

/// Converts colours like Pillow's `convert`: drops the opacity, and weighs luma with 16 bits. Colours take
/// four bytes a pixel, which are faster to process than three.
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

/// The kind of a file that is no image, as far as its first bytes show.
fn kind_name(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "nothing",
        [b'G', b'I', b'F', b'8', ..] => "a GIF",
        [b'B', b'M', ..] => "a BMP",
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "a TIFF",
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', ..] => "an AVIF",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an HEIF image or a film",
        [b'%', b'P', b'D', b'F', ..] => "a PDF",
        [b'<', ..] => "markup",
        [b'{' | b'[', ..] => "JSON",
        _ => "something else",
    }
}
