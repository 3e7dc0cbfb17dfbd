//! Calls with made-up rows, and with given ones, that show how a model treats its first dimension.

use super::made_up::{Made, ROWS, Row, Size, Stack, TEXTS, made_up};
use crate::model::executor::Input;
use crate::model::onnx::chain::Chain;
use crate::tensor::signature::TensorSpec;
use crate::tensor::{ElementType, Elements, Output, Show, View};

/// Result of a trial of several rows in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Each row gives what it gives alone.
    Apart,
    /// Rows change each other's outputs.
    Mixed(String),
    /// Several rows in one call fail, though each alone does not.
    OneRow(String),
    /// An output has not one row for each row of the inputs.
    NotRows(String),
}

/// Results of the calls of one trial.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) verdict: Verdict,
    /// For each output, whether its first dimension counted the rows in every call.
    pub(crate) counts_rows: Vec<bool>,
}

/// How exactly a row's outputs are compared with what the row gives alone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Precision {
    /// But for what another order of additions leaves.
    Rounding,
    /// Dynamic quantization takes its scale from all rows of a call.
    Quantized,
}

/// Lengths of free inner dimensions to try, until two of them were taken. Convolutions and poolings need some height and width.
/// None is a number of rows that a trial puts into one call.
const LENGTHS: [usize; 6] = [8, 13, 32, 64, 224, 1];
/// Rows in a call of a model that takes always so many, at most.
const MOST_ROWS: usize = 1 << 16;

/// An output of one call.
#[derive(Debug, Clone, PartialEq)]
enum Got {
    Tensor(Vec<usize>, Elements),
    Missing,
    /// The shapes of its tensors.
    Sequence(Vec<Vec<usize>>),
}

impl Got {
    fn own(output: &Output<'_>) -> Self {
        match output.show {
            Show::Missing => Self::Missing,
            Show::Sequence(parts) | Show::PerRow(parts) => {
                Self::Sequence(parts.iter().map(|part| part.shape.to_vec()).collect())
            }
            Show::Values | Show::Named(_) | Show::Ranked { .. } => {
                let mut elements = Elements::with_capacity(output.elements.element(), output.elements.len());
                elements.extend_from_view(output.elements);
                Self::Tensor(output.shape.to_vec(), elements)
            }
        }
    }

    fn counts(&self, rows: usize) -> bool {
        match self {
            Self::Tensor(shape, _) => shape.first() == Some(&rows),
            Self::Missing => true,
            Self::Sequence(shapes) => shapes.iter().all(|shape| shape.first() == Some(&rows)),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Tensor(shape, _) => format!("the shape {shape:?}"),
            Self::Missing => "no value".to_owned(),
            Self::Sequence(shapes) => format!("tensors of the shapes {shapes:?}"),
        }
    }
}

/// Tries several lengths of the inner dimensions that are free. `rows_are_free`: several rows in one call, too.
///
/// # Errors
/// Why no length could be tried, as ONNX Runtime says it.
pub(crate) fn free_rows(
    chain: &mut Chain,
    made: Made<'_>,
    rows_are_free: bool,
    precision: Precision,
) -> Result<Trial, String> {
    let inputs = made.inputs;
    let has_free_dims = inputs.iter().any(|spec| spec.shape.iter().skip(1).any(|dim| dim.fixed().is_none()));
    let lengths = if has_free_dims { &LENGTHS[..] } else { &LENGTHS[..1] };
    let has_texts = inputs.iter().any(|spec| spec.element == ElementType::String);
    let texts = if has_texts { &TEXTS[..] } else { &TEXTS[..1] };
    let mut trials: Vec<Trial> = Vec::new();
    let mut refusal = None;
    for (texts, length) in texts.iter().flat_map(|texts| lengths.iter().map(move |length| (texts, *length))) {
        match at_length(chain, made, Size { length, texts }, rows_are_free, precision) {
            Ok(trial) => trials.push(trial),
            Err(reason) => refusal = refusal.or(Some(reason)),
        }
        if trials.len() == lengths.len().min(2) {
            break;
        }
    }
    let both = |one: Trial, other: Trial| Trial {
        counts_rows: one.counts_rows.iter().zip(&other.counts_rows).map(|(a, b)| *a && *b).collect(),
        verdict: if one.verdict == Verdict::Apart { other.verdict } else { one.verdict },
    };
    trials
        .into_iter()
        .reduce(both)
        .ok_or_else(|| refusal.unwrap_or_else(|| "no input can be made up".to_owned()))
}

