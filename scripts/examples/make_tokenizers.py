"""Trains three tiny tokenizers and notes what the `tokenizers` package makes of some texts.

Writes `tests/models/text/{wordpiece,byte-level,unigram}.json` and `tests/models/text/cases.json`: for each case the
tokenizer's file, the declaration as it stands under `text:` in a model.yaml, the texts (and `seconds`, the other halves of
pairs), and the expected ids, how many of them are no padding, and the sum of the types, all texts padded to one length.
Trained on the sentences below alone, whatever their worth.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper, save
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "tests" / "models" / "text"
VOCABULARY = 600
SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "A worker takes messages from a subscription and answers every one of them exactly as it was asked.",
    "Predictions are published before their messages are acknowledged; nothing is lost when a worker stops.",
    "Ein Modell lernt aus Beispielen; größere Modelle brauchen mehr Beispiele und mehr Zeit.",
    "Le modèle apprend à partir d'exemples, et les exemples viennent du monde réel.",
    "El niño comió piñas y después bebió agua en la montaña.",
    "Модель учится на примерах, и примеры приходят из реального мира.",
    "模型从例子中学习。机器学习需要数据。",
    "モデルは例から学びます。データが必要です。",
    "I don't think it's 3.14159, isn't it? We'll see: 2026-01-31, 12:45, $99.90!",
    "Emoji say more than words 😀 🎉 👩‍💻 and so do ✓ and →.",
    "tensor shape batch input output float int string model version bucket object",
]
TEXTS = [
    "The lazy worker does not lose messages.",
    "Größere Modelle, naïve café, El Niño!",
    "模型学习 data モデル 하나 둘",
    "😀👩‍💻🎉 emoji 🏳️‍🌈 ✓",
    "  spaces\t\ttabs\n\nnew lines   ",
    "don't can't we'll I'm it's",
    "1234567890 3.14159 -42 1e-9",
    "supercalifragilisticexpialidocious" * 4,
    "e\u0301 \u00e9 \ufb01 \u2460 \u200b\u00a0\u0000\u0007 \ufffd",
    "Привет, мир! مرحبا שלום नमस्ते",
    "",
    " ",
    "[CLS] [MASK] <pad> <s> </s> [PAD]",
    "word " * 150,
]
LONG = "The quick brown fox 模型 😀 don't " * 30


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(SENTENCES, trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special))
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.enable_padding(direction="left", pad_id=tokenizer.token_to_id("<pad>"), pad_token="<pad>")
    return tokenizer


def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>"
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B:1 </s>:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")],
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.enable_truncation(40)
    return tokenizer


def expected(tokenizer: Tokenizer, spec: dict[str, Any], texts: list[str], seconds: list[str] | None) -> dict[str, list]:
    """What the package itself gives, told in its own words what the declaration says."""
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    if "truncation" in spec:
        truncation = spec["truncation"]
        tokenizer.enable_truncation(truncation["max_length"], direction=truncation.get("side", "right"))
    own, declared = tokenizer.padding or {}, spec.get("padding", {})
    found = (token for token in ("[PAD]", "<pad>") if tokenizer.token_to_id(token) is not None)
    token = declared.get("token") or own.get("pad_token") or next(found)
    tokenizer.enable_padding(
        direction=declared.get("side") or own.get("direction", "right"),
        pad_id=tokenizer.token_to_id(token),
        pad_token=token,
        length=declared.get("length"),
        pad_to_multiple_of=declared.get("multiple_of"),
    )
    inputs = texts if seconds is None else list(zip(texts, seconds, strict=True))
    rows = tokenizer.encode_batch(inputs, add_special_tokens=spec.get("special_tokens", True))
    return {
        "input_ids": [row.ids for row in rows],
        "tokens": [sum(row.attention_mask) for row in rows],
        "types": [sum(row.type_ids) for row in rows],
    }


def echo() -> None:
    """A model that gives back the token ids, and how many are no padding: the tests see what it was given."""
    tokens = ["batch", "tokens"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in ("input_ids", "attention_mask")]
    outputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, tokens),
        helper.make_tensor_value_info("count", TensorProto.INT64, ["batch"]),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Identity", ["input_ids"], ["ids"]),
        helper.make_node("ReduceSum", ["attention_mask", "axes"], ["count"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "tokens", inputs, outputs, [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    save(model, FOLDER / "model.onnx")


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    echo()
    noted = []
    for name, tokenizer in (("wordpiece", wordpiece()), ("byte-level", byte_level()), ("unigram", unigram())):
        tokenizer.save(str(FOLDER / f"{name}.json"), pretty=False)
        specs = [
            ({}, TEXTS[:4]),
            ({"special_tokens": False}, TEXTS[1:6]),
            ({"truncation": {"max_length": 9}}, [*TEXTS[:7], LONG]),
            ({"truncation": {"max_length": 12, "side": "left"}, "padding": {"multiple_of": 8}}, [*TEXTS[3:8], LONG]),
            ({"truncation": {"max_length": 20}, "padding": {"length": 24, "side": "left"}}, [TEXTS[0], TEXTS[10]]),
            ({"truncation": {"max_length": 5}, "padding": {"side": "right", "multiple_of": 3}}, ["", "one", LONG]),
        ]
        cases = [*specs, *(({}, [text]) for text in [*TEXTS[4:], LONG] if name != "byte-level" or text)]
        for spec, texts in cases:
            note = {"file": f"{name}.json", "text": spec, "texts": texts}
            noted.append(note | expected(tokenizer, spec, texts, None))
        # What is too long is cut from the longer text of a pair first.
        pairs = {"fields": ["question", "passage"]}
        for spec in (
            pairs,
            pairs | {"special_tokens": False, "padding": {"multiple_of": 8}},
            pairs | {"truncation": {"max_length": 16}},
            pairs | {"truncation": {"max_length": 15, "side": "left"}, "padding": {"length": 20, "side": "left"}},
        ):
            texts, seconds = [TEXTS[0], TEXTS[5], "", LONG, "one"], [TEXTS[1], LONG, TEXTS[3], TEXTS[2], "two"]
            note = {"file": f"{name}.json", "text": spec, "texts": texts, "seconds": seconds}
            noted.append(note | expected(tokenizer, spec, texts, seconds))
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in noted)
    (FOLDER / "cases.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
