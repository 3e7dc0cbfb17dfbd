//! Made-up rows for the trials of a model. They are the same every time, so that all replicas judge a version
//! alike.

use crate::model::onnx::categories::OneHotEncoder;
use crate::model::onnx::sizes::{self, MAX_MADE_UP_BYTES};
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};
use crate::tensor::{ElementType, Elements, Tensor};

/// Two sets of strings, to try in turn: some models parse numbers from them.
pub(crate) const STRINGS: [[&str; 5]; 2] = [["", "1", "a", "b", "a b c"], ["0", "1", "2.5", "-3", "1000"]];

/// A made-up row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    Zeros,
    Ones,
    /// Values of both signs, different for each number.
    Mixed(usize),
    /// Differs from `Mixed` of the same number in every element.
    Changed(usize),
    /// Like `Mixed`, a thousand times as large.
    Large(usize),
}

impl Row {
    /// False for large values: they amplify rounding errors in sums that cancel out, so only the shapes of
    /// their outputs are compared.
    pub(crate) fn is_comparable(&self) -> bool {
        !matches!(self, Self::Large(_))
    }
}

pub(crate) const ROWS: [Row; 6] =
    [Row::Zeros, Row::Ones, Row::Mixed(0), Row::Mixed(1), Row::Mixed(2), Row::Large(3)];

/// Rows as the model takes them: the first dimension of every input counts them.
#[derive(Debug, Clone)]
pub(crate) struct RowStack {
    pub(crate) inputs: Vec<Tensor>,
}

impl RowStack {
    /// The number of rows; `None` if an input does not count them.
    pub(crate) fn rows(&self) -> Option<usize> {
        let mut lengths = self.inputs.iter().map(|tensor| tensor.shape.first().copied());
        let first = lengths.next().flatten()?;
        lengths.all(|length| length == Some(first)).then_some(first)
    }

    /// True when two of its rows differ.
    pub(crate) fn differs(&self) -> bool {
        self.inputs.iter().any(|Tensor { shape, elements }| {
            let width: usize = shape.iter().skip(1).product();
            let row = |number: usize| elements.view().slice(number * width..(number + 1) * width);
            (1..shape[0]).any(|number| row(number) != row(0))
        })
    }

    /// Copies these rows, in this order.
    pub(crate) fn take(&self, rows: &[usize]) -> Self {
        Self { inputs: self.inputs.iter().map(|tensor| tensor.take_rows(rows.iter().copied())).collect() }
    }
}

/// Zeros for a call of `rows` rows, with `length` for all other free dimensions; none if they are too large.
pub(crate) fn zeros(inputs: &[TensorSpec], rows: usize, length: usize) -> Option<Vec<Tensor>> {
    let with_rows = |spec: &TensorSpec| {
        let mut spec = spec.clone();
        if let Some(dim @ Dim::Any(_)) = spec.shape.first_mut() {
            *dim = Dim::Fixed(rows);
        }
        spec
    };
    let inputs: Vec<TensorSpec> = inputs.iter().map(with_rows).collect();
    sizes::bytes(&inputs, length).filter(|bytes| *bytes <= MAX_MADE_UP_BYTES)?;
    let zeros = |spec: &TensorSpec| {
        let shape: Vec<usize> = spec.shape.iter().map(|dim| dim.fixed().unwrap_or(length)).collect();
        Tensor { elements: spec.zeros(shape.iter().product()), shape }
    };
    Some(inputs.iter().map(zeros).collect())
}

/// Makes rows for these inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowMaker<'a> {
    pub(crate) inputs: &'a [TensorSpec],
    /// Columns whose values must be known categories.
    pub(crate) encoders: &'a [OneHotEncoder],
}

/// The choices that the inputs leave open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill<'a> {
    /// Length of free inner dimensions.
    pub(crate) length: usize,
    pub(crate) strings: &'a [&'a str; 5],
}

