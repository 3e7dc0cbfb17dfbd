//! Images: [`ImageDeclaration::check`] validates the `image` part of a `model.yaml` against the model's
//! input, and [`Plan::prepare`] turns one JPEG, PNG or WebP file into one row of that input, as Pillow and
//! torchvision would.

mod check;
mod chroma;
mod declaration;
mod decode;
mod exif;
mod jpeg;
mod plan;
mod png_chunks;
mod raster;
mod resize;
#[cfg(test)]
mod tests;

pub use declaration::{ImageDeclaration, Resize};
pub use plan::Plan;
