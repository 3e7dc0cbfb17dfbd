//! Elements from nested JSON arrays, straight into the buffer of their type. Shapes are learned on the way.

use half::{bf16, f16};

use super::element::Element;
use super::error::{DecodeError, Decoded, Located, plural, quoted};
use super::limits::{ElementBudget, element_weight, too_many_elements};
use super::scanner::Scanner;
use crate::for_each_element_type;
use crate::tensor::Elements;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};

/// The context in which a value is read, beside its buffer.
pub(super) struct ValueContext<'s> {
    pub(super) spec: &'s TensorSpec,
    /// The greatest length of the buffer.
    pub(super) limit: usize,
    /// The request's limit of elements, for messages.
    pub(super) max_elements: usize,
    /// The shape comes from the request, not from its first row.
    pub(super) has_shape: bool,
    /// The first dimension counts rows, so the bundle may declare that shorter rows are padded.
    pub(super) may_be_padded: bool,
}

impl<'s> ValueContext<'s> {
    /// For a value whose shape comes from the value itself, in a buffer of at most `limit` elements.
    pub(super) fn new(spec: &'s TensorSpec, limit: usize, budget: &ElementBudget) -> Self {
        let max_elements = budget.max_elements;
        Self { spec, limit, max_elements, has_shape: false, may_be_padded: false }
    }

    #[cold]
    pub(super) fn too_many(&self) -> Box<DecodeError> {
        too_many_elements(self.max_elements, element_weight(self.spec.element))
    }

    /// True if each of the last `dims` dimensions is declared 1, so that brackets may be left out: `5` for
    /// `[[5]]`.
    #[cold]
    fn is_single(&self, dims: &[Option<usize>]) -> bool {
        let inner = self.spec.shape.len().checked_sub(dims.len());
        inner.is_some_and(|level| self.spec.shape[level..].iter().all(|dim| *dim == Dim::Fixed(1)))
    }

    #[cold]
    fn not_an_array(&self, scanner: &mut Scanner<'_>, length: Option<usize>) -> Box<DecodeError> {
        let what = self.spec.describe();
        scanner.unexpected(&match length {
            Some(length) => format!("an array of {length} value{} ({what})", plural(length)),
            None => format!("an array ({what})"),
        })
    }

    /// The error about a length, of the first of the last `dims` dimensions.
    #[cold]
    pub(super) fn wrong_length(&self, expected: usize, dims: usize, got: usize) -> Box<DecodeError> {
        let axis = self.spec.shape.len().checked_sub(dims);
        let is_free = axis.is_some_and(|axis| matches!(self.spec.shape.get(axis), Some(Dim::Any(_))));
        let is_open = self.spec.kind == ValueKind::OpenRank || is_free;
        let why = if !is_open {
            String::new()
        } else if self.has_shape {
            " by its shape".to_owned()
        } else if self.spec.name.is_empty() {
            " as before".to_owned()
        } else {
            format!(" as before in input {}", quoted(&self.spec.name))
        };
        let (plural, what) = (plural(expected), self.spec.describe());
        let error = DecodeError::new(format!("expected {expected} value{plural}{why} ({what}), got {got}"));
        match axis {
            Some(axis @ 1..) if is_free && self.may_be_padded && !self.has_shape => error.with_hint(&format!(
                "rows of several lengths fit together where the bundle's model.yaml declares padding, with \
                 input {} and axis {axis}",
                quoted(&self.spec.name)
            )),
            _ => error,
        }
    }
}

/// Elements per fast-path run, and elements read one by one after a run that read none.
const RUN: usize = 64;

/// Reads a value nested as deep as `dims`, and sets the lengths in `dims` that are not known yet.
fn nested<T: Element>(
    out: &mut Vec<T>,
    scanner: &mut Scanner<'_>,
    dims: &mut [Option<usize>],
    context: &ValueContext<'_>,
) -> Decoded<()> {
    let rank = dims.len();
    let Some((length, inner)) = dims.split_first_mut() else {
        return leaf(out, scanner, context);
    };
    if !scanner.open(b'[')? {
        if context.is_single(dims) && scanner.peek().is_some() {
            return leaf(out, scanner, context);
        }
        let length = dims[0];
        return Err(context.not_an_array(scanner, length));
    }
    let mut count = 0;
    let mut next_run = 0;
    if inner.is_empty() {
        while scanner.another(b']')? {
            let left = length.map_or(RUN, |length| length.saturating_sub(count).min(RUN));
            let room = out.capacity().min(context.limit).saturating_sub(out.len());
            let most = left.min(room);
            if most > 1 && count >= next_run {
                let run = T::read_run(scanner, out, most);
                if run > 0 {
                    count += run;
                    continue;
                }
                next_run = count + RUN;
            }
            if out.len() >= context.limit {
                return Err(context.too_many());
            }
            out.push(T::read_element(scanner).at(count)?);
            count += 1;
        }
    } else {
        while scanner.another(b']')? {
            nested(out, scanner, inner, context).at(count)?;
            count += 1;
        }
    }
    match *length {
        Some(expected) if expected != count => Err(context.wrong_length(expected, rank, count)),
        _ => {
            *length = Some(count);
            Ok(())
        }
    }
}

fn leaf<T: Element>(out: &mut Vec<T>, scanner: &mut Scanner<'_>, context: &ValueContext<'_>) -> Decoded<()> {
    if out.len() >= context.limit {
        return Err(context.too_many());
    }
    out.push(T::read_element(scanner)?);
    Ok(())
}

macro_rules! dispatch {
    ($(($variant:ident, $rust:ty, $name:literal, $datatype:literal)),+ $(,)?) => {
        /// Appends a value nested as deep as `dims`, and sets the lengths in `dims` that are not known yet.
        pub(super) fn read_nested(
            elements: &mut Elements,
            scanner: &mut Scanner<'_>,
            dims: &mut [Option<usize>],
            context: &ValueContext<'_>,
        ) -> Decoded<()> {
            match elements { $(Elements::$variant(out) => nested::<$rust>(out, scanner, dims, context)),+ }
        }

        /// Reads one element into place `at`.
        pub(super) fn set_element(
            elements: &mut Elements,
            at: usize,
            scanner: &mut Scanner<'_>,
        ) -> Decoded<()> {
            match elements { $(Elements::$variant(out) => out[at] = <$rust>::read_element(scanner)?),+ }
            Ok(())
        }

        /// Copies element `index` of `from` to place `at`. Both must be of one type.
        pub(super) fn copy_element(elements: &mut Elements, at: usize, from: &Elements, index: usize) {
            match (elements, from) {
                $((Elements::$variant(out), Elements::$variant(from)) => out[at] = from[index].clone(),)+
                (a, b) => unreachable!("a column of {} for an input of {}", b.element(), a.element()),
            }
        }

        /// Adds zeros up to `length`.
        pub(super) fn grow(elements: &mut Elements, length: usize) {
            match elements { $(Elements::$variant(out) => out.resize(length, Default::default())),+ }
        }

        pub(super) fn reserve(elements: &mut Elements, more: usize) {
            match elements { $(Elements::$variant(out) => out.reserve(more)),+ }
        }
    };
}
for_each_element_type!(dispatch);
