"""Makes the large models of `scripts/bench --large`, with random weights: ResNet-18 (46 MB) and a BERT base without its
tokens' types (434 MB), the latter once as one file and once with its weights in a second file.

`scripts/bench-models.py FOLDER` writes FOLDER/NAME/NAME/1, a source for each, and prints the time of one row of
ResNet-18 in ONNX Runtime's default session.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

LAYERS, WIDTH, HIDDEN, HEADS, WORDS = 12, 768, 3072, 12, 30522
CALLS = 30


class Graph:
    """Nodes and weights, named by their numbers."""

    def __init__(self) -> None:
        self.nodes, self.weights, self.random = [], [], np.random.default_rng(0)

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        output = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: np.ndarray) -> str:
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, *shape: int) -> str:
        return self.constant(self.random.standard_normal(shape, dtype=np.float32) * np.float32(0.02))

    def model(self, given: onnx.ValueInfoProto, output: str, shape: list[str | int]) -> onnx.ModelProto:
        result = helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)
        self.nodes.append(helper.make_node("Identity", [output], ["output"]))
        graph = helper.make_graph(self.nodes, "bench", [given], [result], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def resnet() -> onnx.ModelProto:
    graph = Graph()

    def conv(value: str, inputs: int, outputs: int, size: int, stride: int) -> str:
        sides = {"kernel_shape": [size, size], "strides": [stride, stride], "pads": [size // 2] * 4}
        return graph.add("Conv", value, graph.weight(outputs, inputs, size, size), graph.weight(outputs), **sides)

    value = graph.add("Relu", conv("pixels", 3, 64, 7, 2))
    value = graph.add("MaxPool", value, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    width = 64
    for outputs in (64, 128, 256, 512):
        for stride in (1 if outputs == 64 else 2, 1):
            inner = conv(graph.add("Relu", conv(value, width, outputs, 3, stride)), outputs, outputs, 3, 1)
            beside = value if width == outputs else conv(value, width, outputs, 1, stride)
            value, width = graph.add("Relu", graph.add("Add", inner, beside)), outputs
    value = graph.add("Flatten", graph.add("GlobalAveragePool", value))
    value = graph.add("Gemm", value, graph.weight(512, 1000), graph.weight(1000))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 224, 224])
    return graph.model(pixels, value, ["batch", 1000])


def bert() -> onnx.ModelProto:
    graph = Graph()
    split = graph.constant(np.array([0, 0, HEADS, WIDTH // HEADS], dtype=np.int64))
    join = graph.constant(np.array([0, 0, WIDTH], dtype=np.int64))
    scale = graph.constant(np.float32((WIDTH / HEADS) ** -0.5))

    def linear(value: str, inputs: int, outputs: int) -> str:
        return graph.add("Add", graph.add("MatMul", value, graph.weight(inputs, outputs)), graph.weight(outputs))

    def head(value: str, order: list[int]) -> str:
        return graph.add("Transpose", graph.add("Reshape", linear(value, WIDTH, WIDTH), split), perm=order)

    def normalized(value: str, more: str) -> str:
        ones, zeros = (graph.constant(fill(WIDTH, dtype=np.float32)) for fill in (np.ones, np.zeros))
        return graph.add("LayerNormalization", graph.add("Add", value, more), ones, zeros, axis=-1)

    value = graph.add("Gather", graph.weight(WORDS, WIDTH), "ids")
    for _ in range(LAYERS):
        scores = graph.add("MatMul", head(value, [0, 2, 1, 3]), head(value, [0, 2, 3, 1]))
        scores = graph.add("Softmax", graph.add("Mul", scores, scale), axis=-1)
        seen = graph.add("MatMul", scores, head(value, [0, 2, 1, 3]))
        seen = graph.add("Reshape", graph.add("Transpose", seen, perm=[0, 2, 1, 3]), join)
        value = normalized(value, linear(seen, WIDTH, WIDTH))
        value = normalized(value, linear(graph.add("Relu", linear(value, WIDTH, HIDDEN)), HIDDEN, WIDTH))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"])
    return graph.model(ids, graph.add("ReduceMean", value, axes=[1], keepdims=0), ["batch", WIDTH])


def main() -> None:
    def file(name: str) -> Path:
        version = Path(sys.argv[1]) / name / name / "1"
        version.mkdir(parents=True)
        return version / "model.onnx"

    onnx.save(resnet(), path := file("resnet18"))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    row, times = {"pixels": np.zeros((1, 3, 224, 224), dtype=np.float32)}, []
    for _ in range(CALLS):
        started = time.perf_counter()
        session.run(None, row)
        times.append(time.perf_counter() - started)
    print(f"ResNet-18, one row, ONNX Runtime's default session in Python: {min(times) * 1000:.1f} ms")

    model = bert()
    onnx.save(model, file("bert"))
    onnx.save(model, file("bert-apart"), save_as_external_data=True, location="weights.bin")


if __name__ == "__main__":
    main()
