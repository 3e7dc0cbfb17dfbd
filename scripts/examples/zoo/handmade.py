"""Models for what ONNX allows and no framework's exporter makes: made by onnx.helper, expected from numpy.

Every function gives one folder. Expected values are written down or computed with numpy, never by ONNX Runtime.
"""

from __future__ import annotations

from typing import Union

import numpy as np
import onnx
from common import BFLOAT16, Case, Example, write
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, checker, helper, numpy_helper

OPSET = {"": 21, "ai.onnx.ml": 3}
IR_VERSION = 10
FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
ROWS = "rows"
EXPORTER = f"onnx {onnx.__version__} helper"
Dimension = Union[str, int, None]
ROWS_OF_THREE = np.array([[1, 2, 3], [-0.5, 0.25, 8]], np.float32)


def tensor(name: str, element: int, *shape: Dimension) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def typed(name: str, kind: TypeProto) -> ValueInfoProto:
    return helper.make_value_info(name, kind)


def tensor_type(element: int, *shape: Dimension) -> TypeProto:
    return helper.make_tensor_type_proto(element, shape)


def node(operator: str, inputs: str, outputs: str, **attributes) -> NodeProto:
    """`inputs` and `outputs` are names with blanks between them."""
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def ml_node(operator: str, inputs: str, outputs: str, **attributes) -> NodeProto:
    return node(operator, inputs, outputs, domain="ai.onnx.ml", **attributes)


def build(
    nodes: list[NodeProto],
    inputs: list[ValueInfoProto],
    outputs: list[ValueInfoProto],
    constants: dict[str, np.ndarray] | None = None,
    opset: dict[str, int] = OPSET,
    ir: int = IR_VERSION,
    check: bool = True,
) -> ModelProto:
    tensors = [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()]
    graph = helper.make_graph(nodes, "example", inputs, outputs, tensors)
    opsets = [helper.make_opsetid(domain, version) for domain, version in opset.items()]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir, producer_name="predictd-examples")
    if check:
        checker.check_model(model)
    return model


def example(name: str, special: str, model: ModelProto, *cases: Case, files=None, tolerance=1e-6) -> Example:
    files = {"model.onnx": model.SerializeToString(deterministic=True), **(files or {})}
    return Example(name, EXPORTER, special, files, list(cases), f"numpy {np.__version__}", tolerance)


def same(name: str, special: str, element: int, values: np.ndarray) -> Example:
    """y = x, bit for bit."""
    shape = (ROWS, *values.shape[1:])
    model = build([node("Identity", "x", "y")], [tensor("x", element, *shape)], [tensor("y", element, *shape)])
    records = values.astype(np.float32).tolist() if values.dtype == BFLOAT16 else list(values)
    return example(name, special, model, Case("rows", {"x": values}, {"y": values}, records), tolerance=0)


def every_same() -> list[Example]:
    signed, unsigned = np.iinfo(np.int64), np.iinfo(np.uint64)
    longs = np.array([[signed.min, signed.max], [2**53 + 1, -(2**53) - 1], [0, -1]], np.int64)
    unsigned_longs = np.array([[unsigned.max, 0], [2**63, 2**53 + 1]], np.uint64)
    halves = np.array([[0.1, 65504, -2], [6e-8, np.inf, np.nan]], np.float16)
    brains = np.array([[0.1, 3e38, -2], [1e-38, np.inf, np.nan]], BFLOAT16)
    texts = np.array([["ab", ""], ["grün 🍷", '"quoted"\n\t\\'], ["NaN", "1e3"]], dtype=object)
    truths = np.array([[True, False], [False, False]])
    return [
        same("int64-extremes", "both ends of int64, and what a double cannot hold", INT64, longs),
        same("uint64-max", "the largest uint64", TensorProto.UINT64, unsigned_longs),
        same("float16", "float16 in and out, with infinity and NaN", TensorProto.FLOAT16, halves),
        same("bfloat16", "bfloat16 in and out, with infinity and NaN", TensorProto.BFLOAT16, brains),
        same("string-identity", "text in and out", STRING, texts),
        same("bool", "bool in and out", TensorProto.BOOL, truths),
    ]


