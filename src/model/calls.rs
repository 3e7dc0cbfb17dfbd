//! One request's rows in several calls of a model, their outputs joined.

use super::chain::Chain;
use super::engine::Input;
use crate::tensor::{self, Elements, Output, Show, View};

/// What a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// So many rows, which the first dimension of every input and output counts. The last call is filled up with its last row,
    /// to which no model can object as it might to zeros, and cut again.
    Rows(usize),
    /// One row. Each input begins with a dimension of 1; so do the outputs where they can.
    SingleRow,
    /// A whole input.
    Whole,
}

impl Calls {
    fn length(self) -> usize {
        if let Self::Rows(length) = self { length } else { 1 }
    }
}

/// Runs the `rows` that `inputs` are stacks of and lends the outputs of all calls, stacked in the same way.
pub(super) fn several<T>(
    chain: &mut Chain,
    inputs: &[Input<'_>],
    rows: usize,
    calls: Calls,
    use_outputs: impl FnOnce(&[Output<'_>]) -> T,
) -> Result<T, String> {
    let length = calls.length();
    let mut joined: Vec<Joined> = Vec::new();
    for begin in (0..rows).step_by(length) {
        let taken = length.min(rows - begin);
        let filled: Vec<(Vec<usize>, Elements)> = inputs
            .iter()
            .map(|(shape, elements)| call_input(shape, *elements, begin, taken, calls))
            .collect();
        let views: Vec<Input<'_>> =
            filled.iter().map(|(shape, elements)| (shape.clone(), elements.view())).collect();
        chain.run(&views, |outputs| {
            if joined.is_empty() {
                joined.extend(outputs.iter().map(|output| Joined::new(output.name)));
            }
            joined.iter_mut().zip(outputs).try_for_each(|(joined, output)| joined.add(output, taken, calls))
        })??;
    }
    let parts: Vec<Vec<Vec<Output<'_>>>> = joined.iter().map(Joined::parts).collect();
    let per_row: Vec<Vec<Output<'_>>> =
        joined.iter().zip(&parts).map(|(joined, parts)| joined.rows(parts)).collect();
    let lent: Vec<Output<'_>> = joined.iter().zip(&per_row).map(|(joined, rows)| joined.lend(rows)).collect();
    Ok(use_outputs(&lent))
}

fn call_input(
    shape: &[usize],
    elements: View<'_>,
    begin: usize,
    taken: usize,
    calls: Calls,
) -> (Vec<usize>, Elements) {
    if tensor::is_left_out(shape, elements) {
        return (Vec::new(), Elements::with_capacity(elements.element(), 0));
    }
    let width: usize = shape[1..].iter().product();
    let length = calls.length();
    let mut own = Elements::with_capacity(elements.element(), length * width);
    own.extend_from_view(elements.slice(begin * width..(begin + taken) * width));
    for _ in taken..length {
        own.extend_from_view(elements.slice((begin + taken - 1) * width..(begin + taken) * width));
    }
    let shape =
        if let Calls::Rows(length) = calls { [&[length], &shape[1..]].concat() } else { shape[1..].to_vec() };
    (shape, own)
}

/// One output of all calls so far.
struct Joined {
    name: String,
    /// Of the rows that have it.
    shape: Vec<usize>,
    elements: Elements,
    /// None while no row had it.
    kind: Option<Kind>,
    /// For each row whether it has it: an optional output may be there for some and missing for others.
    is_there: Vec<bool>,
}

enum Kind {
    Values,
    Named(Vec<String>),
    /// The tensors of each row's sequence.
    Sequences(Vec<Vec<(Elements, Vec<usize>)>>),
}

impl Kind {
    fn show(&self) -> Show<'_> {
        match self {
            Self::Named(names) => Show::Named(names),
            Self::Values | Self::Sequences(_) => Show::Values,
        }
    }
}

impl Joined {
    fn new(name: &str) -> Self {
        let elements = Elements::U8(Vec::new());
        Self { name: name.to_owned(), shape: vec![0], elements, kind: None, is_there: Vec::new() }
    }

    /// Takes over what every row has in common from the first one that has it.
    fn begin(&mut self, output: &Output<'_>, calls: Calls) {
        self.kind = Some(match output.show {
            Show::Named(names) => Kind::Named(names.to_vec()),
            Show::Sequence(_) => Kind::Sequences(Vec::new()),
            _ => Kind::Values,
        });
        self.shape = [&[0], inner(output.shape, calls)].concat();
        self.elements = Elements::with_capacity(output.elements.element(), output.elements.len());
    }

    fn add(&mut self, output: &Output<'_>, taken: usize, calls: Calls) -> Result<(), String> {
        let length = calls.length();
        let is_there = !matches!(output.show, Show::Missing);
        self.is_there.resize(self.is_there.len() + taken, is_there);
        if !is_there {
            return Ok(());
        }
        if self.kind.is_none() {
            self.begin(output, calls);
        }
        match (&mut self.kind, output.show) {
            (Some(Kind::Sequences(rows)), Show::Sequence(parts)) if length == 1 => {
                let own = |part: &Output<'_>| {
                    let mut elements = Elements::with_capacity(part.elements.element(), part.elements.len());
                    elements.extend_from_view(part.elements);
                    (elements, inner(part.shape, calls).to_vec())
                };
                rows.push(parts.iter().map(own).collect());
                return Ok(());
            }
            (Some(Kind::Named(names)), Show::Named(others)) if names == others => {}
            (Some(Kind::Values), Show::Values) => {}
            _ => return Err(format!("the outputs {:?} of several rows cannot be joined", self.name)),
        }
        if let Calls::Rows(length) = calls
            && output.shape.first() != Some(&length)
        {
            let name = &self.name;
            return Err(format!("output {name:?} has the shape {:?}, expected {length} rows", output.shape));
        }
        let inner = inner(output.shape, calls);
        if self.shape[1..] != *inner {
            return Err(format!(
                "output {:?} has the shape {inner:?} for one row and {:?} for another; send them one by one",
                self.name,
                &self.shape[1..]
            ));
        }
        let width: usize = inner.iter().product();
        self.shape[0] += taken;
        self.elements.extend_from_view(output.elements.slice(0..taken * width));
        Ok(())
    }

    fn parts(&self) -> Vec<Vec<Output<'_>>> {
        let Some(Kind::Sequences(rows)) = &self.kind else { return Vec::new() };
        rows.iter()
            .map(|row| {
                row.iter()
                    .map(|(elements, shape)| self.output(shape, elements.view(), Show::Values))
                    .collect()
            })
            .collect()
    }

    /// One output a row, where they cannot be one tensor.
    fn rows<'a>(&'a self, parts: &'a [Vec<Output<'a>>]) -> Vec<Output<'a>> {
        let shape = &self.shape[1..];
        let width: usize = shape.iter().product();
        let mut there = 0..;
        let mut row = |is_there: &bool| {
            let Some(number) = is_there.then(|| there.next()).flatten() else { return self.missing(&[]) };
            match &self.kind {
                Some(Kind::Sequences(_)) => self.output(&[0], View::U8(&[]), Show::Sequence(&parts[number])),
                Some(kind) => {
                    let elements = self.elements.view().slice(number * width..(number + 1) * width);
                    self.output(shape, elements, kind.show())
                }
                None => unreachable!("a row that has it gave its kind"),
            }
        };
        self.is_there.iter().map(&mut row).collect()
    }

    fn lend<'a>(&'a self, rows: &'a [Output<'a>]) -> Output<'a> {
        match &self.kind {
            None => self.missing(&[0]),
            Some(kind @ (Kind::Values | Kind::Named(_))) if !self.is_there.contains(&false) => {
                self.output(&self.shape, self.elements.view(), kind.show())
            }
            Some(_) => self.output(&[0], View::U8(&[]), Show::PerRow(rows)),
        }
    }

    fn missing<'a>(&'a self, shape: &'a [usize]) -> Output<'a> {
        self.output(shape, View::U8(&[]), Show::Missing)
    }

    fn output<'a>(&'a self, shape: &'a [usize], elements: View<'a>, show: Show<'a>) -> Output<'a> {
        Output { name: &self.name, shape, elements, show }
    }
}

/// What one row of an output of this shape looks like.
fn inner(shape: &[usize], calls: Calls) -> &[usize] {
    match calls {
        Calls::Rows(_) => shape.get(1..).unwrap_or_default(),
        Calls::SingleRow => shape.strip_prefix(&[1]).unwrap_or(shape),
        Calls::Whole => shape,
    }
}
