"""Keras' models by its own ONNX export, and a tf.function by tf2onnx; what Keras and TensorFlow compute."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras  # noqa: E402 the environment first
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf2onnx  # noqa: E402
from common import Case, Example, write  # noqa: E402
from keras import layers  # noqa: E402
from sample_image import JPEG, PNG, as_input, read  # noqa: E402

KERAS = f"Keras {keras.__version__} `model.export(format='onnx')`, tf2onnx {tf2onnx.__version__}"
TENSORFLOW = f"TensorFlow {tf.__version__}, tf2onnx {tf2onnx.__version__} `from_function`"
FLOWERS = np.array([[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4], [6.3, 3.3, 6.0, 2.5]], np.float32)


def export(model: keras.Model, inputs) -> bytes:
    """The exporter refuses a model that was never called; a trained one has been."""
    model.predict(inputs, verbose=0)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        model.export(path, format="onnx", verbose=False)
        return serialised(onnx.load(path))


def serialised(model: onnx.ModelProto) -> bytes:
    """Constants are named by their first use: which of two equal ones tf2onnx keeps is left to chance."""
    renamed = {constant.name: "" for constant in model.graph.initializer}
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in renamed:
                used = sum(map(bool, renamed.values()))
                renamed[name] = renamed[name] or f"constant__{used}"
                node.input[i] = renamed[name]
    for constant in model.graph.initializer:
        constant.name = renamed[constant.name] or constant.name
    model.graph.initializer.sort(key=lambda constant: constant.name)
    return model.SerializeToString(deterministic=True)


def names(model: bytes) -> tuple[list[str], list[str]]:
    graph = onnx.load_from_string(model).graph
    return [each.name for each in graph.input], [each.name for each in graph.output]


def dense() -> Example:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((4,)), layers.Dense(8, "relu"), layers.Dense(3, "softmax")])
    onnx_model = export(model, FLOWERS)
    (taken,), (given,) = names(onnx_model)
    cases = [Case("rows", {taken: FLOWERS}, {given: model.predict(FLOWERS, verbose=0)}, list(FLOWERS))]
    special = (
        "Sequential classifier that ends in softmax; the input's and the output's batch dimension have unlike names"
    )
    return Example("keras-dense", KERAS, special, {"model.onnx": onnx_model}, cases, "Keras predict")


def conv() -> Example:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input((32, 32, 3), name="image"),
            layers.Conv2D(4, 4, strides=4, activation="relu"),
            layers.MaxPooling2D(4),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ]
    )
    two = np.random.default_rng(0).integers(0, 4, (2, 32, 32, 3)).astype(np.float32)
    onnx_model = export(model, two)
    (taken,), (given,) = names(onnx_model)
    cases = []
    for name in (PNG, JPEG):
        image = as_input(read(name), [1, 32, 32, 3], floating=True)
        cases.append(Case(f"image {name}", {}, {given: model.predict(image, verbose=0)}, image=name))
    cases.append(Case("two images", {taken: two}, {given: model.predict(two, verbose=0)}))
    special = "image `[N, 32, 32, 3]`, channels last"
    return Example("keras-conv", KERAS, special, {"model.onnx": onnx_model}, cases, "Keras predict")


def functional() -> Example:
    """Two named inputs, two named outputs."""
    keras.utils.set_random_seed(0)
    size, colour = keras.Input((2,), name="size"), keras.Input((1,), name="colour", dtype="int32")
    embedded = layers.Flatten()(layers.Embedding(5, 2)(colour))
    joined = layers.Concatenate()([size, embedded])
    price, sold = layers.Dense(1, name="price")(joined), layers.Dense(1, "sigmoid", name="sold")(joined)
    model = keras.Model([size, colour], {"price": price, "sold": sold})
    inputs = {
        "size": np.array([[1, 2], [0.5, -1], [3, 0]], np.float32),
        "colour": np.array([[0], [4], [2]], np.int32),
    }
    onnx_model = export(model, inputs)
    taken, given = names(onnx_model)
    if sorted(taken) != sorted(inputs):
        raise SystemExit(f"keras-functional: inputs {taken}, expected {list(inputs)}")
    predicted = model.predict(inputs, verbose=0)
    expected = {name: predicted[name] for name in given}
    records = [{"size": a, "colour": b} for a, b in zip(*inputs.values())]
    cases = [Case("rows", inputs, expected, records)]
    special = "two named inputs (float, int32), two named outputs, each with its own name for the same batch dimension"
    return Example("keras-functional", KERAS, special, {"model.onnx": onnx_model}, cases, "Keras predict")


def function() -> Example:
    """A tf.function with names of its own; tf2onnx gives the names and `unk__` dimensions."""
    signature = [tf.TensorSpec([None, 4], tf.float32, name="features"), tf.TensorSpec([None], tf.int64, name="offset")]

    @tf.function(input_signature=signature)
    def score(features: tf.Tensor, offset: tf.Tensor) -> dict[str, tf.Tensor]:
        total = tf.reduce_sum(features, axis=1)
        return {"total": total, "index": tf.argmax(features, axis=1) + offset}

    model, _ = tf2onnx.convert.from_function(score, input_signature=signature)
    onnx_model = serialised(model)
    offset = np.array([0, 10, 2**53], np.int64)
    computed = score(tf.constant(FLOWERS), tf.constant(offset))
    _, given = names(onnx_model)
    order = sorted(computed)  # TensorFlow flattens a dict by its keys' order, and tf2onnx may rename the outputs
    expected = {name: computed[name if name in computed else order[i]].numpy() for i, name in enumerate(given)}
    records = [{"features": a, "offset": b} for a, b in zip(FLOWERS, offset)]
    cases = [Case("rows", {"features": FLOWERS, "offset": offset}, expected, records)]
    special = "a tf.function with rows of rank 2 and 1, outputs float and int64"
    return Example("tensorflow-function", TENSORFLOW, special, {"model.onnx": onnx_model}, cases, "TensorFlow")


def main() -> None:
    for make in (dense, conv, functional, function):
        write(make())


if __name__ == "__main__":
    main()