fn at_length(
    chain: &mut Chain,
    made: Made<'_>,
    size: Size<'_>,
    rows_are_free: bool,
    precision: Precision,
) -> Result<Trial, String> {
    // A model may refuse some values, such as positions outside of a table.
    let (mut usable, mut alone) = (Vec::new(), Vec::new());
    let mut refusal = None;
    for row in ROWS {
        match run(chain, &made_up(made, &[row], size)?) {
            Ok(outputs) => {
                usable.push(row);
                alone.push(outputs);
            }
            Err(reason) => refusal = refusal.or(Some(reason)),
        }
    }
    let comparable = usable.iter().filter(|row| row.is_comparable()).count();
    if comparable < 2 {
        return Err(refusal.unwrap_or_else(|| "no input can be made up".to_owned()));
    }
    let comparable: Vec<bool> = usable.iter().map(Row::is_comparable).collect();
    let stack = made_up(made, &usable, size)?;
    Rows { stack: &stack, alone: &alone, comparable: &comparable }.judge(chain, rows_are_free, precision)
}

/// Tries rows that requests may send.
///
/// # Errors
/// A row alone is refused, or gives something else each time.
pub(crate) fn given_rows(chain: &mut Chain, stack: &Stack, rows: usize) -> Result<Trial, String> {
    let alone: Vec<Vec<Got>> =
        (0..rows).map(|row| run(chain, &stack.take(&[row]))).collect::<Result<_, _>>()?;
    Rows { stack, alone: &alone, comparable: &vec![true; rows] }.judge(chain, true, Precision::Rounding)
}

/// Rows of a trial.
struct Rows<'a> {
    stack: &'a Stack,
    /// Outputs of each row alone.
    alone: &'a [Vec<Got>],
    /// Only the shapes of outputs count where a row is not.
    comparable: &'a [bool],
}

impl Rows<'_> {
    /// Compares what each row gives alone with what it gives beside others, in calls of all rows, of two, and of one row repeated.
    ///
    /// # Errors
    /// A row gives something else each time.
    fn judge(&self, chain: &mut Chain, rows_are_free: bool, precision: Precision) -> Result<Trial, String> {
        let Self { stack, alone, comparable } = *self;
        let names: Vec<String> = chain.output_specs.iter().map(|spec| spec.name.clone()).collect();
        let mut trial = Trial { verdict: Verdict::Apart, counts_rows: vec![true; names.len()] };
        alone.iter().for_each(|outputs| trial.see(outputs, 1, &names));
        if trial.verdict != Verdict::Apart || !rows_are_free {
            return Ok(trial);
        }
        let last = comparable.iter().rposition(|is_comparable| *is_comparable).unwrap_or(0);
        let again = run(chain, &stack.take(&[last]))?;
        if first_difference(&again, 0, &alone[last], Precision::Quantized).is_some() {
            return Err("it answers the same input in another way each time".to_owned());
        }
        for rows in [(0..alone.len()).collect(), vec![last, 0], vec![last; 3]] {
            let together = match run(chain, &stack.take(&rows)) {
                Ok(together) => together,
                Err(reason) => {
                    if trial.verdict == Verdict::Apart {
                        let count = rows.len();
                        trial.verdict = Verdict::OneRow(format!("a call of {count} rows fails: {reason}"));
                    }
                    return Ok(trial);
                }
            };
            trial.see(&together, rows.len(), &names);
            for (at, row) in rows.iter().enumerate() {
                if trial.verdict == Verdict::Apart
                    && comparable[*row]
                    && let Some(output) = first_difference(&together, at, &alone[*row], precision)
                {
                    trial.verdict = Verdict::Mixed(format!(
                        "the output {:?} of a row changes with the other rows of its call",
                        names[output]
                    ));
                }
            }
        }
        Ok(trial)
    }
}

impl Trial {
    /// Notes which outputs of a call have `rows` rows.
    fn see(&mut self, outputs: &[Got], rows: usize, names: &[String]) {
        for ((output, counts), name) in outputs.iter().zip(&mut self.counts_rows).zip(names) {
            let is_sequence = matches!(output, Got::Sequence(_));
            if output.counts(rows) && !is_sequence {
                continue;
            }
            // A sequence for several rows tells nothing of its tensors for one.
            *counts &= output.counts(rows) || is_sequence && rows > 1;
            if !matches!(self.verdict, Verdict::NotRows(_)) {
                let got = output.describe();
                self.verdict =
                    Verdict::NotRows(format!("the output {name:?} has {got} for inputs of {rows} row(s)"));
            }
        }
    }
}

