//! Brings chroma to full resolution and converts YCbCr to red, green and blue, with the rounding of libjpeg,
//! which Pillow, torchvision, OpenCV and TensorFlow use. `zune-jpeg` itself rounds chroma upwards twice.

/// One component of an image, one row after the other.
#[derive(Debug)]
pub(super) struct Plane {
    pub(super) samples: Vec<u8>,
    /// Samples, not pixels.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Pixels for each sample, horizontally and vertically.
    pub(super) across: usize,
    pub(super) down: usize,
}

/// Buffers that are reused for each row.
#[derive(Debug, Default)]
struct Scratch {
    sums: Vec<u16>,
    /// Luma and chroma at full width.
    full: [Vec<u8>; 3],
    /// Red, green, blue.
    colors: [Vec<u8>; 3],
}

/// Makes `width` x `height` pixels of red, green, blue and full opacity: from luma and two chroma planes, or,
/// if `are_colors`, from planes of the colours themselves.
pub(super) fn to_rgba(planes: &[Plane; 3], width: usize, height: usize, are_colors: bool) -> Vec<u8> {
    let mut scratch = Scratch::default();
    for (row, plane) in scratch.full.iter_mut().zip(planes) {
        row.resize((plane.width * plane.across).max(width), 0);
    }
    scratch.colors.iter_mut().for_each(|row| row.resize(width, 0));
    let mut rgba = vec![0; width * height * 4];
    for (y, out) in rgba.chunks_exact_mut(width * 4).enumerate() {
        for (plane, row) in planes.iter().zip(&mut scratch.full) {
            expand(plane, y, &mut scratch.sums, row);
        }
        if are_colors {
            let [red, green, blue] = &scratch.full;
            for (((out, red), green), blue) in
                out.as_chunks_mut::<4>().0.iter_mut().zip(red).zip(green).zip(blue)
            {
                *out = [*red, *green, *blue, 255];
            }
            continue;
        }
        let [luma, blue, red] = &scratch.full;
        convert(&luma[..width], &blue[..width], &red[..width], &mut scratch.colors, out);
    }
    rgba
}

/// Expands row `y` to full resolution. Triangle filters: a pixel takes 3/4 of its sample and 1/4 of the
/// nearest other one.
fn expand(plane: &Plane, y: usize, sums: &mut Vec<u16>, out: &mut [u8]) {
    let at = |row: usize| &plane.samples[row * plane.width..][..plane.width];
    let near = at(y / plane.down);
    let is_upper = y.is_multiple_of(2);
    let far = || {
        let row = y / 2;
        at(if is_upper { row.saturating_sub(1) } else { (row + 1).min(plane.height - 1) })
    };
    match (plane.across, plane.down) {
        (1, 1) => out[..plane.width].copy_from_slice(near),
        (1, 2) => {
            let bias = if is_upper { 1 } else { 2 };
            for ((out, near), far) in out.iter_mut().zip(near).zip(far()) {
                *out = ((3 * u16::from(*near) + u16::from(*far) + bias) >> 2) as u8;
            }
        }
        // Narrower planes are repeated instead, by the last arm.
        (2, 1) if plane.width > 2 => {
            sums.clear();
            sums.extend(near.iter().map(|near| u16::from(*near)));
            double::<1, 2, 2>(sums, out);
        }
        (2, 2) if plane.width > 2 => {
            sums.clear();
            sums.extend(near.iter().zip(far()).map(|(near, far)| 3 * u16::from(*near) + u16::from(*far)));
            double::<8, 7, 4>(sums, out);
        }
        (across, _) => {
            for (out, sample) in out.chunks_mut(across).zip(near) {
                out.fill(*sample);
            }
        }
    }
}

/// Doubles the width of `sums` and shifts them by `SHIFT` bits. `LEFT` and `RIGHT` alternate between rounding
/// up and down.
fn double<const LEFT: u16, const RIGHT: u16, const SHIFT: u32>(sums: &[u16], out: &mut [u8]) {
    let ([first, second, ..], [.., before, last]) = (sums, sums) else { return };
    let out = &mut out[..2 * sums.len()];
    let length = out.len();
    out[0] = ((4 * first + LEFT) >> SHIFT) as u8;
    out[1] = ((3 * first + second + RIGHT) >> SHIFT) as u8;
    for (out, near) in out[2..length - 2].as_chunks_mut::<2>().0.iter_mut().zip(sums.windows(3)) {
        out[0] = ((3 * near[1] + near[0] + LEFT) >> SHIFT) as u8;
        out[1] = ((3 * near[1] + near[2] + RIGHT) >> SHIFT) as u8;
    }
    out[length - 2] = ((3 * last + before + LEFT) >> SHIFT) as u8;
    out[length - 1] = ((4 * last + RIGHT) >> SHIFT) as u8;
}

/// Converts one row by JFIF 1.02 (ITU-T T.871) in 16-bit fixed point: 1.402, 0.34414, 0.71414 and 1.772, each
/// product rounded.
///
/// Computes each colour's row by itself and then interleaves their bytes: compilers turn these steps into
/// 16-bit vector instructions.
fn convert(luma: &[u8], blue: &[u8], red: &[u8], rows: &mut [Vec<u8>; 3], out: &mut [u8]) {
    let [r, g, b] = rows;
    for ((y, cr), r) in luma.iter().zip(red).zip(r.iter_mut()) {
        let cr = i16::from(*cr) - 128;
        *r = (i16::from(*y) + cr + scaled(cr, 26345)).clamp(0, 255) as u8;
    }
    for ((y, cb), b) in luma.iter().zip(blue).zip(b.iter_mut()) {
        let cb = i16::from(*cb) - 128;
        *b = (i16::from(*y) + 2 * cb + scaled(cb, -14942)).clamp(0, 255) as u8;
    }
    for (((y, cb), cr), g) in luma.iter().zip(blue).zip(red).zip(g.iter_mut()) {
        let (cb, cr) = (i16::from(*cb) - 128, i16::from(*cr) - 128);
        let less = (i32::from(cb) * -22554 + i32::from(cr) * 18734 + (1 << 15)) >> 16;
        *g = (i16::from(*y) - cr + less as i16).clamp(0, 255) as u8;
    }
    for (((r, g), b), out) in r.iter().zip(&*g).zip(&*b).zip(out.as_chunks_mut::<4>().0) {
        *out = (u32::from(*r) | u32::from(*g) << 8 | u32::from(*b) << 16 | 0xff00_0000).to_le_bytes();
    }
}

/// `value * factor / 65536`, rounded; `value` is a signed byte.
fn scaled(value: i16, factor: i16) -> i16 {
    let doubled = ((i32::from(2 * value) * i32::from(factor)) >> 16) as i16;
    (doubled + 1) >> 1
}
