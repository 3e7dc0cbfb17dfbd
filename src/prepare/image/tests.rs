//! Compares with Pillow and numpy: `scripts/examples/make_images.py` makes the images and records their
//! results.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Deserialize;

use super::declaration::{Color, Filter, Size};
use super::raster::Raster;
use super::{ImageDeclaration, Plan, decode};
use crate::error::Code;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};
use crate::tensor::{ElementType, Elements};

#[derive(Deserialize)]
struct Case {
    file: String,
    image: ImageDeclaration,
    element: String,
    /// The shape of one row.
    shape: Vec<usize>,
    /// The distance of the row's elements that are in `expected`.
    stride: usize,
    expected: Vec<f64>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/images")
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn cases() -> Vec<Case> {
    serde_json::from_slice(&read("cases.json")).unwrap()
}

fn element(name: &str) -> ElementType {
    *ElementType::ALL.iter().find(|element| element.to_string() == name).unwrap()
}

fn input(element: ElementType, shape: &[usize]) -> TensorSpec {
    let rows = std::iter::once(Dim::Any("batch".to_owned()));
    let shape = rows.chain(shape.iter().map(|length| Dim::Fixed(*length))).collect();
    TensorSpec { name: "pixels".to_owned(), element, shape, kind: ValueKind::Tensor }
}

/// The size of one 8-bit step in a channel of the tensor.
fn step(plan: &Plan) -> f64 {
    let table = plan.table.view().to_f64();
    table.chunks(256).map(|levels| (levels[255] - levels[0]).abs() / 255.0).fold(f64::INFINITY, f64::min)
}

/// Allowed differences in 8-bit steps. JPEG leaves the rounding of its cosine transform open, and the
/// coefficients of resizing have 16 bits here, 22 in Pillow, so some values are rounded to the other side.
const MOST: f64 = 1.01;
const MOST_ON_AVERAGE: f64 = 0.01;

#[test]
fn rows_equal_those_of_pillow_and_numpy() {
    let (mut sum, mut count) = (0.0, 0);
    for Case { file, image, element: name, shape, stride, expected } in cases() {
        let what = format!("{file} as {name} {}", serde_json::to_string(&image).unwrap());
        let input = input(element(&name), &shape);
        let plan = image.check(&input).unwrap();
        assert_eq!(plan.shape().as_slice(), shape, "{what}");
        let mut out = Elements::with_capacity(input.element, 0);
        plan.prepare(&read(&file), &mut out).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(out.len(), shape.iter().product::<usize>(), "{what}");
        let (step, row) = (step(&plan), out.view().to_f64());
        let came = row.iter().step_by(stride);
        assert_eq!(came.len(), expected.len(), "{what}");
        let off: Vec<f64> = came.zip(&expected).map(|(came, wanted)| (came - wanted).abs() / step).collect();
        let worst = off.iter().copied().fold(0.0, f64::max);
        let total: f64 = off.iter().sum();
        let mean = total / f64::from(u32::try_from(off.len()).unwrap());
        println!("{worst:8.3} {mean:8.4} {what}");
        assert!(worst <= MOST, "{what}: {worst} steps of 8 bits off");
        assert!(mean <= 10.0 * MOST_ON_AVERAGE, "{what}: {mean} steps of 8 bits off on average");
        sum += total;
        count += off.len();
    }
    let mean = sum / f64::from(u32::try_from(count).unwrap());
    assert!(mean <= MOST_ON_AVERAGE, "{mean} steps of 8 bits off on average over all images");
}

/// The declaration of an `image` part in YAML.
fn declare(yaml: &str) -> ImageDeclaration {
    serde_saphyr::from_str(yaml).unwrap()
}

fn problems(yaml: &str, input: &TensorSpec) -> Vec<String> {
    declare(yaml).check(input).map(|plan| format!("{plan:?}")).unwrap_err()
}

fn classifier() -> Plan {
    let yaml = "{resize: {shorter: 32}, crop: {width: 24, height: 24}}";
    declare(yaml).check(&input(ElementType::F32, &[3, 24, 24])).unwrap()
}

fn reject(plan: &Plan, bytes: &[u8]) -> (Code, String) {
    let mut out = Elements::F32(vec![7.0]);
    let rejection = plan.prepare(bytes, &mut out).unwrap_err();
    assert_eq!(out, Elements::F32(vec![7.0]), "a rejected image must leave nothing behind");
    (rejection.code, rejection.message.into_owned())
}

#[test]
fn the_layout_follows_the_input_where_it_is_unambiguous() {
    for (shape, yaml, expected) in [
        ([3, 8, 9], "{}", [3, 8, 9]),
        ([8, 9, 3], "{}", [8, 9, 3]),
        ([3, 9, 3], "{}", [3, 9, 3]),
        ([3, 9, 3], "{layout: nhwc}", [3, 9, 3]),
        ([8, 9, 1], "{color: gray}", [8, 9, 1]),
        ([4, 9, 8], "{color: rgba}", [4, 9, 8]),
    ] {
        let plan = declare(yaml).check(&input(ElementType::U8, &shape)).unwrap();
        assert_eq!(plan.shape(), expected, "{shape:?} {yaml}");
    }
    let ambiguous = declare("{layout: nhwc}").check(&input(ElementType::U8, &[3, 9, 3])).unwrap();
    assert_eq!((ambiguous.size.width, ambiguous.size.height), (9, 3));
}

#[test]
fn a_gray_image_needs_no_channels() {
    let with = declare("{color: gray}").check(&input(ElementType::U8, &[1, 9, 8])).unwrap();
    let gray = declare("{color: gray, resize: {width: 8, height: 9}}");
    let without = gray.check(&input(ElementType::U8, &[9, 8])).unwrap();
    assert_eq!((without.shape(), without.size()), (vec![9, 8], (8, 9)));
    let rows = [with, without].map(|plan| {
        let plan = Plan { resize: Some((super::plan::Target::Size(plan.size), Filter::Bilinear)), ..plan };
        let mut out = Elements::with_capacity(ElementType::U8, 0);
        plan.prepare(&read("gray.png"), &mut out).unwrap();
        out
    });
    assert_eq!(rows[0], rows[1]);
    assert_eq!(rows[1].len(), 72);
    let found = problems("{}", &input(ElementType::U8, &[9, 8])).join("\n");
    assert!(
        found.contains("or three of them for color: gray") && found.contains("batching.dimension: none"),
        "{found}"
    );
}

#[test]
fn a_row_is_no_larger_than_the_largest_image() {
    let open = TensorSpec { shape: vec![Dim::Any(String::new()); 4], ..input(ElementType::F32, &[]) };
    for yaml in ["{crop: {width: 100000, height: 100000}}", "{resize: {width: 4000000000, height: 1000}}"] {
        let [problem] = &problems(yaml, &open)[..] else { panic!("expected one problem") };
        assert!(problem.contains("more than the 67108864 pixels"), "{problem}");
    }
}

#[test]
fn a_size_left_open_by_the_model_is_taken_from_the_declaration() {
    let open = TensorSpec { shape: vec![Dim::Any(String::new()); 4], ..input(ElementType::F16, &[]) };
    assert_eq!(declare("{resize: {width: 5, height: 7}}").check(&open).unwrap().shape(), [3, 7, 5]);
    let [problem] = &problems("{}", &open)[..] else { panic!("expected one problem") };
    assert!(problem.contains("leaves the size open"), "{problem}");
}

#[test]
fn every_problem_of_a_declaration_is_named_at_once() {
    let yaml = "{color: gray, resize: {shorter: 0, width: 3}, mean: [1, 2], std: 0, scale: 0, max_pixels: 0}";
    let found = problems(yaml, &input(ElementType::F32, &[3, 8, 8])).join("\n");
    for part in [
        "image.color: gray",
        "either shorter, or both",
        "declare image.crop",
        "image.mean",
        "image.std: expected a number above 0",
        "image.scale: expected a finite number",
        "max_pixels",
    ] {
        assert!(found.contains(part), "{part:?} is missing from:\n{found}");
    }
    for (yaml, element, shape, part) in [
        ("{}", ElementType::String, &[3, 8, 8][..], "expected numbers"),
        ("{}", ElementType::F32, &[3, 8], "expected four dimensions"),
        ("{crop: {width: 9, height: 8}}", ElementType::F32, &[3, 8, 8], "the declared size is 9 x 8"),
        ("{resize: {shorter: 8}}", ElementType::F32, &[3, 8, 8], "shorter leaves the longer side open"),
    ] {
        let found = problems(yaml, &input(element, shape)).join("\n");
        assert!(found.contains(part), "{part:?} is missing from:\n{found}");
        assert!(found.contains("\"pixels\""), "the input is not named: {found}");
    }
}

#[test]
fn unknown_keys_are_refused() {
    for yaml in ["{colour: rgb}", "{resize: {longer: 3}}", "{crop: {width: 3}}", "{mean: black}"] {
        assert!(serde_saphyr::from_str::<ImageDeclaration>(yaml).is_err(), "{yaml}");
    }
}

#[test]
fn the_header_alone_decides_that_an_image_is_too_large() {
    let mut header = read("rgb.png");
    header[16..20].copy_from_slice(&50_000_u32.to_be_bytes());
    header[20..24].copy_from_slice(&50_000_u32.to_be_bytes());
    // The signature and the header with its checksum; no pixels at all.
    let checksum = crc32(&header[12..29]);
    header[29..33].copy_from_slice(&checksum.to_be_bytes());
    let (code, message) = reject(&classifier(), &header[..33]);
    assert_eq!(code, Code::InputTooLarge);
    assert!(message.contains("\"pixels\"") && message.contains("50000 x 50000"), "{message}");
}

/// The checksum of a PNG chunk.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn the_limit_holds_for_every_format() {
    let yaml = "{resize: {shorter: 32}, crop: {width: 24, height: 24}, max_pixels: 1000}";
    let plan = declare(yaml).check(&input(ElementType::F32, &[3, 24, 24])).unwrap();
    for file in ["rgb.png", "restarts.jpg", "lossless.webp", "lossy.webp", "photo-progressive.jpg"] {
        let (code, message) = reject(&plan, &read(file));
        assert_eq!(code, Code::InputTooLarge, "{file}: {message}");
    }
}

