//! The categories that a graph's `OneHotEncoder`s know, read from the model file. ONNX Runtime reports only
//! that one of them refused a value, neither which value nor which categories it knows.

use std::collections::HashMap;

use super::onnx_proto::*;
use super::protobuf::{Field, Fields, Value};
use crate::tensor::{Elements, View};

/// TensorProto.DataType.
const INT64: u64 = 7;

/// Limit of the nodes visited between all encoders of a model and its inputs; converters make four for each
/// encoder. A crafted file may have exponentially many paths.
const MAX_VISITS: usize = 10_000;
/// Limit of the recursion along a path.
const MAX_DEPTH: usize = 16;

/// An encoder that takes one column of an input and refuses unknown values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OneHotEncoder {
    pub(crate) input: String,
    /// The position of its value in a row.
    column: usize,
    known: KnownCategories,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum KnownCategories {
    Texts(Vec<String>),
    Numbers(Vec<i64>),
}

/// A value that an encoder refuses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownCategory {
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) value: String,
    /// Some of the known categories.
    pub(crate) known: String,
}

/// True for ONNX Runtime's message about an unknown category.
pub(crate) fn is_refusal(reason: &str) -> bool {
    reason.contains("OneHotEncoder") && reason.contains("Unknown Category")
}

impl OneHotEncoder {
    /// Puts a known value into its column of `row`, a different one for each row if there are enough.
    pub(crate) fn put_known(&self, elements: &mut Elements, row: usize, width: usize) {
        let count = match &self.known {
            KnownCategories::Texts(known) => known.len(),
            KnownCategories::Numbers(known) => known.len(),
        };
        if count == 0 || self.column >= width {
            return;
        }
        let (from, at) = (row % count, row * width + self.column);
        match (&self.known, elements) {
            (KnownCategories::Texts(known), Elements::String(texts)) => texts[at].clone_from(&known[from]),
            (KnownCategories::Numbers(known), Elements::I64(numbers)) => numbers[at] = known[from],
            (KnownCategories::Numbers(known), Elements::F32(numbers)) => numbers[at] = known[from] as f32,
            _ => {}
        }
    }

    /// The first unknown value of its column, in rows of `width` elements.
    pub(crate) fn find_unknown(&self, values: View<'_>, width: usize) -> Option<UnknownCategory> {
        const SHOWN: usize = 20;
        let mut own = (self.column..values.len()).step_by(width.max(1)).enumerate();
        let (row, value, known) = match (&self.known, values) {
            (KnownCategories::Texts(known), View::String(texts)) => {
                let (row, at) = own.find(|(_, at)| !known.contains(&texts[*at]))?;
                (row, format!("{:.100?}", texts[at]), format!("{:?}", &known[..known.len().min(SHOWN)]))
            }
            (KnownCategories::Numbers(known), values) if !matches!(values, View::String(_)) => {
                let numbers = values.to_f64();
                // ONNX Runtime casts floats in the same way.
                let (row, at) = own.find(|(_, at)| !known.contains(&(numbers[*at] as i64)))?;
                (row, numbers[at].to_string(), format!("{:?}", &known[..known.len().min(SHOWN)]))
            }
            _ => return None,
        };
        Some(UnknownCategory { row, column: self.column, value, known })
    }
}

