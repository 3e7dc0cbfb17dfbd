"""The one image that the image models are shown, as PNG (exact) and JPEG (decoders may differ by a level)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from common import ZOO
from PIL import Image

SIDE = 32
PNG, JPEG = "image.png", "image.jpg"


def draw() -> None:
    """Slow gradients, so that the JPEG stays near the PNG, and each channel goes another way."""
    down, right = np.mgrid[0:SIDE, 0:SIDE] * 255 // (SIDE - 1)
    pixels = np.stack([right, down, 255 - (right + down) // 2], axis=-1).astype(np.uint8)
    ZOO.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(ZOO / PNG, optimize=True)
    Image.fromarray(pixels).save(ZOO / JPEG, quality=90)


def read(name: str, folder: Path = ZOO) -> np.ndarray:
    """uint8 `[32, 32, 3]`, red first."""
    return np.asarray(Image.open(folder / name).convert("RGB"))


def as_input(pixels: np.ndarray, shape: list, floating: bool) -> np.ndarray:
    """The image as an input takes it: bytes as they are, floats from 0 to 1; channels where the 3 stands."""
    values = pixels.astype(np.float32) / np.float32(255) if floating else pixels
    channels_first = shape[-1] != 3
    values = values.transpose(2, 0, 1) if channels_first else values
    return np.ascontiguousarray(values if len(shape) == 3 else values[None])