/// 277 bytes: 64 megapixels in 96 scans.
fn many_scans() -> Vec<u8> {
    let mut file = Vec::new();
    flate2::read::GzDecoder::new(&*read("many-scans-8192.jpg.gz")).read_to_end(&mut file).unwrap();
    file
}

/// A PNG's header and end, which suffice to estimate the cost of its pixels.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = read("rgb.png")[..33].to_vec();
    header[16..20].copy_from_slice(&width.to_be_bytes());
    header[20..24].copy_from_slice(&height.to_be_bytes());
    header
}

#[test]
fn what_images_cost_is_judged_before_one_is_decoded() {
    let plan = classifier();
    let cost =
        |images: &[Vec<u8>]| plan.check_cost(images).map_err(|rejection| rejection.message.into_owned());
    let scans = many_scans();
    assert_eq!(decode::cost(&scans), Some((Size { width: 8192, height: 8192 }, (64 << 20) / 16 * 111)));
    let says = "input \"pixels\": decoding an image of 8192 x 8192 in its scans costs as much as 465567744 \
                pixels, at most 134217728 are allowed";
    assert!(cost(&[read("rgb.png"), scans]).unwrap_err().starts_with(says));
    // The limit of one image is 64 megapixels in 17 scans.
    let few: Vec<u8> = {
        let scans = many_scans();
        let starts: Vec<usize> = memchr::memmem::find_iter(&scans, b"\xff\xda").collect();
        scans[..starts[17]].iter().copied().chain([0xff, 0xd9]).collect()
    };
    assert_eq!(cost(std::slice::from_ref(&few)), Ok(()));
    // Three of the largest images, and what resizing them makes, fit into a request.
    let largest = png_header(8192, 8192);
    assert_eq!(cost(&vec![largest.clone(); 3]), Ok(()));
    let says =
        "input \"pixels\": the images of the request cost more than the 268435456 pixels allowed together";
    assert!(cost(&vec![largest; 4]).unwrap_err().starts_with(says));
    // Resizing makes tiny images of an extreme shape large: 32 x 1,280,000 pixels.
    assert!(cost(&vec![png_header(1, 40_000); 6]).is_ok());
    assert!(cost(&vec![png_header(1, 40_000); 7]).unwrap_err().starts_with(says));
    assert_eq!(cost(&[b"no image".to_vec(), b"\xff\xd8\xff".to_vec(), Vec::new()]), Ok(()));
    for file in ["photo-progressive.jpg", "lossless.webp", "lossy-alpha.webp", "orientation-6.png"] {
        assert_eq!(cost(&vec![read(file); 222]), Ok(()), "{file}");
    }
    let raised = declare("{resize: {width: 24, height: 24}, max_pixels: 268435456}");
    let raised = raised.check(&input(ElementType::F32, &[3, 24, 24])).unwrap();
    assert_eq!(raised.check_cost(&[many_scans(), many_scans()]), Ok(()));
}

