"""Times JPEG to 224 x 224 tensor with Pillow and numpy as a Python worker does it: both use one thread for this.

Also writes the images to `target/bench-images`, where `cargo bench --bench prepare` finds them. Prints the best of
several rounds, in milliseconds for one image. `scripts/bench-images.py TARGET/image` times predictd in turns with it,
since machines drift, and prints the ratio.
"""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
IMAGES = REPOSITORY / "target" / "bench-images"
SIZES = ((1920, 1080), (640, 480))
ROUNDS, REPEATS = 7, 20
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def scene(width: int, height: int) -> np.ndarray:
    spec = importlib.util.spec_from_file_location("make_images", REPOSITORY / "scripts/examples/make_images.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.scene(width, height)


def prepare(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    shorter = min(width, height)
    image = image.resize((256 * width // shorter, 256 * height // shorter), Image.Resampling.BILINEAR)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    return np.ascontiguousarray(((pixels / 255 - MEAN) / STD).transpose(2, 0, 1))


def seconds(data: bytes) -> float:
    """For one image."""
    start = time.perf_counter()
    for _ in range(REPEATS):
        prepare(data)
    return (time.perf_counter() - start) / REPEATS


def in_turns(data: bytes, command: list[str]) -> tuple[float, float]:
    """Pillow's seconds and predictd's, the best of each."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:

        def ask() -> float:
            other.stdin.write(f"{REPEATS}\n")
            other.stdin.flush()
            return float(other.stdout.readline())

        rounds = [(seconds(data), ask()) for _ in range(ROUNDS)]
        other.stdin.close()
    pillow, predictd = zip(*rounds)
    return min(pillow), min(predictd)


def main() -> None:
    binary = sys.argv[1:2]
    IMAGES.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        buffer = io.BytesIO()
        Image.fromarray(scene(width, height)).save(buffer, format="JPEG", quality=85)
        data = buffer.getvalue()
        path = IMAGES / f"{width}x{height}.jpg"
        path.write_bytes(data)
        what = f"{width}x{height}, {len(data)} bytes"
        if not binary:
            print(f"{what}: {min(seconds(data) for _ in range(ROUNDS)) * 1000:.3f} ms")
            continue
        pillow, predictd = in_turns(data, [*binary, str(path)])
        times = f"Pillow and numpy {pillow * 1000:.3f} ms, predictd {predictd * 1000:.3f} ms"
        print(f"{what}: {times}; Pillow and numpy / predictd: {pillow / predictd:.2f}")


if __name__ == "__main__":
    main()
