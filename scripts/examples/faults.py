"""Makes the models that misbehave on demand: `tests/models/faults/<model>/1/model.onnx`.

`slow` takes as many products of matrices as the largest x of a batch says, some 15 000 a second on one core,
and `heavy` takes 300 for every call.
`divide` ends the process for x = -1: ONNX Runtime divides the least whole number as the processor does, and
for that one the processor has a SIGFPE. `wide` needs much memory for a row inside itself, `long` gives much.
`external-subgraph` adds 7, a weight of an `If`'s branch that lies in `branches.bin`. `abort` divides
constants in that way, so that the process ends while ONNX Runtime loads it. `endless` answers no call.
`folding` loads for minutes, in which nothing ends it. `huge`, `huge-rows` and `huge-sequence` declare inputs
that no memory holds. Running it again writes the same bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, checker, external_data_helper, helper, numpy_helper

REPOSITORY = Path(__file__).resolve().parents[2]
FAULTS = REPOSITORY / "tests" / "models" / "faults"
INT64, FLOAT, BOOL = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL
SIDE = 192


def tensor(name: str, element: int, *shape: str | int) -> object:
    return helper.make_tensor_value_info(name, element, shape)


def build(nodes: list, constants: list, check: bool = True, y: tuple[str, ...] = ("rows",)) -> ModelProto:
    outputs = [tensor("y", INT64, *y)]
    graph = helper.make_graph(nodes, "graph", [tensor("x", INT64, "rows")], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    if check:  # only a file on the disk can be checked with its external weights
        checker.check_model(model, full_check=True)
    return model


def slow(steps: int | None = None) -> ModelProto:
    """y = x, after so many products of matrices, or as many as the largest x says."""
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
        helper.make_node("ReduceMax", ["x"], ["steps" if steps is None else "most"], keepdims=0),
        helper.make_node("Loop", ["steps", "", "matrix"], ["product"], body=body),
        # Uses the product, so that the loop cannot be left out: nothing times zero.
        helper.make_node("ReduceMax", ["product"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["whole"], to=INT64),
        helper.make_node("Mul", ["whole", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    constants = {"sides": [SIDE, SIDE], "zero": 0}
    if steps is not None:
        # Not a constant, which would be computed when the model loads.
        made = [("Mul", ["most", "zero"], ["none"]), ("Add", ["none", "count"], ["steps"])]
        nodes[2:2] = [helper.make_node(*node) for node in made]
        constants["count"] = steps
    return build(nodes, [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()])


def divide() -> ModelProto:
    """y = the least whole number / x."""
    nodes = [helper.make_node("Div", ["least", "x"], ["y"])]
    return build(nodes, [numpy_helper.from_array(np.array(np.iinfo(np.int64).min, np.int64), "least")])


def wide() -> ModelProto:
    """y = x, by way of 16,384 numbers a row, which take 64 KiB."""
    value = numpy_helper.from_array(np.array([1 / 16384], np.float32), "value")
    nodes = [
        helper.make_node("Cast", ["x"], ["number"], to=FLOAT),
        helper.make_node("Unsqueeze", ["number", "one"], ["column"]),
        helper.make_node("ConstantOfShape", ["sides"], ["shares"], value=value),
        helper.make_node("MatMul", ["column", "shares"], ["parts"]),
        helper.make_node("ReduceSum", ["parts", "one"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["y"], to=INT64),
    ]
    sides, one = np.array([1, 16384], np.int64), np.array([1], np.int64)
    return build(nodes, [numpy_helper.from_array(sides, "sides"), numpy_helper.from_array(one, "one")])


def long() -> ModelProto:
    """y = x, 20,000 times a row; how often is not declared."""
    value = numpy_helper.from_array(np.array([1], np.int64), "value")
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["column"]),
        helper.make_node("ConstantOfShape", ["sides"], ["ones"], value=value),
        helper.make_node("Mul", ["column", "ones"], ["y"]),
    ]
    sides, one = np.array([1, 20000], np.int64), np.array([1], np.int64)
    constants = [numpy_helper.from_array(sides, "sides"), numpy_helper.from_array(one, "one")]
    return build(nodes, constants, y=("rows", "length"))


def external_subgraph() -> tuple[ModelProto, bytes]:
    """y = x + 7; the other branch adds 9. The condition has data of its own beside the location that it once had."""
    content, branches = b"", {}
    for name, number in {"then": 7, "else": 9}.items():
        weight = numpy_helper.from_array(np.array([number], np.int64), f"{name}_weight")
        external_data_helper.set_external_data(weight, "./branches.bin", len(content), len(weight.raw_data))
        content += weight.raw_data
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        add = helper.make_node("Add", ["x", f"{name}_weight"], [f"{name}_sum"])
        outputs = [tensor(f"{name}_sum", INT64, "rows")]
        branches[f"{name}_branch"] = helper.make_graph([add], name, [], outputs, [weight])
    condition = numpy_helper.from_array(np.array(True), "condition")
    condition.external_data.add(key="location", value="no-such-file.bin")
    return build([helper.make_node("If", ["condition"], ["y"], **branches)], [condition], check=False), content


def abort() -> ModelProto:
    """y = x + (the least whole number / -1), which ONNX Runtime computes when it loads the model."""
    nodes = [helper.make_node("Div", ["least", "minus"], ["ratio"]), helper.make_node("Add", ["x", "ratio"], ["y"])]
    numbers = {"least": np.iinfo(np.int64).min, "minus": -1}
    return build(nodes, [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()])


def endless() -> ModelProto:
    """y = x, after as many steps as an int64 counts."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Add", ["before", "one"], ["after"])],
        "body",
        [tensor("step", INT64), tensor("go", BOOL), tensor("before", INT64)],
        [tensor("still", BOOL), tensor("after", INT64)],
    )
    nodes = [
        helper.make_node("Loop", ["steps", "", "zero"], ["count"], body=body),
        helper.make_node("Mul", ["count", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    # The number of steps depends on x: with constants alone, the loop would be computed when the model loads.
    nodes.insert(0, helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0))
    nodes.insert(1, helper.make_node("Mul", ["sum", "zero"], ["none"]))
    nodes.insert(2, helper.make_node("Add", ["none", "most"], ["steps"]))
    numbers = {"zero": 0, "one": 1, "most": np.iinfo(np.int64).max}
    return build(nodes, [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()])


def folding() -> ModelProto:
    """y = x, beside a thousand products of matrices that ONNX Runtime computes when it loads the model.

    ONNX Runtime keeps each product until all are computed: they are small, so that a fast processor needs little
    memory. They have a factor each, because equal ones would be computed once.
    """
    value = numpy_helper.from_array(np.array([1 / 2048], np.float32), "value")
    products = [f"product{n}" for n in range(1000)]
    nodes = [helper.make_node("ConstantOfShape", ["sides"], ["matrix"], value=value)]
    nodes += [
        helper.make_node("Gemm", ["matrix", "matrix"], [product], transB=1, alpha=(n + 1) / 1000)
        for n, product in enumerate(products)
    ]
    nodes += [
        helper.make_node("Max", products, ["largest"]),
        helper.make_node("ReduceMax", ["largest"], ["one"], keepdims=0),
        helper.make_node("Cast", ["one"], ["whole"], to=INT64),
        helper.make_node("Mul", ["whole", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    sides, zero = np.array([512, 32768], np.int64), np.array(0, np.int64)
    return build(nodes, [numpy_helper.from_array(sides, "sides"), numpy_helper.from_array(zero, "zero")])


def huge(*shape: str | int, is_sequence: bool = False) -> ModelProto:
    """y = the shape of x, or the length of the sequence x."""
    operator = "SequenceLength" if is_sequence else "Shape"
    x = helper.make_tensor_sequence_value_info("x", FLOAT, shape) if is_sequence else tensor("x", FLOAT, *shape)
    y = tensor("y", INT64) if is_sequence else tensor("y", INT64, len(shape))
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "graph", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model


def main() -> None:
    shutil.rmtree(FAULTS, ignore_errors=True)
    external, branches = external_subgraph()
    models = {
        "slow": slow(),
        "heavy": slow(steps=300),
        "divide": divide(),
        "wide": wide(),
        "long": long(),
        "external-subgraph": external,
        "abort": abort(),
        "endless": endless(),
        "folding": folding(),
        "huge": huge("N", 1_000_000, 1_000_000),
        "huge-rows": huge(1_000_000_000_000, 3),
        "huge-sequence": huge(1_000_000, 1_000_000, is_sequence=True),
    }
    for name, model in models.items():
        folder = FAULTS / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    (FAULTS / "external-subgraph" / "1" / "branches.bin").write_bytes(branches)


if __name__ == "__main__":
    main()