def sequence_output() -> Example:
    nodes = [
        node("SplitToSequence", "x", "by_row", axis=0, keepdims=0),
        node("SplitToSequence", "x", "by_column", axis=1, keepdims=1),
    ]
    outputs = [
        helper.make_tensor_sequence_value_info("by_row", FLOAT, (3,)),
        helper.make_tensor_sequence_value_info("by_column", FLOAT, (ROWS, 1)),
    ]
    x = ROWS_OF_THREE
    expected = {"by_row": list(x), "by_column": list(x.T[:, :, None])}
    special = "two sequences of tensors: one element a row, and one element a column (rows inside)"
    model = build(nodes, [tensor("x", FLOAT, ROWS, 3)], outputs)
    return example("sequence-output", special, model, Case("rows", {"x": x}, expected, list(x)))


def sequence_input() -> Example:
    taken = helper.make_tensor_sequence_value_info("parts", FLOAT, (None,))
    model = build([node("ConcatFromSequence", "parts", "y", axis=0)], [taken], [tensor("y", FLOAT, None)])
    parts = [np.array([1, 2], np.float32), np.array([3], np.float32)]
    case = Case("two parts", {"parts": parts}, {"y": np.array([1, 2, 3], np.float32)}, batched=False)
    return example("sequence-input", "the input is a sequence of tensors", model, case)


def maps() -> list[Example]:
    made = []
    for name, keys, attribute, element in (
        ("map-integers", [7, -1, 2**53 + 1], "classlabels_int64s", INT64),
        ("map-strings", ["red", "grün", ""], "classlabels_strings", STRING),
    ):
        zip_map = ml_node("ZipMap", "x", "scores", **{attribute: keys})
        kind = helper.make_sequence_type_proto(helper.make_map_type_proto(element, tensor_type(FLOAT)))
        model = build([zip_map], [tensor("x", FLOAT, ROWS, 3)], [typed("scores", kind)])
        x = ROWS_OF_THREE
        case = Case("rows", {"x": x}, {"scores": [dict(zip(keys, row)) for row in x]}, list(x))
        special = "nothing but a ZipMap: keys " + ("beyond 2^53 and below 0" if element == INT64 else "of any text")
        made.append(example(name, special, model, case))
    return made


def optional_output() -> Example:
    """`there` holds x, `absent` nothing."""
    kind = helper.make_optional_type_proto(tensor_type(FLOAT, ROWS, 3))
    absent = node("Optional", "", "absent", type=tensor_type(FLOAT, ROWS, 3))
    outputs = [typed("there", kind), typed("absent", kind)]
    model = build([node("Optional", "x", "there"), absent], [tensor("x", FLOAT, ROWS, 3)], outputs)
    x = ROWS_OF_THREE
    case = Case("rows", {"x": x}, {"there": x, "absent": None}, list(x))
    return example("optional-output", "one optional output that is there, one that is not", model, case)


def optional_input() -> Example:
    """y is whether x is there."""
    kind = helper.make_optional_type_proto(tensor_type(FLOAT, ROWS))
    model = build([node("OptionalHasElement", "x", "y")], [typed("x", kind)], [tensor("y", TensorProto.BOOL)])
    there = Case("there", {"x": np.array([1], np.float32)}, {"y": np.array(True)}, batched=False)
    absent = Case("absent", {"x": None}, {"y": np.array(False)}, batched=False)
    return example("optional-input", "the input may be left out; output of rank 0", model, there, absent)


def either(condition: str, output: str, kind: TypeProto, then: list[NodeProto], other: list[NodeProto]) -> NodeProto:
    """An If whose branches give their last node's output."""

    def branch(name: str, nodes: list[NodeProto]):
        return helper.make_graph(nodes, name, [], [typed(nodes[-1].output[0], kind)])

    return node("If", condition, output, then_branch=branch("then", then), else_branch=branch("else", other))


def optional_sequence_input() -> Example:
    kind = helper.make_optional_type_proto(helper.make_sequence_type_proto(tensor_type(FLOAT, None)))
    model = build([node("OptionalHasElement", "parts", "y")], [typed("parts", kind)], [tensor("y", TensorProto.BOOL)])
    there = Case("there", {"parts": [np.array([1], np.float32)]}, {"y": np.array(True)}, batched=False)
    absent = Case("absent", {"parts": None}, {"y": np.array(False)}, batched=False)
    return example("optional-sequence-input", "the input is an optional sequence of tensors", model, there, absent)


