//! Turns one image into one row of the model's input: resizes, crops, normalises and lays out the decoded
//! pixels.

use super::declaration::{Color, Filter, Layout, MAX_PIXELS, Size};
use super::raster::{Raster, check_size};
use super::{decode, resize};
use crate::error::{Code, Rejection};
use crate::for_each_number_type;
use crate::prepare::catch_panic::catch_panic;
use crate::tensor::{ElementType, Elements};

/// Limit of the cost of all images of a request, in pixels: 21 photos of 12 megapixels. A thread decodes that
/// many in one to three seconds, unless their files are large too.
const MAX_COST: u64 = 256 << 20;

/// The steps from an image to a row of one input.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) input: String,
    pub(super) color: Color,
    pub(super) resize: Option<(Target, Filter)>,
    /// The size of every row.
    pub(super) size: Size,
    pub(super) layout: Layout,
    /// True when a row has a dimension for its channels.
    pub(super) has_channels: bool,
    /// The normalised value of each 8-bit value of each channel: 256 entries a channel, in the input's
    /// element type.
    pub(super) table: Elements,
    /// True when an image of another size is cropped, or padded with black; otherwise it is refused.
    pub(super) crop: bool,
    pub(super) max_pixels: u64,
}

/// The target of resizing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Shorter(u32),
    Size(Size),
}

impl Plan {
    /// The shape of one row, without the batch dimension.
    pub fn shape(&self) -> Vec<usize> {
        let (height, width) = (self.size.height as usize, self.size.width as usize);
        match self.layout {
            _ if !self.has_channels => vec![height, width],
            Layout::Nchw => vec![self.color.channels(), height, width],
            Layout::Nhwc => vec![height, width, self.color.channels()],
        }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        (self.size.width, self.size.height)
    }

    /// The type of the row's elements.
    pub fn element(&self) -> ElementType {
        self.table.element()
    }

    /// Checks the cost of all images of one request before any is decoded: the pixels to decode, and those
    /// that resizing makes. A file that is no image costs nothing; it is refused when it is decoded.
    ///
    /// # Errors
    /// `INPUT_TOO_LARGE` if one image, or all together, would occupy a thread for too long.
    pub fn check_cost(&self, images: &[Vec<u8>]) -> Result<(), Rejection> {
        let (one, all) = (self.max_pixels.saturating_mul(2), MAX_COST.max(self.max_pixels.saturating_mul(4)));
        let too_large = |message: String| self.named(Rejection::new(Code::InputTooLarge, message));
        let mut total = 0_u64;
        for image in images {
            // A panic in a decoder must cost only this request.
            let Some(Some((size, cost))) = catch_panic(|| decode::cost(image)) else { continue };
            check_size(size, self.max_pixels).map_err(|rejection| self.named(rejection))?;
            if cost > one {
                return Err(too_large(format!(
                    "decoding an image of {size} in its scans costs as much as {cost} pixels, at most {one} \
                     are allowed; send a smaller one, or one with fewer scans"
                )));
            }
            total = total.saturating_add(cost).saturating_add(self.resizing(size));
            if total > all {
                return Err(too_large(format!(
                    "the images of the request cost more than the {all} pixels allowed together, to decode \
                     and to resize; send them in several requests"
                )));
            }
        }
        Ok(())
    }

    fn named(&self, Rejection { code, message }: Rejection) -> Rejection {
        Rejection::new(code, format!("input {:?}: {message}", self.input))
    }

    /// Pixels that the two passes of resizing make, whichever way the image is turned; 0 without resizing.
    fn resizing(&self, from: Size) -> u64 {
        let Some(to) = self.target(from) else { return 0 };
        u64::from(to.width) * (u64::from(from.height.max(from.width)) + u64::from(to.height))
    }

    /// The size that an image of this size is resized to.
    fn target(&self, Size { width, height }: Size) -> Option<Size> {
        let (target, _) = self.resize?;
        Some(match target {
            Target::Size(size) => size,
            Target::Shorter(shorter) => {
                let longer =
                    u64::from(shorter) * u64::from(width.max(height)) / u64::from(width.min(height).max(1));
                let longer = u32::try_from(longer).unwrap_or(u32::MAX);
                if width <= height {
                    Size { width: shorter, height: longer }
                } else {
                    Size { width: longer, height: shorter }
                }
            }
        })
    }

    /// Appends one row to `out`, which must have the input's element type. A rejected image leaves `out`
    /// unchanged.
    ///
    /// The peak of memory is about 8 bytes for each pixel of the image, 9 for a progressive JPEG.
    pub fn prepare(&self, bytes: &[u8], out: &mut Elements) -> Result<(), Rejection> {
        let image = self.decoded(bytes).map_err(|rejection| self.named(rejection))?;
        self.append(&self.padded(image), out);
        Ok(())
    }

