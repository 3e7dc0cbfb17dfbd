//! Every form, type and error text of the decoder; the numbers' own tests stand beside them.

use half::f16;
use proptest::prelude::*;

use super::*;
use crate::encode;
use crate::tensor::{Dim, ElementType, Elements, Output, TensorSpec};

fn spec(name: &str, element: ElementType, shape: &[usize]) -> TensorSpec {
    // 0 stands for a free dimension.
    let dim = |length: &usize| if *length == 0 { Dim::Any("N".into()) } else { Dim::Fixed(*length) };
    TensorSpec { name: name.into(), element, shape: shape.iter().map(dim).collect() }
}

fn model(inputs: Vec<TensorSpec>) -> Signature {
    let outputs = vec![spec("label", ElementType::I64, &[0]), spec("p", ElementType::F32, &[0, 3])];
    Signature { inputs, outputs, columns: None, batched: true }
}

/// `float32[N, 3]`
fn wine() -> Signature {
    model(vec![spec("x", ElementType::F32, &[0, 3])])
}

fn named() -> Signature {
    Signature { columns: Some(vec!["alcohol".into(), "ash".into(), "hue".into()]), ..wine() }
}

/// `float32[N, 2]`, `int64[N]`, `string[N]`
fn several() -> Signature {
    model(vec![
        spec("x", ElementType::F32, &[0, 2]),
        spec("n", ElementType::I64, &[0]),
        spec("s", ElementType::Text, &[0]),
    ])
}

fn single(element: ElementType) -> Signature {
    model(vec![spec("x", element, &[0])])
}

fn free() -> Signature {
    model(vec![spec("x", ElementType::F32, &[0, 0])])
}

fn whole() -> Signature {
    Signature { batched: false, ..model(vec![spec("x", ElementType::F32, &[2, 2])]) }
}

fn read(body: &str, signature: &Signature) -> Request {
    decode(body.as_bytes(), signature, &Limits::default()).unwrap_or_else(|e| panic!("{body}: {e}"))
}

fn tensor(shape: &[usize], elements: Elements) -> Tensor {
    Tensor { shape: shape.to_vec(), elements }
}

fn six() -> Vec<Tensor> {
    vec![tensor(&[2, 3], Elements::F32(vec![1.0, 2.5, -3.0, 4.0, 5e-1, 60.0]))]
}

#[test]
fn one_input_comes_in_every_form() {
    for body in [
        r#"{"instances": [[1, 2.5, -3], [4, 5e-1, 6e1]]}"#,
        r#"[[1, 2.5, -3], [4, 5e-1, 6e1]]"#,
        "\u{feff} [ [ 1 ,\n2.5,\t-3 ] ,\r\n[4,5e-1,6e1]] ",
        r#"[{"x": [1, 2.5, -3]}, [4, 5e-1, 6e1]]"#,
        r#"{"signature_name": "serving", "parameters": {"a": [{}, null, true]}, "instances": [[1,2.5,-3],[4,0.5,60]]}"#,
        r#"{"inputs": [[1, 2.5, -3], [4, 5e-1, 6e1]]}"#,
        r#"{"inputs": {"x": [[1, 2.5, -3], [4, 5e-1, 6e1]]}}"#,
        r#"{"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2.5, -3, 4, 0.5, 60]}]}"#,
        r#"{"inputs": [{"data": [[1, 2.5, -3], [4, 0.5, 60]], "datatype": "FP32", "shape": [2, 3], "name": "x"}]}"#,
        r#"{"inputs": [{"parameters": {"a": 1}, "name": "x", "shape": [2, 3], "data": [1, 2.5, -3, 4, 0.5, 60], "datatype": "FP32"}], "parameters": {}}"#,
    ] {
        let request = read(body, &wine());
        assert_eq!(request.inputs, six(), "{body}");
        assert_eq!(request.rows, 2, "{body}");
    }
}