def optional_weights() -> Example:
    """y is x times the weights, where there are any; only then is there `total`, the sum of each row's weights."""
    matrix, total_type = tensor_type(FLOAT, ROWS, 3), tensor_type(FLOAT, ROWS)
    nodes = [
        node("OptionalHasElement", "weights", "weighted"),
        either(
            "weighted",
            "y",
            matrix,
            [node("OptionalGetElement", "weights", "factors"), node("Mul", "x factors", "product")],
            [node("Identity", "x", "unchanged")],
        ),
        either(
            "weighted",
            "total",
            helper.make_optional_type_proto(total_type),
            [
                node("OptionalGetElement", "weights", "summands"),
                node("ReduceSum", "summands last", "sums", keepdims=0),
                node("Optional", "sums", "some"),
            ],
            [node("Optional", "", "none", type=total_type)],
        ),
    ]
    inputs = [tensor("x", FLOAT, ROWS, 3), typed("weights", helper.make_optional_type_proto(matrix))]
    outputs = [tensor("y", FLOAT, ROWS, 3), typed("total", helper.make_optional_type_proto(total_type))]
    model = build(nodes, inputs, outputs, {"last": np.array([1], np.int64)})
    x, weights = ROWS_OF_THREE, np.array([[1, 0, -2], [4, 0.5, 0.25]], np.float32)
    expected = {"y": x * weights, "total": weights.sum(1)}
    records = [{"x": a, "weights": b} for a, b in zip(x, weights)]
    given = Case("given", {"x": x, "weights": weights}, expected, records)
    records = [{"x": row} for row in x]
    left_out = Case("left out", {"x": x, "weights": None}, {"y": x, "total": None}, records)
    special = "an optional input beside a plain one, and an optional output that is there when the input is"
    return example("optional-weights", special, model, given, left_out)


def is_above_zero() -> list:
    """The nodes that compute whether all of `x` is above `zero`."""
    return [node("ReduceMin", "x", "least", keepdims=0), node("Greater", "least zero", "above")]


def optional_sequence() -> Example:
    """Where all is above 0, the columns as a sequence of tensors and the sum; nothing otherwise."""
    part, number = tensor_type(FLOAT, ROWS, 1), tensor_type(FLOAT)
    parts = helper.make_sequence_type_proto(part)
    several, one = helper.make_optional_type_proto(parts), helper.make_optional_type_proto(number)
    nodes = [
        *is_above_zero(),
        either(
            "above",
            "columns",
            several,
            [node("SplitToSequence", "x", "split", axis=1), node("Optional", "split", "some")],
            [node("Optional", "", "none", type=parts)],
        ),
        either(
            "above",
            "sum",
            one,
            [node("ReduceSum", "x", "added", keepdims=0), node("Optional", "added", "some_sum")],
            [node("Optional", "", "no_sum", type=number)],
        ),
    ]
    model = build(
        nodes,
        [tensor("x", FLOAT, ROWS, 3)],
        [typed("columns", several), typed("sum", one)],
        {"zero": np.array(0, np.float32)},
    )
    cases = []
    for name, x in (("above 0", abs(ROWS_OF_THREE)), ("not above 0", ROWS_OF_THREE)):
        above = x.min() > 0
        expected = {"columns": list(x.T[:, :, None]) if above else None, "sum": x.sum() if above else None}
        cases.append(Case(name, {"x": x}, expected))
    special = "the input decides whether an optional sequence of tensors and an optional number are there"
    return example("optional-sequence", special, model, *cases)


def optional_external() -> Example:
    """y = x times a matrix that lies in a file beside the model."""
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4) / 4
    kind = helper.make_optional_type_proto(tensor_type(FLOAT, ROWS, 4))
    nodes = [node("MatMul", "x matrix", "product"), node("Optional", "product", "y")]
    model = build(nodes, [tensor("x", FLOAT, ROWS, 3)], [typed("y", kind)], {"matrix": matrix})
    (weight,) = model.graph.initializer
    onnx.external_data_helper.set_external_data(weight, "matrix.bin", 0, len(weight.raw_data))
    files = {"matrix.bin": bytes(weight.raw_data)}
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    x = ROWS_OF_THREE
    case = Case("rows", {"x": x}, {"y": x @ matrix}, list(x))
    return example("optional-external", "an optional output, and weights in `matrix.bin`", model, case, files=files)


