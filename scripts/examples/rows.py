"""Makes the models whose shapes leave open what their first dimension is, or that give one value a row:
`tests/models/rows/<model>/1/model.onnx`. Running it again writes the same bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

REPOSITORY = Path(__file__).resolve().parents[2]
ROWS = REPOSITORY / "tests" / "models" / "rows"
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Shape = tuple[str | int, ...]


def build(
    nodes: list[NodeProto],
    x: Shape,
    outputs: dict[str, tuple[int, Shape]],
    element: int = FLOAT,
    **constants: np.ndarray,
) -> ModelProto:
    tensor = helper.make_tensor_value_info
    values = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    given = [tensor(name, element, shape) for name, (element, shape) in outputs.items()]
    graph = helper.make_graph(nodes, "graph", [tensor("x", element, x)], given, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model


def softmax(*shape: str | int) -> ModelProto:
    """Over the first dimension, which therefore cannot be one of rows."""
    return build([helper.make_node("Softmax", ["x"], ["y"], axis=0)], shape, {"y": (FLOAT, shape)})


def refusing() -> ModelProto:
    """The same for `[length]`, but all except zeros fail, so that no trial can tell."""
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["found"]),
        helper.make_node("Softmax", ["found"], ["y"], axis=0),
    ]
    table = np.array([7], np.float32)
    return build(nodes, ("length",), {"y": (FLOAT, ("length",))}, element=INT64, table=table)


def weighted() -> ModelProto:
    """No row changes another one's result, but each has a weight of its own: neither is it one of rows here."""
    weights = np.array([[1], [2], [3]], np.float32)
    nodes = [helper.make_node("Mul", ["x", "weights"], ["y"])]
    return build(nodes, (3, 2), {"y": (FLOAT, (3, 2))}, weights=weights)


def twice() -> ModelProto:
    """y = x + x, `[length]`: each value for itself."""
    return build([helper.make_node("Add", ["x", "x"], ["y"])], ("length",), {"y": (FLOAT, ("length",))})


def classes() -> ModelProto:
    """Three scores a row: the best one's position, as `[rows]` and `[rows, 1]`, and the best one."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["class"], axis=1, keepdims=0),
        helper.make_node("ArgMax", ["x"], ["kept"], axis=1, keepdims=1),
        helper.make_node("ReduceMax", ["x", "columns"], ["score"], keepdims=0),
        # Beyond the classes for scores over 100.
        helper.make_node("Cast", ["score"], ["whole"], to=INT64),
        helper.make_node("Div", ["whole", "hundred"], ["hundreds"]),
        helper.make_node("Add", ["class", "hundreds"], ["shifted"]),
    ]
    outputs = {
        "class": (INT64, ("rows",)),
        "kept": (INT64, ("rows", 1)),
        "score": (FLOAT, ("rows",)),
        "shifted": (INT64, ("rows",)),
    }
    columns, hundred = np.array([1], np.int64), np.array(100, np.int64)
    return build(nodes, ("rows", 3), outputs, columns=columns, hundred=hundred)


def gray() -> ModelProto:
    """Pictures of 8 x 8 without channels; y has the means of their columns."""
    nodes = [helper.make_node("ReduceMean", ["x", "height"], ["y"], keepdims=0)]
    return build(nodes, ("rows", 8, 8), {"y": (FLOAT, ("rows", 8))}, height=np.array([1], np.int64))


def main() -> None:
    shutil.rmtree(ROWS, ignore_errors=True)
    models = {
        "vector": softmax(4),
        "length": softmax("length"),
        "matrix": softmax(3, 2),
        "refusing": refusing(),
        "weighted": weighted(),
        "twice": twice(),
        "classes": classes(),
        "gray": gray(),
    }
    for name, model in models.items():
        folder = ROWS / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
