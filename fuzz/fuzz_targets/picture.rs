//! Any bytes as a picture: pixels or an error, never a panic nor memory beyond the limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use predictd::prepare::image::{Image, Resize};
use predictd::signature::{Dim, Kind, TensorSpec};
use predictd::tensor::{ElementType, Elements};

fuzz_target!(|data: &[u8]| {
    let input = TensorSpec {
        name: "x".to_owned(),
        element: ElementType::F32,
        shape: vec![Dim::Any(String::new()), Dim::Fixed(3), Dim::Fixed(16), Dim::Fixed(16)],
        kind: Kind::Tensor,
    };
    let resize = Resize { width: Some(16), height: Some(16), ..Resize::default() };
    let image = Image { resize: Some(resize), max_pixels: Some(1 << 20), ..Image::default() };
    let plan = image.check(&input).expect("the declaration fits the input");
    let mut out = Elements::F32(Vec::new());
    match plan.prepare(data, &mut out) {
        Ok(()) => assert_eq!(out.len(), 3 * 16 * 16),
        Err(_) => assert!(out.is_empty()),
    }
});