def optional_chain() -> Example:
    """`preprocess.onnx` gives weights where all is above 0, the model the weights, `postprocess.onnx` what is there."""
    row = tensor_type(FLOAT, ROWS, 3)
    kind = helper.make_optional_type_proto(row)
    x = tensor("x", FLOAT, ROWS, 3)
    check = [
        *is_above_zero(),
        either(
            "above",
            "weights",
            kind,
            [node("Add", "x x", "twice"), node("Optional", "twice", "some")],
            [node("Optional", "", "none", type=row)],
        ),
    ]
    before = build(check, [x], [typed("weights", kind)], {"zero": np.array(0, np.float32)})
    nodes = [node("Identity", "weights", "maybe"), node("Neg", "x", "always")]
    model = build(nodes, [x, typed("weights", kind)], [typed("maybe", kind), tensor("always", FLOAT, ROWS, 3)])
    look = [
        node("OptionalHasElement", "maybe", "has_maybe"),
        node("OptionalHasElement", "always", "has_always"),
        node("OptionalGetElement", "always", "result"),
        node("Identity", "maybe", "kept"),
    ]
    flags = [tensor("has_maybe", TensorProto.BOOL), tensor("has_always", TensorProto.BOOL)]
    after = build(
        look,
        [typed("maybe", kind), typed("always", kind)],
        [*flags, tensor("result", FLOAT, ROWS, 3), typed("kept", kind)],
    )
    cases = []
    for name, values in (("above 0", abs(ROWS_OF_THREE)), ("not above 0", ROWS_OF_THREE)):
        above = values.min() > 0
        expected = {"has_maybe": above, "has_always": True, "result": -values, "kept": 2 * values if above else None}
        expected |= {key: np.array(expected[key]) for key in ("has_maybe", "has_always")}
        cases.append(Case(name, {"x": values}, expected))
    files = {
        "preprocess.onnx": before.SerializeToString(deterministic=True),
        "postprocess.onnx": after.SerializeToString(deterministic=True),
        "model.yaml": b"preprocess: preprocess.onnx\npostprocess: postprocess.onnx\n",
    }
    special = "an optional value from graph to graph, and a plain one to a graph that takes it as optional"
    return example("optional-chain", special, model, *cases, files=files)


def map_inputs() -> list[Example]:
    """Every kind of map that an operator takes, and a tensor. Not all can be given to ONNX Runtime from Python."""
    reachable = {
        "text_to_float": (STRING, FLOAT, np.float32),
        "integer_to_float": (INT64, FLOAT, np.float32),
    }
    others = {
        "text_to_integer": (STRING, INT64, np.int64),
        "text_to_double": (STRING, TensorProto.DOUBLE, np.float64),
        "integer_to_double": (INT64, TensorProto.DOUBLE, np.float64),
        "integer_to_text": (INT64, STRING, object),
    }
    special = "maps of texts and of int64s to float32, and a tensor"
    beyond = "maps to int64, float64 and text, also empty, and a tensor; Python's ONNX Runtime cannot be given these"
    model, full, _ = map_input(reachable)
    return [example("map-inputs", special, model, full), example("map-inputs-other", beyond, *map_input(others))]


def map_input(kinds: dict[str, tuple[int, int, type]]) -> tuple[ModelProto, Case, Case]:
    vocabularies = {STRING: ["red", "grün", ""], INT64: [7, -1, 2**53 + 1]}
    numbers = {np.float32: [0.5, -2], np.float64: [0.1, 1e300], np.int64: [2**53 + 1, -3], object: ["a", "ü"]}
    nodes, inputs, outputs = [], [tensor("x", FLOAT, 2)], [tensor("twice", FLOAT, 2)]
    given, expected, nothing = {}, {}, {}
    for name, (key, value, dtype) in kinds.items():
        words = vocabularies[key]
        vocabulary = {"string_vocabulary" if key == STRING else "int64_vocabulary": words}
        nodes.append(ml_node("DictVectorizer", name, f"{name}_row", **vocabulary))
        inputs.append(typed(name, helper.make_map_type_proto(key, tensor_type(value))))
        outputs.append(tensor(f"{name}_row", value, None, None))
        # One word that the vocabulary lacks, and one of it that is not there.
        unknown = "other" if key == STRING else 0
        given[name] = {words[2]: numbers[dtype][0], unknown: numbers[dtype][1], words[0]: numbers[dtype][1]}
        missing = "" if dtype is object else 0
        expected[f"{name}_row"] = np.array([[given[name].get(word, missing) for word in words]], dtype)
        nothing[f"{name}_row"] = np.array([[missing] * 3], dtype)
    nodes.append(node("Add", "x x", "twice"))
    x = np.array([1, -0.5], np.float32)
    full = Case("maps", {"x": x, **given}, {"twice": x + x, **expected}, batched=False)
    empty = Case("empty maps", {"x": x, **{name: {} for name in given}}, {"twice": x + x, **nothing}, batched=False)
    return build(nodes, inputs, outputs), full, empty