    /// The image in its new size.
    fn decoded(&self, bytes: &[u8]) -> Result<Raster, Rejection> {
        let image = self.resized(decode::decode(bytes, self.color, self.max_pixels)?)?;
        if !self.crop && image.size != self.size {
            return Err(Rejection::invalid(format!(
                "expected an image of {}, as the model takes it, got one of {}; the bundle's model.yaml \
                 declares neither resize nor crop",
                self.size, image.size
            )));
        }
        Ok(image)
    }

    pub(super) fn resized(&self, image: Raster) -> Result<Raster, Rejection> {
        let (Some(target), Some((_, filter))) = (self.target(image.size), self.resize) else {
            return Ok(image);
        };
        if target == image.size {
            return Ok(image);
        }
        // The result of the first pass is as wide as one image and as high as the other.
        let from = image.size;
        let between = u64::from(from.width.max(target.width)) * u64::from(from.height.max(target.height));
        if between > self.max_pixels.max(MAX_PIXELS) {
            let message = format!(
                "resizing an image of {from} to {target} takes more than the {} pixels allowed; send one of a \
                 less extreme shape",
                self.max_pixels
            );
            return Err(Rejection::new(Code::InputTooLarge, message));
        }
        resize::resize(image, self.color, target, filter).map_err(|error| {
            Rejection::invalid(format!("cannot resize an image of {from} to {target}: {error}"))
        })
    }

    /// Adds black borders to an image that is smaller than the crop.
    fn padded(&self, image: Raster) -> Raster {
        let Size { width, height } = image.size;
        let size = Size { width: width.max(self.size.width), height: height.max(self.size.height) };
        if size == image.size {
            return image;
        }
        let stored = self.color.bytes_per_pixel();
        let (left, top) = ((size.width - width) as usize / 2, (size.height - height) as usize / 2);
        let (from_row, row) = (width as usize * stored, size.width as usize * stored);
        let mut pixels = vec![0; row * size.height as usize];
        for (y, from) in image.pixels.chunks_exact(from_row).enumerate() {
            pixels[(top + y) * row + left * stored..][..from_row].copy_from_slice(from);
        }
        Raster { size, pixels }
    }

    /// The rows of the centre of `image`, which is at least as large as the crop.
    fn window<'a>(&self, image: &'a Raster) -> impl Iterator<Item = &'a [u8]> + Clone {
        let stored = self.color.bytes_per_pixel();
        let row = image.size.width as usize * stored;
        let left = centre_offset(image.size.width, self.size.width) * stored;
        let top = centre_offset(image.size.height, self.size.height);
        let (width, height) = (self.size.width as usize * stored, self.size.height as usize);
        (top..top + height).map(move |y| &image.pixels[y * row + left..][..width])
    }

    /// Crops, normalises and lays out in one pass over the pixels that are kept.
    fn append(&self, image: &Raster, out: &mut Elements) {
        let stored = self.color.bytes_per_pixel();
        let order: &[usize] = match self.color {
            Color::Gray => &[0],
            Color::Rgb => &[0, 1, 2],
            Color::Bgr => &[2, 1, 0],
            Color::Rgba => &[0, 1, 2, 3],
        };
        let rows = self.window(image);
        macro_rules! append {
            ($(($variant:ident, $rust:ty)),+ $(,)?) => {
                match (&self.table, out) {
                    $((Elements::$variant(table), Elements::$variant(out)) => {
                        let (tables, _) = table.as_chunks::<256>();
                        match self.layout {
                            Layout::Nchw => for (table, from) in tables.iter().zip(order) {
                                for row in rows.clone() {
                                    let level = |pixel: &[u8]| table[usize::from(pixel[*from])];
                                    out.extend(row.chunks_exact(stored).map(level));
                                }
                            },
                            Layout::Nhwc => for row in rows {
                                for pixel in row.chunks_exact(stored) {
                                    let level = |(table, from): (&[_; 256], &usize)| {
                                        table[usize::from(pixel[*from])]
                                    };
                                    out.extend(tables.iter().zip(order).map(level));
                                }
                            },
                        }
                    })+
                    (table, out) => {
                        unreachable!("a plan for {} met a buffer of {}", table.element(), out.element())
                    }
                }
            };
        }
        for_each_number_type!(append);
    }
}

/// The offset of the centre: a half is rounded to the even neighbour, as Python does for torchvision.
fn centre_offset(length: u32, kept: u32) -> usize {
    let (half, is_odd) = ((length - kept) / 2, (length - kept) % 2 == 1);
    if is_odd { half + half % 2 } else { half }.try_into().expect("a side fits in memory")
}
