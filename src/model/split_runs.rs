//! Splits the rows of one run into several calls of the model, and joins their outputs.

use std::sync::Mutex;

use crate::encode::MAX_ELEMENTS;
use crate::lock::lock;
use crate::model::onnx::chain::Chain;
use crate::model::output_format::OutputFormat;
use crate::model::run::{Input, RunFailure};
use crate::tensor::{Elements, Output, Show, Tensor, View};

/// The share of one call. All inputs are stacked along their first dimension.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SplitRuns<'a> {
    /// `length` rows, which the first dimension of every output counts too. `is_padded`: the last call is
    /// padded to `length` with copies of its last row, since a model may refuse rows of zeros.
    Rows { length: usize, is_padded: bool },
    /// One row. `counts_rows` is true for each output that begins with a dimension of 1 for the row itself,
    /// which its result omits; `None` when no output does.
    EachRow { counts_rows: Option<&'a [bool]> },
    /// One instance: all of an input but the dimension along which instances are stacked.
    Instances,
}

impl SplitRuns<'_> {
    fn length(self) -> usize {
        if let Self::Rows { length, .. } = self { length } else { 1 }
    }
}

/// Runs `rows` rows of `inputs` and lends the formatted outputs of all calls: one stacked tensor if every
/// call gives a tensor of the same shape, otherwise one output for each row.
pub(crate) fn run<T>(
    chain: &Mutex<Chain>,
    inputs: &[Input<'_>],
    rows: usize,
    split: SplitRuns<'_>,
    output_format: &OutputFormat,
    between: &mut dyn FnMut(),
    use_outputs: impl FnOnce(&[Output<'_>]) -> T,
) -> Result<T, RunFailure> {
    let length = split.length();
    let mut joined: Vec<JoinedOutput> = Vec::new();
    let mut elements = 0;
    for begin in (0..rows).step_by(length) {
        if begin > 0 {
            between();
        }
        let taken = length.min(rows - begin);
        let own: Vec<Option<Tensor>> = inputs
            .iter()
            .map(|input| {
                let (shape, elements) = input.as_ref()?;
                Some(call_input(shape, *elements, begin, taken, split))
            })
            .collect();
        let views: Vec<Input<'_>> = own.iter().map(|input| input.as_ref().map(Tensor::lend)).collect();
        let mut add = |outputs: &[Output<'_>]| {
            elements += outputs.iter().map(Output::count).sum::<usize>();
            if elements > MAX_ELEMENTS {
                return Err(RunFailure::TooLarge);
            }
            if joined.is_empty() {
                joined.extend(outputs.iter().map(|output| JoinedOutput::new(output.name)));
            }
            joined.iter_mut().zip(outputs).try_for_each(|(joined, output)| joined.add(output, taken, split))
        };
        // Not locked between two calls, when other inputs may run.
        let mut chain = lock(chain);
        let added = chain.run(&views, |outputs| {
            let failed = |reason| Err(RunFailure::Failed(reason));
            match split {
                SplitRuns::Rows { .. } => add(outputs),
                SplitRuns::EachRow { counts_rows: Some(counts_rows) } => {
                    without_rows(outputs, counts_rows, |outputs| output_format.apply(outputs, false, add))
                        .unwrap_or_else(failed)
                }
                SplitRuns::EachRow { counts_rows: None } | SplitRuns::Instances => {
                    output_format.apply(outputs, false, add).unwrap_or_else(failed)
                }
            }
        });
        added.map_err(RunFailure::Failed)??;
    }
    joined.iter_mut().try_for_each(JoinedOutput::stack)?;
    let parts: Vec<Vec<Vec<Output<'_>>>> = joined.iter().map(JoinedOutput::parts).collect();
    let each: Vec<Vec<Output<'_>>> =
        joined.iter().zip(&parts).map(|(joined, parts)| joined.each(parts)).collect();
    let lent: Vec<Output<'_>> = joined.iter().zip(&each).map(|(joined, each)| joined.lend(each)).collect();
    match split {
        SplitRuns::Rows { .. } => output_format.apply(&lent, true, use_outputs).map_err(RunFailure::Failed),
        SplitRuns::EachRow { .. } | SplitRuns::Instances => Ok(use_outputs(&lent)),
    }
}

fn call_input(
    shape: &[usize],
    elements: View<'_>,
    begin: usize,
    taken: usize,
    split: SplitRuns<'_>,
) -> Tensor {
    let width: usize = shape[1..].iter().product();
    let length = if let SplitRuns::Rows { length, is_padded: true } = split { length } else { taken };
    let mut own = Elements::with_capacity(elements.element(), length * width);
    own.extend_from_view(elements.slice(begin * width..(begin + taken) * width));
    for _ in taken..length {
        own.extend_from_view(elements.slice((begin + taken - 1) * width..(begin + taken) * width));
    }
    let shape = match split {
        SplitRuns::Instances => shape[1..].to_vec(),
        SplitRuns::Rows { .. } | SplitRuns::EachRow { .. } => [&[length], &shape[1..]].concat(),
    };
    Tensor { shape, elements: own }
}

/// Lends the outputs of one row without the dimension that counts rows.
fn without_rows<T>(
    outputs: &[Output<'_>],
    counts_rows: &[bool],
    use_outputs: impl FnOnce(&[Output<'_>]) -> T,
) -> T {
    let parts: Vec<Vec<Output<'_>>> = outputs
        .iter()
        .enumerate()
        .map(|(at, output)| match output.show {
            Show::Sequence(parts) => parts
                .iter()
                .map(|part| Output { shape: row_shape(part.shape, counts_rows[at]), ..*part })
                .collect(),
            _ => Vec::new(),
        })
        .collect();
    let lent: Vec<Output<'_>> = outputs
        .iter()
        .zip(&parts)
        .enumerate()
        .map(|(at, (output, parts))| match output.show {
            Show::Sequence(_) => Output { show: Show::Sequence(parts), ..*output },
            _ => Output { shape: row_shape(output.shape, counts_rows[at]), ..*output },
        })
        .collect();
    use_outputs(&lent)
}

/// The shape of an output's only row. Unchanged if the first dimension does not count rows, or is not 1.
fn row_shape(shape: &[usize], counts_rows: bool) -> &[usize] {
    shape.strip_prefix(&[1]).filter(|_| counts_rows).unwrap_or(shape)
}

/// One output, joined from all calls so far.
struct JoinedOutput {
    name: String,
    /// The output of each call. A call of several rows gives a tensor; a missing one counts once for each
    /// row.
    calls: Vec<CallOutput>,
    /// All rows as one tensor, if they go together.
    stacked: Option<CallTensor>,
}

enum CallOutput {
    Missing,
    Tensor(CallTensor),
    Sequence(Vec<CallTensor>),
}

struct CallTensor {
    /// Rows in the tensor; 1 unless the call has several.
    rows: usize,
    /// The shape of one row.
    shape: Vec<usize>,
    elements: Elements,
    show: OwnShow,
}

#[derive(PartialEq)]
enum OwnShow {
    Values,
    Named(Vec<String>),
    Ranked { labels: Option<Vec<String>>, top: usize, threshold: f64 },
}

impl OwnShow {
    fn of(show: Show<'_>) -> Self {
        match show {
            Show::Named(names) => Self::Named(names.to_vec()),
            Show::Ranked { labels, top, threshold } => {
                Self::Ranked { labels: labels.map(<[String]>::to_vec), top, threshold }
            }
            Show::Values | Show::Sequence(_) | Show::PerRow(_) | Show::Missing => Self::Values,
        }
    }

    fn lend(&self) -> Show<'_> {
        match self {
            Self::Values => Show::Values,
            Self::Named(names) => Show::Named(names),
            Self::Ranked { labels, top, threshold } => {
                Show::Ranked { labels: labels.as_deref(), top: *top, threshold: *threshold }
            }
        }
    }
}

impl CallOutput {
    fn tensor(&self) -> Option<&CallTensor> {
        if let Self::Tensor(tensor) = self { Some(tensor) } else { None }
    }
}

impl CallTensor {
    fn own(shape: &[usize], elements: View<'_>, rows: usize, show: OwnShow) -> Self {
        Self { rows, shape: shape.to_vec(), elements: elements.to_elements(), show }
    }

    /// True when the rows of both fit into one tensor.
    fn goes_with(&self, other: &Self) -> bool {
        self.shape == other.shape
            && self.elements.element() == other.elements.element()
            && self.show == other.show
    }
}

impl JoinedOutput {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), calls: Vec::new(), stacked: None }
    }

    fn add(&mut self, output: &Output<'_>, taken: usize, split: SplitRuns<'_>) -> Result<(), RunFailure> {
        match (output.show, split) {
            (Show::Missing, _) => self.calls.extend((0..taken).map(|_| CallOutput::Missing)),
            (Show::Sequence(parts), SplitRuns::EachRow { .. } | SplitRuns::Instances) => {
                let own = |part: &Output<'_>| CallTensor::own(part.shape, part.elements, 1, OwnShow::Values);
                self.calls.push(CallOutput::Sequence(parts.iter().map(own).collect()));
            }
            (Show::Sequence(_) | Show::PerRow(_), _) => {
                return Err(self.inseparable());
            }
            (show, SplitRuns::Rows { length, is_padded }) => {
                let expected = if is_padded { length } else { taken };
                let Some((_, inner)) = output.shape.split_first().filter(|(first, _)| **first == expected)
                else {
                    return Err(RunFailure::NotRows { is_news: false });
                };
                let width: usize = inner.iter().product();
                let elements = output.elements.slice(0..taken * width);
                let tensor = CallTensor::own(inner, elements, taken, OwnShow::of(show));
                self.calls.push(CallOutput::Tensor(tensor));
            }
            (show, SplitRuns::EachRow { .. } | SplitRuns::Instances) => {
                let tensor = CallTensor::own(output.shape, output.elements, 1, OwnShow::of(show));
                self.calls.push(CallOutput::Tensor(tensor));
            }
        }
        Ok(())
    }

    /// Stacks the tensors of all calls, if they go together.
    ///
    /// # Errors
    /// They do not go together, and a call has several rows, which cannot be separated.
    fn stack(&mut self) -> Result<(), RunFailure> {
        let mut tensors = self.calls.iter().map(CallOutput::tensor);
        let first = tensors.next().flatten();
        let go_together =
            first.is_some_and(|first| tensors.all(|tensor| tensor.is_some_and(|t| t.goes_with(first))));
        if !go_together {
            let has_several_rows = |call: &CallOutput| call.tensor().is_some_and(|tensor| tensor.rows > 1);
            return if self.calls.iter().any(has_several_rows) { Err(self.inseparable()) } else { Ok(()) };
        }
        for call in self.calls.drain(..) {
            let CallOutput::Tensor(mut next) = call else { continue };
            match &mut self.stacked {
                Some(all) => {
                    all.shape[0] += next.rows;
                    all.elements.append(&mut next.elements);
                }
                None => {
                    next.shape.insert(0, next.rows);
                    self.stacked = Some(next);
                }
            }
        }
        Ok(())
    }

    fn inseparable(&self) -> RunFailure {
        RunFailure::Failed(format!("the outputs {:?} of several rows cannot be joined", self.name))
    }

    /// The tensors of each call's sequence.
    fn parts(&self) -> Vec<Vec<Output<'_>>> {
        let parts = self.calls.iter().map(|part| match part {
            CallOutput::Sequence(tensors) => tensors.iter().map(|tensor| self.tensor(tensor)).collect(),
            CallOutput::Missing | CallOutput::Tensor(_) => Vec::new(),
        });
        parts.collect()
    }

    /// One output for each row, for outputs that are not stacked.
    fn each<'a>(&'a self, parts: &'a [Vec<Output<'a>>]) -> Vec<Output<'a>> {
        let one = |(part, parts): (&'a CallOutput, &'a Vec<Output<'a>>)| match part {
            CallOutput::Missing => self.output(&[], View::U8(&[]), Show::Missing),
            CallOutput::Tensor(tensor) => self.tensor(tensor),
            CallOutput::Sequence(_) => self.output(&[0], View::U8(&[]), Show::Sequence(parts)),
        };
        self.calls.iter().zip(parts).map(one).collect()
    }

    fn lend<'a>(&'a self, each: &'a [Output<'a>]) -> Output<'a> {
        match &self.stacked {
            Some(tensor) => self.tensor(tensor),
            // No row has this output.
            None if self.calls.iter().all(|part| matches!(part, CallOutput::Missing)) => {
                self.output(&[0], View::U8(&[]), Show::Missing)
            }
            None => self.output(&[0], View::U8(&[]), Show::PerRow(each)),
        }
    }

    fn tensor<'a>(&'a self, tensor: &'a CallTensor) -> Output<'a> {
        self.output(&tensor.shape, tensor.elements.view(), tensor.show.lend())
    }

    fn output<'a>(&'a self, shape: &'a [usize], elements: View<'a>, show: Show<'a>) -> Output<'a> {
        Output { name: &self.name, shape, elements, show }
    }
}
