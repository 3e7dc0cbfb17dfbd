//! Trials of a model with made-up rows, and with given ones: they show how it treats its first dimension.

use super::made_up_rows::{Fill, ROWS, Row, RowMaker, RowStack, STRINGS};
use crate::model::onnx::chain::Chain;
use crate::model::run::Input;
use crate::tensor::signature::TensorSpec;
use crate::tensor::{ElementType, Output, Show, Tensor, View};

/// Result of a trial of several rows in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrialVerdict {
    /// Each row gives what it gives alone.
    Independent,
    /// Rows change each other's outputs.
    Dependent(String),
    /// Several rows in one call fail, though each alone does not.
    OneRow(String),
    /// An output has another number of rows than the inputs.
    NotRows(String),
}

/// The findings of one trial.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) verdict: TrialVerdict,
    /// For each output: true when its first dimension counted the rows in every call.
    pub(crate) counts_rows: Vec<bool>,
}

/// The precision with which a row's outputs are compared with what the row gives alone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Precision {
    /// Another order of additions may change the last digits.
    Rounding,
    /// Dynamic quantization takes its scale from all rows of a call.
    Quantized,
}

/// Lengths of free inner dimensions to try, until the model has accepted two. Convolutions and poolings need
/// some height and width. None equals a number of rows that a trial puts into one call.
const LENGTHS: [usize; 6] = [8, 13, 32, 64, 224, 1];
/// The longest fixed number of rows that is tried.
const MAX_FIXED_ROWS: usize = 1 << 16;

/// One output of one call.
#[derive(Debug, Clone, PartialEq)]
enum TrialOutput {
    Tensor(Tensor),
    Missing,
    /// A sequence, by the shapes of its tensors.
    Sequence(Vec<Vec<usize>>),
}

impl TrialOutput {
    fn own(output: &Output<'_>) -> Self {
        match output.show {
            Show::Missing => Self::Missing,
            Show::Sequence(parts) | Show::PerRow(parts) => {
                Self::Sequence(parts.iter().map(|part| part.shape.to_vec()).collect())
            }
            Show::Values | Show::Named(_) | Show::Ranked { .. } => {
                Self::Tensor(Tensor { shape: output.shape.to_vec(), elements: output.elements.to_elements() })
            }
        }
    }

    fn counts(&self, rows: usize) -> bool {
        match self {
            Self::Tensor(tensor) => tensor.shape.first() == Some(&rows),
            Self::Missing => true,
            Self::Sequence(shapes) => shapes.iter().all(|shape| shape.first() == Some(&rows)),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Tensor(tensor) => format!("the shape {:?}", tensor.shape),
            Self::Missing => "no value".to_owned(),
            Self::Sequence(shapes) => format!("tensors of the shapes {shapes:?}"),
        }
    }
}

/// Tries several lengths of the free inner dimensions. `rows_are_free`: tries several rows in one call, too.
///
/// # Errors
/// No length could be tried: ONNX Runtime's message.
pub(crate) fn free_rows(
    chain: &mut Chain,
    maker: RowMaker<'_>,
    rows_are_free: bool,
    precision: Precision,
) -> Result<Trial, String> {
    let inputs = maker.inputs;
    let has_free_dims = inputs.iter().any(|spec| spec.shape.iter().skip(1).any(|dim| dim.fixed().is_none()));
    let lengths = if has_free_dims { &LENGTHS[..] } else { &LENGTHS[..1] };
    let has_strings = inputs.iter().any(|spec| spec.element == ElementType::String);
    let strings = if has_strings { &STRINGS[..] } else { &STRINGS[..1] };
    let mut trials: Vec<Trial> = Vec::new();
    let mut refusal = None;
    for (strings, length) in
        strings.iter().flat_map(|strings| lengths.iter().map(move |length| (strings, *length)))
    {
        match at_length(chain, maker, Fill { length, strings }, rows_are_free, precision) {
            Ok(trial) => trials.push(trial),
            Err(reason) => refusal = refusal.or(Some(reason)),
        }
        if trials.len() == lengths.len().min(2) {
            break;
        }
    }
    let both = |one: Trial, other: Trial| Trial {
        counts_rows: one.counts_rows.iter().zip(&other.counts_rows).map(|(a, b)| *a && *b).collect(),
        verdict: if one.verdict == TrialVerdict::Independent { other.verdict } else { one.verdict },
    };
    trials
        .into_iter()
        .reduce(both)
        .ok_or_else(|| refusal.unwrap_or_else(|| "no input can be made up".to_owned()))
}

fn at_length(
    chain: &mut Chain,
    maker: RowMaker<'_>,
    fill: Fill<'_>,
    rows_are_free: bool,
    precision: Precision,
) -> Result<Trial, String> {
    // A model may refuse some values, such as positions outside a table.
    let (mut usable, mut alone) = (Vec::new(), Vec::new());
    let mut refusal = None;
    for row in ROWS {
        match run(chain, &maker.make(&[row], fill)?) {
            Ok(outputs) => {
                usable.push(row);
                alone.push(outputs);
            }
            Err(reason) => refusal = refusal.or(Some(reason)),
        }
    }
    let comparable: Vec<bool> = usable.iter().map(Row::is_comparable).collect();
    if comparable.iter().filter(|is_comparable| **is_comparable).count() < 2 {
        return Err(refusal.unwrap_or_else(|| "no input can be made up".to_owned()));
    }
    let stack = maker.make(&usable, fill)?;
    TrialRows { stack: &stack, alone: &alone, comparable: &comparable }.judge(chain, rows_are_free, precision)
}

