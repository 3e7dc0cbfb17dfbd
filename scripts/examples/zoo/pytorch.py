"""PyTorch's models by both of its exporters (TorchScript's and dynamo's), and what PyTorch itself computes.

One thing is taken out of dynamo's files: the stack traces that it writes into every node's metadata, since they name
folders of the machine.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from common import BFLOAT16, Case, Example, write
from onnxruntime.quantization import quantize_dynamic
from sample_image import JPEG, PNG, as_input, draw, read
from torch import Tensor, nn
from torch.export import Dim

VERSION = torch.__version__.split("+")[0]
LEGACY, DYNAMO = f"PyTorch {VERSION}, TorchScript (`dynamo=False`)", f"PyTorch {VERSION}, dynamo"
ORACLE = f"PyTorch {VERSION}"
CLASSES = 10


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 32)  # enough for dynamo to put the weights into a file of their own
        self.out = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden(x)))


class TwoInThreeOut(nn.Module):
    def forward(self, points: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = points.sum(dim=(1, 2))
        return total, points * count.to(points.dtype)[:, None, None], total > count


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 3)
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        output, (state, _) = self.lstm(self.embedding(tokens))
        return output, state


class Transformer(nn.Module):
    """Attention with two heads, the mean over the tokens that the mask leaves, two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 8)
        self.query_key_value = nn.Linear(8, 24)
        self.classifier = nn.Linear(8, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.embedding(input_ids)
        heads = self.query_key_value(hidden).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        seen = attention_mask[:, None, None, :].bool()
        attended = nn.functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=seen)
        attended = attended.transpose(1, 2).flatten(2)
        weights = attention_mask[:, :, None].to(attended.dtype)
        return self.classifier((attended * weights).sum(1) / weights.sum(1))


class Conv(nn.Module):
    """`[N, 3, 32, 32]` to logits `[N, 10]`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.out = nn.Linear(4 * 4, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        maps = torch.relu(self.norm(self.conv(image)))
        return self.out(nn.functional.max_pool2d(maps, 4).flatten(1))


class OneImage(nn.Module):
    """`[3, 32, 32]` to `[10]`."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image.unsqueeze(0)).squeeze(0)


