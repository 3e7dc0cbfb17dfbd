"""Cases of tests/models/zoo for clients: requests, and what the framework of each model predicted."""

import json
import math
import pathlib

import numpy

ZOO = pathlib.Path(__file__).resolve().parents[1] / "models/zoo"
# Several inputs, strings, halves, booleans, integers beyond the precision of a double, several outputs.
MODELS = ["torch-multi", "string-identity", "torch-float16", "bool", "uint64-max", "int64-extremes", "sklearn-zipmap-off", "torch-conv"]
TYPES = {
    "BOOL": "bool",
    "BYTES": "object",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "INT32": "int32",
    "INT64": "int64",
    "UINT64": "uint64",
    "UINT8": "uint8",
}


def array(tensor: dict) -> numpy.ndarray:
    data = tensor["data"]
    if tensor["datatype"] == "BYTES":
        data = [text.encode() for text in data]
    return numpy.array(data, TYPES[tensor["datatype"]]).reshape(tensor["shape"])


def cases():
    """Model, inputs by name with their datatype, the expected outputs and their tolerance."""
    for model in MODELS:
        all_cases = json.loads((ZOO / model / "expected.json").read_text())
        for case in all_cases["cases"]:
            if case["expected"] is None or case["rows"] == 0 or "image" in case:
                continue
            inputs = {name: (tensor["datatype"], array(tensor)) for name, tensor in case["inputs"].items()}
            yield model, inputs, case["expected"], all_cases["tolerance"]


def check(got: numpy.ndarray | None, expected: dict, tolerance: float, about: object) -> None:
    """Compares one output."""
    assert got is not None, f"{about}: missing"
    flat = list(numpy.asarray(got, dtype=object).reshape(-1))
    wanted = list(numpy.array(expected["data"], dtype=object).reshape(-1)) if expected["data"] else []
    assert list(got.shape) == expected["shape"], f"{about}: shape {got.shape}, expected {expected['shape']}"
    assert len(flat) == len(wanted), f"{about}: {len(flat)} elements, expected {len(wanted)}"
    for one, other in zip(flat, wanted, strict=True):
        if isinstance(other, str) and isinstance(one, bytes):
            assert one.decode() == other, about
        elif isinstance(other, float) or isinstance(one, float):
            assert math.isclose(float(one), float(other), rel_tol=max(tolerance, 1e-6), abs_tol=tolerance), (about, one, other)
        else:
            assert one == other, (about, one, other)
