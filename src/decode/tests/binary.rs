//! Raw rows, and v2 tensors behind the JSON.

use super::*;
use crate::error::Code;

#[test]
fn raw_rows_are_their_bytes() {
    let bytes: Vec<u8> =
        [1.0_f32, 2.5, -3.0, f32::MAX].iter().flat_map(|value| value.to_le_bytes()).collect();
    let request = asked(&[RAW], &bytes, &single());
    assert_eq!((request.rows, first(&request)), (2, &f32s(&[2, 2], &[1.0, 2.5, -3.0, f32::MAX])));
    assert_eq!(request.response.protocol, Protocol::Rows);
    let request = asked(&[RAW], &bytes, &whole());
    assert_eq!((request.rows, &first(&request).shape), (1, &vec![2, 2]));
    let flags = signature(&[("x", ElementType::Bool, &[0])]);
    let expected = Tensor { shape: vec![3], elements: Elements::Bool(vec![true, false, true]) };
    assert_eq!(given(&asked(&[RAW], &[1, 0, 1], &flags)), [expected]);

    let free = signature(&[("x", ElementType::F32, &[0, 0])]);
    let text = signature(&[("x", ElementType::String, &[0])]);
    let none = signature(&[("x", ElementType::F32, &[0, 2, 0])]);
    let fixed = signature(&[("x", ElementType::F32, &[3, 1])]);
    let alternative = "send JSON, or Open Inference Protocol v2 with inference-header-content-length";
    let whole_rows = "input \"x\": expected whole rows of 8 bytes (float32[N, 2]), got";
    let no_rows = |what: &str, why: &str| {
        format!(
            "input \"x\": content-type application/octet-stream cannot carry rows of {what}: {why}; {alternative}"
        )
    };
    let open = "the model leaves the length of a row open";
    for (body, signature, expected) in [
        (&bytes[..15], &single(), format!("{whole_rows} 15 bytes")),
        (b"[[1, 2]]]", &single(), format!("{whole_rows} 9 bytes; JSON is sent as application/json")),
        (&[], &single(), format!("{whole_rows} 0 bytes")),
        (
            &bytes[..8],
            &whole(),
            "input \"x\": expected exactly 16 bytes (float32[2, 2]), got 8 bytes".to_owned(),
        ),
        (
            &bytes,
            &several(),
            format!(
                "content-type application/octet-stream is for models with one input, this one has 2; {alternative}"
            ),
        ),
        (&bytes, &free, no_rows("float32[N, N]", open)),
        (&bytes, &none, no_rows("float32[N, 2, N]", open)),
        (&bytes, &text, no_rows("string[N]", "strings have no fixed length")),
        (&[1, 2, 0], &flags, "input \"x\"[1]: expected 0 or 1 for a bool, got 2".to_owned()),
        (&bytes, &fixed, "input \"x\": expected a shape that fits float32[3, 1], got [4, 1]".to_owned()),
    ] {
        assert_eq!(refused(&[RAW], body, signature), expected);
    }
    let limits = Limits { max_rows: 1, ..Limits::DEFAULT };
    let failure = decode_within(&limits, &attributes(&[RAW]), &bytes, &single()).unwrap_err();
    assert_eq!(failure.rejection.code, Code::InputTooLarge);
}

fn v2(json: &str, binary: &[u8], signature: &Signature) -> Result<Request, Failure> {
    let length = json.len().to_string();
    let body = [json.as_bytes(), binary].concat();
    let read = ask(&[("inference-header-content-length", &length)], &body, signature);
    for declared in ["application/octet-stream", "application/json"] {
        let pairs = [("inference-header-content-length", &*length), ("content-type", declared)];
        assert_eq!(ask(&pairs, &body, signature), read);
    }
    read
}

