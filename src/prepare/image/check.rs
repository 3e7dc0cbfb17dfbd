//! Validates a declaration of images against the model's input, once, when a version is loaded. Collects
//! every problem.

use super::declaration::{Color, ImageDeclaration, Layout, MAX_PIXELS, PerChannel, Resize, Size};
use super::plan::{Plan, Target};
use crate::tensor::signature::{Dim, TensorSpec};
use crate::tensor::{ElementType, Elements};

/// The number of 8-bit values.
const LEVELS: usize = 256;

impl ImageDeclaration {
    /// The plan for every image.
    ///
    /// # Errors
    /// Every problem of this declaration with the model's `input`.
    pub fn check(&self, input: &TensorSpec) -> Result<Plan, Vec<String>> {
        let mut problems = Vec::new();
        let target = self.resize.as_ref().map(|resize| (target(resize, &mut problems), resize.filter));
        if let Some(Size { width, height }) = self.crop
            && (width == 0 || height == 0)
        {
            problems.push(format!("image.crop: {width} x {height} leaves nothing, expected at least 1 x 1"));
        }
        if self.max_pixels == Some(0) {
            problems.push("image.max_pixels: 0 refuses every image, expected at least 1".to_owned());
        }
        let shape = self.row_shape(input, &mut problems);
        let table = self.table(input, &mut problems);
        match (shape, table) {
            (Some((layout, size)), Some(table)) if problems.is_empty() => Ok(Plan {
                input: input.name.clone(),
                color: self.color,
                resize: target.and_then(|(target, filter)| Some((target?, filter))),
                size,
                crop: self.crop.is_some(),
                layout,
                has_channels: input.shape.len() == 4,
                table,
                max_pixels: self.max_pixels.unwrap_or(MAX_PIXELS),
            }),
            _ => Err(problems),
        }
    }

    /// The layout and the size of every row.
    fn row_shape(&self, input: &TensorSpec, problems: &mut Vec<String>) -> Option<(Layout, Size)> {
        let described = described(input);
        let channels = self.color.channels();
        let one = Dim::Fixed(1);
        let (layout, layout_name, depth, height, width) = match input.shape.as_slice() {
            [_, a, b, c] => {
                let fits = |dim: &Dim| dim.fixed() == Some(channels);
                let nhwc = if fits(c) && !fits(a) { Layout::Nhwc } else { Layout::Nchw };
                match self.layout.unwrap_or(nhwc) {
                    Layout::Nchw => (Layout::Nchw, "nchw", a, b, c),
                    Layout::Nhwc => (Layout::Nhwc, "nhwc", c, a, b),
                }
            }
            // An input without channels has one.
            [_, height, width] if self.color == Color::Gray => {
                (Layout::Nchw, "batch, height, width", &one, height, width)
            }
            _ => {
                problems.push(format!(
                    "image: {described}, expected four dimensions: batch, channels, height and width in either \
                     layout; or three of them for color: gray, without channels; where there is no batch, \
                     declare batching.dimension: none"
                ));
                return None;
            }
        };
        if depth.fixed().is_some_and(|depth| depth != channels) {
            problems.push(format!(
                "image.color: {} has {channels} channel(s), but {described}, which as {layout_name} takes \
                 {depth}",
                color_name(self.color)
            ));
        }
        let size = self.size(input, height, width, problems)?;
        let most = self.max_pixels.unwrap_or(0).max(MAX_PIXELS);
        if u64::from(size.width) * u64::from(size.height) > most {
            problems.push(format!(
                "image: the size is {size}, which is more than the {most} pixels of the largest image"
            ));
        }
        let matches = |dim: &Dim, length: u32| dim.fixed().is_none_or(|fixed| fixed == length as usize);
        if !matches(height, size.height) || !matches(width, size.width) {
            problems.push(format!(
                "image: the declared size is {size} (width x height), but {described}, which as {layout_name} \
                 takes {width} x {height}"
            ));
        }
        Some((layout, size))
    }

