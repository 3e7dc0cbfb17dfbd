"""Makes 500 JPEGs of 32 x 32, and what ONNX Runtime says of them: photos.py FOLDER, which holds model/model.onnx.

Pillow decodes the images, numpy prepares them as tests/e2e/batch/oracle.rs declares it. JPEGs are of all forms: 4:4:4,
4:2:2 and 4:2:0, progressive and baseline, of qualities from 30 to 95.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

COUNT, SIDE = 500, 32
MEAN, STD = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.2, 0.3, 0.4], np.float32)


def draw(random: np.random.Generator) -> Image.Image:
    """A picture with smooth colours and an edge."""
    small = random.integers(0, 256, (4, 4, 3), np.uint8)
    image = np.asarray(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).copy()
    x, y = random.integers(0, SIDE - 8, 2)
    image[y : y + 8, x : x + 8] = random.integers(0, 256, 3, np.uint8)
    return Image.fromarray(image)


def main(folder: Path) -> None:
    random = np.random.default_rng(7)
    photos = folder / "photos"
    photos.mkdir()
    session = onnxruntime.InferenceSession(folder / "model" / "model.onnx")
    (name,) = (one.name for one in session.get_inputs())
    expected = {}
    for number in range(COUNT):
        path = photos / f"{number:03}.jpg"
        quality = int(random.integers(30, 96))
        draw(random).save(path, quality=quality, subsampling=number % 3, progressive=number % 2 == 1)
        pixels = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
        prepared = ((pixels - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
        (output,) = session.run(None, {name: prepared})
        expected[path.name] = output[0].tolist()
    (folder / "expected.json").write_text(json.dumps(expected))


main(Path(sys.argv[1]))
