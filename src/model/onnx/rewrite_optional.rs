//! Rewrites the optional inputs and outputs of a graph as plain ones, since the binding to ONNX Runtime
//! cannot pass optional values. PyTorch makes them: `torch.onnx.export(torch.jit.script(module), …,
//! dynamo=False)` for a parameter of type `Optional[Tensor]`.
//!
//! An optional `x` is replaced by two values, in this order: its content, and a bool that is true when it has
//! content. An `If` before the graph's own nodes makes the optional input from the two; another one after
//! them splits the optional output. The nodes themselves, the weights and everything else are unchanged, byte
//! for byte.

use super::model_file::NOT_ONNX;
use super::onnx_proto::*;
use super::protobuf::{Fields, Message, Value};

/// AttributeProto.AttributeType.
const INTEGER: u64 = 2;
const TENSOR: u64 = 4;
const GRAPH: u64 = 5;
const TYPE_PROTO: u64 = 13;
/// TensorProto.DataType.
const BOOL: u64 = 9;

/// Prefixes of the new values' names.
const VALUE: &str = "predictd.value.";
const PRESENCE: &str = "predictd.presence.";
/// Prefixes of the names in the branches, which must differ from all names outside.
const FULL: &str = "predictd.full.";
const EMPTY: &str = "predictd.empty.";

/// The same model without optional inputs of tensors and optional outputs of tensors or sequences of tensors.
/// Optional values of other types are unchanged.
///
/// # Errors
/// A sentence when `bytes` are no protobuf message.
pub(crate) fn rewrite(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let rewritten = || {
        let mut out = Message(Vec::with_capacity(bytes.len() + 1024));
        for field in Fields(bytes) {
            let field = field?;
            out = match field.value {
                Value::Bytes(content) if field.number == MODEL_GRAPH => {
                    out.bytes(MODEL_GRAPH, rewrite_graph(content)?)
                }
                _ => out.raw(field.whole),
            };
        }
        Some(out.0)
    };
    rewritten().ok_or_else(|| NOT_ONNX.to_owned())
}

fn rewrite_graph(bytes: &[u8]) -> Option<Message> {
    // Nodes must be in the order in which they run.
    let (mut before, mut own, mut after) = (Message::default(), Message::default(), Message::default());
    for field in Fields(bytes) {
        let field = field?;
        let optional = match field.number {
            GRAPH_INPUT | GRAPH_OUTPUT => field.value.bytes().and_then(OptionalValue::of),
            _ => None,
        };
        match (field.number, optional) {
            (GRAPH_INPUT, Some(input)) if !input.is_sequence => {
                own = input.declare(own, GRAPH_INPUT);
                before = before.bytes(GRAPH_NODE, input.join());
            }
            (GRAPH_OUTPUT, Some(output)) => {
                own = output.declare(own, GRAPH_OUTPUT);
                after = after.bytes(GRAPH_NODE, output.presence()).bytes(GRAPH_NODE, output.content());
            }
            _ => own = own.raw(field.whole),
        }
    }
    Some(before.raw(&own.0).raw(&after.0))
}

/// One optional input or output.
struct OptionalValue<'a> {
    name: &'a [u8],
    /// The tensors' TensorProto.DataType.
    element: u64,
    is_sequence: bool,
}

impl<'a> OptionalValue<'a> {
    fn of(declared: &'a [u8]) -> Option<Self> {
        let name = Fields(declared).last(VALUE_NAME)?;
        let optional = Fields(Fields(declared).last(VALUE_TYPE)?).last(TYPE_OPTIONAL)?;
        let held = Fields(optional).last(TYPE_ELEMENT)?;
        let sequence = Fields(held).last(TYPE_SEQUENCE);
        let held = match sequence {
            Some(sequence) => Fields(sequence).last(TYPE_ELEMENT)?,
            None => held,
        };
        let element = Fields(Fields(held).last(TYPE_TENSOR)?).varint(TYPE_ELEMENT)?;
        Some(Self { name, element, is_sequence: sequence.is_some() })
    }

