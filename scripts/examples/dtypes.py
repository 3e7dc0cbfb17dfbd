"""Makes one tiny model for every tensor type and every awkward shape, and notes what ONNX Runtime answers.

Writes `tests/models/types/<model>/1/model.onnx` and `tests/models/types/expected.json`: for each model its `inputs`
and `outputs` by name, each a tensor `{"datatype", "shape", "data"}` as in the Open Inference Protocol v2 (`data` is
flat, row-major; BYTES are UTF-8 text; NaN is null). Running it again writes the same bytes.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import NamedTuple, Union

import ml_dtypes
import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

REPOSITORY = Path(__file__).resolve().parents[2]
TYPES = REPOSITORY / "tests" / "models" / "types"
ROWS = "rows"  # the symbolic batch dimension
OPSET = 21
IR_VERSION = 10
FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
# ONNX's element type, numpy's and the Open Inference Protocol's name, by the name of the model's folder.
DTYPES = {
    "bool": (BOOL, np.dtype(np.bool_), "BOOL"),
    "uint8": (TensorProto.UINT8, np.dtype(np.uint8), "UINT8"),
    "uint16": (TensorProto.UINT16, np.dtype(np.uint16), "UINT16"),
    "uint32": (TensorProto.UINT32, np.dtype(np.uint32), "UINT32"),
    "uint64": (TensorProto.UINT64, np.dtype(np.uint64), "UINT64"),
    "int8": (TensorProto.INT8, np.dtype(np.int8), "INT8"),
    "int16": (TensorProto.INT16, np.dtype(np.int16), "INT16"),
    "int32": (TensorProto.INT32, np.dtype(np.int32), "INT32"),
    "int64": (INT64, np.dtype(np.int64), "INT64"),
    "float16": (TensorProto.FLOAT16, np.dtype(np.float16), "FP16"),
    "float32": (FLOAT, np.dtype(np.float32), "FP32"),
    "float64": (TensorProto.DOUBLE, np.dtype(np.float64), "FP64"),
    "bfloat16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16), "BF16"),
}
DATATYPES = {dtype: datatype for _, dtype, datatype in DTYPES.values()}
Dimension = Union[str, int]
Tensors = dict[str, np.ndarray]


class Example(NamedTuple):
    """A model, inputs that work, and inputs that must fail inside ONNX Runtime."""

    model: ModelProto
    inputs: Tensors
    failing: Tensors | None = None


def tensor(name: str, element: int, *shape: Dimension) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def constant(name: str, values: np.ndarray) -> TensorProto:
    return numpy_helper.from_array(values, name)


def build(
    nodes: list[NodeProto],
    inputs: list[ValueInfoProto],
    outputs: list[ValueInfoProto],
    constants: list[TensorProto] | None = None,
) -> ModelProto:
    graph = helper.make_graph(nodes, "example", inputs, outputs, constants or [])
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="predictd-examples")
    checker.check_model(model, full_check=True)
    return model


def awkward_values(dtype: np.dtype) -> np.ndarray:
    """Three rows of three: both ends of the type, zero, and what is lost on the way through another type."""
    if dtype == np.bool_:
        values = [True, False, True, False, False, True, True, True, False]
    elif np.issubdtype(dtype, np.integer):
        ends = np.iinfo(dtype)
        values = [ends.min, ends.max, 0, 1, 2, 3, ends.max - 1, ends.min + 1, 100]
    else:
        ends = ml_dtypes.finfo(dtype)
        values = [
            0.0,
            -0.5,
            0.1,
            float(ends.tiny),
            float(ends.eps),
            1 / 3,
            -float(ends.max) / 2,
            100.0,
            float(ends.max) / 2,
        ]
    return np.array(values, dtype).reshape(3, 3)


def every_type(element: int, dtype: np.dtype) -> Example:
    """`same` = x. `changed` = not x (bool), every bit of x turned (integers), x + x (floats)."""
    nodes = [helper.make_node("Identity", ["x"], ["same"])]
    if dtype == np.bool_:
        nodes.append(helper.make_node("Not", ["x"], ["changed"]))
    elif np.issubdtype(dtype, np.integer):
        nodes.append(helper.make_node("BitwiseNot", ["x"], ["changed"]))
    elif dtype == ml_dtypes.bfloat16:  # ONNX Runtime adds no bfloat16 on a CPU, but casts it
        nodes.append(helper.make_node("Cast", ["x"], ["wide"], to=FLOAT))
        nodes.append(helper.make_node("Add", ["wide", "wide"], ["sum"]))
        nodes.append(helper.make_node("Cast", ["sum"], ["changed"], to=element))
    else:
        nodes.append(helper.make_node("Add", ["x", "x"], ["changed"]))
    outputs = [tensor("same", element, ROWS, 3), tensor("changed", element, ROWS, 3)]
    return Example(build(nodes, [tensor("x", element, ROWS, 3)], outputs), {"x": awkward_values(dtype)})


def multi() -> Example:
    """Inputs of three types and shapes; `picked` is right only when the rows of all inputs stay together."""
    nodes = [
        helper.make_node("ReduceSum", ["matrix", "inner"], ["total"], keepdims=0),
        helper.make_node("Add", ["count", "one"], ["next"]),
        helper.make_node("Gather", ["matrix", "zero"], ["first"], axis=1),
        helper.make_node("Gather", ["matrix", "one_scalar"], ["second"], axis=1),
        helper.make_node("Where", ["flag", "first", "second"], ["picked"]),
    ]
    constants = [
        constant("inner", np.array([1, 2], np.int64)),
        constant("one", np.array([1], np.int64)),
        constant("zero", np.array(0, np.int64)),
        constant("one_scalar", np.array(1, np.int64)),
    ]
    inputs = [tensor("matrix", FLOAT, ROWS, 2, 2), tensor("count", INT64, ROWS), tensor("flag", BOOL, ROWS, 1)]
    outputs = [tensor("total", FLOAT, ROWS), tensor("next", INT64, ROWS), tensor("picked", FLOAT, ROWS, 2)]
    sample = {
        "matrix": np.arange(12, dtype=np.float32).reshape(3, 2, 2),
        "count": np.array([7, -1, 2**53 + 1], np.int64),
        "flag": np.array([[True], [False], [True]]),
    }
    return Example(build(nodes, inputs, outputs, constants), sample)


def scalar() -> Example:
    """A row is one bare number: x and y are `[rows]`."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    model = build(nodes, [tensor("x", FLOAT, ROWS)], [tensor("y", FLOAT, ROWS)])
    return Example(model, {"x": np.array([1.5, -2.0, 0.25], np.float32)})