/// The encoders of a model that refuse unknown values and take a column of an input unchanged. Empty if
/// `model` is no ONNX model.
pub(crate) fn encoders(model: &[u8]) -> Vec<OneHotEncoder> {
    let Some(graph) = Fields(model).last(MODEL_GRAPH) else { return Vec::new() };
    let nodes: Vec<Node<'_>> = Fields(graph).named(GRAPH_NODE).flatten().map(Node::of).collect();
    let is_strict = |node: &&Node<'_>| node.operator == b"OneHotEncoder" && node.integer("zeros") == Some(0);
    let strict: Vec<&Node<'_>> = nodes.iter().filter(is_strict).collect();
    if strict.is_empty() {
        return Vec::new();
    }
    let by_output =
        nodes.iter().flat_map(|node| node.outputs.iter().map(move |output| (*output, node))).collect();
    let graph = Graph { graph, by_output };
    let mut visits = MAX_VISITS;
    let encoder = |node: &&Node<'_>| {
        let (input, column) = graph.origin(node.inputs.first()?, 0, &mut visits)?;
        let texts: Vec<String> = node
            .attribute("cats_strings")
            .flat_map(|attribute| Fields(attribute).named(ATTRIBUTE_STRINGS).flatten())
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect();
        let known = if texts.is_empty() {
            KnownCategories::Numbers(
                node.attribute("cats_int64s").flat_map(|found| integers(found, ATTRIBUTE_INTEGERS)).collect(),
            )
        } else {
            KnownCategories::Texts(texts)
        };
        Some(OneHotEncoder { input: String::from_utf8_lossy(input).into_owned(), column, known })
    };
    strict.iter().filter_map(encoder).collect()
}

struct Node<'a> {
    whole: &'a [u8],
    operator: &'a [u8],
    inputs: Vec<&'a [u8]>,
    outputs: Vec<&'a [u8]>,
}

impl<'a> Node<'a> {
    fn of(whole: &'a [u8]) -> Self {
        Self {
            whole,
            operator: Fields(whole).last(NODE_OPERATOR).unwrap_or_default(),
            inputs: Fields(whole).named(NODE_INPUT).flatten().collect(),
            outputs: Fields(whole).named(NODE_OUTPUT).flatten().collect(),
        }
    }

    fn attribute(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let is_it = move |found: &&[u8]| Fields(found).last(ATTRIBUTE_NAME) == Some(name.as_bytes());
        Fields(self.whole).named(NODE_ATTRIBUTE).flatten().filter(is_it)
    }

    fn integer(&self, name: &str) -> Option<i64> {
        self.attribute(name).last().map(|found| Fields(found).varint(ATTRIBUTE_INTEGER).unwrap_or(0) as i64)
    }

    /// True when it works along the elements of a row.
    fn is_along_rows(&self) -> bool {
        matches!(self.integer("axis"), Some(1 | -1))
    }
}

struct Graph<'a> {
    graph: &'a [u8],
    by_output: HashMap<&'a [u8], &'a Node<'a>>,
}

impl<'a> Graph<'a> {
    /// Traces element `column` of a value back to an input and its element of a row.
    fn origin(&self, value: &'a [u8], column: usize, visits: &mut usize) -> Option<(&'a [u8], usize)> {
        let (mut value, mut column) = (value, column);
        loop {
            *visits = visits.checked_sub(1)?;
            let Some(node) = self.by_output.get(value) else {
                return self.inputs().any(|input| named(input) == Some(value)).then_some((value, column));
            };
            match node.operator {
                b"Identity" | b"Cast" => value = node.inputs.first()?,
                b"Gather" | b"ArrayFeatureExtractor" => {
                    column = *self.indices(node)?.get(column)?;
                    value = node.inputs.first()?;
                }
                b"Concat" if node.is_along_rows() => {
                    value = self.part(&node.inputs, &mut column, visits)?;
                }
                _ => return None,
            }
        }
    }