#[test]
fn a_jpeg_without_a_height_is_refused() {
    let mut file = read("photo-420.jpg");
    let frame = memchr::memmem::find(&file, b"\xff\xc0").unwrap();
    file[frame + 5..frame + 7].fill(0);
    let (code, message) = reject(&classifier(), &file);
    assert_eq!(code, Code::InvalidInput);
    assert!(message.contains("its header does not say how high it is"), "{message}");
}

/// Only the last text of a keyword in a PNG counts. The others cost nothing.
#[test]
fn of_many_texts_of_a_png_one_is_inflated() {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![b' '; 1 << 20]).unwrap();
    let data = [b"zTXtXML:com.adobe.xmp\0\0", &packed.finish().unwrap()[..]].concat();
    let length = u32::try_from(data.len() - 4).unwrap().to_be_bytes();
    let chunk = [&length[..], &data, &crc32(&data).to_be_bytes()].concat();
    let plain = read("rgb.png");
    let bytes = [&plain[..33], &chunk.repeat(20_000), &plain[33..]].concat();
    let started = std::time::Instant::now();
    let mut row = Elements::F32(Vec::new());
    classifier().prepare(&bytes, &mut row).unwrap();
    // Inflating all 20 GB of them would take minutes.
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn an_image_of_extreme_shape_is_not_blown_up() {
    // 60,000 x 1 pixels would become 1,920,000 x 32 of four bytes; 2^31 x 1 would be too large by themselves.
    let shape = declare("{resize: {shorter: 4000}, crop: {width: 4, height: 4}}");
    let plan = shape.check(&input(ElementType::F32, &[3, 4, 4])).unwrap();
    let image = Raster { size: Size { width: 60_000, height: 1 }, pixels: vec![0; 240_000] };
    assert_eq!(plan.resized(image).unwrap_err().code, Code::InputTooLarge);
}