def fixed_batch() -> Example:
    """Exactly four rows of three; y is their sums, `[4]`."""
    nodes = [helper.make_node("ReduceSum", ["x", "columns"], ["y"], keepdims=0)]
    constants = [constant("columns", np.array([1], np.int64))]
    model = build(nodes, [tensor("x", FLOAT, 4, 3)], [tensor("y", FLOAT, 4)], constants)
    return Example(model, {"x": np.arange(12, dtype=np.float32).reshape(4, 3)})


def no_batch() -> Example:
    """No rows at all: x and y are `[3]`, total is `[]`."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["y"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
    ]
    model = build(nodes, [tensor("x", FLOAT, 3)], [tensor("y", FLOAT, 3), tensor("total", FLOAT)])
    return Example(model, {"x": np.array([1.0, 2.0, 4.0], np.float32)})


def fragile() -> Example:
    """y = table[x], a table of four: any other index than -4 to 3 fails inside ONNX Runtime, and its whole batch with it."""
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    constants = [constant("table", np.array([10, 20, 30, 40], np.float32))]
    model = build(nodes, [tensor("x", INT64, ROWS)], [tensor("y", FLOAT, ROWS)], constants)
    return Example(model, {"x": np.array([0, 3, 1, -1], np.int64)}, failing={"x": np.array([4, -5, 2**40], np.int64)})


def nan() -> Example:
    """Takes and gives what the wine models do; a row whose first three columns are zero gets NaN for probabilities."""
    nodes = [
        helper.make_node("Slice", ["input", "start", "end", "columns"], ["scores"]),
        helper.make_node("ReduceSum", ["scores", "columns"], ["sum"], keepdims=1),
        helper.make_node("Div", ["scores", "sum"], ["probabilities"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    constants = [
        constant(name, np.array([value], np.int64)) for name, value in (("start", 0), ("end", 3), ("columns", 1))
    ]
    outputs = [tensor("label", INT64, ROWS), tensor("probabilities", FLOAT, ROWS, 3)]
    model = build(nodes, [tensor("input", FLOAT, ROWS, 13)], outputs, constants)
    rows = np.zeros((3, 13), np.float32)
    rows[0, :3] = [1, 2, 1]
    rows[2, :3] = [0, 0, 4]
    return Example(model, {"input": rows})


def strings() -> Example:
    """Two texts a row, given back, and joined into one: `[rows, 2]` to `[rows, 2]` and `[rows]`."""
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Gather", ["x", "zero"], ["left"], axis=1),
        helper.make_node("Gather", ["x", "one"], ["right"], axis=1),
        helper.make_node("StringConcat", ["left", "right"], ["joined"]),
    ]
    constants = [constant("zero", np.array(0, np.int64)), constant("one", np.array(1, np.int64))]
    outputs = [tensor("same", STRING, ROWS, 2), tensor("joined", STRING, ROWS)]
    model = build(nodes, [tensor("x", STRING, ROWS, 2)], outputs, constants)
    texts = [["ab", "cd"], ["", "grün"], ['"quoted"\n', "🍷"]]
    return Example(model, {"x": np.array(texts, dtype=object)})


def run(model: ModelProto, inputs: Tensors) -> Tensors:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    if any(array.dtype == ml_dtypes.bfloat16 for array in inputs.values()):
        return run_bfloat16(session, names, inputs["x"])
    return dict(zip(names, session.run(names, inputs)))


def run_bfloat16(session: onnxruntime.InferenceSession, names: list[str], x: np.ndarray) -> Tensors:
    """numpy has no bfloat16 of its own, so the bits travel as uint16; every output has the shape of x."""
    bits = {"x": x.view(np.uint16), **{name: np.zeros(x.shape, np.uint16) for name in names}}
    to_value = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type
    values = {name: to_value(array, TensorProto.BFLOAT16) for name, array in bits.items()}
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", values["x"])
    for name in names:
        binding.bind_ortvalue_output(name, values[name])
    session.run_with_iobinding(binding)
    return {name: bits[name].view(ml_dtypes.bfloat16) for name in names}


def to_json(array: np.ndarray) -> dict:
    flat = array.astype(np.float64) if array.dtype == ml_dtypes.bfloat16 else array
    data = [None if isinstance(value, float) and math.isnan(value) else value for value in flat.ravel().tolist()]
    return {"datatype": DATATYPES.get(array.dtype, "BYTES"), "shape": list(array.shape), "data": data}


def check_failing(name: str, model: ModelProto, failing: Tensors) -> None:
    for row in range(len(next(iter(failing.values())))):
        inputs = {key: array[row : row + 1] for key, array in failing.items()}
        try:
            run(model, inputs)
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument:
            continue
        raise SystemExit(f"{name}: expected ONNX Runtime to fail for {inputs}, but it answered")


def main() -> None:
    onnxruntime.set_default_logger_severity(4)  # some inputs are meant to fail
    examples = {name: every_type(element, dtype) for name, (element, dtype, _) in DTYPES.items()}
    examples |= {"multi": multi(), "scalar": scalar(), "fixed-batch": fixed_batch(), "no-batch": no_batch()}
    examples |= {"fragile": fragile(), "nan": nan(), "strings": strings()}
    shutil.rmtree(TYPES, ignore_errors=True)
    expected = {}
    for name, (model, inputs, failing) in examples.items():
        folder = TYPES / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
        outputs = run(model, inputs)
        expected[name] = {
            "inputs": {key: to_json(array) for key, array in inputs.items()},
            "outputs": {key: to_json(array) for key, array in outputs.items()},
        }
        if failing:
            check_failing(name, model, failing)
            expected[name]["failing"] = {key: to_json(array) for key, array in failing.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry, allow_nan=False)}" for name, entry in expected.items())
    (TYPES / "expected.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    print(f"{TYPES.relative_to(REPOSITORY)}: {len(examples)} models")


if __name__ == "__main__":
    main()
