"""Writes `signatures.json` (every graph's inputs and outputs, as onnx's own Python API reads them) and the table."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from common import ZOO
from onnx import ModelProto, TensorProto, TypeProto, ValueInfoProto

README = """# The model zoo

Small models as each framework's own exporter writes them, and some made by hand for what no exporter makes. A folder
has `model.onnx`, what it needs beside it, and `expected.json`: inputs, and what **the framework itself** predicts
(numpy for the handmade ones), never what ONNX Runtime gives. Its format is told in `scripts/examples/zoo/common.py`;
how to make all again, in `scripts/examples/zoo/README.md`. `signatures.json` has every graph's inputs and outputs;
`image.png` and `image.jpg` are what cases with an `image` take (a float input: values from 0 to 1; JPEG decoders may
differ by a level, and then so do the outputs, a little).

| name | bytes | exporter | special |
|---|---|---|---|
"""


def describe(kind: TypeProto) -> dict:
    """`shape` is null where none is declared; a dimension is its size, its symbolic name, or null."""
    which = kind.WhichOneof("value")
    if which == "tensor_type":
        element = TensorProto.DataType.Name(kind.tensor_type.elem_type)
        return {"kind": "tensor", "element": element, "shape": shape(kind.tensor_type)}
    if which == "map_type":
        key = TensorProto.DataType.Name(kind.map_type.key_type)
        return {"kind": "map", "key": key, "element": describe(kind.map_type.value_type)}
    inner = getattr(kind, which).elem_type
    return {"kind": which.removesuffix("_type"), "element": describe(inner)}


def shape(tensor: TypeProto.Tensor) -> list | None:
    if not tensor.HasField("shape"):
        return None
    return [
        dimension.dim_value if dimension.HasField("dim_value") else dimension.dim_param or None
        for dimension in tensor.shape.dim
    ]


def value(info: ValueInfoProto) -> dict:
    return {"name": info.name, **describe(info.type)}


def signature(model: ModelProto) -> dict:
    weights = {weight.name for weight in model.graph.initializer}
    return {
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "ir_version": model.ir_version,
        "opset": {each.domain: each.version for each in model.opset_import},
        "inputs": [value(each) for each in model.graph.input if each.name not in weights],
        "inputs_with_default": [value(each) for each in model.graph.input if each.name in weights],
        "outputs": [value(each) for each in model.graph.output],
    }


def row(folder: Path) -> str:
    told = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in folder.iterdir() if path.name != "expected.json")
    return f"| `{folder.name}` | {size} | {told['exporter']} | {told['special']} |\n"


def main() -> None:
    folders = sorted(path.parent for path in ZOO.glob("*/expected.json"))
    lines = []
    for graph in (path for folder in folders for path in sorted(folder.glob("*.onnx"))):
        read = signature(onnx.load(graph, load_external_data=False))
        lines.append(f"{json.dumps(graph.relative_to(ZOO).as_posix())}: {json.dumps(read, ensure_ascii=False)}")
    (ZOO / "signatures.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    (ZOO / "README.md").write_text(README + "".join(map(row, folders)), encoding="utf-8")
    print(f"{len(folders)} folders, {len(lines)} graphs")


if __name__ == "__main__":
    main()
