//! JPEG (ITU-T T.81): baseline and progressive, gray, colour and CMYK.

use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;
use zune_jpeg::{JpegDecoder, PlaneInfo};

use super::chroma::{self, Plane};
use super::declaration::Size;
use super::exif::Orientation;
use super::raster::{Channels, DecodedFile, check_size, damaged, truncated};
use crate::error::Rejection;

/// A side in JPEG's header has 16 bits.
const MAX_SIDE: usize = u16::MAX as usize;

pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<DecodedFile, Rejection> {
    let fault = |error: zune_jpeg::errors::DecodeErrors| damaged("JPEG", error);
    // The decoder would invent missing rows, so a truncated file is refused first.
    let Segments { bytes, colors, exif, xmp, .. } =
        Segments::split(bytes).ok_or_else(|| truncated("JPEG"))?;
    let options =
        DecoderOptions::default().set_max_width(MAX_SIDE).set_max_height(MAX_SIDE).set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&bytes[..]), options);
    decoder.decode_headers().map_err(fault)?;
    let info = decoder.info().ok_or_else(|| damaged("JPEG", "it has no header"))?;
    let size = Size { width: info.width.into(), height: info.height.into() };
    check_size(size, max_pixels)?;
    if size.height == 0 {
        return Err(damaged("JPEG", "its header does not say how high it is"));
    }
    let orientation = Orientation::new(exif.as_deref(), xmp);
    if let Some(mut planes) = planes(&mut decoder) {
        let [luma, blue, red] = &mut planes;
        let (mut buffers, widths) = (
            [&mut luma.samples[..], &mut blue.samples[..], &mut red.samples[..]],
            [luma.width, blue.width, red.width],
        );
        decoder.raw_output().decode_into_planes_strided(&mut buffers, &widths).map_err(fault)?;
        // The decoder of a progressive image holds all coefficients, 2 bytes each. Frees them before the
        // pixels are made.
        drop(decoder);
        let (width, height) = (size.width as usize, size.height as usize);
        let pixels = chroma::to_rgba(&planes, width, height, colors == Colors::Rgb);
        return Ok(DecodedFile { size, channels: Channels::Rgba, pixels, orientation });
    }
    let (space, channels) = match colors {
        Colors::Gray => (ColorSpace::Luma, Channels::Gray),
        Colors::Rgb => (ColorSpace::RGB, Channels::Rgb),
        _ => (ColorSpace::RGBA, Channels::Rgba),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(fault)?;
    let expected = size.width as usize * size.height as usize * space.num_components();
    if pixels.len() != expected {
        return Err(damaged(
            "JPEG",
            format_args!("it gave {} bytes of pixels, {expected} were expected", pixels.len()),
        ));
    }
    Ok(DecodedFile { size, channels, pixels, orientation })
}

/// Size and number of scans, by the headers alone; `None` for a truncated file.
pub(super) fn extent(bytes: &[u8]) -> Option<(Size, u64)> {
    let Segments { frame, scans, .. } = Segments::split(bytes)?;
    let side = |at| frame.get(at..at + 2).map_or(0, |side| u32::from(u16::from_be_bytes([side[0], side[1]])));
    Some((Size { width: side(3), height: side(1) }, scans))
}

/// Empty planes for luma and two chroma components; `None` unless their sampling factors divide the largest
/// ones.
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

/// The meaning of a file's components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colors {
    Gray,
    YCbCr,
    Rgb,
    Cmyk,
    Ycck,
}

/// A file, split as libjpeg reads it.
#[derive(Debug)]
struct Segments<'a> {
    /// The file without metadata and stray bytes between segments. One added segment states the colours,
    /// which the decoder would guess by other rules than libjpeg.
    bytes: Vec<u8>,
    colors: Colors,
    /// The header of the frame: precision, height and width, then the components, three bytes each.
    frame: &'a [u8],
    scans: u64,
    /// All EXIF segments joined.
    exif: Option<Vec<u8>>,
    xmp: Option<&'a [u8]>,
}

const END: u8 = 0xd9;
const SCAN: u8 = 0xda;