    fn name(&self, prefix: &str) -> Vec<u8> {
        [prefix.as_bytes(), self.name].concat()
    }

    /// The type of the content, without a shape, since a missing value has another shape.
    fn content_type(&self) -> Message {
        let tensor = Message::default().number(TYPE_ELEMENT, self.element);
        let tensor = Message::default().bytes(TYPE_TENSOR, tensor);
        if !self.is_sequence {
            return tensor;
        }
        let sequence = Message::default().bytes(TYPE_ELEMENT, tensor);
        Message::default().bytes(TYPE_SEQUENCE, sequence)
    }

    fn optional_type(&self) -> Message {
        let optional = Message::default().bytes(TYPE_ELEMENT, self.content_type());
        Message::default().bytes(TYPE_OPTIONAL, optional)
    }

    /// Declares the two values that replace it, as inputs or outputs of the graph.
    fn declare(&self, graph: Message, number: u64) -> Message {
        let flag = Message::default().number(TYPE_ELEMENT, BOOL).bytes(TYPE_SHAPE, []);
        let flag = Message::default().bytes(TYPE_TENSOR, flag);
        graph
            .bytes(number, declaration(&self.name(VALUE), self.content_type()))
            .bytes(number, declaration(&self.name(PRESENCE), flag))
    }

    /// The node that makes the optional input from the two values.
    fn join(&self) -> Message {
        let full = operator("Optional", &[&self.name(VALUE)], &self.name(FULL));
        let empty = operator("Optional", &[], &self.name(EMPTY))
            .bytes(NODE_ATTRIBUTE, attribute("type", TYPE_PROTO, ATTRIBUTE_TYPE_PROTO, self.content_type()));
        self.choose(full, empty, self.name, self.optional_type())
    }

    fn presence(&self) -> Message {
        operator("OptionalHasElement", &[self.name], &self.name(PRESENCE))
    }

    /// The node that gives the content of the optional output, or an empty value.
    fn content(&self) -> Message {
        let full = operator("OptionalGetElement", &[self.name], &self.name(FULL));
        let empty = if self.is_sequence {
            let element = Message::default()
                .bytes(ATTRIBUTE_NAME, "dtype")
                .number(ATTRIBUTE_INTEGER, self.element)
                .number(ATTRIBUTE_TYPE, INTEGER);
            operator("SequenceEmpty", &[], &self.name(EMPTY)).bytes(NODE_ATTRIBUTE, element)
        } else {
            let nothing =
                Message::default().number(TENSOR_DIMENSIONS, 0).number(TENSOR_DATA_TYPE, self.element);
            operator("Constant", &[], &self.name(EMPTY))
                .bytes(NODE_ATTRIBUTE, attribute("value", TENSOR, ATTRIBUTE_TENSOR, nothing))
        };
        self.choose(full, empty, &self.name(VALUE), self.content_type())
    }

    /// The node that gives `full` as `output` if the flag is true, otherwise `empty`.
    fn choose(&self, full: Message, empty: Message, output: &[u8], output_type: Message) -> Message {
        let branch = |name: &str, only: Message, given: &str| {
            let graph = Message::default()
                .bytes(GRAPH_NODE, only)
                .bytes(GRAPH_NAME, name)
                .bytes(GRAPH_OUTPUT, declaration(&self.name(given), &output_type));
            attribute(name, GRAPH, ATTRIBUTE_GRAPH, graph)
        };
        operator("If", &[&self.name(PRESENCE)], output)
            .bytes(NODE_ATTRIBUTE, branch("then_branch", full, FULL))
            .bytes(NODE_ATTRIBUTE, branch("else_branch", empty, EMPTY))
    }
}

fn declaration(name: &[u8], declared: impl AsRef<[u8]>) -> Message {
    Message::default().bytes(VALUE_NAME, name).bytes(VALUE_TYPE, declared)
}