impl RowMaker<'_> {
    /// # Errors
    /// An input is of a kind, or of a size, for which no rows are made.
    pub(crate) fn make(self, rows: &[Row], fill: Fill<'_>) -> Result<RowStack, String> {
        let row: Vec<TensorSpec> = self.inputs.iter().map(without_rows).collect();
        // Limits the whole trial, so that each call of it fits.
        let bytes =
            sizes::bytes(&row, fill.length).and_then(|bytes| bytes.checked_mul(rows.len().max(ROWS.len())));
        if bytes.is_none_or(|bytes| bytes > MAX_MADE_UP_BYTES) {
            let all: Vec<String> =
                self.inputs.iter().map(|spec| format!("{:?} ({})", spec.name, spec.describe())).collect();
            return Err(format!("the inputs {} are too large to be made up", all.join(", ")));
        }
        let inputs = self.inputs.iter().map(|spec| self.input(spec, rows, fill));
        Ok(RowStack { inputs: inputs.collect::<Result<_, _>>()? })
    }

    fn input(self, spec: &TensorSpec, rows: &[Row], fill: Fill<'_>) -> Result<Tensor, String> {
        let values = match spec.kind {
            ValueKind::Tensor | ValueKind::Optional => values(spec.element, fill.strings),
            ValueKind::OpenRank | ValueKind::Map { .. } | ValueKind::Sequence { .. } => None,
        };
        let values = values.ok_or_else(|| {
            format!("no values are made up for the input {:?} ({})", spec.name, spec.describe())
        })?;
        let inner: Vec<usize> =
            spec.shape.iter().skip(1).map(|dim| dim.fixed().unwrap_or(fill.length)).collect();
        let width = inner.iter().product();
        let mut elements = Elements::with_capacity(spec.element, rows.len() * width);
        rows.iter().for_each(|row| values.extend(&mut elements, *row, width));
        for encoder in self.encoders.iter().filter(|encoder| encoder.input == spec.name) {
            (0..rows.len()).for_each(|row| encoder.put_known(&mut elements, row, width));
        }
        Ok(Tensor { shape: [&[rows.len()], &inner[..]].concat(), elements })
    }
}

/// The input without the dimension that counts rows.
fn without_rows(spec: &TensorSpec) -> TensorSpec {
    TensorSpec { shape: spec.shape.get(1..).unwrap_or_default().to_vec(), ..spec.clone() }
}

/// The values from which elements are chosen.
struct Values {
    /// The first half is for mixed rows, the second half for changed ones.
    mixed: Elements,
    zero: Elements,
    one: Elements,
    /// Has the length of `mixed`.
    large: Elements,
}

impl Values {
    fn extend(&self, elements: &mut Elements, row: Row, width: usize) {
        let half = self.mixed.len() / 2;
        let number = match row {
            Row::Zeros => return elements.extend_repeated(&self.zero, width),
            Row::Ones => return elements.extend_repeated(&self.one, width),
            Row::Mixed(number) | Row::Changed(number) | Row::Large(number) => number,
        };
        for column in 0..width {
            let mixed = (number * 31 + column * 17 + 7).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let is_changed = matches!(row, Row::Changed(_));
            let value = (mixed % half + if is_changed { half } else { 0 }) % self.mixed.len();
            // With two values, a changed element gets the other one.
            let value = if half == 1 { (mixed + usize::from(is_changed)) % 2 } else { value };
            let from = if matches!(row, Row::Large(_)) { &self.large } else { &self.mixed };
            elements.extend_from(from, value..value + 1);
        }
    }
}

/// Whole numbers are small, since they are often positions in a table. Mixed ones are never zero, since a
/// model may divide by them.
fn values(element: ElementType, [zero, one, a, b, large]: &[&str; 5]) -> Option<Values> {
    const FLOATS: u32 = 97;
    let strings = |all: &[&str]| Elements::String(all.iter().map(|text| (*text).to_owned()).collect());
    let mixed: Vec<f64> = match element {
        ElementType::String => {
            return Some(Values {
                mixed: strings(&[a, b]),
                zero: strings(&[zero]),
                one: strings(&[one]),
                large: strings(&[large, a]),
            });
        }
        ElementType::Bytes | ElementType::Composite => return None,
        ElementType::Bool => vec![0.0, 1.0],
        _ if element.is_float() => {
            let signed = |step: u32| {
                f64::from(step + 1) / f64::from(FLOATS) * if step.is_multiple_of(2) { 1.0 } else { -1.0 }
            };
            (0..2 * FLOATS).map(signed).collect()
        }
        _ => vec![1.0, 2.0],
    };
    let times = match element {
        ElementType::Bool => 1.0,
        _ if element.is_float() => 1000.0,
        _ => 50.0,
    };
    let all = |numbers: &mut dyn Iterator<Item = f64>| {
        let mut values = Elements::with_capacity(element, mixed.len());
        for number in numbers {
            values.extend_from_view(Elements::of_number(element, number)?.view());
        }
        Some(values)
    };
    Some(Values {
        mixed: all(&mut mixed.iter().copied())?,
        zero: all(&mut [0.0].into_iter())?,
        one: all(&mut [1.0].into_iter())?,
        large: all(&mut mixed.iter().map(|number| number * times))?,
    })
}
