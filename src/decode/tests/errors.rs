use super::*;
use crate::error::Code;

const X: &str = r#""name": "x", "datatype": "FP32""#;

fn check(signature: &Signature, cases: &[(&str, &str)]) {
    for (body, expected) in cases {
        assert_eq!(message(body, signature), *expected, "{body}");
    }
}

#[test]
fn bodies_that_are_no_request() {
    let forms = r#"{"instances": […]}, {"inputs": …} or an Open Inference Protocol v2 request"#;
    check(
        &single(),
        &[
            ("", &format!("expected {forms}, got an empty body")),
            (" \n", &format!("expected {forms}, got an empty body")),
            ("hello", &format!("expected {forms}, got `hello` at byte 0")),
            ("\u{feff}é", &format!("expected {forms}, got `é` at byte 3")),
            ("{}", &format!("expected {forms}, got an object with none of their keys")),
            (
                r#"{"inputs": [[1, 2]], "instances": []}"#,
                &format!("expected one of {forms}, got both \"inputs\" and \"instances\""),
            ),
            (
                r#"{"instances": [[1, 2]], "instances": []}"#,
                "expected each key once, got \"instances\" twice",
            ),
            (r#"{"id": "a", "id": "b"}"#, "expected each key once, got \"id\" twice"),
            (r#"{"outputs": [], "outputs": []}"#, "expected each key once, got \"outputs\" twice"),
            (r#"{"id": []}"#, "id: expected a string or a number, got an array at byte 7"),
            ("[[1, 2]] x", "expected the end of the body, got `x` at byte 9"),
            ("[[1, 2", "[0]: expected `,` or `]`, got the end of the body at byte 6"),
            ("[[1, 2],]", "[1]: expected an array of 2 values (float32[N, 2]), got `]` at byte 8"),
            ("[[1 2]]", "[0]: expected `,` or `]`, got a number at byte 4"),
            (r#"{"a": [}"#, "expected a value, got `}` at byte 7"),
            (r#"{a: 1}"#, "expected a key in double quotes, got `a` at byte 1"),
            (r#"{"a" 1}"#, "expected `:`, got a number at byte 5"),
            (r#"{"a": 1; "b": 2}"#, "expected `,` or `}`, got `;` at byte 7"),
            (r#"{"a": "b"#, "expected `\"` to end the string that begins at byte 6, got the end of the body"),
            (
                "{\"a\": \"\n\"}",
                "expected it as a \\u escape, got a control character (0x0a) in a string at byte 7",
            ),
            (r#"{"a": "\x"}"#, "expected a JSON escape, got an unknown one at byte 7"),
            (
                r#"{"a": "\ud800x"}"#,
                "expected four hex digits that name a character, got a bad \\u escape at byte 7",
            ),
            (
                r#"{"a": "\u12g4"}"#,
                "expected four hex digits that name a character, got a bad \\u escape at byte 7",
            ),
        ],
    );
    let failure = decode(b"[\"\xff\"]", &single(), &Limits::DEFAULT).unwrap_err();
    assert_eq!(failure.rejection.message, "expected UTF-8 text, got an invalid sequence at byte 2");
    assert_eq!(failure.rejection.code, Code::InvalidInput);
}

#[test]
fn malformed_numbers() {
    for (number, expected) in [
        ("01", "expected a number without leading zeros at byte 2"),
        ("-01", "expected a number without leading zeros at byte 3"),
        ("+1", "expected a number, got `+` at byte 2"),
        (".5", "expected a number, got `.` at byte 2"),
        ("-", "expected a digit, got `,` at byte 3"),
        ("1.", "expected a digit after the decimal point, got `,` at byte 4"),
        ("1e", "expected a digit in the exponent, got `,` at byte 4"),
        ("1e+", "expected a digit in the exponent, got `,` at byte 5"),
        ("0x1", "expected `,` or `]`, got `x` at byte 3"),
        (
            "NaN",
            "expected a number, got NaN or Infinity at byte 2; JSON has neither NaN nor Infinity: for a float send them as strings",
        ),
        (
            "-Infinity",
            "expected a number, got NaN or Infinity at byte 2; JSON has neither NaN nor Infinity: for a float send them as strings",
        ),
    ] {
        let message = message(&format!("[[{number}, 2]]"), &single());
        let bare = message.trim_start_matches("[0]").trim_start_matches("[0]").trim_start_matches(": ");
        assert_eq!(bare, expected, "{number}");
    }
}

#[test]
fn rows_that_do_not_fit() {
    check(
        &single(),
        &[
            (r#"{"instances": 1}"#, "instances: expected a list of rows, got a number at byte 14"),
            (r#"{"instances": []}"#, "instances: expected at least one row, got none"),
            ("[]", "expected at least one row, got none"),
            (
                r#"{"instances": [[1, 2], [3, 4], [5]]}"#,
                "instances[2]: expected 2 values (float32[N, 2]), got 1",
            ),
            (r#"{"instances": [[1, 2, 3]]}"#, "instances[0]: expected 2 values (float32[N, 2]), got 3"),
            ("[[1, 2], 3]", "[1]: expected an array of 2 values (float32[N, 2]), got a number at byte 9"),
            ("[[1, [2]]]", "[0][1]: expected a number, got an array at byte 5"),
            (r#"[{"x": [1]}]"#, "[0][\"x\"]: expected 2 values (float32[N, 2]), got 1"),
            (r#"[{"y": [1, 2]}]"#, "[0]: expected input \"x\", got unknown input \"y\""),
            (r#"[{"x": [1, 2], "x": [1, 2]}]"#, "[0]: expected each key once, got \"x\" twice"),
            ("[{}]", "[0]: expected a value for every input, got none for \"x\" (float32[N, 2])"),
        ],
    );
    check(
        &several(),
        &[
            ("[[1, 2]]", "[0]: expected an object with a value for every input, got an array at byte 1"),
            (r#"[{"x": [1, 2]}]"#, "[0]: expected a value for every input, got none for \"n\" (int64[N])"),
            (r#"[{"z": 1}]"#, "[0]: expected one of the inputs \"x\", \"n\", got unknown input \"z\""),
        ],
    );
    check(
        &table(),
        &[
            (r#"[{"a": 1}]"#, "[0]: expected a value for each of 2 columns, got none for \"b\""),
            (r#"[{"a": 1, "b": "2"}]"#, "[0][\"b\"]: expected a number, got a string at byte 15"),
            (
                r#"[{"a": 1, "c": 2}]"#,
                "[0]: expected one of the columns \"a\", \"b\", got unknown column \"c\"",
            ),
            (r#"[{"a": 1, "b": 2, "a": 3}]"#, "[0]: expected each key once, got \"a\" twice"),
        ],
    );
    let message = message(r#"{"instances": [[[1, 2], [3, 4]], [[1, 2], [3]]]}"#, &whole());
    assert_eq!(message, "instances[1][1]: expected 2 values (float32[2, 2]), got 1");
}

#[test]
fn without_a_batch_dimension_each_instance_is_a_whole_input() {
    let body = br#"{"instances": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]}"#;
    let request = decode(body, &whole(), &Limits::DEFAULT).unwrap();
    assert_eq!((request.rows, &first(&request).shape[..]), (2, &[2, 2][..]));
    assert_eq!(first(&request).elements.len(), 8);
}

#[test]
fn ragged_rows_are_named() {
    let signature = signature(&[("x", ElementType::F32, &[0, 0])]);
    check(
        &signature,
        &[(
            "[[1, 2], [1, 2, 3]]",
            "[1]: expected 2 values as before in input \"x\" (float32[N, N]), got 3; rows of several lengths fit together where \
             the bundle's model.yaml declares padding, with input \"x\" and axis 1",
        )],
    );
}

/// Bodies of clients with one row, or of MLflow 1: the error shows the model's own form.
#[test]
fn other_forms_are_answered_with_the_right_one() {
    let bare = "; a list of rows is expected, also for one row: ";
    let wide = signature(&[("x", ElementType::F32, &[0, 13])]);
    let cells = signature(&[("age", ElementType::F32, &[0, 1]), ("s", ElementType::String, &[0])]);
    for (signature, body, form) in [
        (&single(), "[1, 2]", r#"{"instances": [[0.0, 0.0]]}"#),
        (&single(), r#"{"instances": [1, 2]}"#, r#"{"instances": [[0.0, 0.0]]}"#),
        (&single(), r#"{"inputs": [1, 2]}"#, r#"{"instances": [[0.0, 0.0]]}"#),
        (&wide, "[1, 2]", r#"{"instances": [[0.0, 0.0, 0.0, …]]}"#),
        (&several(), "[1, 2]", r#"{"instances": [{"x": [0.0, 0.0], "n": 0}]}"#),
        (&cells, r#"[1, "a"]"#, r#"{"instances": [{"age": [0.0], "s": "text"}]}"#),
        (&whole(), "[1, 2]", r#"{"instances": [[[0.0, 0.0], [0.0, 0.0]]]}"#),
    ] {
        let said = message(body, signature);
        assert!(said.ends_with(&format!("{bare}{form}")), "{body}: {said}");
    }
    let frame = "; send a DataFrame, which has columns and data, as ";
    let body = r#"{"columns": ["a", "b"], "data": [[1, 2]]}"#;
    for (signature, form) in [
        (&table(), r#"{"dataframe_split": {"columns": ["a", "b"], "data": [[0.0, 0.0]]}}"#),
        (&cells, r#"{"dataframe_split": {"columns": ["age", "s"], "data": [[0.0, "text"]]}}"#),
        (&single(), r#"{"instances": [[0.0, 0.0]]}"#),
    ] {
        let said = message(body, signature);
        assert!(said.ends_with(&format!("{frame}{form}")), "{said}");
    }
    assert!(!message("[[1, 2], 3]", &single()).contains("list of rows"));
}

#[test]
fn a_similar_name_is_suggested() {
    let wine = Signature { columns: Some(vec!["alcohol".to_owned(), "Malic Acid".to_owned()]), ..single() };
    for (name, proposed) in [("alchol", Some("alcohol")), ("malic acid", Some("Malic Acid")), ("hue", None)] {
        let said = message(&format!(r#"[{{"{name}": 1}}]"#), &wine);
        let hint = proposed.map(|proposed| format!("; did you mean {proposed:?}?")).unwrap_or_default();
        assert!(said.ends_with(&format!("got unknown column {name:?}{hint}")), "{said}");
    }
}

#[test]
fn dataframes_that_do_not_fit() {
    let split = |inner: &str| format!(r#"{{"dataframe_split": {{{inner}}}}}"#);
    for (inner, expected) in [
        (r#""columns": ["a", "b"]"#, ": expected columns and data, got no data"),
        (r#""data": []"#, ": expected columns and data, got no columns"),
        (r#""data": [], "data": []"#, ": expected each key once, got \"data\" twice"),
        (r#""columns": ["a", "b"], "data": []"#, ".data: expected at least one row, got none"),
        (
            r#""columns": ["a"], "data": []"#,
            ".columns: expected a value for each of 2 columns, got none for \"b\"",
        ),
        (r#""columns": ["a", "a"], "data": []"#, ".columns: expected each column once, got \"a\" twice"),
        (
            r#""columns": ["a", "c"], "data": []"#,
            ".columns: expected one of the columns \"a\", \"b\", got unknown column \"c\"",
        ),
        (
            r#""columns": ["a", "b"], "data": [[1, 2], [3]]"#,
            ".data[1]: expected 2 cells, one a column, got 1",
        ),
        (r#""columns": ["a", "b"], "data": [[1, 2, 3]]"#, ".data[0]: expected 2 cells, one a column, got 3"),
        (
            r#""columns": ["b", "a"], "data": [[1, ""]]"#,
            ".data[0][1]: expected a number, got a string at byte 57",
        ),
    ] {
        assert_eq!(message(&split(inner), &table()), format!("dataframe_split{expected}"), "{inner}");
    }
}

#[test]
fn columns_that_do_not_fit() {
    check(
        &several(),
        &[
            (
                r#"{"inputs": [[1, 2]]}"#,
                "inputs: expected an object with a value for every input, got an array at byte 11",
            ),
            (
                r#"{"inputs": {"x": [[1, 2]]}}"#,
                "inputs: expected a value for every input, got none for \"n\" (int64[N])",
            ),
            (r#"{"inputs": {"x": [[1, 2]], "x": []}}"#, "inputs: expected each key once, got \"x\" twice"),
            (
                r#"{"inputs": {"y": 1}}"#,
                "inputs: expected one of the inputs \"x\", \"n\", got unknown input \"y\"",
            ),
            (
                r#"{"inputs": {"x": [[1, 2]], "n": [1, 2]}}"#,
                "input \"n\": expected 1 rows as in input \"x\", got 2",
            ),
            (
                r#"{"inputs": {"x": [[1, 2], [3]], "n": [1]}}"#,
                "input \"x\"[1]: expected 2 values (float32[N, 2]), got 1",
            ),
            (
                r#"{"inputs": {"x": 1, "n": [1]}}"#,
                "input \"x\": expected an array (float32[N, 2]), got a number at byte 17",
            ),
        ],
    );
    check(&single(), &[(r#"{"inputs": []}"#, "input \"x\": expected at least one row, got none")]);
    check(&whole(), &[(r#"{"inputs": [[1, 2]]}"#, "inputs: expected 2 values (float32[2, 2]), got 1")]);
}

#[test]
fn v2_tensors_that_do_not_fit() {
    for (tensor, expected) in [
        (
            format!(r#"{X}, "shape": [1, 2], "data": [1]"#),
            "input \"x\": expected 2 values for shape [1, 2], got 1",
        ),
        (
            format!(r#"{X}, "shape": [1, 3], "data": [1, 2, 3]"#),
            "input \"x\": expected a shape that fits float32[N, 2], got [1, 3]",
        ),
        (
            format!(r#"{X}, "shape": [2], "data": [1, 2]"#),
            "input \"x\": expected a shape that fits float32[N, 2], got [2]",
        ),
        (format!(r#"{X}, "shape": [0, 2], "data": []"#), "input \"x\": expected at least one row, got none"),
        (format!(r#"{X}, "shape": [1, 2], "data": [[1, 2], [3, 4]]"#), {
            "input \"x\": expected 1 value by its shape (float32[N, 2]), got 2"
        }),
        (format!(r#"{X}, "shape": [1, -2], "data": []"#), {
            "input \"x\" shape[1]: expected a uint64 (0 to 18446744073709551615), got -2"
        }),
        (format!(r#"{X}, "shape": 2, "data": []"#), {
            "input \"x\" shape: expected a list of dimensions, got a number at byte 55"
        }),
        (
            format!(r#"{X}, "shape": [1, 2]"#),
            "input \"x\": expected name, shape, datatype and data, got no data",
        ),
        (
            format!(r#"{X}, "data": [1, 2]"#),
            "input \"x\": expected name, shape, datatype and data, got no shape",
        ),
        (r#""name": "x", "shape": [1, 2], "data": [1, 2]"#.to_owned(), {
            "input \"x\": expected name, shape, datatype and data, got no datatype"
        }),
        (r#""shape": [1, 2]"#.to_owned(), "inputs[0]: expected name, shape, datatype and data, got no name"),
        (r#""name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1e300, 2]"#.to_owned(), {
            "input \"x\": expected datatype \"FP32\" (float32[N, 2]), got \"FP64\""
        }),
        (r#""name": "x", "shape": [1, 2], "data": [1e300, 2], "datatype": "FP64""#.to_owned(), {
            "input \"x\": expected datatype \"FP32\" (float32[N, 2]), got \"FP64\""
        }),
        (r#""name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]"#.to_owned(), {
            "input \"y\": expected input \"x\", got unknown input \"y\""
        }),
        (r#""name": 1"#.to_owned(), "inputs[0]: expected a string in \"name\", got a number at byte 21"),
        (r#""name": "x", "name": "x""#.to_owned(), "input \"x\": expected each key once, got \"name\" twice"),
        (format!(r#"{X}, "shape": [1, 2], "data": [1, 2], "data": []"#), {
            "input \"x\": expected each key once, got \"data\" twice"
        }),
        (format!(r#"{X}, "shape": [1, 2], "parameters": {{"binary_data_size": 8}}"#), {
            "input \"x\": expected inference-header-content-length beside binary_data_size, got none"
        }),
    ] {
        assert_eq!(message(&format!(r#"{{"inputs": [{{{tensor}}}]}}"#), &single()), expected, "{tensor}");
    }
    let tensor = format!(r#"{{{X}, "shape": [1, 2], "data": [1, 2]}}"#);
    let twice = message(&format!(r#"{{"inputs": [{tensor}, {tensor}]}}"#), &single());
    assert_eq!(twice, "input \"x\": expected each input once, got it twice");
    let missing = message(&format!(r#"{{"inputs": [{tensor}]}}"#), &several());
    assert_eq!(missing, "inputs: expected a value for every input, got none for \"n\" (int64[N])");
    for (outputs, expected) in [
        ("1", ": expected a list of objects with a name, got a number at byte 12"),
        ("[1]", "[0]: expected an object with a name, got a number at byte 13"),
        ("[{}]", "[0]: expected an object with a name, got none"),
        (
            r#"[{"name": "label"}, {"name": "z"}]"#,
            "[1]: expected one of the outputs \"label\", \"scores\", got unknown output \"z\"",
        ),
        (r#"[{"name": "label"}, {"name": "label"}]"#, "[1]: expected each output once, got \"label\" twice"),
    ] {
        let body = format!(r#"{{"outputs": {outputs}, "inputs": [{tensor}]}}"#);
        assert_eq!(message(&body, &single()), format!("outputs{expected}"), "{body}");
    }
}

#[test]
fn requests_whose_response_would_differ_from_what_they_ask() {
    let strings = signature(&[("s", ElementType::String, &[0])]);
    check(
        &strings,
        &[(
            r#"{"instances": ["a\u0000b"]}"#,
            "input \"s\": expected strings without NUL (U+0000), at which ONNX Runtime ends them, got one",
        )],
    );
    check(
        &single(),
        &[(
            r#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}],
                "outputs": [{"name": "label", "parameters": {"classification": 3}}]}"#,
            "outputs[0].parameters: expected no parameter \"classification\", got one; declare the classes in the bundle's model.yaml, with output.top and output.labels",
        )],
    );
}

#[test]
fn limits_are_held_whatever_the_form() {
    let limits = Limits { max_elements: 4, max_rows: 2, ..Limits::DEFAULT };
    let elements = "expected at most 4 elements in all inputs, got more";
    let rows = "expected at most 2 rows, got more; send several requests";
    let free = signature(&[("x", ElementType::F32, &[0, 0])]);
    for (signature, body, expected) in [
        (&free, "[[1, 2, 3, 4, 5]]", format!("[0]: {elements}")),
        (&free, r#"{"inputs": [[1, 2, 3], [4, 5, 6]]}"#, format!("inputs[1]: {elements}")),
        (&free, "[[1], [2], [3]]", rows.to_owned()),
        (&free, r#"{"inputs": [[1], [2], [3]]}"#, rows.to_owned()),
        (&several(), r#"{"inputs": {"x": [[1, 2]], "n": [1, 2, 3]}}"#, format!("input \"n\": {elements}")),
        (&several(), r#"[{"x": [1, 2], "n": 3}, {"n": 4, "x": [5, 6]}]"#, format!("[1][\"x\"]: {elements}")),
        (&table(), r#"[{"a": 1, "b": 2}, {"a": 1, "b": 2}, {"a": 1, "b": 2}]"#, rows.to_owned()),
        (
            &free,
            r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [4294967296, 4294967296], "data": []}]}"#,
            "input \"x\": expected at most 4 elements, got shape [4294967296, 4294967296]".to_owned(),
        ),
    ] {
        let rejection = decode(body.as_bytes(), signature, &limits).unwrap_err().rejection;
        assert_eq!((rejection.code, &*rejection.message), (Code::InputTooLarge, &*expected), "{body}");
    }
}

#[test]
fn deep_nesting_is_refused_and_bounded() {
    for (open, prefix) in
        [("[", ""), ("{\"a\":", ""), ("[", "{\"a\":"), ("[", "{\"instances\":"), ("[", "{\"inputs\":")]
    {
        let body = format!("{prefix}{}", open.repeat(100_000));
        let found = message(&body, &single());
        assert!(found.len() < 300 && found.contains("expected"), "{found}");
    }
    let deep = format!("{{\"a\": {}", "[".repeat(1000));
    let expected = "expected at most 64 arrays and objects inside each other, got more at byte 69";
    assert_eq!(message(&deep, &single()), expected);
}

#[test]
fn long_names_are_shortened_in_messages() {
    let long = "y".repeat(5000);
    let found = message(&format!(r#"[{{"{long}": 1}}]"#), &single());
    assert_eq!(found, format!("[0]: expected input \"x\", got unknown input \"{}\"…", "y".repeat(64)));
}