    /// Finds the one of several concatenated values that has element `column`, and makes `column` relative to
    /// it.
    fn part(&self, parts: &[&'a [u8]], column: &mut usize, visits: &mut usize) -> Option<&'a [u8]> {
        for part in parts {
            let width = self.width(part, MAX_DEPTH, visits)?;
            if *column < width {
                return Some(part);
            }
            *column -= width;
        }
        None
    }

    /// Elements in a row of this value.
    fn width(&self, value: &[u8], depth: usize, visits: &mut usize) -> Option<usize> {
        let depth = depth.checked_sub(1)?;
        *visits = visits.checked_sub(1)?;
        let Some(node) = self.by_output.get(value) else {
            let input = self.inputs().find(|input| named(input) == Some(value))?;
            return second_dimension(input);
        };
        match node.operator {
            b"Identity" | b"Cast" => self.width(node.inputs.first()?, depth, visits),
            b"Gather" | b"ArrayFeatureExtractor" => Some(self.indices(node)?.len()),
            b"Concat" if node.is_along_rows() => {
                node.inputs.iter().map(|part| self.width(part, depth, visits)).sum()
            }
            _ => None,
        }
    }

    /// The elements of a row that a node selects; `None` unless they are constant.
    fn indices(&self, node: &Node<'_>) -> Option<Vec<usize>> {
        if node.operator == b"Gather" && !node.is_along_rows() {
            return None;
        }
        let name = *node.inputs.get(1)?;
        let mut constants = Fields(self.graph).named(GRAPH_INITIALIZER).flatten();
        let tensor = constants.find(|tensor| Fields(tensor).last(TENSOR_NAME) == Some(name))?;
        if Fields(tensor).varint(TENSOR_DATA_TYPE) != Some(INT64) {
            return None;
        }
        let own: Vec<i64> = match Fields(tensor).last(TENSOR_BYTES) {
            Some(bytes) => bytes.as_chunks().0.iter().map(|number| i64::from_le_bytes(*number)).collect(),
            None => integers(tensor, TENSOR_INTEGERS).collect(),
        };
        own.into_iter().map(|index| usize::try_from(index).ok()).collect()
    }

    fn inputs(&self) -> impl Iterator<Item = &'a [u8]> {
        Fields(self.graph).named(GRAPH_INPUT).flatten()
    }
}

/// The name of a ValueInfoProto.
fn named(value: &[u8]) -> Option<&[u8]> {
    Fields(value).last(VALUE_NAME)
}

/// The length of the second dimension of a ValueInfoProto.
fn second_dimension(value: &[u8]) -> Option<usize> {
    let shape = Fields(Fields(Fields(value).last(VALUE_TYPE)?).last(TYPE_TENSOR)?).last(TYPE_SHAPE)?;
    let second = Fields(shape).named(1).flatten().nth(1)?;
    usize::try_from(Fields(second).varint(1)?).ok()
}

/// Integers of this field, packed or not.
fn integers(message: &[u8], number: u64) -> impl Iterator<Item = i64> {
    let all = Fields(message).flatten().filter(move |field| field.number == number);
    all.flat_map(|Field { value, .. }| match value {
        Value::Varint(value) => vec![value as i64],
        Value::Bytes(packed) => super::protobuf::varints(packed).map(|value| value as i64).collect(),
        Value::Fixed => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = encoders(&bytes);
        }
    }

    /// Twelve nodes that each concatenate the output of the one before sixteen times: 2^48 paths to the
    /// input.
    #[test]
    fn exponentially_many_paths_are_cut_off() {
        use super::super::protobuf::Message;
        let node = |operator: &str, input: &str, times: usize, output: &str, attribute: Message| {
            let node = Message::default().bytes(NODE_OUTPUT, output).bytes(NODE_OPERATOR, operator);
            let node = (0..times).fold(node, |node, _| node.bytes(NODE_INPUT, input));
            node.bytes(NODE_ATTRIBUTE, attribute)
        };
        let attribute = |name: &str, value| {
            Message::default().bytes(ATTRIBUTE_NAME, name).number(ATTRIBUTE_INTEGER, value)
        };
        let mut graph = Message::default();
        for number in 0..12 {
            let (from, to) = (format!("x{number}"), format!("x{}", number + 1));
            graph = graph.bytes(GRAPH_NODE, node("Concat", &from, 16, &to, attribute("axis", 1)));
        }
        graph = graph.bytes(GRAPH_NODE, node("OneHotEncoder", "x12", 1, "y", attribute("zeros", 0)));
        let dimension = Message::default().number(1, 1);
        let shape = Message::default().bytes(1, &dimension).bytes(1, &dimension);
        let tensor = Message::default().bytes(1, Message::default().bytes(2, shape));
        graph = graph.bytes(GRAPH_INPUT, Message::default().bytes(1, "x0").bytes(2, tensor));
        assert!(encoders(&Message::default().bytes(MODEL_GRAPH, graph).0).is_empty());
    }
}
