"""Notes what the `tokenizers` package does by rules that a tokenizer.json may state: truncation, and regular expressions.

Writes `tests/models/tokenizers/{truncation,patterns,refused}.json`. Every case has the tokenizer's file, the declaration as it stands
under `text:` in a model.yaml, the texts (and `seconds`, the other halves of pairs), and for each text its expected ids and
types, or `null` where the package refuses it. `refused.json` has files whose expressions the package cannot read.
The vocabularies are written by hand, so a second run writes the same bytes.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "tests" / "models" / "tokenizers"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<s>", "</s>"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FIRSTS = ["a b c d", "a b c d e f g h", "a", "", "a b c d e f g h i j k l m"]
SECONDS = ["n o p q r s t", "n o", "n o p q r s t u v w x y z", "n o p q r s t u v w", "n o p q r s t u v w x y z"]


def words() -> Tokenizer:
    vocabulary = {token: id for id, token in enumerate([*SPECIAL, *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def template(single: str, pair: str) -> processors.PostProcessor:
    tokens = [(token, id) for id, token in enumerate(SPECIAL)]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=tokens)


POST_PROCESSORS = {
    "none": None,
    "bert": processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
    "roberta": processors.RobertaProcessing(("</s>", 5), ("<s>", 4)),
    "t5": template("$A </s>", "$A </s> $B </s>"),
    "begin": processors.Sequence([processors.ByteLevel(), template("<s> $A", "<s> $A <s>:1 $B:1")]),
    "second-first": template("$A", "[CLS]:1 $B:1 [SEP]:1 $A [SEP]"),
}


def encoded(tokenizer: Tokenizer, spec: dict[str, Any], text: str, second: str | None = None) -> list[list[int]] | None:
    try:
        encoding = tokenizer.encode(text, second, add_special_tokens=spec.get("special_tokens", True))
    except Exception as error:  # noqa: BLE001 - the package raises nothing narrower
        assert "Truncation error" in str(error), error
        return None
    return [encoding.ids, encoding.type_ids]


def truncation() -> list[dict[str, Any]]:
    noted = []
    strategies = ["longest_first", "only_first", "only_second"]

    def note(file: Tokenizer, judge: Tokenizer, spec: dict[str, Any], seconds: list[str] | None) -> None:
        case = {"tokenizer": json.loads(file.to_str()), "text": spec, "texts": FIRSTS}
        if seconds is not None:
            case |= {"seconds": seconds}
        pairs = zip(FIRSTS, seconds or [None] * len(FIRSTS), strict=True)
        noted.append(case | {"expected": [encoded(judge, spec, *pair) for pair in pairs]})

    for name, strategy, direction in product(POST_PROCESSORS, strategies, ["right", "left"]):
        # The package panics where a stride is no shorter than what is left of a text; none of these is.
        for max_length, stride in {"bert": [(9, 0), (13, 1)], "second-first": [(9, 0), (13, 1)]}.get(name, [(8, 0)]):
            tokenizer = words()
            if (processor := POST_PROCESSORS[name]) is not None:
                tokenizer.post_processor = processor
            tokenizer.enable_truncation(max_length, stride=stride, strategy=strategy, direction=direction)
            note(tokenizer, tokenizer, {"fields": ["question", "passage"]}, SECONDS)
            if name in ("none", "bert"):
                note(tokenizer, tokenizer, {"fields": ["q", "p"], "special_tokens": False}, SECONDS)
                note(tokenizer, tokenizer, {}, None)
    # The declaration takes the place of the file's whole truncation.
    for strategy, direction in product(strategies, ["right", "left"]):
        file, judge = words(), words()
        file.post_processor = judge.post_processor = POST_PROCESSORS["bert"]
        file.enable_truncation(5, stride=1, strategy="only_first", direction="left")
        judge.enable_truncation(10, strategy=strategy, direction=direction)
        declared = {"max_length": 10, "side": direction, "strategy": strategy}
        note(file, judge, {"fields": ["q", "p"], "truncation": declared}, SECONDS)
    return noted


PATTERNS = {
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama-3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
    "qwen-2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
    "clip": r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "gpt-4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "deepseek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "line begin": r"^.",
    "line end": r".$",
    "text end": r".\Z",
    "any": r"a.",
    "dot all": r"(?m:\..)",
    "newline": r"\R",
    "grapheme": r"\X",
    "hexadecimal": r"\h+",
    "word": r"\w+",
    "boundary": r"\b",
    "no boundary": r"\B",
    "space": r"\s",
    "digit": r"\d",
    "punct": r"[[:punct:]]",
    "alpha": r"[[:alpha:]]+",
    "no alpha": r"[[:^alpha:]]+",
    "space class": r"[[:space:]]+",
    "word class": r"[[:word:]]+",
    "folded": r"(?i:straße)",
    "folded ss": r"(?i:ss)",
    "folded class": r"(?i:[k-s])+",
    "up to two": r"o{,2}",
    "interval and plus": r"o{1,2}+o",
    "possessive": r" ?[^\s\p{L}\p{N}]++[\r\n]*",
    "absent": r"T(?~e)",
    "keep": r"t\Kh",
    "intersection": r"[a-z&&[^aeiou]]+",
    "hyphen": r"[a-d-z]+",
    "behind": r"(?<=\p{Lu})\p{Ll}+",
    "behind many": r"(?<=o+)b",
    "thousands": r"(?<=\d)(?=(?:\d{3})+$)",
    "atomic": r"(?>to|t)o",
    "back": r"(.)\1",
    "named": r"(?<c>.)\k<c>",
    "script": r"\p{Han}|\p{Hiragana}+",
    "emoji": r"\p{Emoji_Presentation}",
    "octal": r"\101|\x42|\u0043",
    "empty": r"x*",
    "extended": "(?x: t h e # the article\n)",
}
REFUSED = [r"\p{Script=Han}", r"(?P<name>a)", r"[a", r"*a"]
SAMPLES = [
    "The thesis: don't, DON'T, we'LL, itſ 'ſ!\nTwo lines\r\nthree — “quoted” …\n",
    "STRASSE Straße straẞe ss ſs KELVIN \u212a § £5 1234567 ١٢٣ ⅷ ½ x² a\u0301e\u0308",
    "  two  spaces\t\ttabs\n\n\nlines \u0085next\u2028line\u2029para\u00a0nbsp\u3000wide\u200bzero ",
    "模型 ひらがな カタカナ 한국어 नमस्ते мир 😀👩‍💻🇩🇪 foo_bar\u200d\u200c CamelCaseHTTPServer x=a+b*c; A B C tooo toto",
    "",
    "\n",
    "a\n.\nb.\r\n",
]


def patterns() -> list[dict[str, Any]]:
    noted = []
    splits = [(name, "isolated", False) for name in PATTERNS]
    splits += [("alpha", "removed", True), ("punct", "merged_with_previous", False)]
    for name, behavior, invert in splits:
        split = pre_tokenizers.Split(Regex(PATTERNS[name]), behavior, invert)
        pieces = sorted({piece for text in SAMPLES for piece, _ in split.pre_tokenize_str(text)})
        noted.append(by_pieces(f"split {name}", pieces, pre_tokenizer=split))
    for name in ("line begin", "newline", "punct", "folded", "word", "empty"):
        replace = normalizers.Replace(Regex(PATTERNS[name]), "<>")
        pieces = sorted({replace.normalize_str(text) for text in SAMPLES})
        noted.append(by_pieces(f"replace {name}", pieces, normalizer=replace))
    for split in (pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Whitespace(), pre_tokenizers.Digits()):
        pieces = sorted({piece for text in SAMPLES for piece, _ in split.pre_tokenize_str(text)})
        noted.append(by_pieces(type(split).__name__, pieces, pre_tokenizer=split))
    return noted


def by_pieces(name: str, pieces: list[str], **parts: Any) -> dict[str, Any]:
    """A tokenizer that knows just these pieces, each as a token: another split gives other ids."""
    vocabulary = {piece: id for id, piece in enumerate(dict.fromkeys(["[PAD]", "[UNK]", *pieces]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    for part, value in parts.items():
        setattr(tokenizer, part, value)
    return {
        "name": name,
        "tokenizer": json.loads(tokenizer.to_str()),
        "text": {},
        "texts": SAMPLES,
        "expected": [encoded(tokenizer, {}, text) for text in SAMPLES],
    }


def refused(pattern: str) -> dict[str, Any]:
    """The file of a tokenizer that the package itself cannot load."""
    tokenizer = words()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("a"), "isolated")
    file = json.loads(tokenizer.to_str())
    file["pre_tokenizer"]["pattern"]["Regex"] = pattern
    try:
        Tokenizer.from_str(json.dumps(file))
    except Exception:  # noqa: BLE001 - the same
        return file
    raise AssertionError(f"{pattern} is not refused")


def save(name: str, content: list[Any]) -> None:
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in content)
    (FOLDER / name).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    save("truncation.json", truncation())
    save("patterns.json", patterns())
    save("refused.json", [refused(pattern) for pattern in REFUSED])


if __name__ == "__main__":
    main()
