//! Any bytes as an image, and JPEGs of any size with any scans: they give pixels or an error, never a panic,
//! and take no memory beyond the limit. Images whose cost is refused are not decoded.
#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use predictd::prepare::image::{ImageDeclaration, Resize};
use predictd::tensor::signature::{Dim, TensorSpec, ValueKind};
use predictd::tensor::{ElementType, Elements};

fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).expect("a short segment").to_be_bytes();
    [&[0xff, marker][..], &length, data].concat()
}

/// A progressive JPEG whose tables have one code, and whose scans are a few bytes or all zeros.
fn jpeg(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (width, height): (u16, u16) = (input.arbitrary()?, input.arbitrary()?);
    let components = input.int_in_range(1..=4_u8)?;
    let mut frame = vec![8];
    frame.extend([height.to_be_bytes(), width.to_be_bytes()].concat());
    frame.push(components);
    for component in 1..=components {
        frame.extend([component, *input.choose(&[0x11, 0x22, 0x21, 0x12, 0x41])?, 0]);
    }
    let table = |kind: u8, symbol: u8| [&[kind, 1][..], &[0; 15], &[symbol]].concat();
    let mut file = [&b"\xff\xd8"[..], &segment(0xdb, &[&[0][..], &[1; 64]].concat())].concat();
    file.extend(segment(*input.choose(&[0xc0, 0xc2, 0xc2, 0xca])?, &frame));
    file.extend(segment(0xc4, &table(0x00, input.int_in_range(0..=11)?)));
    file.extend(segment(0xc4, &table(0x10, input.arbitrary()?)));
    for _ in 0..input.int_in_range(0..=100)? {
        let mut scan = vec![1, input.int_in_range(1..=components)?, 0];
        scan.extend(*input.choose(&[
            [0, 0, 0x01],
            [1, 63, 0x01],
            [1, 63, 0x10],
            [0, 0, 0x10],
            [1, 5, 0],
            [0, 63, 0],
        ])?);
        file.extend(segment(0xda, &scan));
        file.extend(vec![0; *input.choose(&[0, 1, 100, 10_000])?]);
    }
    file.extend(b"\xff\xd9");
    Ok(file)
}

fuzz_target!(|data: &[u8]| {
    let input = TensorSpec {
        name: "x".to_owned(),
        element: ElementType::F32,
        shape: vec![Dim::Any(String::new()), Dim::Fixed(3), Dim::Fixed(16), Dim::Fixed(16)],
        kind: ValueKind::Tensor,
    };
    let resize = Resize { width: Some(16), height: Some(16), ..Resize::default() };
    let declared =
        ImageDeclaration { resize: Some(resize), max_pixels: Some(1 << 20), ..ImageDeclaration::default() };
    let plan = declared.check(&input).expect("the declaration fits the input");
    let image = match data {
        [0, rest @ ..] => jpeg(&mut Unstructured::new(rest)).unwrap_or_default(),
        _ => data.to_vec(),
    };
    if plan.check_cost(std::slice::from_ref(&image)).is_err() {
        return;
    }
    let mut out = Elements::F32(Vec::new());
    match plan.prepare(&image, &mut out) {
        Ok(()) => assert_eq!(out.len(), 3 * 16 * 16),
        Err(_) => assert!(out.is_empty()),
    }
});