    /// The size after resizing and cropping; the model's own size if neither is declared.
    fn size(
        &self,
        input: &TensorSpec,
        height: &Dim,
        width: &Dim,
        problems: &mut Vec<String>,
    ) -> Option<Size> {
        if let Some(crop) = self.crop {
            return Some(crop);
        }
        if let Some(resize) = &self.resize {
            if resize.shorter.is_some() {
                problems.push(format!(
                    "image.resize: shorter leaves the longer side open, but all rows of input {:?} need one \
                     size: declare image.crop too, or width and height",
                    input.name
                ));
            }
            return Some(Size { width: resize.width?, height: resize.height? });
        }
        let fixed = |dim: &Dim| dim.fixed().and_then(|length| u32::try_from(length).ok());
        let size = fixed(width).zip(fixed(height)).map(|(width, height)| Size { width, height });
        if size.is_none() {
            problems.push(format!(
                "image: {}, which leaves the size open: declare image.resize with width and height, or \
                 image.crop",
                described(input)
            ));
        }
        size
    }

    /// The normalised value of each 8-bit value of each channel, in the model's element type: 256 entries a
    /// channel.
    fn table(&self, input: &TensorSpec, problems: &mut Vec<String>) -> Option<Elements> {
        let scale = self.scale.unwrap_or(if input.element.is_float() { 1.0 / 255.0 } else { 1.0 });
        if !scale.is_finite() || scale == 0.0 {
            problems.push(format!("image.scale: expected a finite number other than 0, got {scale}"));
        }
        let mean = per_channel("mean", self.mean.as_ref(), 0.0, self.color, problems);
        let std = per_channel("std", self.std.as_ref(), 1.0, self.color, problems);
        if std.contains(&0.0) {
            problems.push("image.std: expected a number above 0, got 0".to_owned());
        }
        let values = mean
            .iter()
            .zip(&std)
            .flat_map(|(mean, std)| (0..LEVELS).map(move |level| (level as f64 * scale - mean) / std));
        let is_number = input.element != ElementType::Bool;
        let table = Elements::of_numbers(input.element, values).filter(|_| is_number);
        if table.is_none() {
            problems.push(format!(
                "image: {}, expected numbers: an image has no {}s",
                described(input),
                input.element
            ));
        }
        table
    }
}

fn target(resize: &Resize, problems: &mut Vec<String>) -> Option<Target> {
    let target = match *resize {
        Resize { shorter: Some(shorter), width: None, height: None, .. } => Target::Shorter(shorter),
        Resize { shorter: None, width: Some(width), height: Some(height), .. } => {
            Target::Size(Size { width, height })
        }
        _ => {
            problems.push("image.resize: expected either shorter, or both width and height".to_owned());
            return None;
        }
    };
    if matches!(target, Target::Shorter(0) | Target::Size(Size { width: 0, .. } | Size { height: 0, .. })) {
        problems.push("image.resize: a side of 0 leaves nothing, expected at least 1".to_owned());
    }
    Some(target)
}

/// One number for each channel, whatever was declared.
fn per_channel(
    key: &str,
    declared: Option<&PerChannel>,
    default: f64,
    color: Color,
    problems: &mut Vec<String>,
) -> Vec<f64> {
    let channels = color.channels();
    let values = match declared {
        None => vec![default; channels],
        Some(PerChannel::All(value)) => vec![*value; channels],
        Some(PerChannel::Each(values)) => values.clone(),
    };
    if values.len() != channels {
        let (color, given) = (color_name(color), values.len());
        problems
            .push(format!("image.{key}: {color} has {channels} channel(s), but {given} number(s) are given"));
        return vec![default; channels];
    }
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        problems.push(format!("image.{key}: {value} is no finite number"));
    }
    values
}

fn described(input: &TensorSpec) -> String {
    format!("input {:?} is {}", input.name, input.describe())
}

fn color_name(color: Color) -> &'static str {
    match color {
        Color::Rgb => "rgb",
        Color::Bgr => "bgr",
        Color::Gray => "gray",
        Color::Rgba => "rgba",
    }
}