/// Tries rows that requests may send.
///
/// # Errors
/// A row alone fails, or gives another result each time.
pub(crate) fn given_rows(chain: &mut Chain, stack: &RowStack, rows: usize) -> Result<Trial, String> {
    let alone: Vec<Vec<TrialOutput>> =
        (0..rows).map(|row| run(chain, &stack.take(&[row]))).collect::<Result<_, _>>()?;
    TrialRows { stack, alone: &alone, comparable: &vec![true; rows] }.judge(chain, true, Precision::Rounding)
}

/// The rows of a trial.
struct TrialRows<'a> {
    stack: &'a RowStack,
    /// Outputs of each row alone.
    alone: &'a [Vec<TrialOutput>],
    /// False for rows of which only the shapes of outputs are compared.
    comparable: &'a [bool],
}

impl TrialRows<'_> {
    /// Compares each row's outputs alone with those beside other rows: in a call of all rows, of two rows,
    /// and of one row repeated.
    ///
    /// # Errors
    /// A row gives another result each time.
    fn judge(&self, chain: &mut Chain, rows_are_free: bool, precision: Precision) -> Result<Trial, String> {
        let Self { stack, alone, comparable } = *self;
        let names: Vec<String> = chain.output_specs.iter().map(|spec| spec.name.clone()).collect();
        let mut trial = Trial { verdict: TrialVerdict::Independent, counts_rows: vec![true; names.len()] };
        alone.iter().for_each(|outputs| trial.see(outputs, 1, &names));
        if trial.verdict != TrialVerdict::Independent || !rows_are_free {
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
                    if trial.verdict == TrialVerdict::Independent {
                        let count = rows.len();
                        trial.verdict =
                            TrialVerdict::OneRow(format!("a call of {count} rows fails: {reason}"));
                    }
                    return Ok(trial);
                }
            };
            trial.see(&together, rows.len(), &names);
            for (at, row) in rows.iter().enumerate() {
                if trial.verdict == TrialVerdict::Independent
                    && comparable[*row]
                    && let Some(output) = first_difference(&together, at, &alone[*row], precision)
                {
                    trial.verdict = TrialVerdict::Dependent(format!(
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
    fn see(&mut self, outputs: &[TrialOutput], rows: usize, names: &[String]) {
        for ((output, counts), name) in outputs.iter().zip(&mut self.counts_rows).zip(names) {
            let is_sequence = matches!(output, TrialOutput::Sequence(_));
            if output.counts(rows) && !is_sequence {
                continue;
            }
            // A sequence for several rows does not show the shapes of its tensors for one.
            *counts &= output.counts(rows) || is_sequence && rows > 1;
            if !matches!(self.verdict, TrialVerdict::NotRows(_)) {
                let got = output.describe();
                self.verdict = TrialVerdict::NotRows(format!(
                    "the output {name:?} has {got} for inputs of {rows} row(s)"
                ));
            }
        }
    }
}

/// True when a first dimension of this fixed length counts rows: no row changes another one's outputs, and
/// each gives the same in any place. Takes about `2 * log2(length)` calls: for each bit of a row's number,
/// the rows with that bit are changed, then those without it, so that every pair of rows is separated once.
pub(crate) fn fixed_rows(chain: &mut Chain, inputs: &[TensorSpec], length: usize) -> bool {
    if length > MAX_FIXED_ROWS {
        return false;
    }
    let mut outputs = |rows: &[Row]| {
        let maker = RowMaker { inputs, encoders: &[] };
        let stack = maker.make(rows, Fill { length: 1, strings: &STRINGS[0] }).ok()?;
        let outputs = run(chain, &stack).ok()?;
        outputs.iter().all(|output| output.counts(length)).then_some(outputs)
    };
    let is_same_row = |one: &[TrialOutput], at: usize, other: &[TrialOutput], place: usize| {
        let row: Option<Vec<TrialOutput>> = other.iter().map(|output| row_of(output, place)).collect();
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

/// One row of an output, as a call of that row alone gives it.
fn row_of(output: &TrialOutput, row: usize) -> Option<TrialOutput> {
    match output {
        TrialOutput::Tensor(tensor) => Some(TrialOutput::Tensor(tensor.take_rows([row].into_iter()))),
        TrialOutput::Missing => Some(TrialOutput::Missing),
        TrialOutput::Sequence(_) => None,
    }
}

fn run(chain: &mut Chain, stack: &RowStack) -> Result<Vec<TrialOutput>, String> {
    let views: Vec<Input<'_>> = stack.inputs.iter().map(|tensor| Some(tensor.lend())).collect();
    chain.run(&views, |outputs| outputs.iter().map(TrialOutput::own).collect())
}

/// The first output whose row `at` is not the one row of `alone`.
fn first_difference(
    together: &[TrialOutput],
    at: usize,
    alone: &[TrialOutput],
    precision: Precision,
) -> Option<usize> {
    let is_same = |(one, other): (&TrialOutput, &TrialOutput)| match (one, other) {
        (TrialOutput::Tensor(one), TrialOutput::Tensor(other)) => {
            let (call, alone) = (one.elements.view(), other.elements.view());
            if one.shape.get(1..) != other.shape.get(1..) || call.element() != alone.element() {
                return false;
            }
            let width: usize = one.shape.iter().skip(1).product();
            // Too few rows are reported as `NotRows`.
            (at + 1) * width > call.len()
                || is_close(call.slice(at * width..(at + 1) * width), alone, call, precision)
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
