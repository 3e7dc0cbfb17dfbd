//! The rows of one request in several calls of a model, their outputs joined.

use crate::encode::MAX_ELEMENTS;
use crate::model::executor::{Failure, Input};
use crate::model::onnx::chain::Chain;
use crate::model::output_format::Present;
use crate::tensor::{self, Elements, Output, Show, View};

/// The share of one call in inputs that are stacked along their first dimension.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Calls<'a> {
    /// `length` rows, which the first dimension of every output counts, too. `fills_up`: the last call has as many, by repeating its
    /// last row, to which no model can object as it might to zeros.
    Rows { length: usize, fills_up: bool },
    /// One row. `counts_rows` says for each output whether it begins with a dimension of 1 that is none of the row's own; empty:
    /// none does.
    EachRow { counts_rows: &'a [bool] },
    /// A whole input, without the dimension along which they are stacked.
    Whole,
}

impl Calls<'_> {
    fn length(self) -> usize {
        if let Self::Rows { length, .. } = self { length } else { 1 }
    }
}

/// Runs the `rows` that `inputs` are stacks of and lends the outputs of all calls as `present` shows them: as one tensor stacked
/// in the same way where every call gives one of the same shape, else as one output a row.
pub(crate) fn several<T>(
    chain: &mut Chain,
    inputs: &[Input<'_>],
    rows: usize,
    calls: Calls<'_>,
    present: &Present,
    use_outputs: impl FnOnce(&[Output<'_>]) -> T,
) -> Result<T, Failure> {
    let length = calls.length();
    let mut joined: Vec<Joined> = Vec::new();
    let mut elements = 0;
    for begin in (0..rows).step_by(length) {
        let taken = length.min(rows - begin);
        let own: Vec<(Vec<usize>, Elements)> = inputs
            .iter()
            .map(|(shape, elements)| call_input(shape, *elements, begin, taken, calls))
            .collect();
        let views: Vec<Input<'_>> =
            own.iter().map(|(shape, elements)| (shape.clone(), elements.view())).collect();
        let mut add = |outputs: &[Output<'_>]| {
            elements += outputs.iter().map(Output::count).sum::<usize>();
            if elements > MAX_ELEMENTS {
                return Err(Failure::TooLarge);
            }
            if joined.is_empty() {
                joined.extend(outputs.iter().map(|output| Joined::new(output.name)));
            }
            joined.iter_mut().zip(outputs).try_for_each(|(joined, output)| joined.add(output, taken, calls))
        };
        let added = chain.run(&views, |outputs| match calls {
            Calls::Rows { .. } => add(outputs),
            Calls::EachRow { counts_rows } => {
                without_rows(outputs, counts_rows, |outputs| present.apply(outputs, false, add))
                    .unwrap_or_else(|reason| Err(Failure::Failed(reason)))
            }
            Calls::Whole => {
                present.apply(outputs, false, add).unwrap_or_else(|reason| Err(Failure::Failed(reason)))
            }
        });
        added.map_err(Failure::Failed)??;
    }
    joined.iter_mut().try_for_each(Joined::stack)?;
    let parts: Vec<Vec<Vec<Output<'_>>>> = joined.iter().map(Joined::parts).collect();
    let each: Vec<Vec<Output<'_>>> =
        joined.iter().zip(&parts).map(|(joined, parts)| joined.each(parts)).collect();
    let lent: Vec<Output<'_>> = joined.iter().zip(&each).map(|(joined, each)| joined.lend(each)).collect();
    match calls {
        Calls::Rows { .. } => present.apply(&lent, true, use_outputs).map_err(Failure::Failed),
        Calls::EachRow { .. } | Calls::Whole => Ok(use_outputs(&lent)),
    }
}

fn call_input(
    shape: &[usize],
    elements: View<'_>,
    begin: usize,
    taken: usize,
    calls: Calls<'_>,
) -> (Vec<usize>, Elements) {
    if tensor::elements::is_left_out(shape, elements) {
        return (Vec::new(), Elements::with_capacity(elements.element(), 0));
    }
    let width: usize = shape[1..].iter().product();
    let length = if let Calls::Rows { length, fills_up: true } = calls { length } else { taken };
    let mut own = Elements::with_capacity(elements.element(), length * width);
    own.extend_from_view(elements.slice(begin * width..(begin + taken) * width));
    for _ in taken..length {
        own.extend_from_view(elements.slice((begin + taken - 1) * width..(begin + taken) * width));
    }
    let shape =
        if let Calls::Whole = calls { shape[1..].to_vec() } else { [&[length], &shape[1..]].concat() };
    (shape, own)
}

/// Lends the outputs of one row, each without the dimension that counts rows, where it has one.
fn without_rows<T>(
    outputs: &[Output<'_>],
    counts_rows: &[bool],
    use_outputs: impl FnOnce(&[Output<'_>]) -> T,
) -> T {
    let counts_rows = |at: usize| counts_rows.get(at).copied().unwrap_or(false);
    let parts: Vec<Vec<Output<'_>>> = outputs
        .iter()
        .enumerate()
        .map(|(at, output)| match output.show {
            Show::Sequence(parts) => parts
                .iter()
                .map(|part| Output { shape: row_shape(part.shape, counts_rows(at)), ..*part })
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
            _ => Output { shape: row_shape(output.shape, counts_rows(at)), ..*output },
        })
        .collect();
    use_outputs(&lent)
}

/// The shape of the one row of an output; as it is where its first dimension does not count rows, or is not 1.
fn row_shape(shape: &[usize], counts_rows: bool) -> &[usize] {
    shape.strip_prefix(&[1]).filter(|_| counts_rows).unwrap_or(shape)
}

/// One output of all calls so far.
struct Joined {
    name: String,
    /// A tensor of several rows in turn, or one of each row that is missing or a sequence.
    calls: Vec<Part>,
    /// All rows, where they are one tensor.
    stacked: Option<Tensor>,
}

enum Part {
    Missing,
    Tensor(Tensor),
    Sequence(Vec<Tensor>),
}

struct Tensor {
    /// Rows in the tensor, where the call has several; else 1.
    rows: usize,
    /// The shape of each row.
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

impl Tensor {
    fn own(shape: &[usize], elements: View<'_>, rows: usize, show: OwnShow) -> Self {
        let mut own = Elements::with_capacity(elements.element(), elements.len());
        own.extend_from_view(elements);
        Self { rows, shape: shape.to_vec(), elements: own, show }
    }

    /// True when the rows of both may be in one tensor.
    fn goes_with(&self, other: &Self) -> bool {
        self.shape == other.shape
            && self.elements.element() == other.elements.element()
            && self.show == other.show
    }
}

impl Joined {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), calls: Vec::new(), stacked: None }
    }

    fn add(&mut self, output: &Output<'_>, taken: usize, calls: Calls<'_>) -> Result<(), Failure> {
        match (output.show, calls) {
            (Show::Missing, _) => self.calls.extend((0..taken).map(|_| Part::Missing)),
            (Show::Sequence(parts), Calls::EachRow { .. } | Calls::Whole) => {
                let own = |part: &Output<'_>| Tensor::own(part.shape, part.elements, 1, OwnShow::Values);
                self.calls.push(Part::Sequence(parts.iter().map(own).collect()));
            }
            (Show::Sequence(_) | Show::PerRow(_), _) => {
                return Err(self.inseparable());
            }
            (show, Calls::Rows { length, fills_up }) => {
                let expected = if fills_up { length } else { taken };
                let Some((_, inner)) = output.shape.split_first().filter(|(first, _)| **first == expected)
                else {
                    return Err(Failure::NotRows { is_news: false });
                };
                let width: usize = inner.iter().product();
                let elements = output.elements.slice(0..taken * width);
                self.calls.push(Part::Tensor(Tensor::own(inner, elements, taken, OwnShow::of(show))));
            }
            (show, Calls::EachRow { .. } | Calls::Whole) => {
                let tensor = Tensor::own(output.shape, output.elements, 1, OwnShow::of(show));
                self.calls.push(Part::Tensor(tensor));
            }
        }
        Ok(())
    }

    /// Makes one tensor of all calls, where they go together.
    ///
    /// # Errors
    /// They do not, and a call has several rows.
    fn stack(&mut self) -> Result<(), Failure> {
        let mut tensors =
            self.calls.iter().map(|part| if let Part::Tensor(tensor) = part { Some(tensor) } else { None });
        let first = tensors.next().flatten();
        let go_together =
            first.is_some_and(|first| tensors.all(|tensor| tensor.is_some_and(|t| t.goes_with(first))));
        if go_together {
            let tensors = self
                .calls
                .drain(..)
                .filter_map(|part| if let Part::Tensor(tensor) = part { Some(tensor) } else { None });
            self.stacked = tensors.reduce(|mut all, mut next| {
                all.rows += next.rows;
                all.elements.append(&mut next.elements);
                all
            });
            if let Some(stacked) = &mut self.stacked {
                stacked.shape.insert(0, stacked.rows);
            }
            return Ok(());
        }
        let has_several_rows = |part: &Part| matches!(part, Part::Tensor(tensor) if tensor.rows > 1);
        if self.calls.iter().any(has_several_rows) {
            return Err(self.inseparable());
        }
        Ok(())
    }

    fn inseparable(&self) -> Failure {
        Failure::Failed(format!("the outputs {:?} of several rows cannot be joined", self.name))
    }

    /// The tensors of each row's sequence.
    fn parts(&self) -> Vec<Vec<Output<'_>>> {
        let parts = self.calls.iter().map(|part| match part {
            Part::Sequence(tensors) => tensors.iter().map(|tensor| self.tensor(tensor)).collect(),
            Part::Missing | Part::Tensor(_) => Vec::new(),
        });
        parts.collect()
    }

    /// One output a row, where they are not one tensor.
    fn each<'a>(&'a self, parts: &'a [Vec<Output<'a>>]) -> Vec<Output<'a>> {
        let one = |(part, parts): (&'a Part, &'a Vec<Output<'a>>)| match part {
            Part::Missing => self.output(&[], View::U8(&[]), Show::Missing),
            Part::Tensor(tensor) => self.tensor(tensor),
            Part::Sequence(_) => self.output(&[0], View::U8(&[]), Show::Sequence(parts)),
        };
        self.calls.iter().zip(parts).map(one).collect()
    }

    fn lend<'a>(&'a self, each: &'a [Output<'a>]) -> Output<'a> {
        match &self.stacked {
            Some(tensor) => self.tensor(tensor),
            // No row has it.
            None if self.calls.iter().all(|part| matches!(part, Part::Missing)) => {
                self.output(&[0], View::U8(&[]), Show::Missing)
            }
            None => self.output(&[0], View::U8(&[]), Show::PerRow(each)),
        }
    }

    fn tensor<'a>(&'a self, tensor: &'a Tensor) -> Output<'a> {
        self.output(&tensor.shape, tensor.elements.view(), tensor.show.lend())
    }

    fn output<'a>(&'a self, shape: &'a [usize], elements: View<'a>, show: Show<'a>) -> Output<'a> {
        Output { name: &self.name, shape, elements, show }
    }
}
