//! What a few calls with made-up inputs tell of a model whose shapes leave open what its first dimension is. The same inputs every
//! time, so that a version is judged alike wherever it loads.

use super::chain::Chain;
use super::engine::Input;
use crate::signature::{Kind, TensorSpec};
use crate::tensor::{ElementType, Elements, Output, Show, View};

/// What becomes of rows that run in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Each gives what it gives alone.
    Apart,
    /// They change each other's outputs.
    Mixed,
    /// The model refuses what it was asked.
    Unknown,
}

/// Made-up rows differ by their number; a changed one differs from what it was in every element.
#[derive(Debug, Clone, Copy)]
struct Row {
    number: usize,
    is_changed: bool,
}

impl Row {
    fn plain(number: usize) -> Self {
        Self { number, is_changed: false }
    }
}

/// Every output's shape and elements.
type Outputs = Vec<(Vec<usize>, Elements)>;

/// Some exporters declare other shapes than the model gives (LightGBM's labels as `[1]`): two and three rows tell.
pub(super) fn counts_rows(chain: &mut Chain, inputs: &[TensorSpec]) -> bool {
    [2, 3].into_iter().all(|rows| {
        let zeros: Vec<(Vec<usize>, Elements)> = inputs
            .iter()
            .map(|spec| {
                let shape = call_shape(spec, rows);
                let count = shape.iter().product();
                (shape, Elements::zeros(spec.element, count))
            })
            .collect();
        run(chain, &zeros)
            .is_some_and(|outputs| outputs.iter().all(|(shape, _)| shape.first() == Some(&rows)))
    })
}

/// Three rows in one call, and each alone.
pub(super) fn free_rows(chain: &mut Chain, inputs: &[TensorSpec]) -> Verdict {
    let rows: Vec<Row> = (0..3).map(Row::plain).collect();
    let Some(together) = outputs(chain, inputs, &rows) else { return Verdict::Unknown };
    for (at, row) in rows.iter().enumerate() {
        let Some(alone) = outputs(chain, inputs, &[*row]) else { return Verdict::Unknown };
        if !is_same_row(&together, at, &alone, 0) {
            return Verdict::Mixed;
        }
    }
    Verdict::Apart
}

/// Whether a first dimension that is always so long counts rows: none changes another one's outputs, and each gives the same in any
/// place. Takes about `2 * log2(length)` calls: every pair of rows is once on two sides, of which one is changed.
pub(super) fn fixed_rows(chain: &mut Chain, inputs: &[TensorSpec], length: usize) -> bool {
    let rows: Vec<Row> = (0..length).map(Row::plain).collect();
    let Some(plain) = outputs(chain, inputs, &rows) else { return false };
    let turned: Vec<Row> = (0..length).map(|number| Row::plain((number + 1) % length)).collect();
    let Some(after) = outputs(chain, inputs, &turned) else { return false };
    if !(0..length).all(|at| is_same_row(&after, at, &plain, (at + 1) % length)) {
        return false;
    }
    let bits = usize::BITS - (length - 1).leading_zeros();
    (0..bits).flat_map(|bit| [(bit, 0), (bit, 1)]).all(|(bit, side)| {
        let is_changed = |number: usize| (number >> bit) & 1 == side;
        let rows: Vec<Row> =
            (0..length).map(|number| Row { number, is_changed: is_changed(number) }).collect();
        outputs(chain, inputs, &rows).is_some_and(|changed| {
            (0..length).filter(|at| !is_changed(*at)).all(|at| is_same_row(&changed, at, &plain, at))
        })
    })
}

/// What the model gives for these rows; `None` where it fails, or gives no row for each.
fn outputs(chain: &mut Chain, inputs: &[TensorSpec], rows: &[Row]) -> Option<Outputs> {
    let made: Vec<(Vec<usize>, Elements)> =
        inputs.iter().map(|spec| made_up(spec, rows)).collect::<Option<_>>()?;
    let outputs = run(chain, &made)?;
    outputs.iter().all(|(shape, _)| shape.first() == Some(&rows.len())).then_some(outputs)
}