class FromPixels(nn.Module):
    """uint8 `[N, 32, 32, 3]` to what the model takes."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.permute(0, 3, 1, 2).to(torch.float32) / 255


class ToClass(nn.Module):
    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = logits.softmax(-1)
        return probabilities, probabilities.argmax(-1)


def seeded(make: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def export(module: nn.Module, example: tuple[Tensor, ...], **options) -> dict[str, bytes]:
    """The files that `torch.onnx.export` writes, by name."""
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(scratch) / "model.onnx"
        torch.onnx.export(module, example, path, verbose=False, **options)
        path.write_bytes(without_stack_traces(onnx.load(path, load_external_data=False)))
        return {each.name: each.read_bytes() for each in sorted(Path(scratch).iterdir())}


def without_stack_traces(model: onnx.ModelProto) -> bytes:
    for node in [*model.graph.node, *(node for function in model.functions for node in function.node)]:
        kept = [each for each in node.metadata_props if not each.key.endswith("stack_trace")]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    return model.SerializeToString(deterministic=True)


def outputs(files: dict[str, bytes], module: nn.Module, *inputs: np.ndarray) -> dict[str, np.ndarray]:
    """What PyTorch computes, by the names that the exporter gave the outputs."""
    names = [output.name for output in onnx.load_from_string(files["model.onnx"]).graph.output]
    with torch.no_grad():
        results = module(*(torch.from_numpy(each) for each in inputs))
    results = results if isinstance(results, tuple) else (results,)
    return {name: result.numpy() for name, result in zip(names, results, strict=True)}


def input_names(files: dict[str, bytes]) -> list[str]:
    return [each.name for each in onnx.load_from_string(files["model.onnx"]).graph.input]


def example(name, exporter, special, files, module, inputs, case="rows", records=None, tolerance=1e-5) -> Example:
    named = dict(zip(input_names(files), inputs, strict=True))
    cases = [Case(case, named, outputs(files, module, *inputs), records)]
    return Example(name, exporter, special, files, cases, ORACLE, tolerance)


FLOWERS = np.array([[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4], [6.3, 3.3, 6.0, 2.5]], np.float32)
FOUR = (torch.zeros(2, 4),)
DYNAMIC = {
    "input_names": ["input"],
    "output_names": ["output"],
    "dynamic_axes": {"input": {0: "batch_size"}, "output": {0: "batch_size"}},
}


def mlps() -> list[Example]:
    module = seeded(Mlp)
    legacy = export(module, FOUR, dynamo=False, **DYNAMIC)
    dynamo = export(module, FOUR, dynamic_shapes=({0: Dim("batch")},))
    made = [
        example(
            "torch-legacy",
            LEGACY,
            "`dynamic_axes` as the tutorials have it",
            legacy,
            module,
            (FLOWERS,),
            records=list(FLOWERS),
        ),
        example(
            "torch-dynamo",
            DYNAMO,
            "defaults: weights in `model.onnx.data`",
            dynamo,
            module,
            (FLOWERS,),
            records=list(FLOWERS),
        ),
    ]
    special = "torch-legacy with int8 weights: near what the float model gives"
    exporter = f"{LEGACY}, onnxruntime.quantization.quantize_dynamic"
    files = {"model.onnx": quantized(legacy["model.onnx"])}
    quant = example("torch-int8", exporter, special, files, module, (FLOWERS,), records=list(FLOWERS), tolerance=2e-2)
    return [*made, quant]


def quantized(model: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "float.onnx", Path(scratch) / "model.onnx"
        source.write_bytes(model)
        quantize_dynamic(source, target)
        return onnx.load(target).SerializeToString(deterministic=True)


def halves() -> list[Example]:
    """float16 and bfloat16 in, out and within."""
    made = []
    for name, dtype, to_numpy in (("float16", torch.float16, np.float16), ("bfloat16", torch.bfloat16, BFLOAT16)):
        module = seeded(Mlp).to(dtype)
        files = export(module, (FOUR[0].to(dtype),), dynamic_shapes=({0: Dim("batch")},), external_data=False)
        rows = FLOWERS.astype(to_numpy)
        with torch.no_grad():
            result = module(torch.from_numpy(FLOWERS).to(dtype)).to(torch.float32).numpy().astype(to_numpy)
        names = [output.name for output in onnx.load_from_string(files["model.onnx"]).graph.output]
        records = list(rows.astype(np.float32))
        fails = special = None
        if name == "bfloat16":
            fails = "Could not find an implementation for Gemm(13)"
            special = "; ONNX Runtime has no bfloat16 Gemm on a CPU: the session does not load there"
        cases = [Case("rows", dict(zip(input_names(files), [rows])), {names[0]: result}, records, fails)]
        special = f"{name} in, out and within{special or ''}"
        made.append(Example(f"torch-{name}", DYNAMO, special, files, cases, ORACLE, 2e-2))
    return made


def multi() -> Example:
    batch = Dim("batch")
    module = seeded(TwoInThreeOut)
    sample = (torch.zeros(2, 2, 3), torch.zeros(2, dtype=torch.int64))
    files = export(
        module,
        sample,
        input_names=["points", "count"],
        output_names=["total", "scaled", "above"],
        dynamic_shapes=({0: batch}, {0: batch}),
    )
    points = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
    count = np.array([20, 2, 2**40], np.int64)
    records = [{"points": point, "count": number} for point, number in zip(points, count)]
    special = "inputs float and int64, outputs float, float and bool of ranks 1, 3, 1; an *empty* `model.onnx.data`"
    return example("torch-multi", DYNAMO, special, files, module, (points, count), records=records)


def sequences() -> list[Example]:
    lstm = seeded(Lstm)
    axes = {0: "batch", 1: "sequence"}
    files = export(
        lstm,
        (torch.zeros(2, 3, dtype=torch.int64),),
        dynamo=False,
        input_names=["tokens"],
        output_names=["output", "state"],
        dynamic_axes={"tokens": axes, "output": axes, "state": {1: "batch"}},
    )
    tokens = np.array([[1, 2, 3, 4], [11, 0, 5, 5]], np.int64)
    special = "two symbolic dimensions; the batch is the *second* dimension of `state`"
    first = example("torch-lstm", LEGACY, special, files, lstm, (tokens,), records=list(tokens))
    first.cases.append(
        Case("one row, two tokens", {"tokens": tokens[:1, :2]}, outputs(files, lstm, tokens[:1, :2]), [tokens[0, :2]])
    )
    transformer = seeded(Transformer)
    shape = {0: Dim("batch"), 1: Dim("sequence")}
    sample = (torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64))
    files = export(
        transformer,
        sample,
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_shapes=(shape, shape),
        external_data=False,
    )
    ids = np.array([[3, 1, 4, 1, 5], [9, 2, 0, 0, 0], [6, 5, 3, 0, 0]], np.int64)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]], np.int64)
    records = [{"input_ids": a, "attention_mask": b} for a, b in zip(ids, mask)]
    special = "`input_ids` and `attention_mask`, int64 `[batch, sequence]`; rows padded to one length"
    second = example("torch-transformer", DYNAMO, special, files, transformer, (ids, mask), "padded", records)
    for row in range(3):
        length = int(mask[row].sum())
        alone = ids[row : row + 1, :length], mask[row : row + 1, :length]
        named = {"input_ids": alone[0], "attention_mask": alone[1]}
        record = [{"input_ids": alone[0][0], "attention_mask": alone[1][0]}]
        second.cases.append(Case(f"row {row} alone, not padded", named, outputs(files, transformer, *alone), record))
    return [first, second]


def images() -> list[Example]:
    """One network with the batch dimension that people give it: any, four, one, none."""
    conv = seeded(Conv)
    one = OneImage(conv).eval()
    pixels = np.random.default_rng(0).integers(0, 4, (4, 3, 32, 32)).astype(np.float32)
    sample = torch.zeros(2, 3, 32, 32)
    axes = {"input": {0: "batch_size"}, "output": {0: "batch_size"}}
    any_batch = export(conv, (sample,), dynamo=False, input_names=["input"], output_names=["output"], dynamic_axes=axes)
    four = export(conv, (torch.zeros(4, 3, 32, 32),), external_data=False)
    single = export(conv, (torch.zeros(1, 3, 32, 32),), dynamo=False)
    none = export(one, (torch.zeros(3, 32, 32),), external_data=False)
    made = [
        example("torch-conv", LEGACY, "image `[N, 3, 32, 32]`", any_batch, conv, (pixels[:2],)),
        example("torch-conv-batch4", DYNAMO, "a batch of exactly 4", four, conv, (pixels,)),
        example(
            "torch-conv-batch1",
            LEGACY,
            "a batch of exactly 1; no names or axes were given",
            single,
            conv,
            (pixels[:1],),
        ),
        example("torch-conv-no-batch", DYNAMO, "no batch dimension: `[3, 32, 32]` to `[10]`", none, one, (pixels[0],)),
    ]
    for each, module, files in zip(made, (conv, conv, conv, one), (any_batch, four, single, none)):
        if each.name != "torch-conv-batch4":
            each.cases.extend(image_cases(module, files))
    made[-1].cases[0] = made[-1].cases[0]._replace(batched=False)
    return made


def image_cases(module: nn.Module, files: dict[str, bytes]) -> list[Case]:
    shape = [1, 3, 32, 32] if not isinstance(module, OneImage) else [3, 32, 32]
    return [
        Case(
            f"image {name}",
            {},
            outputs(files, module, as_input(read(name), shape, floating=True)),
            image=name,
            batched=len(shape) == 4,
        )
        for name in (PNG, JPEG)
    ]


def prepost() -> Example:
    """Pixels to floats, the network, softmax and the best class: three graphs that fit together by their names."""
    conv = seeded(Conv)
    batch = ({0: Dim("batch")},)
    inline = {"dynamic_shapes": batch, "external_data": False}
    pixels = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    sample, logits = torch.zeros(2, 3, 32, 32), torch.zeros(2, CLASSES)
    before = export(FromPixels(), (pixels,), input_names=["pixels"], output_names=["image"], **inline)
    model = export(conv, (sample,), input_names=["image"], output_names=["logits"], **inline)
    names = ["probabilities", "class"]
    after = export(ToClass(), (logits,), input_names=["logits"], output_names=names, **inline)
    files = {
        "preprocess.onnx": before["model.onnx"],
        "model.onnx": model["model.onnx"],
        "postprocess.onnx": after["model.onnx"],
        "model.yaml": b"preprocess: preprocess.onnx\npostprocess: postprocess.onnx\n",
    }
    cases = []
    for name in (PNG, JPEG):
        image = read(name)[None]
        with torch.no_grad():
            results = ToClass()(conv(FromPixels()(torch.from_numpy(image.copy()))))
        expected = dict(zip(names, (result.numpy() for result in results)))
        cases.append(Case(f"image {name}", {}, expected, image=name))
    special = "uint8 `[N, 32, 32, 3]` by `preprocess.onnx`; softmax and best class by `postprocess.onnx`"
    return Example("prepost-image", DYNAMO, special, files, cases, ORACLE)


def main() -> None:
    draw()
    for made in [*mlps(), *halves(), multi(), *sequences(), *images(), prepost()]:
        write(made)


if __name__ == "__main__":
    main()