impl<'a> Segments<'a> {
    /// `None` if the segments do not lead to the end marker (T.81, annex B.1).
    fn split(file: &'a [u8]) -> Option<Self> {
        let mut segments =
            Self { bytes: Vec::new(), colors: Colors::Gray, frame: &[], scans: 0, exif: None, xmp: None };
        segments.bytes.reserve(file.len() + ADOBE.len() + 1);
        let (start, mut rest) = file.split_at_checked(2)?;
        segments.bytes.extend_from_slice(start);
        let (mut is_jfif, mut transform) = (false, None);
        loop {
            let (marker, after) = next_marker(rest)?;
            if matches!(marker, 0x01 | 0xd0..=END) {
                // These markers have no segment.
                segments.bytes.extend([0xff, marker]);
                rest = after;
                if marker == END {
                    return Some(segments);
                }
                continue;
            }
            let length = usize::from(u16::from_be_bytes(*after.first_chunk()?));
            let segment;
            (segment, rest) = after.split_at_checked(length)?;
            let data = segment.get(2..)?;
            match marker {
                // A frame. The excluded markers are tables of Huffman and arithmetic codes.
                0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => segments.frame = data,
                SCAN if segments.scans == 0 => {
                    segments.colors = colors(segments.frame, is_jfif, transform);
                    if let Some(transform) = segments.colors.transform() {
                        segments.bytes.extend_from_slice(ADOBE);
                        segments.bytes.push(transform);
                    }
                }
                0xe0..=0xef | 0xfe => {
                    match marker {
                        // Metadata counts only before the first scan.
                        _ if segments.scans > 0 => {}
                        0xe0 => is_jfif |= data.len() >= 14 && data.starts_with(b"JFIF\0"),
                        0xe1 if data.starts_with(EXIF) => match &mut segments.exif {
                            Some(exif) => exif.extend_from_slice(&data[EXIF.len()..]),
                            None => segments.exif = Some(data.to_vec()),
                        },
                        0xe1 => segments.xmp = data.strip_prefix(XMP).or(segments.xmp),
                        0xee if data.len() >= 12 && data.starts_with(b"Adobe") => transform = Some(data[11]),
                        _ => {}
                    }
                    continue;
                }
                _ => {}
            }
            segments.bytes.extend([0xff, marker]);
            segments.bytes.extend_from_slice(segment);
            if marker == SCAN {
                segments.scans += 1;
                let coded;
                (coded, rest) = rest.split_at(coded_length(rest)?);
                segments.bytes.extend_from_slice(coded);
            }
        }
    }
}

impl Colors {
    /// The transform in Adobe's segment.
    fn transform(self) -> Option<u8> {
        match self {
            Self::Gray => None,
            Self::Rgb | Self::Cmyk => Some(0),
            Self::YCbCr => Some(1),
            Self::Ycck => Some(2),
        }
    }
}

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// Adobe's segment but for its last byte, the transform.
const ADOBE: &[u8] = b"\xff\xee\0\x0eAdobe\0d\0\0\0\0";

/// libjpeg's rules (`default_decompress_parms` in jdapimin.c): JFIF is YCbCr whatever Adobe's segment says.
fn colors(frame: &[u8], is_jfif: bool, transform: Option<u8>) -> Colors {
    let id = |component: usize| frame.get(6 + 3 * component).copied();
    match (frame.get(5), transform) {
        (Some(3), _) if is_jfif => Colors::YCbCr,
        (Some(3), Some(0)) => Colors::Rgb,
        (Some(3), None) if [id(0), id(1), id(2)] == [Some(b'R'), Some(b'G'), Some(b'B')] => Colors::Rgb,
        (Some(3), _) => Colors::YCbCr,
        (Some(4), None | Some(0)) => Colors::Cmyk,
        (Some(4), Some(_)) => Colors::Ycck,
        _ => Colors::Gray,
    }
}

/// The next marker, after any other bytes, and the bytes that follow it.
fn next_marker(mut rest: &[u8]) -> Option<(u8, &[u8])> {
    loop {
        let found = memchr::memchr(0xff, rest)?;
        rest = &rest[found + 1..];
        match rest.first()? {
            // Fill bytes, or 0xff as data.
            0 | 0xff => {}
            marker => return Some((*marker, &rest[1..])),
        }
    }
}

/// Bytes of a scan's coded data, in which 0xff is followed by 0 or a restart marker.
fn coded_length(rest: &[u8]) -> Option<usize> {
    memchr::memchr_iter(0xff, rest).find(|at| !matches!(rest.get(at + 1), None | Some(0 | 0xd0..=0xd7)))
}
