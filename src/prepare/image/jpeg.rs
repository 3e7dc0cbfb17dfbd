//! JPEG (ITU-T T.81): baseline and progressive, gray, colour and CMYK.

use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;
use zune_jpeg::{JpegDecoder, PlaneInfo};

use super::Size;
use super::chroma::{self, Plane};
use super::decode::{Channels, Decoded, broken, within_limit};
use super::exif::Orientation;
use crate::error::Rejection;

/// A side in JPEG's header has 16 bits.
const MAX_SIDE: usize = u16::MAX as usize;

pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<Decoded, Rejection> {
    let fault = |error: zune_jpeg::errors::DecodeErrors| broken("JPEG", error);
    let options =
        DecoderOptions::default().set_max_width(MAX_SIDE).set_max_height(MAX_SIDE).set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(fault)?;
    let info = decoder.info().ok_or_else(|| broken("JPEG", "it has no header"))?;
    let size = Size { width: info.width.into(), height: info.height.into() };
    within_limit(size, max_pixels)?;
    if !is_whole(bytes) {
        // A decoder fills up what is missing; half a picture is no picture.
        return Err(broken("JPEG", "it is cut short"));
    }
    let orientation = decoder.exif().map(|exif| Orientation::from_exif(exif)).unwrap_or_default();
    if decoder.input_colorspace() == Some(ColorSpace::YCbCr)
        && let Some(mut planes) = planes(&mut decoder)
    {
        let [luma, blue, red] = &mut planes;
        let (mut buffers, widths) = (
            [&mut luma.samples[..], &mut blue.samples[..], &mut red.samples[..]],
            [luma.width, blue.width, red.width],
        );
        decoder.raw_output().decode_into_planes_strided(&mut buffers, &widths).map_err(fault)?;
        let pixels = chroma::to_rgba(&planes, size.width as usize, size.height as usize);
        return Ok(Decoded { size, channels: Channels::Rgba, pixels, orientation });
    }
    let (space, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, Channels::Gray),
        _ => (ColorSpace::RGBA, Channels::Rgba),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(fault)?;
    let expected = size.width as usize * size.height as usize * space.num_components();
    if pixels.len() != expected {
        return Err(broken(
            "JPEG",
            format_args!("it gave {} bytes of pixels, {expected} were expected", pixels.len()),
        ));
    }
    Ok(Decoded { size, channels, pixels, orientation })
}

/// Room for luma and two chroma components, where their sampling is of the common kind.
fn planes(decoder: &mut JpegDecoder<ZCursor<&[u8]>>) -> Option<[Plane; 3]> {
    let raw = decoder.raw_output();
    let (Some(3), Some([luma, blue, red, _])) = (raw.num_components(), raw.layout()) else { return None };
    let parts = [luma, blue, red];
    let across = parts.iter().map(|part| part.horizontal_sampling_factor).max()?;
    let down = parts.iter().map(|part| part.vertical_sampling_factor).max()?;
    let is_even = |part: &PlaneInfo| {
        across.is_multiple_of(part.horizontal_sampling_factor)
            && down.is_multiple_of(part.vertical_sampling_factor)
    };
    parts.iter().all(is_even).then(|| {
        parts.map(
            |PlaneInfo { width, height, horizontal_sampling_factor, vertical_sampling_factor, .. }| Plane {
                samples: vec![0; width * height],
                width,
                height,
                across: across / horizontal_sampling_factor,
                down: down / vertical_sampling_factor,
            },
        )
    })
}

/// Whether the end marker is reached by walking from segment to segment (T.81, annex B.1).
fn is_whole(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    let mut at = 2;
    loop {
        // Between segments stands nothing, in a scan its coded data, where 0xff is followed by 0 or a restart marker.
        let Some(found) = memchr::memchr(0xff, bytes.get(at..).unwrap_or_default()) else { return false };
        at += found + 1;
        match bytes.get(at) {
            None => return false,
            Some(&END) => return true,
            Some(0 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(0xff) => {}
            Some(_) => {
                let Some(length) = bytes.get(at + 1..).and_then(<[u8]>::first_chunk) else { return false };
                at += 1 + usize::from(u16::from_be_bytes(*length));
            }
        }
    }
}
