"""Makes the models that misbehave on demand: `tests/models/faults/<model>/1/model.onnx`.

`slow` takes as many products of matrices as the largest x of a batch says, some 15 000 a second on one core. `divide` ends
the process for x = -1: ONNX Runtime divides the least whole number as the processor does, and for that one the processor has
a SIGFPE. Running it again writes the same bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

REPOSITORY = Path(__file__).resolve().parents[2]
FAULTS = REPOSITORY / "tests" / "models" / "faults"
INT64, FLOAT, BOOL = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL
SIDE = 192


def tensor(name: str, element: int, *shape: str | int) -> object:
    return helper.make_tensor_value_info(name, element, shape)


def build(nodes: list, constants: list) -> ModelProto:
    outputs = [tensor("y", INT64, "rows")]
    graph = helper.make_graph(nodes, "graph", [tensor("x", INT64, "rows")], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model


def slow() -> ModelProto:
    """y = x, after as many products of matrices as the largest x says."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "matrix"], ["after"]),
            helper.make_node("Identity", ["go"], ["still"]),
        ],
        "body",
        [tensor("step", INT64), tensor("go", BOOL), tensor("before", FLOAT, SIDE, SIDE)],
        [tensor("still", BOOL), tensor("after", FLOAT, SIDE, SIDE)],
    )
    # Made when the model loads: the file stays small.
    value = numpy_helper.from_array(np.array([1 / SIDE], np.float32), "value")
    nodes = [
        helper.make_node("ConstantOfShape", ["sides"], ["matrix"], value=value),
        helper.make_node("ReduceMax", ["x"], ["steps"], keepdims=0),
        helper.make_node("Loop", ["steps", "", "matrix"], ["product"], body=body),
        # Uses the product, so that the loop cannot be left out: nothing times zero.
        helper.make_node("ReduceMax", ["product"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["whole"], to=INT64),
        helper.make_node("Mul", ["whole", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    sides, zero = np.array([SIDE, SIDE], np.int64), np.array(0, np.int64)
    return build(nodes, [numpy_helper.from_array(sides, "sides"), numpy_helper.from_array(zero, "zero")])


def divide() -> ModelProto:
    """y = the least whole number / x."""
    nodes = [helper.make_node("Div", ["least", "x"], ["y"])]
    return build(nodes, [numpy_helper.from_array(np.array(np.iinfo(np.int64).min, np.int64), "least")])


def main() -> None:
    shutil.rmtree(FAULTS, ignore_errors=True)
    for name, model in {"slow": slow(), "divide": divide()}.items():
        folder = FAULTS / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
