//! Pictures: what `image:` in a `model.yaml` declares. [`Image::check`] judges it against the model's input,
//! [`Plan::prepare`] turns one JPEG, PNG or WebP file into one row of that input, as Pillow and torchvision would.

mod check;
mod chroma;
mod decode;
mod exif;
mod jpeg;
mod plan;
mod png_chunks;
mod resize;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use plan::Plan;

/// How a picture becomes the model's input: decode, turn as EXIF or XMP says, convert the colour, resize,
/// crop, then `(value * scale - mean) / std` for each channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Image {
    /// The model's input that takes the picture. May be left out where it has only one.
    pub input: Option<String>,
    /// The channels that the model takes, and their order.
    pub color: Color,
    /// The size that the picture is brought to before cropping. Without it, the picture keeps its size.
    pub resize: Option<Resize>,
    /// The part cut from the middle after resizing; a smaller picture gets black borders. Without it, all of the picture.
    pub crop: Option<Size>,
    /// What every 8-bit value is multiplied with first. Default: 1/255 for a model that takes floats, 1 for integers.
    pub scale: Option<f64>,
    /// Subtracted after scaling: one number, or one for each channel in the order of `color`. Default: 0.
    pub mean: Option<PerChannel>,
    /// Divided by at last: one number, or one for each channel in the order of `color`. Default: 1.
    pub std: Option<PerChannel>,
    /// Where the channels stand in the model's input. Default: as the input's shape says, `nchw` where it leaves both open. A gray picture
    /// may also be `[batch, height, width]`.
    pub layout: Option<Layout>,
    /// The largest picture accepted, in pixels (width times height). Default: 67108864 (64 Mi).
    #[schemars(range(min = 1))]
    pub max_pixels: Option<u64>,
}

/// The channels of a model's input. Transparency is dropped for all but `rgba`, not blended with a background.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red, as OpenCV reads pictures.
    Bgr,
    /// One channel: ITU-R 601-2 luma.
    Gray,
    /// Red, green, blue and opacity.
    Rgba,
}

impl Color {
    fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb | Self::Bgr => 3,
            Self::Rgba => 4,
        }
    }

    /// Bytes of a pixel before it is normalised.
    fn stored(self) -> usize {
        if self == Self::Gray { 1 } else { 4 }
    }
}

/// The size to resize to: `shorter` alone, or `width` and `height`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resize {
    /// Pixels of the shorter side; the longer one follows and keeps the aspect ratio, rounded down. Needs a `crop`.
    #[schemars(range(min = 1))]
    pub shorter: Option<u32>,
    /// Pixels; the aspect ratio is not kept.
    #[schemars(range(min = 1))]
    pub width: Option<u32>,
    /// Pixels; the aspect ratio is not kept.
    #[schemars(range(min = 1))]
    pub height: Option<u32>,
    /// How pixels are interpolated. All but `nearest` are antialiased, as in Pillow.
    pub filter: Filter,
}

/// How new pixels follow from old ones, by Pillow's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The one nearest pixel.
    Nearest,
    /// A triangle, as wide as the scale asks for.
    #[default]
    Bilinear,
    /// Cubic convolution with a = -0.5.
    Bicubic,
    /// A sinc window of three lobes.
    Lanczos,
}

/// A size in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Size {
    #[schemars(range(min = 1))]
    pub width: u32,
    #[schemars(range(min = 1))]
    pub height: u32,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.width, self.height)
    }
}

/// One number for all channels, or one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number, or a list of one number for each channel")]
pub enum PerChannel {
    /// The same for all channels.
    All(f64),
    /// One for each channel, in the order of `color`.
    Each(Vec<f64>),
}

/// Where the channels stand in a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[batch, channels, height, width]`, as PyTorch has it.
    Nchw,
    /// `[batch, height, width, channels]`, as TensorFlow has it.
    Nhwc,
}
