"""Makes the test images and notes what Pillow and numpy make of them.

Writes `tests/models/images/*` and `tests/models/images/cases.json`: for each case the image's file, the declaration as
it stands under `image:` in a model.yaml, the model's input, and every `stride`-th element of the expected row, first
to last. The preprocessing is torchvision's (`Resize`, `CenterCrop`, `ToTensor`, `Normalize`), written with Pillow and
numpy alone. Running it again with the same versions writes the same bytes: Pillow 12.0.0 (13.0.0 rounds some resized values
otherwise, by one level).
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = REPOSITORY / "tests" / "models" / "images"
SAMPLES = 36  # expected elements noted for each case, about
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CLASSIFIER = {"resize": {"shorter": 256}, "crop": {"width": 224, "height": 224}, **IMAGENET}
MODES = {"rgb": "RGB", "bgr": "RGB", "gray": "L", "rgba": "RGBA"}
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
ORIENTATION = 0x0112  # the EXIF tag
STRAY = b"\0\1stray\xff\0"


def scene(width: int, height: int, channels: int = 3, seed: int = 7) -> np.ndarray:
    """A smooth scene with soft-edged discs, a hard-edged bar and a little grain, as uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = x / width, y / height
    planes = []
    for channel in range(channels):
        plane = 128 + 70 * np.sin(5 * u + 2 * channel) * np.cos(4 * v - channel) + 30 * (u - v)
        for _ in range(4):
            cx, cy, radius, lift = (
                random.uniform(0, 1),
                random.uniform(0, 1),
                random.uniform(0.05, 0.25),
                random.uniform(-90, 90),
            )
            distance = np.hypot((u - cx) * width / height, v - cy)
            plane += lift / (1 + np.exp((distance - radius) * 60))
        plane[:, int(width * 0.7) : int(width * 0.74)] = 40 + 60 * channel
        plane += random.normal(0, 2.5, plane.shape)
        planes.append(plane)
    return np.clip(np.rint(np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)


def images() -> dict[str, bytes]:
    """Every image by file name."""
    files: dict[str, bytes] = {}

    def save(name: str, image: Image.Image, **options: Any) -> None:
        buffer = io.BytesIO()
        image.save(buffer, **options)
        files[name] = buffer.getvalue()

    photo = Image.fromarray(scene(400, 300))
    small = Image.fromarray(scene(61, 43, seed=3))
    gray = Image.fromarray(scene(97, 71, 1, seed=4)[:, :, 0])
    with_alpha = Image.fromarray(scene(60, 47, 4, seed=5))
    save("photo-420.jpg", photo, format="JPEG", quality=85)
    save("photo-422.jpg", photo, format="JPEG", quality=75, subsampling="4:2:2")
    save("photo-444.jpg", Image.fromarray(scene(331, 277, seed=8)), format="JPEG", quality=70, subsampling="4:4:4")
    save("photo-progressive.jpg", Image.fromarray(scene(300, 401, seed=9)), format="JPEG", quality=80, progressive=True)
    save("gray.jpg", gray, format="JPEG", quality=90)
    save("cmyk.jpg", Image.fromarray(scene(120, 90, seed=6)).convert("CMYK"), format="JPEG", quality=90)
    save("restarts.jpg", small, format="JPEG", quality=90, restart_marker_blocks=3)
    for orientation in range(1, 9):
        save(f"orientation-{orientation}.jpg", small, format="JPEG", quality=60, exif=turned(orientation))
    save("rgb.png", small, format="PNG")
    save("orientation-6.png", small, format="PNG", exif=turned(6))
    save("gray.png", gray, format="PNG")
    save("bilevel.png", gray.point(lambda value: 255 * (value > 120), "1"), format="PNG")
    save("rgba.png", with_alpha, format="PNG")
    save("gray-alpha.png", Image.merge("LA", with_alpha.split()[2:]), format="PNG")
    save("palette.png", small.quantize(16), format="PNG")
    save("palette-alpha.png", small.quantize(16), format="PNG", transparency=bytes(range(0, 256, 16)))
    levels = np.random.default_rng(1).integers(0, 1 << 16, (20, 15, 3), dtype=np.uint16)
    files["rgb-16.png"] = png_by_hand(levels, interlaced=False)
    files["gray-16.png"] = png_by_hand(levels[:, :, :1], interlaced=False)
    files["interlaced.png"] = png_by_hand(np.asarray(small)[:29, :37], interlaced=True)
    lossy = Image.fromarray(scene(199, 133, seed=11))
    save("lossy.webp", lossy, format="WEBP", quality=80)
    save("lossy-alpha.webp", with_alpha, format="WEBP", quality=80)
    save("lossless.webp", small, format="WEBP", lossless=True)
    save("orientation-8.webp", small, format="WEBP", lossless=True, exif=turned(8))
    # Orientation elsewhere than in a SHORT of EXIF.
    save("long-5.jpg", small, format="JPEG", quality=60, exif=turned_long(5))
    save("long-6.png", small, format="PNG", exif=turned_long(6)[6:])
    save("xmp-3.jpg", small, format="JPEG", quality=60, xmp=turned_xmp('tiff:Orientation="3"'))
    save("xmp-8.webp", small, format="WEBP", lossless=True, xmp=turned_xmp("<tiff:Orientation>8</tiff:Orientation>"))
    exif_first = {"exif": turned(6), "xmp": turned_xmp('tiff:Orientation="3"')}
    save("exif-6-xmp-3.jpg", small, format="JPEG", quality=60, **exif_first)
    for name, keyword, text, chunk in (
        ("profile-7.png", "Raw profile type exif", raw_profile(7), "zTXt"),
        ("profile-4.png", "Raw profile type exif", raw_profile(4), "tEXt"),
        ("profile-2.png", "Raw profile type exif", raw_profile(2), "iTXt"),
        ("xmp-5.png", "XML:com.adobe.xmp", turned_xmp('tiff:Orientation="5"').decode(), "iTXt"),
        ("xmp-7.png", "XML:com.adobe.xmp", turned_xmp('tiff:Orientation="7"').decode(), "iTXt compressed"),
    ):
        info = PngInfo()
        if chunk.startswith("iTXt"):
            info.add_itxt(keyword, text, "en", "Metadata", zip=chunk.endswith("compressed"))
        else:
            info.add_text(keyword, text, zip=chunk == "zTXt")
        save(name, small, format="PNG", pnginfo=info)
    # Colours as they are, with and without Adobe's word for it, and a JFIF that says otherwise.
    save("keep-rgb.jpg", small, format="JPEG", quality=80, keep_rgb=True)
    rgb = files["keep-rgb.jpg"]
    adobe = b"\xff\xee\x00\x0eAdobe\x00d\x00\x00\x00\x00"
    files["adobe-rgb.jpg"] = with_components(b"\xff\xd8" + adobe + b"\x00" + without_adobe(rgb)[2:], b"\1\2\3")
    files["rgb-components.jpg"] = with_components(without_adobe(rgb), b"RGB")
    files["jfif-and-adobe.jpg"] = files["photo-444.jpg"][:20] + adobe + b"\x00" + files["photo-444.jpg"][20:]
    ycck = without_adobe(files["cmyk.jpg"])
    files["ycck.jpg"] = ycck[:2] + adobe + b"\x02" + ycck[2:]
    # Bytes that cameras and careless programs leave between segments, and an end that they forget.
    files["many-scans.jpg"] = many_scans(64, 96)
    files["stray-bytes.jpg"] = with_stray_bytes(files["photo-420.jpg"])
    files["stray-bytes-progressive.jpg"] = with_stray_bytes(files["photo-progressive.jpg"])
    files["no-end.png"] = files["rgb.png"][:-12]
    return files


def many_scans(side: int, scans: int) -> bytes:
    """A gray progressive JPEG of `side` x `side` pixels and so many scans, all of them refinements of nothing: every coded bit is 0."""

    def segment(marker: int, data: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data

    def table(kind: int, symbol: int) -> bytes:
        """One code of one bit, 0."""
        return segment(0xC4, bytes([kind, 1, *[0] * 15, symbol]))

    blocks = (side // 8) ** 2
    # A difference of 0 for each block, in one bit; the end of a band of 2^14 blocks, in 15 bits.
    first, later = -(-blocks // 8), -(-blocks // 2**14) * 15 // 8 + 1
    frame = struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0)
    parts = [b"\xff\xd8", segment(0xDB, bytes([0, *[1] * 64])), segment(0xC2, frame), table(0x00, 0), table(0x10, 0xE0)]
    parts += [segment(0xDA, bytes([1, 1, 0, 0, 0, 0x01])), bytes(first)]
    parts += [segment(0xDA, bytes([1, 1, 0, 1, 63, 0x10])), bytes(later)] * (scans - 1)
    return b"".join([*parts, b"\xff\xd9"])


def turned_long(value: int) -> bytes:
    """EXIF whose orientation is a LONG, big-endian."""
    return b"Exif\0\0MM\0*" + struct.pack(">IHHHIII", 8, 1, ORIENTATION, 4, 1, value, 0)


def turned_xmp(orientation: str) -> bytes:
    head = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description '
    if orientation.startswith("<"):
        return f"{head}>{orientation}</rdf:Description></rdf:RDF></x:xmpmeta>".encode()
    return f"{head}{orientation}/></rdf:RDF></x:xmpmeta>".encode()


def raw_profile(value: int) -> str:
    """As ImageMagick writes it: lines of 72 hexadecimal digits."""
    digits = (b"Exif\0\0" + turned(value).tobytes().removeprefix(b"Exif\0\0")).hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return f"\nexif\n{len(digits) // 2:8}\n{lines}\n"


def segments(jpeg: bytes) -> list[bytes]:
    """The start, each segment before and at the first scan, and the rest."""
    found, at = [jpeg[:2]], 2
    while found[-1][:2] != b"\xff\xda":
        length = 2 + int.from_bytes(jpeg[at + 2 : at + 4])
        found.append(jpeg[at : at + length])
        at += length
    return [*found, jpeg[at:]]


def without_adobe(jpeg: bytes) -> bytes:
    return b"".join(segment for segment in segments(jpeg) if segment[:2] != b"\xff\xee")


def with_components(jpeg: bytes, names: bytes) -> bytes:
    """The three components by other names, in the frame and in the one scan."""
    parts = []
    for segment in segments(jpeg):
        named = bytearray(segment)
        if segment[:2] in (b"\xff\xc0", b"\xff\xc2"):
            named[10:19:3] = names
        elif segment[:2] == b"\xff\xda":
            named[5:11:2] = names
        parts.append(bytes(named))
    return b"".join(parts)


def with_stray_bytes(jpeg: bytes) -> bytes:
    """Bytes of no meaning before each segment but the first; of a progressive file, between its scans too."""
    start, first, *parts, rest = segments(jpeg)
    return start + first + b"".join(STRAY + part for part in parts) + rest.replace(b"\xff\xda", STRAY + b"\xff\xda")


def turned(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def png_by_hand(pixels: np.ndarray, *, interlaced: bool) -> bytes:
    """Pillow writes neither 16-bit colour nor interlaced files."""
    height, width, channels = pixels.shape
    passes = [(0, 0, 1, 1)]
    if interlaced:  # Adam7: first column, first row, column step, row step
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for x, y, step_x, step_y in passes:
        part = pixels[y::step_y, x::step_x]
        if part.size:
            raw += b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in part)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, {1: 0, 3: 2}[channels], 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def decode(data: bytes, mode: str) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    if image.mode.startswith("I;16"):
        # Pillow would cut these at 255; the high byte is what it takes of every other 16-bit PNG.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return ImageOps.exif_transpose(image).convert(mode)


def resize(image: Image.Image, how: dict[str, Any]) -> Image.Image:
    width, height = image.size
    if "shorter" in how:
        shorter = how["shorter"]
        size = (shorter, shorter * height // width) if width <= height else (shorter * width // height, shorter)
    else:
        size = (how["width"], how["height"])
    return image.resize(size, FILTERS[how.get("filter", "bilinear")])


def centre_crop(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    have_height, have_width = pixels.shape[:2]
    extra_width, extra_height = max(width - have_width, 0), max(height - have_height, 0)
    pad = (
        (extra_height // 2, extra_height - extra_height // 2),
        (extra_width // 2, extra_width - extra_width // 2),
        (0, 0),
    )
    pixels = np.pad(pixels, pad)
    top, left = round((pixels.shape[0] - height) / 2), round((pixels.shape[1] - width) / 2)
    return pixels[top : top + height, left : left + width]


def expected(data: bytes, spec: dict[str, Any], element: str) -> np.ndarray:
    color = spec.get("color", "rgb")
    image = decode(data, MODES[color])
    if "resize" in spec:
        image = resize(image, spec["resize"])
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    if "crop" in spec:
        pixels = centre_crop(pixels, spec["crop"]["width"], spec["crop"]["height"])
    if color == "bgr":
        pixels = pixels[:, :, ::-1]
    kind = np.dtype(element)
    scale = spec.get("scale", 1 / 255 if kind.kind == "f" else 1.0)
    values = (pixels * scale - np.array(spec.get("mean", 0.0))) / np.array(spec.get("std", 1.0))
    if kind.kind != "f":
        values = np.clip(np.rint(values), np.iinfo(kind).min, np.iinfo(kind).max)
    if spec.get("layout", "nchw") == "nchw":
        values = values.transpose(2, 0, 1)
    return values.astype(kind)


def cases() -> list[tuple[str, dict[str, Any], str]]:
    """File, declaration, element type."""
    found: list[tuple[str, dict[str, Any], str]] = []
    for name in (
        "photo-420.jpg",
        "photo-422.jpg",
        "photo-444.jpg",
        "photo-progressive.jpg",
        "lossy.webp",
        "cmyk.jpg",
        "gray.jpg",
    ):
        found.append((name, CLASSIFIER, "float32"))
    plain = {"resize": {"width": 32, "height": 24}}
    for name in images():
        found.append((name, plain, "float32"))
    for file in ("rgb.png", "photo-420.jpg"):
        for name in FILTERS:
            for width, height in ((29, 17), (150, 101), (61, 101)):
                found.append((file, {"resize": {"width": width, "height": height, "filter": name}}, "float32"))
    for color in MODES:
        for file in (
            "rgba.png",
            "palette-alpha.png",
            "gray-alpha.png",
            "lossy-alpha.webp",
            "gray.png",
            "rgb.png",
            "orientation-5.jpg",
        ):
            found.append((file, {"color": color, **plain}, "float32"))
    for layout in ("nchw", "nhwc"):
        for element in ("float32", "float16", "float64", "uint8", "int8", "int32"):
            spec = {"color": "bgr", "layout": layout, "crop": {"width": 40, "height": 30}}
            if element == "int8":
                spec["mean"] = 128
            found.append(("rgb.png", spec, element))
    for file in (
        "photo-420.jpg",
        "photo-422.jpg",
        "photo-444.jpg",
        "photo-progressive.jpg",
        "cmyk.jpg",
        "ycck.jpg",
        "gray.jpg",
        "keep-rgb.jpg",
        "adobe-rgb.jpg",
        "rgb-components.jpg",
        "jfif-and-adobe.jpg",
        "stray-bytes.jpg",
        "stray-bytes-progressive.jpg",
    ):
        found.append((file, {"crop": {"width": 90, "height": 71}}, "uint8"))
    found.append(("rgb.png", {"crop": {"width": 70, "height": 31}}, "float32"))
    found.append(("rgb.png", {"scale": 1 / 127.5, "mean": 1, "crop": {"width": 20, "height": 50}}, "float32"))
    return found


def main() -> None:
    shutil.rmtree(IMAGES, ignore_errors=True)
    IMAGES.mkdir(parents=True)
    files = images()
    for name, data in files.items():
        (IMAGES / name).write_bytes(data)
    # 64 megapixels in 96 scans: 140 KB, which pack to less than one.
    (IMAGES / "many-scans-8192.jpg.gz").write_bytes(gzip.compress(many_scans(8192, 96), mtime=0))
    noted = []
    for name, spec, element in cases():
        row = expected(files[name], spec, element)
        stride = max(1, row.size // SAMPLES) | 1
        values = [round(float(value), 5) for value in row.reshape(-1)[::stride]]
        noted.append(
            {
                "file": name,
                "image": spec,
                "element": element,
                "shape": list(row.shape),
                "stride": stride,
                "expected": values,
            }
        )
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in noted)
    (IMAGES / "cases.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
