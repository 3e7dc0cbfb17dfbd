//! Resizes like Pillow: first horizontally, then vertically, rounded to 8 bits in between, with colours
//! weighted by their opacity. (Since version 13, Pillow resizes vertically first if that is cheaper and the
//! aspect ratio changes.)

use std::error::Error;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U8x4};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::declaration::{Color, Filter, Size};
use super::raster::Raster;

/// Resizes `image`, which is stored for `color`, to `target`.
pub(super) fn resize(
    image: Raster,
    color: Color,
    target: Size,
    filter: Filter,
) -> Result<Raster, Box<dyn Error>> {
    let algorithm = match filter {
        Filter::Nearest => ResizeAlg::Nearest,
        Filter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Filter::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
        Filter::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
    };
    let is_weighted = color == Color::Rgba && filter != Filter::Nearest;
    let Raster { size, mut pixels } = image;
    if is_weighted {
        each_pixel(&mut pixels, muldiv_255);
    }
    // Typed, since the crate's own choice at run time would link its code for thirteen pixel types, 1.5 MB.
    let pass = if color == Color::Gray { pass::<U8> } else { pass::<U8x4> };
    let options = ResizeOptions::new().resize_alg(algorithm).use_alpha(false);
    let between = Size { width: target.width, height: size.height };
    let pixels = pass(pixels, size, between, &options)?;
    let mut pixels = pass(pixels, between, target, &options)?;
    if is_weighted {
        each_pixel(&mut pixels, |color, alpha| match alpha {
            0 | 255 => color,
            alpha => (u32::from(color) * 255 / u32::from(alpha)).min(255) as u8,
        });
    }
    Ok(Raster { size: target, pixels })
}

fn pass<P: PixelTrait + InnerPixel>(
    pixels: Vec<u8>,
    from: Size,
    to: Size,
    options: &ResizeOptions,
) -> Result<Vec<u8>, Box<dyn Error>> {
    if from == to {
        return Ok(pixels);
    }
    let source = TypedImageRef::<P>::from_buffer(from.width, from.height, &pixels)?;
    let mut resized = vec![0; to.width as usize * to.height as usize * size_of::<P>()];
    let mut target = TypedImage::<P>::from_buffer(to.width, to.height, &mut resized)?;
    Resizer::new().resize_typed(&source, &mut target, options)?;
    Ok(resized)
}

fn each_pixel(pixels: &mut [u8], change: impl Fn(u8, u8) -> u8) {
    for [r, g, b, a] in pixels.as_chunks_mut::<4>().0 {
        (*r, *g, *b) = (change(*r, *a), change(*g, *a), change(*b, *a));
    }
}

/// `color * alpha / 255`, rounded.
fn muldiv_255(color: u8, alpha: u8) -> u8 {
    let product = u32::from(color) * u32::from(alpha) + 128;
    (((product >> 8) + product) >> 8) as u8
}
