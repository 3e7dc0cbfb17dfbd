//! The `image` part of a `model.yaml`, as data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The default of [`ImageDeclaration::max_pixels`]: 192 MiB once decoded, more than today's cameras take.
pub(super) const MAX_PIXELS: u64 = 64 << 20;

/// The steps from an image to the model's input: decode, turn upright by EXIF or XMP, convert the colours,
/// resize, crop, then `(value * scale - mean) / std` for each channel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImageDeclaration {
    /// The model's input that takes the image. Not needed for a model with one input.
    pub input: Option<String>,
    /// The channels that the model takes, and their order.
    pub color: Color,
    /// The size to which the image is resized before cropping. Without it, the image keeps its size.
    pub resize: Option<Resize>,
    /// The size of the centre that is cropped after resizing; a smaller image gets black borders. Without it,
    /// nothing is cropped.
    pub crop: Option<Size>,
    /// The factor of every 8-bit value, applied first. Default: 1/255 for a model that takes floats, 1 for
    /// integers.
    pub scale: Option<f64>,
    /// Subtracted after scaling: one number, or one for each channel in the order of `color`. Default: 0.
    pub mean: Option<PerChannel>,
    /// The divisor, applied last: one number, or one for each channel in the order of `color`. Default: 1.
    pub std: Option<PerChannel>,
    /// The position of the channels in the model's input. Default: by the input's shape, or `nchw` if both
    /// fit. A gray image may also be `[batch, height, width]`.
    pub layout: Option<Layout>,
    /// The largest image accepted, in pixels (width times height). Default: 67108864 (64 Mi).
    #[schemars(range(min = 1))]
    pub max_pixels: Option<u64>,
}

/// The channels of a model's input. All but `rgba` drop the transparency, without blending with a background.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red: OpenCV's order.
    Bgr,
    /// One channel: ITU-R 601-2 luma.
    Gray,
    /// Red, green, blue and opacity.
    Rgba,
}

impl Color {
    pub(super) fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb | Self::Bgr => 3,
            Self::Rgba => 4,
        }
    }

    /// Bytes of a pixel before it is normalised.
    pub(super) fn bytes_per_pixel(self) -> usize {
        if self == Self::Gray { 1 } else { 4 }
    }
}

/// The size to resize to: `shorter` alone, or `width` and `height`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resize {
    /// Pixels of the shorter side. The longer side keeps the aspect ratio, rounded down. Needs a `crop`.
    #[schemars(range(min = 1))]
    pub shorter: Option<u32>,
    /// Pixels; the aspect ratio is not kept.
    #[schemars(range(min = 1))]
    pub width: Option<u32>,
    /// Pixels; the aspect ratio is not kept.
    #[schemars(range(min = 1))]
    pub height: Option<u32>,
    /// The interpolation. All filters but `nearest` are antialiased, as in Pillow.
    pub filter: Filter,
}

/// An interpolation, by Pillow's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The one nearest pixel.
    Nearest,
    /// A triangle, scaled with the image.
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

/// The position of the channels in a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[batch, channels, height, width]`, PyTorch's layout.
    Nchw,
    /// `[batch, height, width, channels]`, TensorFlow's layout.
    Nhwc,
}
