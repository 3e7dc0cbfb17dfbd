//! Compares with the Python package `tokenizers`: `scripts/examples/make_tokenizers.py` trains the tokenizers
//! and records its results.

use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;

use super::{TextDeclaration, Tokenizer};
use crate::error::Code;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};
use crate::tensor::{ElementType, Elements, Tensor};

#[derive(Deserialize)]
struct Case {
    file: String,
    text: TextDeclaration,
    texts: Vec<String>,
    /// The second text of every pair.
    seconds: Option<Vec<String>>,
    input_ids: Vec<Vec<i64>>,
    /// Tokens of each text, without padding.
    tokens: Vec<i64>,
    /// The sum of each text's types.
    types: Vec<i64>,
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/text").join(name)).unwrap()
}

fn input(name: &str, element: ElementType, length: Option<usize>) -> TensorSpec {
    let length = length.map_or_else(|| Dim::Any("tokens".to_owned()), Dim::Fixed);
    TensorSpec {
        name: name.to_owned(),
        element,
        shape: vec![Dim::Any("batch".to_owned()), length],
        kind: ValueKind::Tensor,
    }
}

/// The inputs, in an order of the model's own.
fn inputs(element: ElementType, length: Option<usize>) -> [TensorSpec; 3] {
    ["attention_mask", "input_ids", "token_type_ids"].map(|name| input(name, element, length))
}

fn declare(yaml: &str) -> TextDeclaration {
    serde_saphyr::from_str(yaml).unwrap()
}

