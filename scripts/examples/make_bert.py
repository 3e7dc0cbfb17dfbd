"""Makes a model of BERT's shape with random weights, to measure what one costs (docs/scaling.md):

  python make_bert.py FOLDER [--layers 12] [--width 768] [--heads 12] [--tokens 128] [--measure]

FOLDER is a model's version: model.onnx takes int64 token ids of the shape (rows, tokens) and returns two scores a
row. The defaults are those of bert-base: 109 million weights, 434 MB. With --measure it prints the processor time of
a row in ONNX Runtime, with one thread.
"""

import argparse
import pathlib
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCABULARY = 30522


class Graph:
    def __init__(self):
        self.nodes, self.weights, self.random, self.count = [], [], np.random.default_rng(1), 0

    def weight(self, *shape):
        return self.constant(self.random.normal(0, 0.02, shape).astype(np.float32))

    def constant(self, values):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def __call__(self, operator, *inputs, **attributes):
        self.count += 1
        output = f"v{self.count}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def linear(self, x, rows, columns):
        return self("Add", self("MatMul", x, self.weight(rows, columns)), self.weight(columns))

    def norm(self, x, width):
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        return self("LayerNormalization", x, self.constant(ones), self.constant(zeros), axis=-1)


def layer(graph, x, tokens, width, heads):
    def split(y, order):
        shape = graph.constant(np.array([0, tokens, heads, width // heads], np.int64))
        return graph("Transpose", graph("Reshape", y, shape), perm=order)

    query = split(graph.linear(x, width, width), [0, 2, 1, 3])
    key = split(graph.linear(x, width, width), [0, 2, 3, 1])
    value = split(graph.linear(x, width, width), [0, 2, 1, 3])
    scale = graph.constant(np.float32((width // heads) ** -0.5))
    weights = graph("Softmax", graph("Mul", graph("MatMul", query, key), scale), axis=-1)
    mixed = graph("Transpose", graph("MatMul", weights, value), perm=[0, 2, 1, 3])
    mixed = graph("Reshape", mixed, graph.constant(np.array([0, tokens, width], np.int64)))
    x = graph.norm(graph("Add", x, graph.linear(mixed, width, width)), width)
    inner = graph.linear(x, width, 4 * width)
    half, root = graph.constant(np.float32(0.5)), graph.constant(np.float32(0.5**0.5))
    one = graph.constant(np.float32(1))
    erf = graph("Add", graph("Erf", graph("Mul", inner, root)), one)
    inner = graph("Mul", graph("Mul", inner, erf), half)
    return graph.norm(graph("Add", x, graph.linear(inner, 4 * width, width)), width)


def measure(path, tokens):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    for rows in (1, 8):
        batch = {"tokens": np.random.default_rng(2).integers(0, VOCABULARY, (rows, tokens))}
        session.run(None, batch)
        took = []
        for _ in range(5):
            begin = time.process_time()
            session.run(None, batch)
            took.append((time.process_time() - begin) / rows * 1000)
        took.sort()
        print(f"{rows} rows a call: {took[2]:.0f} ms of processor time a row, {took[0]:.0f} to {took[4]:.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    for name, default in (("layers", 12), ("width", 768), ("heads", 12), ("tokens", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--measure", action="store_true")
    options = parser.parse_args()
    tokens, width = options.tokens, options.width
    graph = Graph()
    x = graph("Add", graph("Gather", graph.weight(VOCABULARY, width), "tokens"), graph.weight(tokens, width))
    x = graph.norm(x, width)
    for _ in range(options.layers):
        x = layer(graph, x, tokens, width, options.heads)
    first = graph("Gather", x, graph.constant(np.int64(0)), axis=1)
    graph.nodes.append(helper.make_node("Identity", [graph.linear(first, width, 2)], ["scores"]))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "bert",
            [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["rows", tokens])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 2])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    options.folder.mkdir(parents=True, exist_ok=True)
    path = str(options.folder / "model.onnx")
    onnx.save(model, path)
    if options.measure:
        measure(path, tokens)


if __name__ == "__main__":
    main()
