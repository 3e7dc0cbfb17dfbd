"""Makes the models whose shapes leave open what their first dimension is, that give one value a row, or that know a few
numbers only: `tests/models/rows/<model>/1/model.onnx`. Running it again writes the same bytes.
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
    opsets = [helper.make_opsetid("", 21)]
    if any(node.domain for node in nodes):
        opsets.append(helper.make_opsetid("ai.onnx.ml", 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
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
    """Images of 8 x 8 without channels; y has the means of their columns."""
    nodes = [helper.make_node("ReduceMean", ["x", "height"], ["y"], keepdims=0)]
    return build(nodes, ("rows", 8, 8), {"y": (FLOAT, ("rows", 8))}, height=np.array([1], np.int64))


def categories() -> ModelProto:
    """Two of three columns are encoded as scikit-learn's converter does it, for numbers that it must know: 1 and 2, then 3 and 4."""
    ml = "ai.onnx.ml"
    encode = {"domain": ml, "zeros": 0}
    nodes = [
        helper.make_node("ArrayFeatureExtractor", ["x", "picked"], ["two"], domain=ml),
        helper.make_node("Gather", ["two", "first"], ["a"], axis=1),
        helper.make_node("Gather", ["two", "second"], ["b"], axis=1),
        helper.make_node("Concat", ["b", "a"], ["turned"], axis=1),
        helper.make_node("Gather", ["turned", "second"], ["a_again"], axis=1),
        helper.make_node("Cast", ["a_again"], ["a_whole"], to=INT64),
        helper.make_node("Cast", ["b"], ["b_whole"], to=INT64),
        helper.make_node("OneHotEncoder", ["a_whole"], ["a_out"], cats_int64s=[1, 2], **encode),
        helper.make_node("OneHotEncoder", ["b_whole"], ["b_out"], cats_int64s=[3, 4], **encode),
        helper.make_node("Concat", ["a_out", "b_out"], ["both"], axis=-1),
        helper.make_node("Reshape", ["both", "shape"], ["y"]),
    ]
    index = {"picked": [0, 2], "first": [0], "second": [1], "shape": [-1, 4]}
    constants = {name: np.array(values, np.int64) for name, values in index.items()}
    return build(nodes, ("rows", 3), {"y": (FLOAT, ("rows", 4))}, **constants)


def detections(first: str | int, *row: int) -> ModelProto:
    """The positions of all values above 0.5, of all rows in one list: as long as the data say."""
    nodes = [
        helper.make_node("Greater", ["x", "half"], ["above"]),
        helper.make_node("NonZero", ["above"], ["found"]),
        helper.make_node("Transpose", ["found"], ["dets"]),
    ]
    half = np.array(0.5, np.float32)
    return build(nodes, (first, *row), {"dets": (INT64, ("num_dets", 1 + len(row)))}, half=half)


def centred() -> ModelProto:
    """Each row without the mean of all: the first dimension is time."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "first"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return build(nodes, ("seq", 2), {"y": (FLOAT, ("seq", 2))}, first=np.array([0], np.int64))


def time_first() -> ModelProto:
    """A text line of one batch and any width; the output has a row for each column, as text recognition models give it."""
    nodes = [
        helper.make_node("Squeeze", ["x", "first"], ["line"]),
        helper.make_node("Transpose", ["line"], ["y"], perm=[2, 0, 1]),
    ]
    return build(nodes, (1, 1, 4, "W"), {"y": (FLOAT, ("T", 1, 4))}, first=np.array([0], np.int64))


def dropping() -> ModelProto:
    """y = x without the rows that begin with 7777, which no trial makes up."""
    nodes = [
        helper.make_node("Gather", ["x", "zero"], ["begin"], axis=1),
        helper.make_node("Equal", ["begin", "dropped"], ["is_dropped"]),
        helper.make_node("Not", ["is_dropped"], ["is_kept"]),
        helper.make_node("Compress", ["x", "is_kept"], ["y"], axis=0),
    ]
    constants = {"zero": np.array(0, np.int64), "dropped": np.array(7777, np.float32)}
    return build(nodes, ("", 2), {"y": (FLOAT, ("", 2))}, **constants)


def renamed() -> ModelProto:
    """y = x + x, though the names of the first dimensions say that these are different ones."""
    return build([helper.make_node("Add", ["x", "x"], ["y"])], ("N", 2), {"y": (FLOAT, ("M", 2))})


def lookup() -> ModelProto:
    """A number for each of 100, 101 and 102; everything that a trial makes up is refused."""
    nodes = [
        helper.make_node("Sub", ["x", "hundred"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["y"]),
    ]
    constants = {"hundred": np.array(100, np.int64), "table": np.array([7, 8, 9], np.float32)}
    return build(nodes, ("rows",), {"y": (FLOAT, ("rows",))}, element=INT64, **constants)


def zipmap(rows: int) -> ModelProto:
    """A classifier of a fixed number of rows with a map of scores for each, as `FloatTensorType([1, 4])` makes scikit-learn's."""
    nodes = [
        helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        helper.make_node("ZipMap", ["x"], ["scores"], domain="ai.onnx.ml", classlabels_strings=["cat", "dog", "cow"]),
    ]
    model = build(nodes[:1], (rows, 3), {"label": (INT64, (rows,))})
    model.graph.node.append(nodes[1])
    score = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
    model.graph.output.append(helper.make_value_info("scores", helper.make_sequence_type_proto(score)))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    checker.check_model(model, full_check=True)
    return model


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
        "categories": categories(),
        "detections": detections("batch", 3),
        "boxes": detections(1, 3, 8, 8),
        "boxes-batch": detections("batch", 3, 8, 8),
        "centred": centred(),
        "time-first": time_first(),
        "dropping": dropping(),
        "renamed": renamed(),
        "lookup": lookup(),
        "zipmap-1": zipmap(1),
        "zipmap-3": zipmap(3),
    }
    for name, model in models.items():
        folder = ROWS / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