def sequence_inputs() -> Example:
    """Sequences of every type, whose tensors need not have one shape or rank; the last of each comes back."""
    integers = (f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
    nodes, inputs, outputs, given, expected = [], [], [], {}, {}
    for name in ("bool", *integers, "float16", "float", "double", "string"):
        element = TensorProto.DataType.Value(name.upper())
        dtype = helper.tensor_dtype_to_np_dtype(element)
        inputs.append(helper.make_tensor_sequence_value_info(name, element, None))
        outputs.append(helper.make_tensor_value_info(f"last_{name}", element, None))
        nodes.append(node("SequenceAt", f"{name} last", f"last_{name}"))
        values = np.array([["a", "ü"], ["", "b"]], object) if name == "string" else np.array([[0, 1], [1, 0]], dtype)
        given[name] = [values[0], values[0][:0], values]
        expected[f"last_{name}"] = values
    model = build(nodes, inputs, outputs, {"last": np.array(-1, np.int64)}, check=False)
    special = "an input sequence of every type, of tensors of several ranks"
    return example("sequence-inputs", special, model, Case("three each", given, expected, batched=False))


def zero_size() -> Example:
    nodes = [node("Concat", "x nothing", "joined", axis=1), node("Identity", "nothing", "still_nothing")]
    inputs = [tensor("x", FLOAT, ROWS, 3), tensor("nothing", FLOAT, ROWS, 0)]
    outputs = [tensor("joined", FLOAT, ROWS, 3), tensor("still_nothing", FLOAT, ROWS, 0)]
    x = ROWS_OF_THREE
    cases = []
    for name, rows in (("two rows", x), ("no rows", x[:0])):
        nothing = np.zeros((len(rows), 0), np.float32)
        expected = {"joined": rows, "still_nothing": nothing}
        records = [{"x": row, "nothing": []} for row in rows]
        cases.append(Case(name, {"x": rows, "nothing": nothing}, expected, records))
    return example("zero-size", "a dimension of 0, and a batch of no rows", build(nodes, inputs, outputs), *cases)


def scalar() -> Example:
    model = build([node("Add", "x x", "y")], [tensor("x", FLOAT)], [tensor("y", FLOAT)])
    case = Case("a number", {"x": np.array(1.5, np.float32)}, {"y": np.array(3, np.float32)}, batched=False)
    return example("scalar", "input and output of rank 0", model, case)


def symbolic_dims() -> Example:
    nodes = [
        node("ReduceSum", "frames features", "total", keepdims=0),
        node("Shape", "frames", "steps", start=1, end=2),
        node("Concat", "left right", "both", axis=1),
    ]
    inputs = [
        tensor("frames", FLOAT, "batch", "time", "width"),
        tensor("left", FLOAT, "batch", "n"),
        tensor("right", FLOAT, "batch", "m"),
    ]
    outputs = [
        tensor("total", FLOAT, "batch", "time"),
        tensor("steps", INT64, 1),
        tensor("both", FLOAT, "batch", "n + m"),
    ]
    model = build(nodes, inputs, outputs, {"features": np.array([2], np.int64)})
    cases = []
    for name, rows, time, width in (("two rows", 2, 3, 2), ("one row, longer", 1, 4, 1)):
        frames = np.arange(rows * time * width, dtype=np.float32).reshape(rows, time, width)
        left, right = np.ones((rows, 2), np.float32), np.zeros((rows, 1), np.float32)
        expected = {
            "total": frames.sum(2),
            "steps": np.array([time], np.int64),
            "both": np.concatenate([left, right], 1),
        }
        records = [{"frames": a, "left": b, "right": c} for a, b, c in zip(frames, left, right)]
        cases.append(Case(name, {"frames": frames, "left": left, "right": right}, expected, records))
    special = "five symbolic dimensions, an output `[batch, n + m]`, and an output `[1]` that has no rows"
    return example("symbolic-dims", special, model, *cases)


def unknown_shape() -> Example:
    """Input and output declare no shape at all, not even how many dimensions."""
    inputs, outputs = ([helper.make_tensor_value_info(name, FLOAT, None)] for name in ("x", "y"))
    model = build(
        [node("Add", "x x", "y")], inputs, outputs, check=False
    )  # ONNX Runtime takes what the checker does not
    cases = [
        Case(f"rank {x.ndim}", {"x": x}, {"y": x + x}, list(x))
        for x in (ROWS_OF_THREE, ROWS_OF_THREE[0], ROWS_OF_THREE[None])
    ]
    return example("unknown-shape", "no shape is declared, any rank goes", model, *cases)


def unknown_shape_chain() -> Example:
    """`preprocess.onnx` says how many dimensions `x` has, the model, which takes it too, does not."""
    x, twice = tensor("x", FLOAT, ROWS, 3), tensor("twice", FLOAT, ROWS, 3)
    before = build([node("Add", "x x", "twice")], [x], [twice])
    open_x = helper.make_tensor_value_info("x", FLOAT, None)
    y = tensor("y", FLOAT, ROWS, 3)
    model = build([node("Mul", "x twice", "y")], [twice, open_x], [y], check=False)
    case = Case("rows", {"x": ROWS_OF_THREE}, {"y": 2 * ROWS_OF_THREE**2}, list(ROWS_OF_THREE))
    files = {
        "preprocess.onnx": before.SerializeToString(deterministic=True),
        "model.yaml": b"preprocess: preprocess.onnx\n",
    }
    special = "two graphs take `x`, of which one declares its shape"
    return example("unknown-shape-chain", special, model, case, files=files)


def no_inputs() -> Example:
    values = np.array([1, 2, 3], np.float32)
    model = build([node("Identity", "kept", "y")], [], [tensor("y", FLOAT, 3)], {"kept": values})
    return example(
        "no-inputs", "takes nothing, gives a constant", model, Case("nothing", {}, {"y": values}, batched=False)
    )


def no_batching_inputs() -> Example:
    inputs, outputs = [tensor("x", FLOAT, 3), tensor("matrix", FLOAT, 3, 2)], [tensor("y", FLOAT, 2)]
    x, matrix = np.array([1, 2, 3], np.float32), np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    model = build([node("MatMul", "x matrix", "y")], inputs, outputs)
    case = Case("vector and matrix", {"x": x, "matrix": matrix}, {"y": x @ matrix}, batched=False)
    return example("no-batching-inputs", "two inputs of fixed shapes, none with rows", model, case)


def shared_input() -> Example:
    """A parameter beside the rows: requests with unlike thresholds cannot share a call."""
    inputs = [tensor("x", FLOAT, ROWS, 3), tensor("threshold", FLOAT)]
    model = build([node("Greater", "x threshold", "y")], inputs, [tensor("y", TensorProto.BOOL, ROWS, 3)])
    cases = [
        Case(
            f"threshold {limit}",
            {"x": ROWS_OF_THREE, "threshold": np.array(limit, np.float32)},
            {"y": ROWS_OF_THREE > limit},
        )
        for limit in (0.5, 2)
    ]
    return example("shared-input", "rows, and one number for all of them (rank 0)", model, *cases)


def default_inputs() -> list[Example]:
    """A weight that is an input too: one with a default from IR version 4 on, before that merely a weight."""
    inputs, outputs = [tensor("x", FLOAT, ROWS, 3), tensor("scale", FLOAT, 1)], [tensor("y", FLOAT, ROWS, 3)]
    nodes, scale = [node("Mul", "x scale", "y")], {"scale": np.array([2], np.float32)}
    x = ROWS_OF_THREE
    left_out = Case("default", {"x": x}, {"y": x * 2}, list(x))
    given = Case("given", {"x": x, "scale": np.array([10], np.float32)}, {"y": x * 10})
    special = "an input with a default, which a request may leave out"
    default = example("default-input", special, build(nodes, inputs, outputs, scale), left_out, given)
    old = build(nodes, inputs, outputs, scale, {"": 7}, ir=3)
    special = "IR 3, opset 7, as old exporters wrote: the weight stands among the inputs, but is none"
    return [default, example("weights-as-inputs", special, old, left_out)]


def token_scores() -> Example:
    """One score a token, as taggers give them, and which pairs of tokens are the same. 0 is the padding."""
    nodes = [
        node("Gather", "table ids", "scores"),
        node("Unsqueeze", "ids last", "across"),
        node("Unsqueeze", "ids middle", "down"),
        node("Equal", "across down", "same"),
        node("Gather", "table ids", "all"),
        node("ReduceSum", "all middle", "total", keepdims=0),
    ]
    inputs = [tensor("ids", INT64, "batch", "tokens")]
    outputs = [
        tensor("scores", FLOAT, "batch", "tokens", 2),
        tensor("same", TensorProto.BOOL, "batch", "tokens", "tokens"),
        tensor("total", FLOAT, "batch", 2),
    ]
    table = np.array([[0, 0], [1, -1], [0.5, 8], [-2, 3]], np.float32)
    constants = {"table": table, "middle": np.array([1], np.int64), "last": np.array([2], np.int64)}
    cases = []
    for name, ids in (("two rows", [[1, 2, 1], [3, 3, 2]]), ("a short row", [[2]])):
        ids = np.array(ids, np.int64)
        expected = {"scores": table[ids], "same": ids[:, :, None] == ids[:, None, :], "total": table[ids].sum(1)}
        cases.append(Case(name, {"ids": ids}, expected, list(ids)))
    files = {"model.yaml": b"padding: [{input: ids, multiple: 4}]\n"}
    special = "outputs as long as the padded input, `[batch, tokens, 2]` and `[batch, tokens, tokens]`"
    return example("token-scores", special, build(nodes, inputs, outputs, constants), *cases, files=files)


def external_weights() -> Example:
    """Two tensors in one file, the second at an offset; a third, small one within the model."""
    matrix, bias = np.arange(12, dtype=np.float32).reshape(3, 4) / 4, np.arange(4, dtype=np.float32)
    nodes = [node("MatMul", "x matrix", "product"), node("Add", "product bias", "sum"), node("Mul", "sum two", "y")]
    constants = {"matrix": matrix, "bias": bias, "two": np.array(2, np.float32)}
    model = build(nodes, [tensor("x", FLOAT, ROWS, 3)], [tensor("y", FLOAT, ROWS, 4)], constants)
    content = b""
    for weight in model.graph.initializer:
        if weight.name != "two":
            onnx.external_data_helper.set_external_data(weight, "weights.bin", len(content), len(weight.raw_data))
            content += weight.raw_data
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
    x = ROWS_OF_THREE
    case = Case("rows", {"x": x}, {"y": (x @ matrix + bias) * np.float32(2)}, list(x))
    special = "weights in `weights.bin`, two tensors, one at an offset"
    return example("external-weights", special, model, case, files={"weights.bin": content})


def nan_output() -> Example:
    inputs, outputs = [tensor("x", FLOAT, ROWS), tensor("by", FLOAT, ROWS)], [tensor("y", FLOAT, ROWS)]
    x, by = np.array([1, 0, 1, -1], np.float32), np.array([2, 0, 0, 0], np.float32)
    expected = {"y": np.array([0.5, np.nan, np.inf, -np.inf], np.float32)}
    records = [{"x": a, "by": b} for a, b in zip(x, by)]
    model = build([node("Div", "x by", "y")], inputs, outputs)
    special = "0 / 0 is NaN, 1 / 0 infinity; rows are single numbers"
    return example("nan-output", special, model, Case("rows", {"x": x, "by": by}, expected, records))


def poison_row() -> Example:
    table = {"table": np.array([10, 20, 30, 40], np.float32)}
    model = build([node("Gather", "table x", "y")], [tensor("x", INT64, ROWS)], [tensor("y", FLOAT, ROWS)], table)
    good = np.array([0, 3, -1], np.int64)
    expected = {"y": np.array([10, 40, 40], np.float32)}
    fails = "indices element out of data bounds"
    cases = [Case("good rows", {"x": good}, expected, list(good))]
    for name, rows in (("one poison row", [4]), ("a poison row among good ones", [0, 3, 2**40, -1])):
        cases.append(Case(name, {"x": np.array(rows, np.int64)}, records=rows, fails=fails))
    return example(
        "poison-row", "an index out of -4 to 3 fails at run time, and its whole batch with it", model, *cases
    )


def free_image_size() -> Example:
    """Sums over 3 x 3 pixels: any height and width, but none below 3."""
    inputs = [tensor("x", FLOAT, ROWS, 1, "height", "width")]
    outputs = [tensor("y", FLOAT, ROWS, 1, "rest of height", "rest of width")]
    model = build([node("Conv", "x ones", "y")], inputs, outputs, {"ones": np.ones((1, 1, 3, 3), np.float32)})
    cases = []
    for name, shape in (("two rows", (2, 1, 3, 4)), ("one larger row", (1, 1, 5, 3))):
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 2
        sums = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3)).sum(axis=(4, 5))
        cases.append(Case(name, {"x": x}, {"y": sums}, list(x)))
    special = "any height and width, but none below 3, which zeros of size 1 are"
    return example("free-image-size", special, model, *cases)


