//! Maps from JSON objects, and sequences of tensors from lists: typed, and counted before memory is taken for
//! them.

use std::collections::HashSet;

use super::error::{DecodeError, Decoded, Located, quoted, refuse, twice};
use super::limits::{ElementBudget, element_weight};
use super::nested::{ValueContext, read_nested};
use super::scanner::{MAX_DEPTH, Scanner};
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};
use crate::tensor::{Composite, ElementType, Elements, Tensor};

/// Weight of a tensor in a sequence beside its elements: an empty one takes memory, too.
const TENSOR_WEIGHT: usize = 16;
/// Weight of a map's entry beside its value: its key, and its place in the set that finds duplicates.
const ENTRY_WEIGHT: usize = 10;

/// Reads the value of an input that is a map or a sequence.
pub(super) fn read_composite(
    spec: &TensorSpec,
    scanner: &mut Scanner<'_>,
    budget: &mut ElementBudget,
) -> Decoded<Composite> {
    budget.take(1, element_weight(ElementType::Composite))?;
    match &spec.kind {
        ValueKind::Map { key, value } => read_map(spec, *key, *value, scanner, budget),
        ValueKind::Sequence { element, shape } => read_sequence(spec, *element, shape, scanner, budget),
        ValueKind::Tensor | ValueKind::Optional | ValueKind::OpenRank => {
            unreachable!("the caller reads tensors")
        }
    }
}

fn read_map(
    spec: &TensorSpec,
    key: ElementType,
    value: ElementType,
    scanner: &mut Scanner<'_>,
    budget: &mut ElementBudget,
) -> Decoded<Composite> {
    if !scanner.open(b'{')? {
        return Err(scanner.unexpected(&format!("an object ({})", spec.describe())));
    }
    let (mut strings, mut numbers) = (Vec::new(), Vec::new());
    let mut values = Elements::with_capacity(value, 0);
    while let Some(name) = scanner.key()? {
        budget.take(1, ENTRY_WEIGHT + element_weight(value))?;
        match key {
            ElementType::I64 => numbers.push(parse_int64(&name)?),
            _ => strings.push(name.to_string()),
        }
        let context = ValueContext::new(spec, values.len() + 1, budget);
        read_nested(&mut values, scanner, &mut [], &context).in_key(&name)?;
    }
    check_unique(&numbers)?;
    check_unique(&strings)?;
    let keys = if key == ElementType::I64 { Elements::I64(numbers) } else { Elements::String(strings) };
    Ok(Composite::Map { keys, values })
}

fn parse_int64(key: &str) -> Decoded<i64> {
    key.parse().map_err(|_| DecodeError::new(format!("expected keys that are int64s, got {}", quoted(key))))
}

fn check_unique<T: std::hash::Hash + Eq + std::fmt::Display>(keys: &[T]) -> Decoded<()> {
    let mut seen = HashSet::with_capacity(keys.len());
    match keys.iter().find(|key| !seen.insert(*key)) {
        None => Ok(()),
        Some(key) => Err(twice("key", &key.to_string())),
    }
}

fn read_sequence(
    spec: &TensorSpec,
    element: ElementType,
    shape: &[Dim],
    scanner: &mut Scanner<'_>,
    budget: &mut ElementBudget,
) -> Decoded<Composite> {
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected(&format!("a list of tensors ({})", spec.describe())));
    }
    let own = TensorSpec { name: String::new(), element, shape: shape.to_vec(), kind: ValueKind::Tensor };
    let mut tensors = Vec::new();
    while scanner.another(b']')? {
        budget.take(1, TENSOR_WEIGHT)?;
        let mut dims: Vec<Option<usize>> = own.shape.iter().map(Dim::fixed).collect();
        if dims.is_empty() {
            dims = vec![None; next_rank(scanner)];
        }
        let mut elements = Elements::with_capacity(element, 0);
        let context = ValueContext::new(&own, budget.left / element_weight(element), budget);
        read_nested(&mut elements, scanner, &mut dims, &context).at(tensors.len())?;
        budget.take(1, elements.len() * element_weight(element))?;
        // A length that is not known belongs to an array inside an empty one.
        let shape = dims.iter().map(|length| length.unwrap_or(0)).collect();
        tensors.push(Tensor { shape, elements });
    }
    if tensors.is_empty() {
        return refuse(format!("expected at least one tensor ({}), got none", spec.describe()));
    }
    Ok(Composite::Sequence(tensors))
}

/// The number of arrays that open here: the rank of the next tensor, if the model leaves it open.
pub(super) fn next_rank(scanner: &Scanner<'_>) -> usize {
    let mut ahead = scanner.clone();
    (0..MAX_DEPTH).take_while(|_| ahead.take(b'[')).count()
}