#[test]
fn the_form_and_the_id_are_kept() {
    let v2 = r#"{"outputs": [{"name": "p"}], "id": "a\n\u00e9\ud83d\ude00", "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}"#;
    for (body, form, id) in [
        (r#"[[1, 2, 3]]"#, Form::Rows, None),
        (r#"{"instances": [[1, 2, 3]], "id": 17}"#, Form::Rows, Some("17")),
        (r#"{"id": null, "inputs": [[1, 2, 3]]}"#, Form::Columns, None),
        (r#"{"id": "q", "inputs": [[1, 2, 3]]}"#, Form::Columns, Some("q")),
        (v2, Form::V2 { outputs: vec!["p".into()] }, Some("a\né😀")),
    ] {
        assert_eq!(read(body, &wine()).answer, Answer { form, id: id.map(str::to_owned) }, "{body}");
    }
}

#[test]
fn named_columns_come_in_any_order() {
    for body in [
        r#"[{"alcohol": 1, "ash": 2.5, "hue": -3}, {"hue": 60, "ash": 0.5, "alcohol": 4}]"#,
        r#"[[1, 2.5, -3], {"hue": 60, "alcohol": 4, "ash": 0.5}]"#,
        r#"[{"x": [1, 2.5, -3]}, {"hue": 60, "alcohol": 4, "ash": 0.5}]"#,
    ] {
        assert_eq!(read(body, &named()).inputs, six(), "{body}");
    }
}

#[test]
fn several_inputs_come_by_name() {
    let text = |texts: &[&str]| Elements::Text(texts.iter().map(|text| (*text).to_owned()).collect());
    let expected = vec![
        tensor(&[2, 2], Elements::F32(vec![1.0, 2.0, 3.0, 4.0])),
        tensor(&[2], Elements::I64(vec![5, 6])),
        tensor(&[2], text(&["a", "bé"])),
    ];
    for body in [
        r#"{"instances": [{"x": [1, 2], "n": 5, "s": "a"}, {"s": {"b64": "YsOp"}, "n": 6, "x": [3, 4]}]}"#,
        r#"{"inputs": {"n": [5, 6], "x": [[1, 2], [3, 4]], "s": ["a", "b\u00e9"]}}"#,
        r#"{"inputs": [{"name": "s", "shape": [2], "datatype": "BYTES", "data": ["a", "bé"]},
            {"name": "n", "shape": [2], "datatype": "INT64", "data": [5, 6]},
            {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}"#,
    ] {
        assert_eq!(read(body, &several()).inputs, expected, "{body}");
    }
}

#[test]
fn every_type_takes_its_values() {
    for (element, body, expected) in [
        (ElementType::Bool, "[true, false, 1, 0]", Elements::Bool(vec![true, false, true, false])),
        (ElementType::U8, "[0, 255, 3.0]", Elements::U8(vec![0, 255, 3])),
        (ElementType::U16, "[65535, 1e2]", Elements::U16(vec![65535, 100])),
        (ElementType::U32, "[4294967295]", Elements::U32(vec![u32::MAX])),
        (ElementType::U64, "[18446744073709551615]", Elements::U64(vec![u64::MAX])),
        (ElementType::I8, "[-128, 127]", Elements::I8(vec![-128, 127])),
        (ElementType::I16, "[-32768]", Elements::I16(vec![i16::MIN])),
        (ElementType::I32, "[-2147483648]", Elements::I32(vec![i32::MIN])),
        (ElementType::I64, "[-9223372036854775808]", Elements::I64(vec![i64::MIN])),
        (ElementType::F16, "[0.1, 65504]", Elements::F16(vec![f16::from_f32(0.1), f16::MAX])),
        (ElementType::F32, "[0.1, \"Infinity\"]", Elements::F32(vec![0.1, f32::INFINITY])),
        (ElementType::F64, "[0.1, \"-Infinity\"]", Elements::F64(vec![0.1, f64::NEG_INFINITY])),
        (
            ElementType::Text,
            r#"["a\"\\\/\b\f\n\r\t", {"b64": "YQ=="}]"#,
            Elements::Text(vec!["a\"\\/\u{8}\u{c}\n\r\t".into(), "a".into()]),
        ),
    ] {
        let request = read(body, &single(element));
        assert_eq!(request.inputs[0], tensor(&[expected.len()], expected), "{element}");
    }
    let Elements::F32(nan) = &read("[\"NaN\"]", &single(ElementType::F32)).inputs[0].elements else {
        panic!()
    };
    assert!(nan[0].is_nan());
}

#[test]
fn a_model_without_a_batch_dimension_takes_one_whole_tensor() {
    for body in [
        r#"{"instances": [[[1, 2], [3, 4]]]}"#,
        r#"{"inputs": [[1, 2], [3, 4]]}"#,
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}]}"#,
    ] {
        let request = read(body, &whole());
        assert_eq!(request.inputs, [tensor(&[2, 2], Elements::F32(vec![1.0, 2.0, 3.0, 4.0]))], "{body}");
        assert_eq!(request.rows, 1);
    }
}

#[test]
fn free_dimensions_take_the_length_of_the_first_row() {
    assert_eq!(read("[[1, 2], [3, 4]]", &free()).inputs[0].shape, [2, 2]);
    assert_eq!(read("[[], []]", &free()).inputs[0].shape, [2, 0]);
}

const V2_X: &str = r#""name": "x", "datatype": "FP32", "shape": [1, 3]"#;

/// Every error with its whole text.
#[test]
fn errors_say_what_is_wrong_and_what_to_send() {
    use ElementType as E;
    let forms = "send {\"instances\": [...]}, {\"inputs\": ...} or an Open Inference Protocol v2 request";
    let v2 = |rest: &str| format!("{{\"inputs\": [{{{V2_X}, {rest}}}]}}");
    let cases: Vec<(Signature, String, String)> = vec![
        (wine(), "".into(), format!("the body is empty: {forms}")),
        (wine(), " \n".into(), format!("the body is empty: {forms}")),
        (wine(), "3".into(), format!("the body is the number 3: {forms}")),
        (wine(), "hello".into(), "malformed JSON at byte 0: expected a value, got 'h'".into()),
        (wine(), "{}".into(), format!("the body has neither \"instances\" nor \"inputs\", but no other key: {forms}")),
        (wine(), r#"{"data": 1, "b": 2}"#.into(), format!("the body has neither \"instances\" nor \"inputs\", but \"data\", \"b\": {forms}")),
        (wine(), "[[1, 2, 3]".into(), "malformed JSON at byte 10: expected ',' or ']', got the end of the body".into()),
        (wine(), "[[1, 2, 3]] x".into(), "malformed JSON at byte 12: expected the end of the body, got 'x'".into()),
        (wine(), "[[1 2, 3]]".into(), "malformed JSON at byte 4: expected ',' or ']', got '2'".into()),
        (wine(), "[[1, 02, 3]]".into(), "malformed JSON at byte 6: expected a number as JSON writes it, got '2'".into()),
        (wine(), "[[1, NaN, 3]]".into(), "malformed JSON at byte 5: NaN is not JSON: send a finite number, or the string \"NaN\" if the model takes it".into()),
        (wine(), "[[1, -Infinity, 3]]".into(), "malformed JSON at byte 5: -Infinity is not JSON: send a finite number, or the string \"-Infinity\" if the model takes it".into()),
        (wine(), r#"{instances: [[1]]}"#.into(), "malformed JSON at byte 1: expected a key in double quotes, got 'i'".into()),
        (wine(), r#"{"instances" [[1]]}"#.into(), "malformed JSON at byte 13: expected ':', got '['".into()),
        (wine(), "{\"a\u{1}\": 1}".into(), "malformed JSON at byte 3: control characters must be escaped in a string".into()),
        (wine(), "{\"a".into(), "malformed JSON at byte 3: the string begun at byte 1 has no end".into()),
        (wine(), r#"{"\x": 1}"#.into(), "malformed JSON at byte 2: a backslash begins no known escape".into()),
        (wine(), r#"{"\ud800": 1}"#.into(), "malformed JSON at byte 2: \\u must begin four hex digits, surrogates in pairs".into()),
        (wine(), "{\"a\":".to_owned() + &"[".repeat(1000), "JSON nested more than 64 deep at byte 68: send lists no deeper than the model's shape".into()),
        (wine(), "[".repeat(1000), "body[0][0]: expected a number (float32), got a list".into()),
        (wine(), r#"{"instances": {"x": [1]}}"#.into(), "instances: expected a list of rows, got an object".into()),
        (wine(), r#"{"instances": []}"#.into(), "instances: expected at least one row, got none".into()),
        (wine(), r#"{"instances": [[1, 2, 3], [1, 2]]}"#.into(), "instances[1]: expected 3 values (float32[N, 3]), got 2".into()),
        (wine(), r#"{"instances": [[1, 2, 3, 4, 5]]}"#.into(), "instances[0]: expected 3 values (float32[N, 3]), got 5".into()),
        (wine(), r#"{"instances": [1, 2, 3]}"#.into(), "instances[0]: expected a list of 3 (float32[N, 3]), got the number 1".into()),
        (wine(), r#"{"instances": [[1, "two", 3]]}"#.into(), "instances[0][1]: expected a number (float32), got the string \"two\"".into()),
        (wine(), r#"{"instances": [[1, null, 3]]}"#.into(), "instances[0][1]: expected a number (float32), got null".into()),
        (wine(), r#"{"instances": [[1, 1e39, 3]]}"#.into(), "instances[0][1]: 1e39 does not fit float32".into()),
        (wine(), r#"{"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}"#.into(), "\"inputs\" comes on top of other inputs: send one of \"instances\" and \"inputs\", once".into()),
        (wine(), r#"{"instances": [{"y": [1, 2, 3]}]}"#.into(), "instances[0]: no input is named \"y\"; the model takes \"x\"".into()),
        (wine(), r#"{"instances": [{"x": [1, 2, 3], "x": [1, 2, 3]}]}"#.into(), "key \"x\" is given twice".into()),
        (wine(), r#"{"id": 1, "id": 2}"#.into(), "key \"id\" is given twice".into()),
        (wine(), r#"{"outputs": 1, "outputs": 2}"#.into(), "key \"outputs\" is given twice".into()),
        (wine(), r#"{"id": [1]}"#.into(), "\"id\" must be a string or a number, got a list".into()),
        (free(), "[[1, 2], [3]]".into(), "body[1]: expected 2 values as in the list before (float32[N, N]), got 1".into()),
        (whole(), "[[[1, 2], [3, 4]], [[1, 2], [3, 4]]]".into(), "body: the model has no batch dimension: expected exactly one entry, got more".into()),
        (whole(), "[[[1, 2]]]".into(), "body[0]: expected 2 lists (float32[2, 2]), got 1".into()),
        (single(E::U8), "[256]".into(), "body[0]: 256 does not fit uint8".into()),
        (single(E::U8), "[-1]".into(), "body[0]: -1 does not fit uint8".into()),
        (single(E::I64), "[3.5]".into(), "body[0]: expected a whole number (int64), got 3.5".into()),
        (single(E::I64), "[9223372036854775808]".into(), "body[0]: 9223372036854775808 does not fit int64".into()),
        (single(E::F16), "[65520]".into(), "body[0]: 65520 does not fit float16".into()),
        (single(E::Bool), "[2]".into(), "body[0]: 2 does not fit bool".into()),
        (single(E::Bool), "[\"true\"]".into(), "body[0]: expected true or false (bool), got the string \"true\"".into()),
        (single(E::Text), "[1]".into(), "body[0]: expected a string (string), got the number 1".into()),
        (single(E::Text), r#"[{"b64": "*"}]"#.into(), "body[0]: \"b64\" is not base64: invalid symbol 42, offset 0".into()),
        (single(E::Text), r#"[{"b64": "/w=="}]"#.into(), "body[0]: the bytes in \"b64\" are not UTF-8, which string inputs must be".into()),
        (single(E::Text), r#"[{"b64": "YQ==", "c": 1}]"#.into(), "body[0]: expected a string or {\"b64\": \"…\"}, got another object".into()),
        (several(), "[[1, 2]]".into(), "body[0]: expected an object by input name (\"x\", \"n\", \"s\"), got a list".into()),
        (several(), r#"[{"x": [1, 2]}]"#.into(), "body[0]: input \"n\", \"s\" is missing".into()),
        (several(), r#"{"inputs": [[1, 2]]}"#.into(), "inputs: expected an object by input name (\"x\", \"n\", \"s\"), got a list".into()),
        (several(), r#"{"inputs": {"x": [[1, 2]], "n": [1, 2], "s": [""]}}"#.into(), "inputs: input \"n\" has 2 rows, but \"x\" has 1: all inputs need as many".into()),
        (several(), r#"{"inputs": {"x": [[1, 2]], "x": [[1, 2]]}}"#.into(), "key \"x\" is given twice".into()),
        (several(), r#"{"inputs": {"n": [1]}}"#.into(), "inputs: input \"x\", \"s\" is missing".into()),
        (named(), r#"[{"ash": 1}]"#.into(), "body[0]: column \"alcohol\", \"hue\" is missing".into()),
        (named(), r#"[{"ash": 1, "ash": 1}]"#.into(), "key \"ash\" is given twice".into()),
        (named(), r#"[{"colour": 1}]"#.into(), "body[0]: no column is named \"colour\"; the model takes \"alcohol\", \"ash\", \"hue\"".into()),
        (named(), r#"[{"ash": "x"}]"#.into(), "body[0].ash: expected a number (float32), got the string \"x\"".into()),
        (wine(), v2(r#""data": [1, 2]"#), "inputs[0].data: expected 3 values, as its shape says, got 2".into()),
        (wine(), v2(r#""data": [1, 2, 3, 4, 5]"#), "inputs[0].data: expected 3 values, as its shape says, got more".into()),
        (wine(), v2(r#""data": 1"#), "inputs[0].data: expected a list of 3 values, got the number 1".into()),
        (wine(), v2(r#""data": [1, [2, "a"]]"#), "inputs[0].data[1][1]: expected a number (float32), got the string \"a\"".into()),
        (wine(), v2(r#""data": [1, 2, 3], "data": []"#), "inputs[0]: key \"data\" is given twice".into()),
        (wine(), v2(r#""name": "x""#), "inputs[0]: key \"name\" is given twice".into()),
        (wine(), v2(r#""parameters": {"binary_data_size": 12}"#), "inputs[0].parameters: \"binary_data_size\" is not supported in a JSON body; send the values as \"data\"".into()),
        (wine(), v2(r#""a": 1"#), "inputs[0]: \"data\" is missing".into()),
        (wine(), r#"{"inputs": [{"name": "x", "data": []}]}"#.into(), "inputs[0]: \"datatype\" is missing".into()),
        (wine(), r#"{"inputs": [{"name": "x", "datatype": "FP32", "data": []}]}"#.into(), "inputs[0]: \"shape\" is missing".into()),
        (wine(), r#"{"inputs": [{"datatype": "FP32", "data": []}]}"#.into(), "inputs[0]: \"name\" is missing".into()),
        (wine(), r#"{"inputs": [{"name": 1}]}"#.into(), "inputs[0].name: expected a string, got the number 1".into()),
        (wine(), r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3], "data": []}]}"#.into(), "inputs[0].shape: expected a list of at most 8 whole numbers".into()),
        (wine(), r#"{"inputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": []}]}"#.into(), "inputs[0]: no input is named \"y\"; the model takes \"x\"".into()),
        (wine(), r#"{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 3], "data": []}]}"#.into(), "inputs[0]: input \"x\" has datatype FP32 (float32[N, 3]), got \"FP64\"".into()),
        (wine(), r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": []}]}"#.into(), "inputs[0]: expected a shape that fits float32[N, 3], got [1, 4] for input \"x\"".into()),
        (wine(), r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [0, 3], "data": []}]}"#.into(), "inputs[0]: expected at least one row, got none".into()),
        (several(), r#"{"inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [1]}]}"#.into(), "inputs: input \"x\", \"s\" is missing".into()),
        (several(), r#"{"inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [1]}, {"name": "s", "datatype": "BYTES", "shape": [2], "data": ["", ""]}]}"#.into(), "inputs: input \"s\" has 2 rows, but the one before has 1: all inputs need as many".into()),
        (several(), r#"{"inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [1]}, {"name": "n", "datatype": "INT64", "shape": [1], "data": [1]}]}"#.into(), "inputs: input \"n\" is given twice".into()),
        (wine(), format!(r#"{{"inputs": [{{{V2_X}, "data": [1, 2, 3]}}], "outputs": [{{"name": "q"}}]}}"#), "outputs[0]: no output is named \"q\"; the model gives \"label\", \"p\"".into()),
        (wine(), format!(r#"{{"inputs": [{{{V2_X}, "data": [1, 2, 3]}}], "outputs": [{{"name": "p"}}, {{"name": "p"}}]}}"#), "key \"p\" is given twice".into()),
        (wine(), format!(r#"{{"inputs": [{{{V2_X}, "data": [1, 2, 3]}}], "outputs": [{{}}]}}"#), "outputs[0]: \"name\" is missing".into()),
    ];
    let mut wrong = String::new();
    for (signature, body, expected) in cases {
        let got = decode(body.as_bytes(), &signature, &Limits::default()).map_or_else(
            |failure| format!("{}: {failure}", failure.rejection.code.as_str()),
            |request| format!("{request:?}"),
        );
        if got != format!("INVALID_INPUT: {expected}") {
            wrong +=
                &format!("\n{}\n     got {got}\nexpected INVALID_INPUT: {expected}", value::shorten(&body));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn limits_are_held_in_every_form() {
    let limits = Limits { max_elements: 6, max_rows: 2 };
    let rows = "more than 2 rows; send fewer rows in one message";
    let elements = "input \"x\": more than 6 elements; send fewer rows in one message";
    for (signature, body, expected) in [
        (wine(), "[[1,2,3],[1,2,3],[1,2,3]]", format!("body: {rows}")),
        (free(), "[[1,2,3,4],[1,2,3,4]]", elements.to_owned()),
        (free(), r#"{"inputs": [[1],[2],[3]]}"#, format!("inputs: {rows}")),
        (free(), r#"{"inputs": [[1,2,3,4,5,6,7]]}"#, elements.to_owned()),
        (
            wine(),
            r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 3], "data": []}]}"#,
            format!("inputs[0]: {rows}"),
        ),
        (
            free(),
            r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 7], "data": []}]}"#,
            elements.to_owned(),
        ),
        (
            free(),
            r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 9223372036854775808], "data": []}]}"#,
            elements.to_owned(),
        ),
    ] {
        let failure = decode(body.as_bytes(), &signature, &limits).unwrap_err();
        assert_eq!(failure.rejection.code, crate::error::Code::InputTooLarge, "{body}");
        assert_eq!(failure.to_string(), expected, "{body}");
    }
}

#[test]
fn a_refused_body_still_gives_its_id() {
    for (body, id) in [
        (r#"{"id": "a", "instances": [[1]]}"#, Some("a")),
        (r#"{"instances": [[1]], "id": 7}"#, Some("7")),
        (r#"{"instances": [[1], "id": 7}"#, None),
        (r#"{"id": [], "instances": [[1]]}"#, None),
        ("[[1]]", None),
    ] {
        let failure = decode(body.as_bytes(), &wine(), &Limits::default()).unwrap_err();
        assert_eq!(failure.id.as_deref(), id, "{body}");
    }
}

#[test]
fn strings_must_be_utf8() {
    let failure = decode(b"[\"\xff\"]", &single(ElementType::Text), &Limits::default()).unwrap_err();
    assert_eq!(failure.to_string(), "the string at byte 1 is not UTF-8");
}

#[test]
fn only_json_is_taken_for_now() {
    for kind in [
        None,
        Some("application/json; charset=utf-8"),
        Some("Application/JSON"),
        Some("application/octet-stream"),
        Some("application/vnd.x+json"),
        Some(""),
    ] {
        assert_eq!(supported(kind, None), Ok(()), "{kind:?}");
    }
    assert_eq!(supported(None, Some("identity")), Ok(()));
    for (kind, encoding, expected) in [
        (
            Some("Image/PNG"),
            None,
            "content-type \"image/png\" is not supported; send JSON as application/json",
        ),
        (None, Some("gzip"), "content-encoding \"gzip\" is not supported; send the body as it is (identity)"),
    ] {
        assert_eq!(supported(kind, encoding), Err(Rejection::invalid(expected)));
    }
}

/// Any tensor of the type, `rows` × `columns`; floats of every bit pattern but NaN, which equals nothing.
fn elements(element: ElementType, count: usize) -> BoxedStrategy<Elements> {
    macro_rules! of {
        ($variant:ident, $strategy:expr) => {
            prop::collection::vec($strategy, count).prop_map(Elements::$variant).boxed()
        };
    }
    match element {
        ElementType::Bool => of!(Bool, any::<bool>()),
        ElementType::U8 => of!(U8, any::<u8>()),
        ElementType::U16 => of!(U16, any::<u16>()),
        ElementType::U32 => of!(U32, any::<u32>()),
        ElementType::U64 => of!(U64, any::<u64>()),
        ElementType::I8 => of!(I8, any::<i8>()),
        ElementType::I16 => of!(I16, any::<i16>()),
        ElementType::I32 => of!(I32, any::<i32>()),
        ElementType::I64 => of!(I64, any::<i64>()),
        ElementType::F16 => {
            of!(F16, any::<u16>().prop_map(f16::from_bits).prop_filter("NaN", |v| !v.is_nan()))
        }
        ElementType::F32 => {
            of!(F32, any::<u32>().prop_map(f32::from_bits).prop_filter("NaN", |v| !v.is_nan()))
        }
        ElementType::F64 => {
            of!(F64, any::<u64>().prop_map(f64::from_bits).prop_filter("NaN", |v| !v.is_nan()))
        }
        ElementType::Text => of!(Text, any::<String>()),
    }
}

fn any_tensor() -> impl Strategy<Value = Tensor> {
    let shape = prop::collection::vec(1..4usize, 1..4);
    (prop::sample::select(ElementType::ALL), shape).prop_flat_map(|(element, shape)| {
        elements(element, shape.iter().product())
            .prop_map(move |elements| Tensor { shape: shape.clone(), elements })
    })
}

proptest! {
    /// What the encoder writes in each form, the decoder reads as the same tensor.
    #[test]
    fn every_tensor_comes_back_in_every_form(source in any_tensor()) {
        let signature = model(vec![spec("x", source.elements.element(), &vec![0; source.shape.len()])]);
        let output = [Output { name: "x", shape: &source.shape, elements: source.elements.view() }];
        for (form, from, to) in [
            (Form::Rows, "predictions", "instances"),
            (Form::Columns, "outputs", "inputs"),
            (Form::V2 { outputs: vec![] }, "outputs", "inputs"),
        ] {
            let answer = Answer { form, id: Some("7".into()) };
            let body = encode::response(&answer, &output, Some(source.shape[0]), "m", "1").unwrap();
            let body = String::from_utf8(body).unwrap().replacen(from, to, 1);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{}", body);
            let request = decode(body.as_bytes(), &signature, &Limits::default()).unwrap();
            prop_assert_eq!(&request.inputs[0], &source);
            prop_assert_eq!(request.rows, source.shape[0]);
            prop_assert_eq!(request.answer, answer);
        }
    }

    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        never_panics(&body);
    }

    /// Bytes that look like a request reach deeper.
    #[test]
    fn no_likely_bytes_panic(parts in prop::collection::vec(prop::sample::select(PARTS), 0..24)) {
        never_panics(parts.concat().as_bytes());
    }

    /// Whatever parses here as a whole is JSON to others too.
    #[test]
    fn no_half_json_is_taken(parts in prop::collection::vec(prop::sample::select(PARTS), 0..12)) {
        let body = format!("{{\"a\": [{}], \"instances\": [[1, 2, 3]]}}", parts.concat());
        if decode(body.as_bytes(), &wine(), &Limits::default()).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{}", body);
        }
    }
}

const PARTS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"instances\":",
    "\"inputs\":",
    "\"outputs\":",
    "\"id\":",
    "\"name\":",
    "\"x\"",
    "\"shape\":",
    "\"datatype\":",
    "\"data\":",
    "\"FP32\"",
    "[1,3]",
    "1",
    "-",
    "0.5",
    "1e9",
    "18446744073709551615",
    "null",
    "true",
    "\"b64\":",
    "\"",
    "\\",
    "\\u12",
    "\\ud800",
    " ",
    "{\"instances\":[",
    "{\"inputs\":[{",
    "\"alcohol\":",
    "NaN",
    "é",
];

fn never_panics(body: &[u8]) {
    for signature in
        [wine(), named(), several(), whole(), free(), single(ElementType::Text), single(ElementType::U8)]
    {
        let _ = decode(body, &signature, &Limits { max_elements: 8, max_rows: 4 });
    }
}