def prepost_text() -> Example:
    """A line of numbers with commas to standardised features, a linear model, softmax and the best class."""
    split = [
        node("StringSplit", "line", "words counts", delimiter=","),
        node("Cast", "words", "numbers", to=FLOAT),
        node("Sub", "numbers mean", "centred"),
        node("Div", "centred deviation", "features"),
    ]
    mean, deviation = np.array([5, 3], np.float32), np.array([2, 0.5], np.float32)
    weights, bias = np.array([[1, -1, 0.5], [0, 2, -0.5]], np.float32), np.array([0, 0.1, -0.1], np.float32)
    constants = {"mean": mean, "deviation": deviation}
    before = build(split, [tensor("line", STRING, ROWS)], [tensor("features", FLOAT, ROWS, 2)], constants)
    gemm = [node("Gemm", "features weights bias", "logits")]
    logits = tensor("logits", FLOAT, ROWS, 3)
    model = build(gemm, [tensor("features", FLOAT, ROWS, 2)], [logits], {"weights": weights, "bias": bias})
    pick = [
        node("Softmax", "logits", "probabilities", axis=-1),
        node("ArgMax", "logits", "index", axis=-1, keepdims=0),
        node("Gather", "names index", "class"),
    ]
    outputs = [tensor("probabilities", FLOAT, ROWS, 3), tensor("class", STRING, ROWS)]
    names = np.array(["red", "green", "blue"], dtype=object)
    after = build(pick, [logits], outputs, {"names": names})
    lines = np.array(["5.1,3.5", "7,2", "1,3"], dtype=object)
    numbers = np.array([line.split(",") for line in lines], np.float32)
    scores = (numbers - mean) / deviation @ weights + bias
    powers = np.exp(scores - scores.max(1, keepdims=True))
    expected = {"probabilities": powers / powers.sum(1, keepdims=True), "class": names[scores.argmax(1)]}
    files = {
        "preprocess.onnx": before.SerializeToString(deterministic=True),
        "postprocess.onnx": after.SerializeToString(deterministic=True),
        "model.yaml": b"preprocess: preprocess.onnx\npostprocess: postprocess.onnx\n",
    }
    special = (
        "a line of text to scaled features by `preprocess.onnx`; softmax and the class's name by `postprocess.onnx`"
    )
    return example("prepost-text", special, model, Case("lines", {"line": lines}, expected, list(lines)), files=files)


def main() -> None:
    made = [*every_same(), sequence_output(), sequence_input(), *maps(), optional_output(), optional_input()]
    made += [optional_sequence_input(), optional_weights(), optional_sequence(), optional_external(), optional_chain()]
    made += [*map_inputs(), sequence_inputs()]
    made += [zero_size(), scalar(), symbolic_dims(), unknown_shape(), unknown_shape_chain(), no_inputs(), no_batching_inputs()]
    made += [shared_input(), *default_inputs(), external_weights(), nan_output(), poison_row(), prepost_text()]
    made += [token_scores(), free_image_size()]
    for each in made:
        write(each)


if __name__ == "__main__":
    main()
