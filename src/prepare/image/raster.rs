//! Decoded images, and the checks and errors that all decoders share.

use super::declaration::Size;
use super::exif::Orientation;
use crate::error::{Code, Rejection};

/// An upright image: its pixels side by side, rows from top to bottom, no padding.
#[derive(Debug)]
pub(super) struct Raster {
    pub(super) size: Size,
    /// [`super::declaration::Color::bytes_per_pixel`] each: gray, or red, green, blue and opacity. Only
    /// `rgba` uses the opacity.
    pub(super) pixels: Vec<u8>,
}

/// The content of a file, before it is turned upright and its colours are converted.
pub(super) struct DecodedFile {
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

/// Refuses an image that is too large, before memory is allocated for it; returns its number of pixels
/// otherwise.
pub(super) fn check_size(size: Size, max_pixels: u64) -> Result<usize, Rejection> {
    let count = u64::from(size.width) * u64::from(size.height);
    if count > max_pixels {
        return Err(Rejection::new(
            Code::InputTooLarge,
            format!(
                "an image of {size} has {count} pixels, at most {max_pixels} are allowed; send a smaller one"
            ),
        ));
    }
    usize::try_from(count)
        .map_err(|_| Rejection::new(Code::InputTooLarge, format!("an image of {size} is too large")))
}

pub(super) fn damaged(format: &str, why: impl std::fmt::Display) -> Rejection {
    Rejection::invalid(format!(
        "cannot decode the {format} image: {why}; send an undamaged file, or save it anew as JPEG or PNG"
    ))
}

pub(super) fn truncated(format: &str) -> Rejection {
    Rejection::invalid(format!("the {format} image is truncated; send the whole file"))
}
