"""Notes the five best classes of a small classifier for every test image, prepared by Pillow and numpy as torchvision does.

Writes `tests/models/top5.json`. The classifier is `tests/models/zoo/torch-conv`, run by ONNX Runtime: what is judged is the
preprocessing before it. Needs the images that `make_images.py` writes, its packages, and onnxruntime.
"""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
from make_images import IMAGENET, IMAGES, REPOSITORY, expected

SPEC = {"resize": {"shorter": 36}, "crop": {"width": 32, "height": 32}, **IMAGENET}


def main() -> None:
    session = onnxruntime.InferenceSession(REPOSITORY / "tests/models/zoo/torch-conv/model.onnx")
    top = {}
    for path in sorted(IMAGES.iterdir()):
        if path.suffix == ".json":
            continue
        row = expected(path.read_bytes(), SPEC, "float32")
        scores = session.run(None, {session.get_inputs()[0].name: row[np.newaxis]})[0][0]
        top[path.name] = [int(place) for place in np.argsort(-scores, kind="stable")[:5]]
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(places)}" for name, places in top.items())
    text = f'{{\n"image": {json.dumps(SPEC)},\n"top": {{\n{lines}\n}}\n}}\n'
    (REPOSITORY / "tests/models/top5.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