fn load(file: &str, yaml: &str, inputs: &[TensorSpec]) -> Result<Tokenizer, Vec<String>> {
    Tokenizer::load(&read(file), &declare(yaml), inputs)
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn rows(tensor: &Tensor) -> Vec<Vec<i64>> {
    let values: Vec<i64> = match &tensor.elements {
        Elements::I64(v) => v.clone(),
        Elements::I32(v) => v.iter().map(|v| i64::from(*v)).collect(),
        Elements::F32(v) => v.iter().map(|v| *v as i64).collect(),
        other => panic!("no input is of {}", other.element()),
    };
    let [texts, tokens] = tensor.shape[..] else { panic!("{:?} is not [texts, tokens]", tensor.shape) };
    assert_eq!(values.len(), texts * tokens);
    values.chunks(tokens).map(<[i64]>::to_vec).collect()
}

#[test]
fn token_ids_equal_those_of_the_python_package() {
    let cases: Vec<Case> = serde_json::from_slice(&read("cases.json")).unwrap();
    assert!(cases.len() > 40);
    for element in [ElementType::I64, ElementType::I32, ElementType::F32] {
        for Case { file, text, texts, seconds, input_ids, tokens, types } in &cases {
            let what = format!("{file} {text:?} {texts:?} {seconds:?}");
            let tokenizer = Tokenizer::load(&read(file), text, &inputs(element, None)).unwrap();
            let prepared = tokenizer.prepare(texts, seconds.as_deref());
            let prepared = prepared.unwrap_or_else(|error| panic!("{what}: {error}"));
            let (prepared, lengths) = prepared;
            let [mask, ids, kinds] = &prepared[..] else { panic!("{prepared:?}") };
            assert_eq!(ids.elements.element(), element);
            assert_eq!(rows(ids), *input_ids, "{what}");
            let sums = |tensor| rows(tensor).iter().map(|row| row.iter().sum()).collect::<Vec<i64>>();
            assert_eq!(sums(mask), *tokens, "{what}");
            let lengths: Vec<i64> = lengths.iter().map(|length| i64::try_from(*length).unwrap()).collect();
            assert_eq!(lengths, *tokens, "{what}");
            assert_eq!(sums(kinds), *types, "{what}");
        }
    }
}

#[test]
fn the_mask_stands_where_the_tokens_are() {
    for (side, expected) in [("left", [0, 0, 1, 1, 1]), ("right", [1, 1, 1, 0, 0])] {
        let yaml = format!("{{padding: {{length: 5, side: {side}}}}}");
        let tokenizer = load("wordpiece.json", &yaml, &inputs(ElementType::I64, None)).unwrap();
        let (prepared, _) = tokenizer.prepare(&texts(&["dog"]), None).unwrap();
        assert_eq!(rows(&prepared[0]), [expected]);
        let padding: Vec<i64> = rows(&prepared[1])[0].iter().copied().filter(|id| *id == 0).collect();
        assert_eq!(padding.len(), 2);
    }
}

#[test]
fn a_length_fixed_by_the_model_holds_without_being_declared() {
    let tokenizer = load("wordpiece.json", "{}", &inputs(ElementType::I64, Some(6))).unwrap();
    let long = "the lazy dog and the worker ".repeat(20);
    for tensor in tokenizer.prepare(&texts(&["dog", &long]), None).unwrap().0 {
        assert_eq!(tensor.shape, [2, 6]);
    }
}

#[test]
fn a_length_that_the_file_was_saved_with_is_followed_where_it_is_declared() {
    let mut file: serde_json::Value = serde_json::from_slice(&read("wordpiece.json")).unwrap();
    file["padding"] = serde_json::json!({
        "strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"
    });
    let file = serde_json::to_vec(&file).unwrap();
    for (yaml, fixed, width, warns) in [
        ("{}", None, 3, true),
        ("{padding: {multiple_of: 8}}", None, 8, true),
        ("{padding: {length: 128}}", None, 128, false),
        ("{}", Some(6), 6, false),
    ] {
        let tokenizer = Tokenizer::load(&file, &declare(yaml), &inputs(ElementType::I64, fixed)).unwrap();
        let (prepared, _) = tokenizer.prepare(&texts(&["dog"]), None).unwrap();
        assert_eq!(prepared[0].shape, [1, width], "{yaml} {fixed:?}");
        assert_eq!(tokenizer.warning().is_some(), warns, "{yaml} {fixed:?}");
        if let Some(warning) = tokenizer.warning() {
            assert!(
                warning.contains("to 128 tokens") && warning.contains("text.padding.length: 128"),
                "{warning}"
            );
        }
    }
}

#[test]
fn a_pair_of_which_too_little_may_be_cut_is_refused() {
    let model = inputs(ElementType::I64, None);
    let yaml = "{fields: [a, b], truncation: {max_length: 6, strategy: only_second}}";
    let tokenizer = load("wordpiece.json", yaml, &model).unwrap();
    let (first, second) = (texts(&["dog dog dog dog"]), texts(&["dog"]));
    let rejection = tokenizer.prepare(&first, Some(&second)).unwrap_err();
    assert_eq!(rejection.code, Code::InputTooLarge);
    let expected = "text 0 is too long: 6 tokens are kept and only the second text of a pair is truncated; \
                    send a shorter one";
    assert_eq!(rejection.message, expected);
    let alone =
        load("wordpiece.json", "{truncation: {max_length: 6, strategy: only_second}}", &model).unwrap_err();
    assert_eq!(alone, ["text.truncation.strategy: only_second needs two text.fields, got [\"text\"]"]);
}

#[test]
fn inputs_of_other_names_are_declared() {
    let model = [input("mask", ElementType::I64, None), input("tokens", ElementType::I64, None)];
    let yaml = "{inputs: {input_ids: tokens, attention_mask: mask}}";
    let tokenizer = load("wordpiece.json", yaml, &model).unwrap();
    let (prepared, _) = tokenizer.prepare(&texts(&["dog"]), None).unwrap();
    assert_eq!(rows(&prepared[0]), [[1, 1, 1]]);
    assert_ne!(rows(&prepared[1]), [[1, 1, 1]]);
}

#[test]
fn every_problem_is_named_at_once() {
    let model = [
        input("input_ids", ElementType::I64, Some(8)),
        input("pixels", ElementType::I64, Some(9)),
        input("attention_mask", ElementType::String, None),
        TensorSpec { shape: vec![Dim::Fixed(1)], ..input("token_type_ids", ElementType::I64, None) },
    ];
    let yaml = "{truncation: {max_length: 1}, padding: {length: 5, token: \"[FILL]\"}, \
                inputs: {attention_mask: absent}, max_bytes: 0}";
    let found = load("wordpiece.json", yaml, &model).unwrap_err().join("\n");
    for part in [
        "no input \"absent\"",
        "nothing is known for input \"pixels\"",
        "input \"pixels\" takes 9 tokens, another input 8",
        "\"attention_mask\" is string",
        "\"token_type_ids\" is int64[1]",
        "less than the 2 special token(s)",
        "padded to 5 tokens, but the model takes 8",
        "no token \"[FILL]\"",
        "a limit of 0",
    ] {
        assert!(found.contains(part), "{part:?} is missing from:\n{found}");
    }
    for (yaml, part) in [
        ("{inputs: {attention_mask: input_ids}}", "both name input"),
        (
            "{inputs: {input_ids: attention_mask, attention_mask: input_ids}, truncation: {max_length: 9}}",
            "9 tokens are kept",
        ),
        ("{inputs: {input_ids: absent}}", "absent"),
        ("{padding: {multiple_of: 0}}", "0 pads nothing"),
        ("{fields: []}", "text.fields: expected one name, or two different ones, got []"),
        ("{fields: [a, a]}", "got [\"a\", \"a\"]"),
        ("{fields: [a, b, c]}", "got [\"a\", \"b\", \"c\"]"),
        ("{fields: [a, b], truncation: {max_length: 2}}", "less than the 3 special token(s)"),
    ] {
        let model =
            [input("input_ids", ElementType::I64, Some(8)), input("attention_mask", ElementType::I64, None)];
        let found = load("wordpiece.json", yaml, &model).unwrap_err().join("\n");
        assert!(found.contains(part), "{part:?} is missing from:\n{found}");
    }
    let found =
        Tokenizer::load(b"{}", &TextDeclaration::default(), &inputs(ElementType::I64, None)).unwrap_err();
    assert!(found[0].contains("\"tokenizer.json\" is no tokenizer"), "{found:?}");
    for yaml in ["{tokeniser: x}", "{truncation: {side: left}}", "{padding: {to: 3}}", "{inputs: {ids: x}}"] {
        assert!(serde_saphyr::from_str::<TextDeclaration>(yaml).is_err(), "{yaml}");
    }
}

#[test]
fn too_much_text_is_refused() {
    let model = inputs(ElementType::I64, None);
    let tokenizer = load("wordpiece.json", "{max_bytes: 20, max_tokens: 12}", &model).unwrap();
    let reject = |given: &[&str]| tokenizer.prepare(&texts(given), None).unwrap_err();
    let long = reject(&["dog", "a text of 21 bytes..."]);
    assert_eq!(long.code, Code::InputTooLarge);
    assert!(long.message.contains("text 1 has 21 bytes"), "{long}");
    let pairs = load("wordpiece.json", "{fields: [a, b], max_bytes: 20}", &model).unwrap();
    let second = pairs.prepare(&texts(&["dog"]), Some(&texts(&["a text of 21 bytes..."]))).unwrap_err();
    assert!(second.message.contains("text 0 has 21 bytes"), "{second}");
    let many = reject(&["dog", "dog dog dog", "dog"]);
    assert_eq!(many.code, Code::InputTooLarge);
    assert!(many.message.contains("3 text(s) of 5 tokens with padding make 15"), "{many}");
    assert_eq!(reject(&[]).code, Code::InvalidInput);
}

/// The parts that are cut off two long texts take no memory, although `tokenizers` would pair each window of
/// one text with each of the other.
#[test]
fn what_is_cut_off_takes_no_memory() {
    let long = "dog ".repeat(1000);
    let peak = |yaml: &str, pair: bool, texts: &[String]| {
        let tokenizer = load("wordpiece.json", yaml, &inputs(ElementType::I64, None)).unwrap();
        let prepare = || tokenizer.prepare(texts, pair.then_some(texts)).unwrap();
        allocation_counter::measure(|| drop(prepare())).bytes_max
    };
    for (cut, whole, pair) in [
        ("{truncation: {max_length: 8}}", "{}", false),
        ("{fields: [a, b], truncation: {max_length: 8}}", "{fields: [a, b]}", true),
    ] {
        let (cut, whole) =
            (peak(cut, pair, std::slice::from_ref(&long)), peak(whole, pair, std::slice::from_ref(&long)));
        assert!(cut < 2 * whole, "{cut} bytes, {whole} where nothing is cut off");
    }
}

#[test]
fn a_request_without_any_token_is_refused() {
    let tokenizer =
        load("wordpiece.json", "{special_tokens: false}", &inputs(ElementType::I64, None)).unwrap();
    assert_eq!(tokenizer.prepare(&texts(&["", " "]), None).unwrap_err().code, Code::InvalidInput);
    assert_eq!(tokenizer.prepare(&texts(&["", "dog"]), None).unwrap().0[1].shape[0], 2);
}

#[test]
fn the_longest_text_allowed_is_tokenized() {
    for file in ["wordpiece.json", "byte-level.json", "unigram.json"] {
        let tokenizer =
            load(file, "{truncation: {max_length: 64}}", &inputs(ElementType::I64, None)).unwrap();
        for piece in [" ", "a", "don't ", "模", "😀"] {
            let text = piece.repeat((256 << 10) / piece.len());
            let (prepared, _) =
                tokenizer.prepare(&[text], None).unwrap_or_else(|error| panic!("{file} {piece:?}: {error}"));
            assert!(prepared[1].shape[1] <= 64, "{file} {piece:?}");
        }
    }
}

/// Statements of a tokenizer's file, and their effect in the Python package
/// (`scripts/examples/make_tokenizer_rules.py`).
#[derive(Deserialize)]
struct Rule {
    tokenizer: serde_json::Value,
    text: TextDeclaration,
    texts: Vec<String>,
    seconds: Option<Vec<String>>,
    /// Ids and types of each text; `None` if the package refuses it.
    expected: Vec<Option<[Vec<i64>; 2]>>,
}

fn read_rules(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/tokenizers").join(name)).unwrap()
}

fn assert_rules(name: &str, at_least: usize) {
    let rules: Vec<Rule> = serde_json::from_slice(&read_rules(name)).unwrap();
    assert!(rules.len() >= at_least);
    let mut unlike = Vec::new();
    for Rule { tokenizer: file, text, texts, seconds, expected } in rules {
        let what = format!("{} {} {}", file["truncation"], file["pre_tokenizer"], file["normalizer"]);
        let bytes = serde_json::to_vec(&file).unwrap();
        let tokenizer = Tokenizer::load(&bytes, &text, &inputs(ElementType::I64, None))
            .unwrap_or_else(|problems| panic!("{what}: {problems:?}"));
        for (number, (one, expected)) in texts.chunks(1).zip(expected).enumerate() {
            let second = seconds.as_ref().map(|seconds| &seconds[number..=number]);
            // A model cannot run on no tokens.
            let expected = expected.filter(|[ids, _]| !ids.is_empty());
            let came = tokenizer
                .prepare(one, second)
                .map(|(tensors, _)| [1, 2].map(|input| rows(&tensors[input]).remove(0)));
            if came.as_ref().ok() != expected.as_ref() {
                unlike
                    .push(format!("{what} {text:?} {one:?} {second:?}:\n  {came:?}, expected {expected:?}"));
            }
        }
    }
    assert!(unlike.is_empty(), "{} unlike the Python package:\n{}", unlike.len(), unlike.join("\n"));
}

#[test]
fn texts_are_cut_as_the_tokenizers_file_says() {
    assert_rules("truncation.json", 60);
}

#[test]
fn regular_expressions_mean_what_they_mean_to_the_python_package() {
    assert_rules("patterns.json", 50);
}

#[test]
fn expressions_that_the_python_package_cannot_read_are_refused() {
    let files: Vec<serde_json::Value> = serde_json::from_slice(&read_rules("refused.json")).unwrap();
    let mut deep = files[0].clone();
    deep["pre_tokenizer"]["pattern"]["Regex"] = "[a".repeat(4000).into();
    for file in files.into_iter().chain([deep]) {
        let bytes = serde_json::to_vec(&file).unwrap();
        let problems = Tokenizer::load(&bytes, &TextDeclaration::default(), &inputs(ElementType::I64, None))
            .unwrap_err();
        assert!(
            problems[0].contains("\"tokenizer.json\" is no tokenizer: Oniguruma error: "),
            "{problems:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A tokenizer's file with some bytes or numbers changed: a reason, or rows within the limit.
    #[test]
    fn a_damaged_tokenizer_is_survived(
        file in proptest::sample::select(vec!["wordpiece.json", "byte-level.json", "unigram.json"]),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        number in proptest::option::of((any::<prop::sample::Index>(), proptest::sample::select(vec![
            "-1", "0", "1", "4294967295", "18446744073709551615", "1e300", "null", "\"\"", "[]", "{}",
        ]))),
        text in "[a-z .,é模😀]{0,40}",
    ) {
        let mut bytes = read(file);
        if let Some((at, value)) = number {
            // The value after one of the colons.
            let pairs = bytes.windows(2).enumerate();
            let colons: Vec<usize> = pairs.filter(|(_, two)| two == b": ").map(|(at, _)| at).collect();
            if !colons.is_empty() {
                let from = colons[at.index(colons.len())] + 2;
                let end = bytes[from..].iter().position(|byte| b",\n}]".contains(byte));
                let to = end.map_or(bytes.len(), |end| from + end);
                bytes.splice(from..to, value.bytes());
            }
        }
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let declared = declare("{max_tokens: 4096}");
        if let Ok(tokenizer) = Tokenizer::load(&bytes, &declared, &inputs(ElementType::I64, None))
            && let Ok((prepared, lengths)) = tokenizer.prepare(&[text, "a b".to_owned()], None)
        {
            prop_assert_eq!(lengths.len(), 2);
            for tensor in prepared {
                prop_assert_eq!(tensor.elements.len(), 2 * tensor.shape[1]);
                prop_assert!(tensor.elements.len() <= 4096);
            }
        }
    }

    #[test]
    fn any_text_gives_rows_of_one_length(
        given in proptest::collection::vec(any::<String>(), 1..5),
        cut in 3..20_usize,
    ) {
        for file in ["wordpiece.json", "byte-level.json", "unigram.json"] {
            let yaml = format!("{{truncation: {{max_length: {cut}}}}}");
            let tokenizer = load(file, &yaml, &inputs(ElementType::I32, None)).unwrap();
            if let Ok((prepared, _)) = tokenizer.prepare(&given, None) {
                for tensor in prepared {
                    prop_assert_eq!(rows(&tensor).len(), given.len());
                    prop_assert!(tensor.shape[1] <= cut);
                }
            }
        }
    }
}