#[test]
fn other_files_are_named() {
    for (bytes, name) in [
        (&b""[..], "nothing"),
        (b"GIF89a", "a GIF"),
        (b"%PDF-1.7", "a PDF"),
        (b"{\"instances\": []}", "JSON"),
        (b"RIFF....WAVE", "something else"),
    ] {
        let (code, message) = reject(&classifier(), bytes);
        assert_eq!(code, Code::InvalidInput);
        assert!(message.contains(&format!("WebP image, got {name}")), "{message}");
    }
}

#[test]
fn an_image_of_another_size_needs_a_declaration() {
    let plan = ImageDeclaration::default().check(&input(ElementType::F32, &[3, 24, 24])).unwrap();
    let (code, message) = reject(&plan, &read("rgb.png"));
    assert_eq!(code, Code::InvalidInput);
    assert!(message.contains("24 x 24") && message.contains("61 x 43"), "{message}");
}

#[test]
fn half_an_image_is_refused_wherever_it_ends() {
    let plan = classifier();
    for file in [
        "restarts.jpg",
        "orientation-3.jpg",
        "photo-progressive.jpg",
        "cmyk.jpg",
        "gray.jpg",
        "rgb.png",
        "interlaced.png",
        "palette.png",
        "lossy.webp",
        "lossless.webp",
        "lossy-alpha.webp",
    ] {
        let whole = read(file);
        let prepare = |bytes: &[u8]| {
            let mut row = Elements::F32(Vec::new());
            plan.prepare(bytes, &mut row).map(|()| row)
        };
        let expected = prepare(&whole).unwrap();
        // The last chunk of a PNG only marks its end.
        let needed = if file.ends_with("png") { whole.len() - 12 } else { whole.len() };
        for length in needed..whole.len() {
            assert_eq!(prepare(&whole[..length]).as_ref(), Ok(&expected), "{file}, {length} bytes");
        }
        for length in (0..needed).step_by(1 + whole.len() / 150).chain([needed - 1]) {
            let (code, message) = reject(&plan, &whole[..length]);
            assert_eq!(code, Code::InvalidInput, "{file}, {length} of {} bytes: {message}", whole.len());
            // Without its first bytes the file is not recognised as an image.
            if length >= 16 {
                let expected = "image is truncated; send the whole file";
                assert!(message.ends_with(expected), "{file}, {length} bytes: {message}");
            }
        }
    }
}