/// True when a first dimension that is always so long counts rows: none changes another one's outputs, and each gives the same in any
/// place. Takes about `2 * log2(length)` calls: every pair of rows is once on two sides, of which one is changed.
pub(crate) fn fixed_rows(chain: &mut Chain, inputs: &[TensorSpec], length: usize) -> bool {
    if length > MOST_ROWS {
        return false;
    }
    let mut outputs = |rows: &[Row]| {
        let made = Made { inputs, encoders: &[] };
        let outputs = run(chain, &made_up(made, rows, Size { length: 1, texts: &TEXTS[0] }).ok()?).ok()?;
        outputs.iter().all(|output| output.counts(length)).then_some(outputs)
    };
    let is_same_row = |one: &[Got], at: usize, other: &[Got], place: usize| {
        let row: Option<Vec<Got>> = other.iter().map(|output| row_of(output, place)).collect();
        row.is_some_and(|row| first_difference(one, at, &row, Precision::Rounding).is_none())
    };
    let rows: Vec<Row> = (0..length).map(Row::Mixed).collect();
    let Some(plain) = outputs(&rows) else { return false };
    let turned: Vec<Row> = (0..length).map(|number| Row::Mixed((number + 1) % length)).collect();
    let Some(after) = outputs(&turned) else { return false };
    if !(0..length).all(|at| is_same_row(&after, at, &plain, (at + 1) % length)) {
        return false;
    }
    let bits = usize::BITS - (length - 1).leading_zeros();
    (0..bits).flat_map(|bit| [(bit, 0), (bit, 1)]).all(|(bit, side)| {
        let is_changed = |number: usize| (number >> bit) & 1 == side;
        let row = |number: usize| if is_changed(number) { Row::Changed(number) } else { Row::Mixed(number) };
        let rows: Vec<Row> = (0..length).map(row).collect();
        outputs(&rows).is_some_and(|changed| {
            (0..length).filter(|at| !is_changed(*at)).all(|at| is_same_row(&changed, at, &plain, at))
        })
    })
}

/// One row of an output of several, as if it were alone.
fn row_of(output: &Got, row: usize) -> Option<Got> {
    match output {
        Got::Tensor(shape, elements) => {
            let width: usize = shape.iter().skip(1).product();
            let mut own = Elements::with_capacity(elements.element(), width);
            own.extend_from(elements, row * width..(row + 1) * width);
            Some(Got::Tensor([&[1], &shape[1..]].concat(), own))
        }
        Got::Missing => Some(Got::Missing),
        Got::Sequence(_) => None,
    }
}

fn run(chain: &mut Chain, stack: &Stack) -> Result<Vec<Got>, String> {
    let views: Vec<Input<'_>> =
        stack.inputs.iter().map(|(shape, elements)| (shape.clone(), elements.view())).collect();
    chain.run(&views, |outputs| outputs.iter().map(Got::own).collect())
}

/// The first output whose row `at` is not the one row of `alone`.
fn first_difference(together: &[Got], at: usize, alone: &[Got], precision: Precision) -> Option<usize> {
    let is_same = |(one, other): (&Got, &Got)| match (one, other) {
        (Got::Tensor(shape, elements), Got::Tensor(other_shape, others)) => {
            let width: usize = shape.iter().skip(1).product();
            if shape.get(1..) != other_shape.get(1..) || elements.element() != others.element() {
                return false;
            }
            // Too few rows are another finding.
            (at + 1) * width > elements.len()
                || is_close(
                    elements.view().slice(at * width..(at + 1) * width),
                    others.view(),
                    elements.view(),
                    precision,
                )
        }
        (one, other) => one == other,
    };
    together.iter().zip(alone).position(|pair| !is_same(pair))
}

fn is_close(one: View<'_>, other: View<'_>, call: View<'_>, precision: Precision) -> bool {
    if !one.element().is_float() {
        return one == other;
    }
    let largest = |values: &[f64]| {
        values
            .iter()
            .filter(|value| value.is_finite())
            .fold(0.0_f64, |largest, value| largest.max(value.abs()))
    };
    let (one_values, other_values) = (one.to_f64(), other.to_f64());
    let tolerance = match (precision, one.element()) {
        (Precision::Quantized, _) => 0.1 * largest(&call.to_f64()),
        (_, ElementType::F16 | ElementType::BF16) => 1e-2 * largest(&one_values).max(largest(&other_values)),
        _ => 1e-3 * largest(&one_values).max(largest(&other_values)) + 1e-6,
    };
    let is_close = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance;
    one_values.len() == other_values.len() && one_values.iter().zip(&other_values).all(is_close)
}
