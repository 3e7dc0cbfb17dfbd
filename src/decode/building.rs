//! One input while it is read: nested lists into a flat typed buffer, every length held against the model's shape.

use super::Limits;
use super::scanner::Scanner;
use super::value::{Place, Value, kind};
use crate::error::{Code, Rejection};
use crate::tensor::{Dim, Elements, Tensor, TensorSpec};

/// A tensor in the making. What is read goes to the end of `elements`.
pub(crate) struct Building<'s> {
    pub(crate) spec: &'s TensorSpec,
    pub(crate) elements: Elements,
    lengths: Lengths<'s>,
}

/// What is known of each dimension: fixed by the model, or by the first list read.
struct Lengths<'s> {
    spec: &'s TensorSpec,
    known: Vec<Option<usize>>,
    most_elements: usize,
}

/// Calls `$action` with the typed buffer of an [`Elements`].
macro_rules! with_elements {
    ($elements:expr, $buffer:ident => $action:expr) => {
        match $elements {
            Elements::Bool($buffer) => $action,
            Elements::U8($buffer) => $action,
            Elements::U16($buffer) => $action,
            Elements::U32($buffer) => $action,
            Elements::U64($buffer) => $action,
            Elements::I8($buffer) => $action,
            Elements::I16($buffer) => $action,
            Elements::I32($buffer) => $action,
            Elements::I64($buffer) => $action,
            Elements::F16($buffer) => $action,
            Elements::F32($buffer) => $action,
            Elements::F64($buffer) => $action,
            Elements::Text($buffer) => $action,
        }
    };
}
pub(crate) use with_elements;

impl<'s> Building<'s> {
    /// `batched`: the first dimension counts rows, whatever number the model declares for it.
    pub(crate) fn new(spec: &'s TensorSpec, batched: bool, limits: &Limits) -> Self {
        let mut known: Vec<_> = spec.shape.iter().map(Dim::fixed).collect();
        if let (true, Some(rows)) = (batched, known.first_mut()) {
            *rows = None;
        }
        let lengths = Lengths { spec, known, most_elements: limits.max_elements };
        Self { spec, elements: Elements::with_capacity(spec.element, 0), lengths }
    }

    /// Reads one value whose lists begin at dimension `depth`: 0 for the whole tensor, 1 for one row.
    #[inline]
    pub(crate) fn read(
        &mut self,
        scanner: &mut Scanner<'_>,
        depth: usize,
        place: &Place<'_>,
    ) -> Result<(), Rejection> {
        let lengths = &mut self.lengths;
        with_elements!(&mut self.elements, buffer => nested(scanner, buffer, lengths, depth, place))
    }

    /// Reads numbers or strings in lists however nested (the Open Inference Protocol's `data`), `count` in all.
    pub(crate) fn read_flat(
        &mut self,
        scanner: &mut Scanner<'_>,
        count: usize,
        place: &Place<'_>,
    ) -> Result<(), Rejection> {
        with_elements!(&mut self.elements, buffer => {
            buffer.reserve_exact(count.min(scanner.bytes.len()));
            flat(scanner, buffer, count, place)
        })?;
        match self.elements.len() {
            got if got == count => Ok(()),
            got => Err(Rejection::invalid(format!(
                "{place}: expected {count} values, as its shape says, got {}",
                if got > count { "more".to_owned() } else { got.to_string() }
            ))),
        }
    }

    /// After the first row: room for `rows` more like it.
    pub(crate) fn reserve_rows(&mut self, rows: usize) {
        let more = rows.saturating_mul(self.elements.len()).min(self.lengths.most_elements);
        with_elements!(&mut self.elements, buffer => buffer.reserve(more));
    }

    /// Before a row of `length` elements is put into `elements` from outside.
    pub(crate) fn expect_row_of(&mut self, length: usize, place: &Place<'_>) -> Result<(), Rejection> {
        self.lengths.check_room(self.elements.len().saturating_add(length.max(1) - 1))?;
        let known = *self.lengths.known[1].get_or_insert(length);
        if known == length { Ok(()) } else { Err(self.lengths.wrong_length(1, known, length, place)) }
    }