fn operator(name: &str, inputs: &[&[u8]], output: &[u8]) -> Message {
    let inputs = inputs.iter().fold(Message::default(), |message, input| message.bytes(NODE_INPUT, input));
    inputs.bytes(NODE_OUTPUT, output).bytes(NODE_OPERATOR, name)
}

/// An attribute whose value is a message, stored in the given field.
fn attribute(name: &str, kind: u64, field: u64, value: Message) -> Message {
    Message::default().bytes(ATTRIBUTE_NAME, name).bytes(field, value).number(ATTRIBUTE_TYPE, kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tensor_of(element: u64) -> Message {
        let tensor = Message::default().number(1, element).bytes(2, Message::default().bytes(1, []));
        Message::default().bytes(1, tensor)
    }

    fn optional(held: Message) -> Message {
        Message::default().bytes(9, Message::default().bytes(1, held))
    }

    fn model(fields: &[Message]) -> Vec<u8> {
        let graph = fields.iter().fold(Message::default().bytes(2, "g"), |graph, field| graph.raw(&field.0));
        Message::default().number(1, 10).bytes(7, graph).bytes(8, Message::default().number(2, 21)).0
    }

    fn field(number: u64, content: Message) -> Message {
        Message::default().bytes(number, content)
    }

    /// The names in a field of the graph.
    fn names(model: &[u8], number: u64, inner: u64) -> Vec<String> {
        let graph = Fields(model).last(7).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let name = |field: Option<&[u8]>| text(Fields(field.unwrap()).last(inner).unwrap());
        Fields(graph).named(number).map(name).collect()
    }

    #[test]
    fn values_and_flags_replace_optional_values() {
        let node = Message::default().bytes(1, "x").bytes(2, "y").bytes(4, "Identity");
        let sequence = Message::default().bytes(4, Message::default().bytes(1, tensor_of(8)));
        let before = model(&[
            field(1, node),
            field(11, declaration(b"x", optional(tensor_of(1)))),
            field(11, declaration(b"plain", tensor_of(7))),
            field(12, declaration(b"y", optional(tensor_of(1)))),
            field(12, declaration(b"parts", optional(sequence))),
        ]);
        let after = rewrite(&before).unwrap();
        assert_eq!(names(&after, 11, 1), ["predictd.value.x", "predictd.presence.x", "plain"]);
        let outputs =
            ["predictd.value.y", "predictd.presence.y", "predictd.value.parts", "predictd.presence.parts"];
        assert_eq!(names(&after, 12, 1), outputs);
        let operators = ["If", "Identity", "OptionalHasElement", "If", "OptionalHasElement", "If"];
        assert_eq!(names(&after, 1, 4), operators);
        assert_eq!(names(&after, 1, 2)[0], "x");
        // The fields besides the graph are unchanged.
        assert_eq!(Fields(&after).varint(1), Some(10));
        assert_eq!(Fields(&after).last(8), Fields(&before).last(8));
    }

    #[test]
    fn everything_else_is_unchanged() {
        let sequence = Message::default().bytes(4, Message::default().bytes(1, tensor_of(1)));
        let map = Message::default().bytes(5, Message::default().number(1, 8));
        let before = model(&[
            field(11, declaration(b"x", tensor_of(1))),
            // Requests cannot give sequences of tensors.
            field(11, declaration(b"parts", optional(sequence))),
            field(12, declaration(b"y", optional(map))),
            field(12, declaration(b"z", tensor_of(1))),
        ]);
        assert_eq!(rewrite(&before), Ok(before));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, at: proptest::sample::Index, byte: u8) {
            let _ = rewrite(&bytes);
            let mut broken = model(&[
                field(11, declaration(b"x", optional(tensor_of(1)))),
                field(12, declaration(b"y", optional(tensor_of(1)))),
            ]);
            let at = at.index(broken.len());
            broken[at] = byte;
            let _ = rewrite(&broken);
            broken.truncate(at);
            let _ = rewrite(&broken);
        }
    }
}