/// The sender sent the whole file, so the error must not ask for it.
#[test]
fn a_whole_image_that_is_damaged_is_not_asked_for_again() {
    for (file, at) in [("rgb.png", 60), ("photo-progressive.jpg", 163), ("lossless.webp", 40)] {
        let mut bytes = read(file);
        bytes[at..at + 8].fill(0xff);
        let (code, message) = reject(&classifier(), &bytes);
        assert_eq!(code, Code::InvalidInput);
        assert!(message.contains("send an undamaged file"), "{file}: {message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_never_panic(
        kind in 0..4_usize,
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let magic: [&[u8]; 4] = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x50\x01\x00\x00WEBPVP8 "];
        bytes.splice(0..0, magic[kind].iter().copied());
        let _ = decode::decode_unguarded(&bytes, Color::Rgb, 1 << 20);
    }

    #[test]
    fn mutated_images_never_panic(
        file in proptest::sample::select(vec![
            "restarts.jpg", "orientation-6.jpg", "photo-progressive.jpg", "cmyk.jpg", "gray.jpg", "rgb.png",
            "stray-bytes-progressive.jpg", "keep-rgb.jpg", "xmp-3.jpg", "profile-7.png", "xmp-7.png",
            "no-end.png",
            "interlaced.png", "palette-alpha.png", "rgb-16.png", "lossy.webp", "lossless.webp",
            "lossy-alpha.webp",
        ]),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        early in any::<bool>(),
    ) {
        let mut bytes = read(file);
        let reach = if early { bytes.len().min(700) } else { bytes.len() };
        for (at, byte) in changes {
            let at = at.index(reach);
            bytes[at] = byte;
        }
        let _ = decode::decode_unguarded(&bytes, Color::Gray, 1 << 20);
    }
}