    /// The tensor, `rows` along its first dimension when the model counts rows there.
    pub(crate) fn finish(self, rows: Option<usize>) -> Tensor {
        let mut shape: Vec<usize> = self.lengths.known.iter().map(|length| length.unwrap_or(0)).collect();
        if let (Some(rows), Some(first)) = (rows, shape.first_mut()) {
            *first = rows;
        }
        Tensor { shape, elements: self.elements }
    }

    /// The length of dimension 0, once a whole tensor was read.
    pub(crate) fn first_length(&self) -> Option<usize> {
        self.lengths.known.first().copied().flatten()
    }
}

/// `depth` ≤ the rank; the scanner's own limit bounds the recursion when a model declares more dimensions than that.
fn nested<T: Value>(
    scanner: &mut Scanner<'_>,
    buffer: &mut Vec<T>,
    lengths: &mut Lengths<'_>,
    depth: usize,
    place: &Place<'_>,
) -> Result<(), Rejection> {
    if depth == lengths.known.len() {
        lengths.check_room(buffer.len())?;
        buffer.push(T::read(scanner, place)?);
        return Ok(());
    }
    if scanner.peek() != Some(b'[') {
        return Err(lengths.not_a_list(scanner, depth, place));
    }
    let most = lengths.known[depth].unwrap_or(usize::MAX);
    let innermost = depth + 1 == lengths.known.len();
    let mut count = 0;
    let mut more = scanner.open(b'[')?;
    while more {
        if count >= most {
            // Only counted, for the message: what is too many is not kept.
            scanner.skip()?;
        } else if innermost {
            if buffer.len() >= lengths.most_elements {
                lengths.check_room(buffer.len())?;
            }
            buffer.push(T::read(scanner, &Place::Item(place, count))?);
        } else {
            nested(scanner, buffer, lengths, depth + 1, &Place::Item(place, count))?;
        }
        count += 1;
        more = scanner.another(b'[')?;
    }
    match lengths.known[depth] {
        Some(length) if length == count => Ok(()),
        Some(length) => Err(lengths.wrong_length(depth, length, count, place)),
        None => {
            lengths.known[depth] = Some(count);
            Ok(())
        }
    }
}

fn flat<T: Value>(
    scanner: &mut Scanner<'_>,
    buffer: &mut Vec<T>,
    count: usize,
    place: &Place<'_>,
) -> Result<(), Rejection> {
    if scanner.peek() != Some(b'[') {
        let found = kind(scanner)?;
        return Err(Rejection::invalid(format!("{place}: expected a list of {count} values, got {found}")));
    }
    let (mut index, mut more) = (0, scanner.open(b'[')?);
    while more {
        let item = Place::Item(place, index);
        if scanner.peek() == Some(b'[') {
            flat(scanner, buffer, count, &item)?;
        } else {
            let value = T::read(scanner, &item)?;
            // One more than expected is kept, to be told from a full tensor; the rest is only checked.
            if buffer.len() <= count {
                buffer.push(value);
            }
        }
        index += 1;
        more = scanner.another(b'[')?;
    }
    Ok(())
}

impl Lengths<'_> {
    #[inline]
    fn check_room(&self, elements: usize) -> Result<(), Rejection> {
        if elements < self.most_elements {
            Ok(())
        } else {
            Err(too_many_elements(&self.spec.name, self.most_elements))
        }
    }

    #[cold]
    fn not_a_list(&self, scanner: &mut Scanner<'_>, depth: usize, place: &Place<'_>) -> Rejection {
        let count = self.known[depth].map_or(String::new(), |length| format!(" of {length}"));
        match kind(scanner) {
            Ok(found) => Rejection::invalid(format!(
                "{place}: expected a list{count} ({}), got {found}",
                self.spec.describe()
            )),
            Err(malformed) => malformed,
        }
    }

    #[cold]
    fn wrong_length(&self, depth: usize, length: usize, count: usize, place: &Place<'_>) -> Rejection {
        let what = if depth + 1 == self.known.len() { "values" } else { "lists" };
        let why = if self.spec.shape[depth].fixed().is_some() { "" } else { " as in the list before" };
        Rejection::invalid(format!(
            "{place}: expected {length} {what}{why} ({}), got {count}",
            self.spec.describe()
        ))
    }
}

pub(crate) fn too_many_elements(input: &str, most: usize) -> Rejection {
    Rejection::new(
        Code::InputTooLarge,
        format!("input \"{input}\": more than {most} elements; send fewer rows in one message"),
    )
}