fn run(chain: &mut Chain, inputs: &[(Vec<usize>, Elements)]) -> Option<Outputs> {
    let views: Vec<Input<'_>> =
        inputs.iter().map(|(shape, elements)| (shape.clone(), elements.view())).collect();
    let own = |outputs: &[Output<'_>]| {
        let own = |output: &Output<'_>| {
            let mut elements = Elements::with_capacity(output.elements.element(), output.elements.len());
            elements.extend_from_view(output.elements);
            matches!(output.show, Show::Values | Show::Named(_)).then(|| (output.shape.to_vec(), elements))
        };
        outputs.iter().map(own).collect()
    };
    chain.run(&views, own).ok().flatten()
}

/// So many rows; free dimensions further in have the length 1.
fn call_shape(spec: &TensorSpec, rows: usize) -> Vec<usize> {
    let mut shape: Vec<usize> = spec.shape.iter().map(|dim| dim.fixed().unwrap_or(1)).collect();
    if let Some(first) = shape.first_mut() {
        *first = rows;
    }
    shape
}

fn made_up(spec: &TensorSpec, rows: &[Row]) -> Option<(Vec<usize>, Elements)> {
    if !matches!(spec.kind, Kind::Tensor | Kind::Optional) {
        return None;
    }
    let values = values(spec.element)?;
    let shape = call_shape(spec, rows.len());
    let width: usize = shape.iter().skip(1).product();
    let half = values.len() / 2;
    let mut elements = Elements::with_capacity(spec.element, rows.len() * width);
    for row in rows {
        for column in 0..width {
            let mixed = (row.number * 31 + column * 17 + 7).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let value = (mixed % half + if row.is_changed { half } else { 0 }) % values.len();
            // Of two values, a changed element has the other one.
            let value = if half == 1 { (mixed + usize::from(row.is_changed)) % 2 } else { value };
            elements.extend_from(&values, value..value + 1);
        }
    }
    Some((shape, elements))
}

/// What made-up elements are taken from, half of it for changed rows. Whole numbers are small, since they are often positions in a
/// table, and none is zero, by which a model may divide.
fn values(element: ElementType) -> Option<Elements> {
    const FLOATS: u32 = 97;
    let mut values = Elements::with_capacity(element, 2 * FLOATS as usize);
    let numbers: Vec<f64> = match element {
        ElementType::Text => return Some(Elements::Text(vec!["a".to_owned(), "b".to_owned()])),
        ElementType::Blob | ElementType::Composite => return None,
        ElementType::Bool => vec![0.0, 1.0],
        ElementType::F16 | ElementType::BF16 | ElementType::F32 | ElementType::F64 => {
            (0..2 * FLOATS).map(|step| f64::from(step + 1) / f64::from(FLOATS)).collect()
        }
        _ => vec![1.0, 2.0],
    };
    for number in numbers {
        values.extend_from_view(Elements::of_number(element, number)?.view());
    }
    Some(values)
}

/// Whether every output has in row `a` of the one what it has in row `b` of the other, but for what rounding leaves.
fn is_same_row(one: &Outputs, a: usize, other: &Outputs, b: usize) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|((shape, elements), (other_shape, others))| {
            let width: usize = shape[1..].iter().product();
            shape[1..] == other_shape[1..]
                && elements.element() == others.element()
                && is_close(
                    elements.view().slice(a * width..(a + 1) * width),
                    others.view().slice(b * width..(b + 1) * width),
                )
        })
}

fn is_close(one: View<'_>, other: View<'_>) -> bool {
    let tolerance = match one.element() {
        ElementType::F16 | ElementType::BF16 => 1e-2,
        ElementType::F32 | ElementType::F64 => 1e-4,
        _ => return one == other,
    };
    let (one, other) = (one.to_f64(), other.to_f64());
    let largest =
        one.iter().chain(&other).filter(|value| value.is_finite()).fold(0.0_f64, |a, b| a.max(b.abs()));
    one.iter()
        .zip(&other)
        .all(|(a, b)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * largest)
}
