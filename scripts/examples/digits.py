"""Trains a classifier of written digits for `scripts/demo`: an image model that people can judge by looking.

Writes `tests/models/demo/digits` (model.onnx; its model.yaml is written by hand), and a digit that the
training did not see: `tests/models/demo/three.png`. The digits are those of scikit-learn, 8 x 8 pixels.
Their negatives are learnt too: ink may be bright or dark. Needs the packages of requirements.txt, and
Pillow. Running it again writes the same bytes.
"""

from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper, save
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

DEMO = Path(__file__).resolve().parents[2] / "tests" / "models" / "demo"
SIDE = 8
BRIGHTEST = 16
TRAINED = 1500
PICTURE = 160


def export(classifier: MLPClassifier, path: Path) -> None:
    """float32 `[N, 1, 8, 8]`, from 0 to 1, in; logits float32 `[N, 10]` out."""
    hidden, logits = zip(classifier.coefs_, classifier.intercepts_, strict=True)
    names = ("hidden_weights", "hidden_bias", "weights", "bias")
    weights = [
        numpy_helper.from_array(values.astype(np.float32), name)
        for name, values in zip(names, (*hidden, *logits), strict=True)
    ]
    nodes = [
        helper.make_node("Flatten", ["image"], ["pixels"]),
        helper.make_node("Gemm", ["pixels", "hidden_weights", "hidden_bias"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "weights", "bias"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])]
    graph = helper.make_graph(nodes, "digits", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    checker.check_model(model)
    save(model, path)


def main() -> None:
    digits = load_digits()
    images = (digits.images / BRIGHTEST).astype(np.float32)
    train = images[:TRAINED].reshape(TRAINED, -1)
    classifier = MLPClassifier((48,), alpha=1, max_iter=600, random_state=0)
    classifier.fit(np.concatenate([train, 1 - train]), np.tile(digits.target[:TRAINED], 2))
    path = DEMO / "digits" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    export(classifier, path)

    session = onnxruntime.InferenceSession(path)
    unseen, labels = images[TRAINED:, np.newaxis], digits.target[TRAINED:]
    for name, rows in {"bright": unseen, "dark": 1 - unseen}.items():
        found = session.run(None, {"image": rows})[0].argmax(1)
        print(f"{name} ink: {(found == labels).mean():.3f} of {len(labels)} unseen digits are right")
    three = unseen[np.flatnonzero(labels == 3)[0], 0]
    ink = Image.fromarray(np.rint((1 - three) * 255).astype(np.uint8))
    ink.resize((PICTURE, PICTURE), Image.Resampling.BICUBIC).save(DEMO / "three.png", optimize=True)


if __name__ == "__main__":
    main()
