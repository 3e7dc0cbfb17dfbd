"""Writes the folders of the model zoo, and reads them back.

A folder `tests/models/zoo/<name>/` holds `model.onnx`, what it needs beside it, and `expected.json`: `exporter` and
`special` (for the README), `oracle`, `tolerance` (relative where the expected number is over 1) and `cases`. A case has

- `rows`: how many predictions it is; null where no dimension counts rows
- `inputs` by name, or `image`, a file beside the folders that is the only input
- `records`: one entry a row, as a user writes `instances` (a missing number is "NaN" here); null where none is natural
- `expected` by output name, or `fails`, a part of ONNX Runtime's message when loading or the call must fail; both
  where the framework answers and ONNX Runtime cannot

A tensor is `{"datatype", "shape", "data"}` with flat data for inputs and nested data for outputs; any other value has a
`kind`. Text is a JSON string, and so are numbers that JSON lacks: "NaN", "Infinity", "-Infinity".
"""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[3]
ZOO = REPOSITORY / "tests" / "models" / "zoo"
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DATATYPES = {
    "BOOL": np.dtype(np.bool_),
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BF16": BFLOAT16,
    "BYTES": np.dtype(object),
}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}


class Case(NamedTuple):
    """One call. An `expected` value is an array, a list of arrays or of dicts, or None (an absent optional)."""

    name: str
    inputs: dict[str, Any]
    expected: dict[str, Any] | None = None
    records: list | None = None
    fails: str | None = None
    image: str | None = None
    batched: bool = True  # whether the first dimension counts rows


class Example(NamedTuple):
    """A folder: `files` by name, `cases`, and how to tell of it."""

    name: str
    exporter: str
    special: str
    files: dict[str, bytes]
    cases: list[Case]
    oracle: str
    tolerance: float = 1e-5


def plain(value: Any) -> Any:
    """A number, text, list or dict as JSON has it: the shortest digits that give the same number of its type."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist()) if value.dtype.kind not in "fV" else nested(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.floating):
        value = float(str(value))
    elif isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 and math.copysign(1, value) > 0:
        return int(value)
    return value


def nested(array: np.ndarray) -> Any:
    if array.dtype == BFLOAT16:
        array = array.astype(np.float32)
    return plain(array[()]) if array.ndim == 0 else [nested(item) for item in array]


def datatype(array: np.ndarray) -> str:
    return "BYTES" if array.dtype.kind in "OUST" else NAMES[array.dtype]


def encode(value: Any, flat: bool) -> dict:
    if value is None:
        return {"kind": "optional", "data": None}
    if isinstance(value, dict):
        return {"kind": "map", "data": plain(value)}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {"kind": "sequence of maps", "data": plain(value)}
    if isinstance(value, list):
        return {"kind": "sequence of tensors", "data": [encode(item, flat) for item in value]}
    array = np.asarray(value)
    data = plain(array.ravel() if flat else array)
    return {"datatype": datatype(array), "shape": list(array.shape), "data": data}


def decode(value: dict) -> Any:
    """The array (or list, dict, None) that an encoded value stands for."""
    kind = value.get("kind", "tensor")
    if kind == "sequence of tensors":
        return [decode(item) for item in value["data"]]
    if kind != "tensor":
        return value["data"]
    dtype = DATATYPES[value["datatype"]]
    return np.array(special_numbers(value["data"], dtype), dtype).reshape(value["shape"])


def special_numbers(data: Any, dtype: np.dtype) -> Any:
    if isinstance(data, list):
        return [special_numbers(item, dtype) for item in data]
    return float(data) if isinstance(data, str) and dtype.kind in "fV" else data


def rows(case: Case) -> int | None:
    """How many predictions the call makes; None where its inputs have no rows."""
    if not case.batched:
        return None
    if case.image:
        return 1
    return len(case.records) if case.records else next(iter(case.inputs.values())).shape[0]


def case_to_json(case: Case) -> dict:
    entry = {
        "name": case.name,
        "rows": rows(case),
        "inputs": {key: encode(value, flat=True) for key, value in case.inputs.items()},
        "records": plain(case.records),
        "expected": None,
    }
    if case.expected is not None:
        entry["expected"] = {key: encode(value, flat=False) for key, value in case.expected.items()}
    if case.fails:
        entry["fails"] = case.fails
    if case.image:
        entry["image"] = case.image
    return entry


def write(example: Example) -> None:
    if os.environ.get("PYTHONHASHSEED") != "0":  # the exporters go through sets, and write what they meet first
        raise SystemExit("PYTHONHASHSEED is not 0, so two runs may write different bytes\nhint: see README.md")
    folder = ZOO / example.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in example.files.items():
        (folder / name).write_bytes(content)
    head = {key: getattr(example, key) for key in ("exporter", "special", "oracle", "tolerance")}
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    cases = ",\n".join(
        json.dumps(case_to_json(case), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        for case in example.cases
    )
    text = "{\n" + ",\n".join(lines) + ',\n"cases": [\n' + cases + "\n]\n}\n"
    (folder / "expected.json").write_text(text, encoding="utf-8")
    print(f"{folder.relative_to(REPOSITORY)}: {sum(path.stat().st_size for path in folder.iterdir())} bytes")
