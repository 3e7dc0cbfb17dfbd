//! Sample requests of a model, which `inspect` and the console show.

mod request;
mod zeros;

pub use self::request::{Body, Sample};
pub use self::zeros::{Table, Zeros};
