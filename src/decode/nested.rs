//! Elements from nested JSON arrays, straight into the buffer of their type, and shapes learnt on the way.

use half::{bf16, f16};

use super::element::Element;
use super::scanner::Scanner;
use super::weight;
use crate::decode::error::{DecodeError, Decoded, quoted};
use crate::for_each_element_type;
use crate::tensor::Elements;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};

/// What nested reading must know beside its buffer.
pub(super) struct Rule<'s> {
    pub(super) spec: &'s TensorSpec,
    /// The buffer may grow to this length.
    pub(super) limit: usize,
    pub(super) max_elements: usize,
    /// The request says what the shape is, and not the first row.
    pub(super) has_shape: bool,
    /// Its first dimension counts rows, so that a bundle may declare that shorter rows are padded.
    pub(super) may_be_padded: bool,
}

pub(super) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

impl Rule<'_> {
    #[cold]
    pub(super) fn too_many(&self) -> Box<DecodeError> {
        too_many(self.max_elements, weight(self.spec.element))
    }

    /// Whether every dimension from `dims` on is declared 1, so that brackets add nothing: a bare `5` for `[[5]]`.
    #[cold]
    fn is_single(&self, dims: &[Option<usize>]) -> bool {
        let inner = self.spec.shape.len().checked_sub(dims.len());
        inner.is_some_and(|level| self.spec.shape[level..].iter().all(|dim| *dim == Dim::Fixed(1)))
    }

    #[cold]
    fn no_array(&self, scanner: &mut Scanner<'_>, length: Option<usize>) -> Box<DecodeError> {
        let what = self.spec.describe();
        scanner.unexpected(&match length {
            Some(length) => format!("an array of {length} value{} ({what})", plural(length)),
            None => format!("an array ({what})"),
        })
    }

    #[cold]
    pub(super) fn length(&self, expected: usize, dims: usize, got: usize) -> Box<DecodeError> {
        let axis = self.spec.shape.len().checked_sub(dims);
        let is_free = axis.is_some_and(|axis| matches!(self.spec.shape.get(axis), Some(Dim::Any(_))));
        let is_open = self.spec.kind == ValueKind::OpenRank || is_free;
        let why = if !is_open {
            String::new()
        } else if self.has_shape {
            " by its shape".to_owned()
        } else if self.spec.name.is_empty() {
            " as before it".to_owned()
        } else {
            format!(" as before it in input {}", quoted(&self.spec.name))
        };
        let (plural, what) = (plural(expected), self.spec.describe());
        let error = DecodeError::new(format!("expected {expected} value{plural}{why} ({what}), got {got}"));
        match axis {
            Some(axis @ 1..) if is_free && self.may_be_padded && !self.has_shape => error.and(&format!(
                "rows of several lengths fit together where the bundle's model.yaml declares padding, with input {} and axis {axis}",
                quoted(&self.spec.name)
            )),
            _ => error,
        }
    }
}

/// `weight`: numbers that an element of this input counts for.
#[cold]
pub(super) fn too_many(max_elements: usize, weight: usize) -> Box<DecodeError> {
    let counted =
        if weight > 1 { format!(" (one of this input counts for {weight})") } else { String::new() };
    DecodeError::too_large(format!(
        "expected at most {max_elements} elements in all inputs, got more{counted}"
    ))
}

/// So many elements are read at once where they are simple, in room that is there; and so many one by one where they are not.
const RUN: usize = 64;

/// Reads a value nested as deep as `dims`, which learn the lengths that they do not know yet.
fn nested<T: Element>(
    out: &mut Vec<T>,
    scanner: &mut Scanner<'_>,
    dims: &mut [Option<usize>],
    rule: &Rule<'_>,
) -> Decoded<()> {
    let rank = dims.len();
    let Some((length, inner)) = dims.split_first_mut() else {
        return leaf(out, scanner, rule);
    };
    if !scanner.open(b'[')? {
        if rule.is_single(dims) && scanner.peek().is_some() {
            return leaf(out, scanner, rule);
        }
        let length = dims[0];
        return Err(rule.no_array(scanner, length));
    }
    let mut count = 0;
    let mut next_run = 0;
    if inner.is_empty() {
        while scanner.another(count == 0, b']')? {
            let left = length.map_or(RUN, |length| length.saturating_sub(count).min(RUN));
            let room = out.capacity().min(rule.limit).saturating_sub(out.len());
            let most = left.min(room);
            if most > 1 && count >= next_run {
                let run = T::read_run(scanner, out, most);
                if run > 0 {
                    count += run;
                    continue;
                }
                next_run = count + RUN;
            }
            if out.len() >= rule.limit {
                return Err(rule.too_many());
            }
            out.push(T::read(scanner).map_err(|error| error.at(count))?);
            count += 1;
        }
    } else {
        while scanner.another(count == 0, b']')? {
            nested(out, scanner, inner, rule).map_err(|error| error.at(count))?;
            count += 1;
        }
    }
    match *length {
        Some(expected) if expected != count => Err(rule.length(expected, rank, count)),
        _ => {
            *length = Some(count);
            Ok(())
        }
    }
}

fn leaf<T: Element>(out: &mut Vec<T>, scanner: &mut Scanner<'_>, rule: &Rule<'_>) -> Decoded<()> {
    if out.len() >= rule.limit {
        return Err(rule.too_many());
    }
    out.push(T::read(scanner)?);
    Ok(())
}

macro_rules! dispatch {
    ($(($variant:ident, $rust:ty, $name:literal, $datatype:literal)),+ $(,)?) => {
        pub(super) fn read_nested(
            elements: &mut Elements,
            scanner: &mut Scanner<'_>,
            dims: &mut [Option<usize>],
            rule: &Rule<'_>,
        ) -> Decoded<()> {
            match elements { $(Elements::$variant(out) => nested::<$rust>(out, scanner, dims, rule)),+ }
        }

        pub(super) fn set_element(elements: &mut Elements, at: usize, scanner: &mut Scanner<'_>) -> Decoded<()> {
            match elements { $(Elements::$variant(out) => out[at] = <$rust>::read(scanner)?),+ }
            Ok(())
        }

        /// Both must be of one type.
        pub(super) fn copy_element(elements: &mut Elements, at: usize, from: &Elements, index: usize) {
            match (elements, from) {
                $((Elements::$variant(out), Elements::$variant(from)) => out[at] = from[index].clone(),)+
                (out, from) => unreachable!("a column of {} for an input of {}", from.element(), out.element()),
            }
        }

        pub(super) fn grow(elements: &mut Elements, length: usize) {
            match elements { $(Elements::$variant(out) => out.resize(length, Default::default())),+ }
        }

        pub(super) fn reserve(elements: &mut Elements, more: usize) {
            match elements { $(Elements::$variant(out) => out.reserve(more)),+ }
        }
    };
}
for_each_element_type!(dispatch);
