//! What is around a body, and the forms that are no JSON, from attributes to tensors.

use std::collections::HashMap;
use std::io::Write as _;

use super::*;
use crate::decode::envelope::{Envelope, Headers, open, weight};
use crate::decode::event::Mode;
use crate::error::Code;

fn attributes(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn ask(pairs: &[(&str, &str)], body: &[u8], signature: &Signature) -> Result<Request, Failure> {
    let attributes = attributes(pairs);
    let Envelope { content, .. } = open(Headers(&attributes), body, &Limits::DEFAULT);
    let content = content.map_err(|rejection| Failure { rejection, id: None })?;
    content.decode(signature, &Limits::DEFAULT)
}

fn asked(pairs: &[(&str, &str)], body: &[u8], signature: &Signature) -> Request {
    let shown = String::from_utf8_lossy(body);
    ask(pairs, body, signature).unwrap_or_else(|failure| panic!("{shown}: {}", failure.rejection))
}

fn refused(pairs: &[(&str, &str)], body: &[u8], signature: &Signature) -> String {
    let shown = String::from_utf8_lossy(body);
    match ask(pairs, body, signature) {
        Ok(request) => panic!("{shown} was read as {request:?}"),
        Err(failure) => failure.rejection.message.into_owned(),
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

const CSV: (&str, &str) = ("content-type", "text/csv");
const RAW: (&str, &str) = ("content-type", "application/octet-stream");

#[test]
fn tables_are_read_with_and_without_a_header() {
    let expected = [f32s(&[2, 2], &[1.0, 2.5, -3.0, 4e10])];
    for (declared, body) in [
        ("text/csv", "1,2.5\n-3,4e10\n"),
        ("text/csv", "1,2.5\r\n-3,4e10"),
        ("text/csv", "\u{feff}1,2.5\r\n-3,4e10\r\n\r\n\n"),
        ("text/csv", " 1 ,+2.5\n\"-3\",\"4e10\"\n"),
        ("text/csv; header=absent", "1.,02.5\n-3,4E+10\n"),
        ("text/csv", "a,b\n1,2.5\n-3,4e10\n"),
        ("text/csv", "b,a\n2.5,1\n4e10,-3\n"),
        ("text/csv", "\"b\",\"a\"\r\n2.5,1\r\n4e10,-3\r\n"),
        ("text/csv; header=present", " b , a \n2.5,1\n4e10,-3\n"),
    ] {
        let request = asked(&[("content-type", declared)], body.as_bytes(), &table());
        assert_eq!(request.rows, 2);
        assert_eq!(request.inputs, expected, "{body}");
        assert_eq!(request.answer, super::super::Answer { form: Form::Rows, id: None });
    }
    // Without column names a declared header names nothing.
    let declared = [("content-type", "text/csv; header=present")];
    assert_eq!(asked(&declared, b"what,ever\n1,2.5\n-3,4e10", &single()).inputs, expected);
    assert_eq!(asked(&[CSV], b"1,2.5\n-3,4e10", &single()).inputs, expected);
    // A width that the model leaves open is the first line's.
    let open_width = signature(&[("x", ElementType::F32, &[0, 0])]);
    assert_eq!(asked(&[CSV], b"1,2,3\n", &open_width).inputs, [f32s(&[1, 3], &[1.0, 2.0, 3.0])]);
}

#[test]
fn columns_of_several_types_are_inputs() {
    let signature = signature(&[
        ("s", ElementType::Text, &[0, 1]),
        ("n", ElementType::I64, &[0]),
        ("f", ElementType::F64, &[0, 1]),
        ("b", ElementType::Bool, &[0]),
    ]);
    let texts = |values: &[&str]| Elements::Text(values.iter().map(|value| (*value).to_owned()).collect());
    let expected = |texts| {
        [
            Tensor { shape: vec![2, 1], elements: texts },
            i64s(&[7, -8]),
            Tensor { shape: vec![2, 1], elements: Elements::F64(vec![0.5, f64::INFINITY]) },
            Tensor { shape: vec![2], elements: Elements::Bool(vec![true, false]) },
        ]
    };
    for (body, text) in [
        ("red,7,.5,True\n\"\",-8,inf,0\n", ["red", ""]),
        ("s,n,f,b\n\"a \"\"b\"\", c\n d\",7,5e-1,1\n é ,-8,Infinity,FALSE\n", ["a \"b\", c\n d", " é "]),
        ("b,f,n,s\n1,5e-1,7,\"\"\"\"\nfalse,+inf,-8.0,x\"y\n".replace("x\"y", "xy").leak(), ["\"", "xy"]),
    ] {
        assert_eq!(asked(&[CSV], body.as_bytes(), &signature).inputs, expected(texts(&text)), "{body}");
    }
    // Empty is missing: NaN where a float can be.
    let request = asked(&[CSV], b"x,1,,true\ny,2,\"\",true\n", &signature);
    let Elements::F64(values) = &request.inputs[2].elements else { panic!("float64 expected") };
    assert!(values.iter().all(|value| value.is_nan()));
}

#[test]
fn what_is_wrong_with_a_table_is_said_with_its_place() {
    let declare = "set content-type to \"text/csv; header=present\" or \"text/csv; header=absent\"";
    let text = signature(&[("s", ElementType::Text, &[0])]);
    let bytes = signature(&[("x", ElementType::U8, &[0, 2])]);
    let deep = signature(&[("x", ElementType::F32, &[0, 2, 2])]);
    let wide = signature(&[("x", ElementType::F32, &[0, 2]), ("y", ElementType::F32, &[0, 1])]);
    let present = "text/csv; header=present";
    let absent = "text/csv; header=absent";
    for (declared, body, signature, expected) in [
        ("text/csv", "", &table(), "expected a table, got an empty body"),
        ("text/csv", "\r\n\n", &table(), "expected a table, got an empty body"),
        ("text/csv", "a,b\n", &table(), "expected at least one row, got none"),
        (
            "text/csv",
            "a,b\n1,2\nx,3\n",
            &table(),
            "row 2 (line 3), column \"a\": expected a number, got \"x\"",
        ),
        (
            "text/csv",
            "1,2\n3,1e99\n",
            &table(),
            &format!(
                "row 2 (line 2), column \"b\": expected a float32 ({} to {}), got 1e99",
                f32::MIN,
                f32::MAX
            ),
        ),
        ("text/csv", "1,2\n3,0x1\n", &single(), "row 2 (line 2), column 2: expected a number, got \"0x1\""),
        ("text/csv", "1,2\n3\n", &table(), "row 2 (line 2): expected 2 cells, one a column, got 1"),
        ("text/csv", "1,2\n3,4,5\n", &table(), "row 2 (line 2): expected 2 cells, one a column, got more"),
        ("text/csv", "1,2\n\n3,4\n", &table(), "row 2 (line 2): expected a row, got a blank line"),
        (
            "text/csv",
            "1;2\n",
            &table(),
            &format!(
                "line 1 is neither a header with the model's names nor a row of values; {declare} to learn which cell is wrong"
            ),
        ),
        (
            present,
            "a;b\n",
            &table(),
            "line 1: expected one of the columns \"a\", \"b\", got unknown column \"a;b\"",
        ),
        (present, "a,a\n", &table(), "line 1: expected each column once, got \"a\" twice"),
        (present, "a\n1\n", &table(), "line 1: expected a value for each of 2 columns, got none for \"b\""),
        (absent, "a,b\n", &table(), "row 1 (line 1), column \"a\": expected a number, got \"a\""),
        (
            present,
            "x,m\n",
            &several(),
            "input \"x\": content-type text/csv is for columns, and this input (float32[N, 2]) is none; send JSON",
        ),
        (
            "text/csv",
            "1,2\n",
            &wide,
            "input \"x\": content-type text/csv is for columns, and this input (float32[N, 2]) is none; send JSON",
        ),
        (
            "text/csv",
            "1,2\n",
            &deep,
            "input \"x\": content-type text/csv is for columns, and this input (float32[N, 2, 2]) is none; send JSON",
        ),
        (
            "text/csv",
            "1,2\n",
            &whole(),
            "expected another form: the model has no batch dimension, so it takes no table",
        ),
        ("text/csv", "s\nx\n", &text, &format!("line 1 may be a header or a row of values; {declare}")),
        (absent, "x\ny,z\n", &text, "row 2 (line 2): expected 1 cells, one a column, got more"),
        (
            absent,
            "\"a\nb\"\n\"c\n",
            &text,
            "row 2 (line 3), column \"s\": expected a quote to end the cell that begins in line 3, got the end of the body",
        ),
        (absent, "x\"y\n", &text, "line 1: expected quotes around the whole cell, got one inside it"),
        (
            absent,
            "\"x\"y\n",
            &text,
            "line 1: expected a comma or the end of the line after a closing quote, got more text",
        ),
        (absent, "x\n\ny\n", &text, "row 2 (line 2): expected a row, got a blank line"),
        (
            "text/csv",
            "1,2\n3,\n",
            &bytes,
            "row 2 (line 2), column 2: expected a whole number, got an empty cell",
        ),
        (
            "text/csv",
            "1,2\n3,256\n",
            &bytes,
            "row 2 (line 2), column 2: expected a uint8 (0 to 255), got 256",
        ),
        (
            "text/csv",
            "1,2\n3,1.5\n",
            &bytes,
            "row 2 (line 2), column 2: expected a whole number for uint8, got 1.5",
        ),
        (
            absent,
            "1,2\r3,4\n",
            &bytes,
            "row 1 (line 1): expected LF or CRLF at the end of a line, got CR alone",
        ),
    ] {
        assert_eq!(refused(&[("content-type", declared)], body.as_bytes(), signature), expected, "{body}");
    }
    let two = signature(&[("s", ElementType::Text, &[0]), ("t", ElementType::Text, &[0])]);
    assert_eq!(
        refused(&[("content-type", absent)], b"x,y\n,z\n", &two),
        "row 2 (line 2), column \"s\": expected a string (\"\" for an empty one), got an empty cell"
    );
    assert_eq!(
        refused(&[CSV], b"1,\xff\n", &table()),
        "expected UTF-8 text, got an invalid sequence at byte 2"
    );
    assert_eq!(
        refused(&[("content-type", present)], b"s\nx\n", &two),
        "row 1 (line 2): expected a value for every input, got none for \"t\" (string[N])"
    );
}

#[test]
fn limits_of_a_table_hold() {
    let limits = Limits { max_rows: 2, max_elements: 5, max_fields: 4, ..Limits::DEFAULT };
    let attributes = attributes(&[CSV]);
    for (body, expected) in [
        ("1,2\n3,4\n5,6\n", "expected at most 2 rows, got more; send them in several messages"),
        ("1,2,3\n1,2,3\n", "row 2 (line 2): expected at most 5 elements in all inputs, got more"),
        ("1,2,3,4,5\n", "line 1: expected at most 4 cells, got more"),
    ] {
        let open_width = signature(&[("x", ElementType::F32, &[0, 0])]);
        let content = open(Headers(&attributes), body.as_bytes(), &limits).content.unwrap();
        let rejection = content.decode(&open_width, &limits).unwrap_err().rejection;
        assert_eq!((rejection.code, &*rejection.message), (Code::InputTooLarge, expected));
    }
}

#[test]
fn raw_rows_are_their_bytes() {
    let bytes: Vec<u8> =
        [1.0_f32, 2.5, -3.0, f32::MAX].iter().flat_map(|value| value.to_le_bytes()).collect();
    let request = asked(&[RAW], &bytes, &single());
    assert_eq!((request.rows, &request.inputs[0]), (2, &f32s(&[2, 2], &[1.0, 2.5, -3.0, f32::MAX])));
    assert_eq!(request.answer.form, Form::Rows);
    let request = asked(&[RAW], &bytes, &whole());
    assert_eq!((request.rows, &request.inputs[0].shape), (1, &vec![2, 2]));
    let flags = signature(&[("x", ElementType::Bool, &[0])]);
    let expected = Tensor { shape: vec![3], elements: Elements::Bool(vec![true, false, true]) };
    assert_eq!(asked(&[RAW], &[1, 0, 1], &flags).inputs, [expected]);

    let free = signature(&[("x", ElementType::F32, &[0, 0])]);
    let text = signature(&[("x", ElementType::Text, &[0])]);
    let none = signature(&[("x", ElementType::F32, &[0, 2, 0])]);
    let fixed = signature(&[("x", ElementType::F32, &[3, 1])]);
    let alternative = "send JSON, or Open Inference Protocol v2 with inference-header-content-length";
    for (body, signature, expected) in [
        (
            &bytes[..15],
            &single(),
            "input \"x\": expected whole rows of 8 bytes (float32[N, 2]), got 15 bytes".to_owned(),
        ),
        (
            b"[[1, 2]]]",
            &single(),
            "input \"x\": expected whole rows of 8 bytes (float32[N, 2]), got 9 bytes; JSON is sent as application/json"
                .to_owned(),
        ),
        (
            &[],
            &single(),
            "input \"x\": expected whole rows of 8 bytes (float32[N, 2]), got 0 bytes".to_owned(),
        ),
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
        (
            &bytes,
            &free,
            format!(
                "input \"x\": content-type application/octet-stream cannot carry rows of float32[N, N]: the model leaves \
                 the length of a row open; {alternative}"
            ),
        ),
        (
            &bytes,
            &none,
            format!(
                "input \"x\": content-type application/octet-stream cannot carry rows of float32[N, 2, N]: the model leaves \
                 the length of a row open; {alternative}"
            ),
        ),
        (
            &bytes,
            &text,
            format!(
                "input \"x\": content-type application/octet-stream cannot carry rows of string[N]: strings have no fixed \
                 length; {alternative}"
            ),
        ),
        (&[1, 2, 0], &flags, "input \"x\"[1]: expected 0 or 1 for a bool, got 2".to_owned()),
        (&bytes, &fixed, "input \"x\": expected a shape that fits float32[3, 1], got [4, 1]".to_owned()),
    ] {
        assert_eq!(refused(&[RAW], body, signature), expected);
    }
    let limits = Limits { max_rows: 1, ..Limits::DEFAULT };
    let content = open(Headers(&attributes(&[RAW])), &bytes, &limits).content.unwrap();
    assert_eq!(content.decode(&single(), &limits).unwrap_err().rejection.code, Code::InputTooLarge);
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
fn v2_tensors_may_stand_behind_the_json() {
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
        assert_eq!(request.inputs, [f32s(&[1, 2], &[1.5, -2.0]), i64s(&[7])]);
        assert_eq!(request.answer.form, Form::V2 { outputs: vec![], binary: true });
        assert_eq!(request.answer.id, text("q"));
    }
    let strings = signature(&[("s", ElementType::Text, &[0, 2])]);
    let json = r#"{"inputs": [{"name": "s", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": 10}}]}"#;
    let request = v2(json, b"\x02\0\0\0\xc3\xa9\0\0\0\0", &strings).unwrap();
    assert_eq!(request.inputs[0].elements, Elements::Text(vec!["é".to_owned(), String::new()]));
}

#[test]
fn what_is_wrong_with_binary_data_is_said() {
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
    let strings = signature(&[("s", ElementType::Text, &[0])]);
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
    let tensor = r#"{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}"#;
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

const EVENT: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "e1"), ("ce-source", "//s"), ("ce-type", "t")];

#[test]
fn events_carry_every_form() {
    let expected = [f32s(&[1, 2], &[1.0, 2.0])];
    let json = br#"{"instances": [[1, 2]]}"#;
    for (more, body) in [
        (vec![], &json[..]),
        (vec![("content-type", "application/json")], json),
        (vec![("ce-datacontenttype", "text/csv")], b"1,2"),
        (vec![CSV, ("ce-datacontenttype", "application/json")], b"1,2"),
        (vec![("content-encoding", "gzip")], &gzip(json)),
    ] {
        let pairs = [&EVENT[..], &more].concat();
        assert_eq!(asked(&pairs, body, &single()).inputs, expected);
        let attributes =
            attributes(&[&pairs[..], &[("ce-subject", "s"), ("ce-correlationid", "c")]].concat());
        let event = open(Headers(&attributes), body, &Limits::DEFAULT).delivery.event.unwrap();
        assert_eq!((event.mode, &*event.id), (Mode::Binary, "e1"));
        assert_eq!((event.subject.as_deref(), event.correlation_id.as_deref()), (Some("s"), Some("c")));
    }
    let base =
        r#""specversion": "1.0", "id": "e\u0032", "source": "//s", "type": "t", "subject": null, "x": [1]"#;
    let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
    for rest in [
        r#""data": {"instances": [[1, 2]]}"#,
        r#""datacontenttype": "application/json", "data": [[1, 2]]"#,
        r#""data": "1,2\n", "datacontenttype": "text/csv""#,
        r#""data_base64": "W1sxLDJdXQ==""#,
        r#""data_base64": "AACAPwAAAEA=", "datacontenttype": "application/octet-stream""#,
    ] {
        let body = format!("{{{base}, {rest}}}");
        assert_eq!(asked(&structured, body.as_bytes(), &single()).inputs, expected, "{body}");
        let packed = [structured[0], ("content-encoding", "GZIP")];
        assert_eq!(asked(&packed, &gzip(body.as_bytes()), &single()).inputs, expected, "{body}");
        let attributes = attributes(&structured);
        let event = open(Headers(&attributes), body.as_bytes(), &Limits::DEFAULT).delivery.event.unwrap();
        assert_eq!((event.mode, &*event.id, event.subject.as_deref()), (Mode::Structured, "e2", None));
    }
}

#[test]
fn what_is_wrong_with_an_event_is_said() {
    let needs = "expected a CloudEvent with specversion, id, source and type, got no";
    for (gone, expected) in [("ce-id", "ce-id"), ("ce-source", "ce-source"), ("ce-type", "ce-type")] {
        let pairs: Vec<_> = EVENT.into_iter().filter(|(key, _)| *key != gone).collect();
        assert_eq!(refused(&pairs, b"[[1, 2]]", &single()), format!("{needs} {expected}"));
    }
    let old = [("ce-specversion", "0.3"), EVENT[1], EVENT[2], EVENT[3]];
    assert_eq!(
        refused(&old, b"[[1, 2]]", &single()),
        "expected a CloudEvent of specversion \"1.0\", got \"0.3\""
    );
    let base = r#""specversion": "1.0", "id": "e", "source": "//s", "type": "t""#;
    let type_of = |rest: &str| format!("{{{base}, {rest}}}");
    for (content_type, body, expected) in [
        (
            "application/cloudevents-batch+json",
            "[]".to_owned(),
            "batched CloudEvents (application/cloudevents-batch) are not supported; send one event a message",
        ),
        (
            "application/cloudevents+avro",
            String::new(),
            "CloudEvents as \"application/cloudevents+avro\" are not supported; send application/cloudevents+json or ce- attributes",
        ),
        (
            "application/cloudevents",
            "[]".to_owned(),
            "expected a CloudEvent, a JSON object, got an array at byte 0",
        ),
        ("application/cloudevents", "{}".to_owned(), &format!("{needs} specversion")),
        (
            "application/cloudevents",
            r#"{"specversion": "1.0", "source": "s", "type": "t"}"#.to_owned(),
            &format!("{needs} id"),
        ),
        ("application/cloudevents", type_of(r#""id": "f""#), "expected each key once, got \"id\" twice"),
        (
            "application/cloudevents",
            type_of(r#""subject": 1"#),
            "expected a string in \"subject\", got a number at byte 75",
        ),
        (
            "application/cloudevents",
            type_of(r#""x": 1"#),
            "expected data or data_base64 in the CloudEvent, got neither",
        ),
        (
            "application/cloudevents",
            type_of(r#""data": 1, "data_base64": """#),
            "expected data or data_base64, got both",
        ),
        (
            "application/cloudevents",
            type_of(r#""data": 1, "data": 2"#),
            "expected each key once, got \"data\" twice",
        ),
        (
            "application/cloudevents",
            type_of(r#""data_base64": "x""#),
            "data_base64: expected padded base64, got an error: Invalid input length: 1",
        ),
        (
            "application/cloudevents",
            type_of(r#""data": "x", "datacontenttype": "application/octet-stream""#),
            "expected data_base64 for datacontenttype \"application/octet-stream\", got data",
        ),
        (
            "application/cloudevents",
            type_of(r#""data": null, "datacontenttype": "text/csv""#),
            "expected a string in \"data\", got null",
        ),
        (
            "application/cloudevents",
            type_of(r#""data_base64": "", "datacontenttype": "image/tiff""#),
            "content-type \"image/tiff\" is not supported; send one of application/json, text/csv, text/plain, image/jpeg, image/png, image/webp, application/octet-stream or application/cloudevents+json",
        ),
    ] {
        assert_eq!(
            refused(&[("content-type", content_type)], body.as_bytes(), &single()),
            expected,
            "{body}"
        );
    }
    let forms = r#"{"instances": […]}, {"inputs": …} or an Open Inference Protocol v2 request"#;
    assert_eq!(
        message(r#"{"specversion": "1.0", "data": []}"#, &single()),
        format!(
            "expected {forms}, got an object with none of their keys; send a CloudEvent with content-type \
             application/cloudevents+json"
        )
    );
}

#[test]
fn packed_bodies_weigh_what_they_unpack_to() {
    let body = gzip(br#"{"instances": [[1, 2]]}"#);
    let packed = attributes(&[("content-encoding", "gzip")]);
    assert_eq!(weight(Headers(&packed), &body, &Limits::DEFAULT), body.len() + 23);
    assert_eq!(weight(Headers(&HashMap::new()), &body, &Limits::DEFAULT), body.len());
    let small = Limits { max_body_bytes: 22, ..Limits::DEFAULT };
    assert_eq!(weight(Headers(&packed), &body, &small), body.len());
    for (attributes, body, expected) in [
        (&packed, &body[..], "expected a body of at most 22 bytes, got "),
        (&packed, &gzip(&[b' '; 30])[..22], ""),
        (&HashMap::new(), &[b' '; 23], "expected a body of at most 22 bytes, got 23"),
    ] {
        let rejection = open(Headers(attributes), body, &small).content.unwrap_err();
        assert!(rejection.message.starts_with(expected), "{rejection}");
    }
    assert_eq!(
        refused(&[("content-encoding", "br")], b"", &single()),
        "content-encoding \"br\" is not supported; send the body packed by gzip, or as it is (identity)"
    );
    for (value, gzip) in [
        ("gzip", true),
        ("GZIP;q=0.5", true),
        ("br, gzip", true),
        ("gzip;q=0", false),
        ("gzip; q=0.0, br", false),
        ("br", false),
        ("", false),
    ] {
        let attributes = attributes(&[("accept-encoding", value)]);
        assert_eq!(open(Headers(&attributes), b"[]", &Limits::DEFAULT).delivery.gzip, gzip, "{value}");
    }
}
