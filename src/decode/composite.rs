//! Maps, as objects, and sequences of tensors, as lists: typed, and counted before memory is taken for them.

use std::collections::HashSet;

use super::nested::{Rule, read_nested};
use super::scanner::Scanner;
use super::weight;
use crate::decode::error::{DecodeError, Decoded, quoted};
use crate::tensor::Composite;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};
use crate::tensor::{ElementType, Elements, Tensor};

/// What a tensor of a sequence counts for beside its elements: empty ones take memory, too.
const TENSOR: usize = 16;
/// Weight of a map's entry beside its value: its key, and its place among those that must differ.
const ENTRY: usize = 10;

/// As deep as [`Scanner`] goes; no tensor's rank is greater.
const MAX_RANK: usize = 64;

/// Elements that a request may still have.
pub(super) struct Left {
    pub(super) elements: usize,
    /// How many it may have in all, for messages.
    pub(super) of: usize,
}

impl Left {
    fn take(&mut self, count: usize) -> Decoded<()> {
        let Some(left) = self.elements.checked_sub(count) else {
            return Err(DecodeError::too_large(format!(
                "expected at most {} elements in all inputs, got more",
                self.of
            )));
        };
        self.elements = left;
        Ok(())
    }
}

/// Reads the value of an input that is a map or a sequence.
pub(super) fn read(spec: &TensorSpec, scanner: &mut Scanner<'_>, left: &mut Left) -> Decoded<Composite> {
    left.take(weight(ElementType::Composite))?;
    match &spec.kind {
        ValueKind::Map { key, value } => map(spec, *key, *value, scanner, left),
        ValueKind::Sequence { element, shape } => sequence(spec, *element, shape, scanner, left),
        ValueKind::Tensor | ValueKind::Optional | ValueKind::OpenRank => {
            unreachable!("tensors are read by their element type")
        }
    }
}

fn map(
    spec: &TensorSpec,
    key: ElementType,
    value: ElementType,
    scanner: &mut Scanner<'_>,
    left: &mut Left,
) -> Decoded<Composite> {
    if !scanner.open(b'{')? {
        return Err(scanner.unexpected(&format!("an object ({})", spec.describe())));
    }
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    let mut values = Elements::with_capacity(value, 0);
    while let Some(name) = scanner.key(values.is_empty())? {
        left.take(ENTRY + weight(value))?;
        match key {
            ElementType::I64 => numbers.push(whole_number(&name)?),
            _ => texts.push(name.to_string()),
        }
        let rule = Rule {
            spec,
            limit: values.len() + 1,
            max_elements: left.of,
            has_shape: false,
            may_be_padded: false,
        };
        read_nested(&mut values, scanner, &mut [], &rule)
            .map_err(|error| error.within(&format!("[{}]", quoted(&name))))?;
    }
    let keys = match key {
        ElementType::I64 => {
            each_once(&numbers)?;
            Elements::I64(numbers)
        }
        _ => {
            each_once(&texts)?;
            Elements::String(texts)
        }
    };
    Ok(Composite::Map { keys, values })
}

fn whole_number(key: &str) -> Decoded<i64> {
    key.parse().map_err(|_| DecodeError::new(format!("expected keys that are int64s, got {}", quoted(key))))
}

fn each_once<T: std::hash::Hash + Eq + std::fmt::Display>(keys: &[T]) -> Decoded<()> {
    let mut seen = HashSet::with_capacity(keys.len());
    match keys.iter().find(|key| !seen.insert(*key)) {
        None => Ok(()),
        Some(key) => {
            Err(DecodeError::new(format!("expected each key once, got {} twice", quoted(&key.to_string()))))
        }
    }
}

fn sequence(
    spec: &TensorSpec,
    element: ElementType,
    shape: &[Dim],
    scanner: &mut Scanner<'_>,
    left: &mut Left,
) -> Decoded<Composite> {
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected(&format!("a list of tensors ({})", spec.describe())));
    }
    let own = TensorSpec { name: String::new(), element, shape: shape.to_vec(), kind: ValueKind::Tensor };
    let mut tensors = Vec::new();
    while scanner.another(tensors.is_empty(), b']')? {
        left.take(TENSOR)?;
        let mut dims: Vec<Option<usize>> = own.shape.iter().map(Dim::fixed).collect();
        if dims.is_empty() {
            dims = vec![None; rank(scanner)];
        }
        let mut elements = Elements::with_capacity(element, 0);
        let rule = Rule {
            spec: &own,
            limit: left.elements / weight(element),
            max_elements: left.of,
            has_shape: false,
            may_be_padded: false,
        };
        read_nested(&mut elements, scanner, &mut dims, &rule).map_err(|error| error.at(tensors.len()))?;
        left.take(elements.len() * weight(element))?;
        // A length that no array showed is that of an array inside an empty one.
        let shape = dims.iter().map(|length| length.unwrap_or(0)).collect();
        tensors.push(Tensor { shape, elements });
    }
    if tensors.is_empty() {
        return Err(DecodeError::new(format!(
            "expected at least one tensor ({}), got none",
            spec.describe()
        )));
    }
    Ok(Composite::Sequence(tensors))
}

/// How many arrays open here: where the model does not say how many dimensions there are, the request does.
pub(super) fn rank(scanner: &Scanner<'_>) -> usize {
    let mut ahead = scanner.clone();
    (0..MAX_RANK).take_while(|_| ahead.take(b'[')).count()
}
