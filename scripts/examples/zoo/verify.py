"""Runs every case of the zoo in ONNX Runtime, and compares with what `expected.json` says. Exits 1 when one differs.

`preprocess.onnx` runs before the model and `postprocess.onnx` after it, each feeding inputs of the same names.
A model that needs a locale which this machine lacks is skipped (`localedef -i en_US -f UTF-8 DIR/en_US.UTF-8` and
LOCPATH=DIR give it one), and so is one that takes maps which the Python package cannot make. bfloat16 travels as its
bits, since numpy has no such type of its own.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from common import BFLOAT16, ZOO, decode
from onnx import TensorProto
from onnxruntime import OrtValue
from sample_image import as_input, read

BEYOND_REACH = ("Failed to construct locale", "it cannot be linked to C type")
GRAPHS = ("preprocess.onnx", "model.onnx", "postprocess.onnx")


class Mismatch(Exception):
    """What ONNX Runtime answers is not what was expected."""


def is_bfloat16(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == BFLOAT16


def to_ort(value: np.ndarray) -> OrtValue:
    if is_bfloat16(value):
        return OrtValue.ortvalue_from_numpy_with_onnx_type(value.view(np.uint16), TensorProto.BFLOAT16)
    return OrtValue.ortvalue_from_numpy(value)


def from_ort(value: OrtValue) -> np.ndarray:
    if value.data_type() != "tensor(bfloat16)":
        return value.numpy()
    shape = value.shape()
    size = int(np.prod(shape)) * BFLOAT16.itemsize
    return np.frombuffer(ctypes.string_at(value.data_ptr(), size), BFLOAT16).reshape(shape)


def with_keys(value: Any, kind: str) -> Any:
    """A map's keys are text in JSON, whatever they are in the model."""
    return {int(key): each for key, each in value.items()} if kind.startswith("map(int64") else value


def run(path: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    taken = [*session.get_inputs(), *session.get_overridable_initializers()]
    fed = {each.name: with_keys(inputs[each.name], each.type) for each in taken if each.name in inputs}
    if any("bfloat16" in each.type for each in [*taken, *session.get_outputs()]):
        values = session.run_with_ort_values(names, {name: to_ort(value) for name, value in fed.items()})
        return dict(zip(names, map(from_ort, values)))
    return dict(zip(names, session.run(names, fed)))


def image_input(graph: Path, name: str) -> dict[str, np.ndarray]:
    """The image as the graph's only input takes it."""
    (taken,) = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).get_inputs()
    return {taken.name: as_input(read(name), taken.shape, floating="float" in taken.type)}


def difference(got: Any, expected: Any, where: str) -> float:
    """The largest difference between two values: absolute up to 1, relative above."""
    if isinstance(expected, np.ndarray):
        return tensor_difference(np.asarray(got), expected, where)
    if isinstance(expected, dict):
        got = {str(key): value for key, value in got.items()}
        if set(got) != set(expected):  # ONNX Runtime orders a map by its keys
            raise Mismatch(f"{where}: keys {list(got)}, expected {list(expected)}")
        return max(abs(got[key] - value) / max(1, abs(value)) for key, value in expected.items())
    if isinstance(expected, list):
        if len(got) != len(expected):
            raise Mismatch(f"{where}: {len(got)} elements, expected {len(expected)}")
        return max((difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(got, expected))), default=0.0)
    if got is not expected:
        raise Mismatch(f"{where}: {got!r}, expected {expected!r}")
    return 0.0


def tensor_difference(got: np.ndarray, expected: np.ndarray, where: str) -> float:
    if got.shape != expected.shape:
        raise Mismatch(f"{where}: shape {got.shape}, expected {expected.shape}")
    if got.dtype != expected.dtype and "O" not in (got.dtype.kind, expected.dtype.kind):
        raise Mismatch(f"{where}: {got.dtype}, expected {expected.dtype}")
    if expected.dtype.kind not in "fV":
        if got.tolist() != expected.tolist():
            raise Mismatch(f"{where}: {got.tolist()}, expected {expected.tolist()}")
        return 0.0
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(got[~finite], expected[~finite], equal_nan=True):
        raise Mismatch(f"{where}: {got.tolist()}, expected {expected.tolist()}")
    apart = np.abs(got[finite] - expected[finite]) / np.maximum(1, np.abs(expected[finite]))
    if np.isnan(apart).any():
        raise Mismatch(f"{where}: NaN, expected {expected.tolist()}")
    return float(apart.max(initial=0.0))


def check_case(folder: Path, case: dict) -> float:
    values = {name: decode(value) for name, value in case["inputs"].items()}
    if "image" in case:
        first = next(folder / graph for graph in GRAPHS if (folder / graph).exists())
        values |= image_input(first, case["image"])
    if "fails" in case:
        try:
            run(folder / "model.onnx", values)
        except Exception as error:  # noqa: BLE001 ONNX Runtime's errors have no common class
            if case["fails"] in str(error):
                return 0.0
            raise Mismatch(f"fails with {error}, expected {case['fails']!r}") from error
        raise Mismatch(f"answers, expected to fail with {case['fails']!r}")
    for graph in GRAPHS:
        if (folder / graph).exists():
            values |= run(folder / graph, values)
    return max(difference(values[name], decode(value), name) for name, value in case["expected"].items())


def main() -> None:
    onnxruntime.set_default_logger_severity(4)  # some cases are meant to fail
    verdicts = Counter()
    chosen = sys.argv[1:] or sorted(path.parent.name for path in ZOO.glob("*/expected.json"))
    for name in chosen:
        expected = json.loads((ZOO / name / "expected.json").read_text(encoding="utf-8"))
        try:
            largest = max(check_case(ZOO / name, case) for case in expected["cases"])
            verdict = "ok" if largest <= expected["tolerance"] else "DIFFERS"
            text = f"{largest:.1e} (tolerance {expected['tolerance']:.0e})"
        except Exception as error:  # noqa: BLE001 every model is to be looked at
            verdict = "SKIPPED" if any(reason in str(error) for reason in BEYOND_REACH) else "FAILED"
            text = f"{type(error).__name__}: {error}"
        verdicts[verdict] += 1
        print(f"{verdict:8}{name}: {text}")
    failures = len(chosen) - verdicts["ok"] - verdicts["SKIPPED"]
    print(f"{verdicts['ok']} passed, {failures} failed, {verdicts['SKIPPED']} skipped")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
