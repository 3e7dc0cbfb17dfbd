//! One picture to one row of the model's input: decoding is in [`super::decode`], this is what follows.

use super::check::MAX_PIXELS;
use super::decode::{self, Picture};
use super::resize;
use super::{Color, Filter, Layout, Size};
use crate::error::{Code, Rejection};
use crate::for_each_number_type;
use crate::prepare::survive::survive;
use crate::tensor::{ElementType, Elements};

/// Limit of what the images of a request cost together, in pixels: 21 photos of 12 megapixels. A thread
/// decodes so many in one to three seconds, as long as they are not large files too.
const MAX_COST: u64 = 256 << 20;

/// How pictures become rows of one input, checked against it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) input: String,
    pub(super) color: Color,
    pub(super) resize: Option<(Target, Filter)>,
    /// Of every row.
    pub(super) size: Size,
    pub(super) layout: Layout,
    /// Whether a row has a dimension for its channels.
    pub(super) has_channels: bool,
    /// What each 8-bit value of each channel becomes: 256 entries a channel, in the input's element type.
    pub(super) table: Elements,
    /// Whether a picture of another size is cropped, or padded with black; refused otherwise.
    pub(super) crop: bool,
    pub(super) max_pixels: u64,
}

/// What resizing aims at.
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

    /// Checks what the images of one request cost together, before one of them is decoded: pixels to decode,
    /// and those that resizing makes.
    ///
    /// # Errors
    /// `INPUT_TOO_LARGE` where one of them, or all of them, take a thread for too long. What is no image
    /// costs nothing; it is refused when it is decoded.
    pub fn check_cost(&self, images: &[Vec<u8>]) -> Result<(), Rejection> {
        let (one, all) = (self.max_pixels.saturating_mul(2), MAX_COST.max(self.max_pixels.saturating_mul(4)));
        let too_large = |message: String| self.named(Rejection::new(Code::InputTooLarge, message));
        let mut total = 0_u64;
        for image in images {
            // A fault in a decoder must cost no more than this one request.
            let Some(Some((size, cost))) = survive(|| decode::cost(image)) else { continue };
            decode::within_limit(size, self.max_pixels).map_err(|rejection| self.named(rejection))?;
            if cost > one {
                return Err(too_large(format!(
                    "decoding a picture of {size} in its scans costs as much as {cost} pixels, at most {one} are allowed; send a \
                     smaller one, or one with fewer scans"
                )));
            }
            total = total.saturating_add(cost).saturating_add(self.resizing(size));
            if total > all {
                return Err(too_large(format!(
                    "the pictures of the request cost more than the {all} pixels allowed together, to decode and to resize; send \
                     them in several requests"
                )));
            }
        }
        Ok(())
    }

    fn named(&self, Rejection { code, message }: Rejection) -> Rejection {
        Rejection::new(code, format!("input {:?}: {message}", self.input))
    }

    /// Pixels that the two passes of resizing make, however the image is turned; 0 without resizing.
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

    /// Appends one row to `out`, which must be of the input's element type. A rejected picture leaves `out` as it was.
    ///
    /// The peak of memory is about 8 bytes for each of the picture's pixels, 9 where it is a progressive
    /// JPEG.
    pub fn prepare(&self, bytes: &[u8], out: &mut Elements) -> Result<(), Rejection> {
        let picture =
            decode::decode(bytes, self.color, self.max_pixels).map_err(|rejection| self.named(rejection))?;
        let picture = self.resized(picture)?;
        if !self.crop && picture.size != self.size {
            return Err(Rejection::invalid(format!(
                "input {:?}: expected a picture of {}, as the model takes it, but one of {} came; the bundle's model.yaml \
                 declares neither resize nor crop",
                self.input, self.size, picture.size
            )));
        }
        self.append(&self.padded(picture), out);
        Ok(())
    }

    pub(super) fn resized(&self, picture: Picture) -> Result<Picture, Rejection> {
        let (Some(target), Some((_, filter))) = (self.target(picture.size), self.resize) else {
            return Ok(picture);
        };
        if target == picture.size {
            return Ok(picture);
        }
        // Between the two passes the picture is as wide as the one and as high as the other.
        let Size { width, height } = picture.size;
        let between = u64::from(width.max(target.width)) * u64::from(height.max(target.height));
        if between > self.max_pixels.max(MAX_PIXELS) {
            return Err(self.too_large(picture.size, target));
        }
        let from = picture.size;
        resize::resize(picture, self.color, target, filter).map_err(|error| {
            let input = &self.input;
            Rejection::invalid(format!(
                "input {input:?}: cannot resize a picture of {from} to {target}: {error}"
            ))
        })
    }

    fn too_large(&self, from: Size, target: Size) -> Rejection {
        Rejection::new(
            Code::InputTooLarge,
            format!(
                "input {:?}: resizing a picture of {from} to {target} takes more than the {} pixels allowed; send one of a \
                 less extreme shape",
                self.input, self.max_pixels
            ),
        )
    }

    /// With black borders, where the picture is smaller than what is cut from it.
    fn padded(&self, picture: Picture) -> Picture {
        let Size { width, height } = picture.size;
        let size = Size { width: width.max(self.size.width), height: height.max(self.size.height) };
        if size == picture.size {
            return picture;
        }
        let stored = self.color.stored();
        let (left, top) = ((size.width - width) as usize / 2, (size.height - height) as usize / 2);
        let (from_row, row) = (width as usize * stored, size.width as usize * stored);
        let mut pixels = vec![0; row * size.height as usize];
        for (y, from) in picture.pixels.chunks_exact(from_row).enumerate() {
            pixels[(top + y) * row + left * stored..][..from_row].copy_from_slice(from);
        }
        Picture { size, pixels }
    }

    /// The rows of the middle of `picture`, which is no smaller than what is cut from it.
    fn window<'a>(&self, picture: &'a Picture) -> impl Iterator<Item = &'a [u8]> + Clone {
        let stored = self.color.stored();
        let row = picture.size.width as usize * stored;
        let left = middle(picture.size.width, self.size.width) * stored;
        let top = middle(picture.size.height, self.size.height);
        let (width, height) = (self.size.width as usize * stored, self.size.height as usize);
        (top..top + height).map(move |y| &picture.pixels[y * row + left..][..width])
    }

    /// Crops, normalises and lays out in one pass over the pixels that are kept.
    fn append(&self, picture: &Picture, out: &mut Elements) {
        let stored = self.color.stored();
        let order: &[usize] = match self.color {
            Color::Gray => &[0],
            Color::Rgb => &[0, 1, 2],
            Color::Bgr => &[2, 1, 0],
            Color::Rgba => &[0, 1, 2, 3],
        };
        let rows = self.window(picture);
        macro_rules! append {
            ($(($variant:ident, $rust:ty)),+ $(,)?) => {
                match (&self.table, out) {
                    $((Elements::$variant(table), Elements::$variant(out)) => {
                        let (tables, _) = table.as_chunks::<256>();
                        match self.layout {
                            Layout::Nchw => for (table, from) in tables.iter().zip(order) {
                                for row in rows.clone() {
                                    out.extend(row.chunks_exact(stored).map(|pixel| table[usize::from(pixel[*from])]));
                                }
                            },
                            Layout::Nhwc => for row in rows {
                                for pixel in row.chunks_exact(stored) {
                                    out.extend(tables.iter().zip(order).map(|(table, from)| table[usize::from(pixel[*from])]));
                                }
                            },
                        }
                    })+
                    (table, out) => unreachable!("a plan for {} met a buffer of {}", table.element(), out.element()),
                }
            };
        }
        for_each_number_type!(append);
    }
}

/// Where the middle begins: a half is rounded to the even neighbour, as Python does for torchvision.
fn middle(length: u32, kept: u32) -> usize {
    let (half, is_odd) = ((length - kept) / 2, (length - kept) % 2 == 1);
    if is_odd { half + half % 2 } else { half }.try_into().expect("a side fits in memory")
}