#[test]
fn v2_tensors_may_be_behind_the_json() {
    let x = r#"{"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8, "a": [1]}}"#;
    let n = r#"{"parameters": {"binary_data_size": 8}, "datatype": "INT64", "shape": [1], "name": "n"}"#;
    let n_json = r#"{"name": "n", "shape": [1], "datatype": "INT64", "data": [7]}"#;
    let floats: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let seven = 7_i64.to_le_bytes();
    for (tensors, binary) in [
        (format!("{x}, {n}"), [&floats[..], &seven].concat()),
        (format!("{n}, {x}"), [&seven, &floats[..]].concat()),
        (format!("{n_json}, {x}"), floats.clone()),
        (format!("{x}, {n_json}"), floats.clone()),
    ] {
        let json =
            format!(r#"{{"id": "q", "inputs": [{tensors}], "parameters": {{"binary_data_output": true}}}}"#);
        let request =
            v2(&json, &binary, &several()).unwrap_or_else(|failure| panic!("{json}: {}", failure.rejection));
        assert_eq!(given(&request), [f32s(&[1, 2], &[1.5, -2.0]), i64s(&[7])]);
        assert_eq!(request.response.protocol, Protocol::V2 { outputs: vec![], binary: true });
        assert_eq!(request.response.id, string_id("q"));
    }
    let strings = signature(&[("s", ElementType::String, &[0, 2])]);
    let json = r#"{"inputs": [{"name": "s", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": 10}}]}"#;
    let request = v2(json, b"\x02\0\0\0\xc3\xa9\0\0\0\0", &strings).unwrap();
    assert_eq!(first(&request).elements, Elements::String(vec!["é".to_owned(), String::new()]));
}

#[test]
fn v2_columns_may_be_behind_the_json() {
    let column = |name: &str, datatype: &str| {
        format!(
            r#"{{"name": "{name}", "shape": [2], "datatype": "{datatype}", "parameters": {{"binary_data_size": 8}}}}"#
        )
    };
    let bytes: Vec<u8> = [1.0_f32, 3.0, 2.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let json = format!(r#"{{"inputs": [{}, {}]}}"#, column("a", "FP32"), column("b", "FP32"));
    assert_eq!(given(&v2(&json, &bytes, &table()).unwrap()), [f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0])]);
    let json = format!(r#"{{"inputs": [{}]}}"#, column("a", "INT32"));
    assert_eq!(
        v2(&json, &bytes[..8], &table()).unwrap_err().rejection.message,
        "input \"a\": expected datatype \"FP32\" (float32[N, 2]), got \"INT32\""
    );
}

#[test]
fn wrong_binary_data_is_refused() {
    let tensor = |rest: &str| format!(r#"{{"inputs": [{{"name": "x", "datatype": "FP32", {rest}}}]}}"#);
    let sized =
        |size: u64| tensor(&format!(r#""shape": [1, 2], "parameters": {{"binary_data_size": {size}}}"#));
    let eight = [0_u8; 8];
    for (json, binary, expected) in [
        (
            sized(8),
            &eight[..7],
            "input \"x\": expected 8 bytes of binary data (binary_data_size), got 7, the rest of the body",
        ),
        (
            sized(u64::MAX),
            &eight,
            "input \"x\": expected 18446744073709551615 bytes of binary data (binary_data_size), got 8, the rest of the body",
        ),
        (sized(4), &eight, "input \"x\": expected 2 values of 4 bytes each (float32), got 4 bytes"),
        (sized(8), &[0; 9], "expected the body to end with the last tensor's binary data, got 1 bytes more"),
        (
            tensor(r#""shape": [1, 2], "data": [1, 2]"#),
            &[0; 2],
            "expected the body to end with the last tensor's binary data, got 2 bytes more",
        ),
        (
            tensor(r#""shape": [1, 2], "data": [1, 2], "parameters": {"binary_data_size": 8}"#),
            &eight,
            "input \"x\": expected data or binary_data_size, got both",
        ),
        (
            tensor(r#""parameters": {"binary_data_size": 8}, "data": [1, 2], "shape": [1, 2]"#),
            &eight,
            "input \"x\": expected data or binary_data_size, got both",
        ),
        (
            tensor(r#""shape": [1, 2], "parameters": {"binary_data_size": -8}"#),
            &eight,
            "input \"x\" parameters.binary_data_size: expected a uint64 (0 to 18446744073709551615), got -8",
        ),
        (
            tensor(r#""shape": [1, 2], "parameters": 8"#),
            &eight,
            "input \"x\" parameters: expected an object, got a number at byte 77",
        ),
        (
            tensor(r#""shape": [1, 3], "parameters": {"binary_data_size": 8}"#),
            &eight,
            "input \"x\": expected a shape that fits float32[N, 2], got [1, 3]",
        ),
        (
            tensor(r#""shape": [9000000, 2], "parameters": {"binary_data_size": 8}"#),
            &eight,
            "input \"x\": expected at most 8388608 elements, got shape [9000000, 2]",
        ),
    ] {
        let failure = v2(&json, binary, &single()).unwrap_err();
        assert_eq!(failure.rejection.message, expected, "{json}");
    }
    let strings = signature(&[("s", ElementType::String, &[0])]);
    for (size, count, binary, expected) in [
        (
            3,
            1,
            &b"\0\0\0"[..],
            "input \"s\"[0]: expected 4 bytes of length and so many bytes of data, got 3 bytes, the rest of the tensor's",
        ),
        (
            5,
            1,
            b"\x02\0\0\0a",
            "input \"s\"[0]: expected 4 bytes of length and so many bytes of data, got 5 bytes, the rest of the tensor's",
        ),
        (
            6,
            1,
            b"\x01\0\0\0ab",
            "input \"s\": expected 1 elements with their lengths before them, got 1 bytes behind them",
        ),
        (
            5,
            2,
            b"\x01\0\0\0a",
            "input \"s\"[1]: expected 4 bytes of length and so many bytes of data, got 0 bytes, the rest of the tensor's",
        ),
        (6, 1, b"\x02\0\0\0a\xff", "input \"s\"[0]: expected UTF-8, got an invalid sequence at its byte 1"),
    ] {
        let json = format!(
            r#"{{"inputs": [{{"name": "s", "shape": [{count}], "datatype": "BYTES", "parameters": {{"binary_data_size": {size}}}}}]}}"#
        );
        assert_eq!(v2(&json, binary, &strings).unwrap_err().rejection.message, expected);
    }
    let tensor = v2_tensor("x", "[1, 2]", "FP32", "[1, 2]");
    for (rest, expected) in [
        (r#""parameters": 1"#, "parameters: expected an object, got a number at byte 95"),
        (
            r#""parameters": {"binary_data_output": "yes"}"#,
            "parameters.binary_data_output: expected true or false, got a string at byte 118",
        ),
        (
            r#""outputs": [{"name": "label", "parameters": {"binary_data": 2}}]"#,
            "outputs[0].parameters.binary_data: expected true or false (or 1 or 0), got 2",
        ),
        (
            r#""outputs": [{"name": "label", "parameters": {"binary_data": true, "binary_data": true}}]"#,
            "outputs[0].parameters: expected each key once, got \"binary_data\" twice",
        ),
    ] {
        assert_eq!(message(&format!(r#"{{"inputs": [{tensor}], {rest}}}"#), &single()), expected);
    }
}
