//! Rows as data frames send them.

use super::envelopes::{CSV, asked, refused};
use super::*;

/// NaN as the text that it has in messages, since no NaN equals another.
fn numbers(request: &Request) -> Vec<String> {
    request.inputs[0].elements.view().to_f64().iter().map(f64::to_string).collect()
}

#[test]
fn a_header_names_a_single_input_of_one_column() {
    let single = signature(&[("x", ElementType::F32, &[0, 1])]);
    for body in ["x\n1\n2\n", "1\n2\n", "\"x\"\n1\n2\n"] {
        assert_eq!(asked(&[CSV], body.as_bytes(), &single).inputs, [f32s(&[2, 1], &[1.0, 2.0])], "{body}");
    }
    let text = signature(&[("x", ElementType::Text, &[0, 1])]);
    assert!(refused(&[CSV], b"x\nhello\n", &text).starts_with("line 1 may be a header or a row of values"));
}

#[test]
fn null_is_nan_for_floats() {
    for body in [
        "[[1, null, null]]",
        r#"{"inputs": [[1, null, null]]}"#,
        r#"{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, null, null]}]}"#,
        r#"{"dataframe_split": {"columns": [0, 1, 2], "data": [[1, null, null]]}}"#,
    ] {
        let request = good(body, &signature(&[("x", ElementType::F32, &[0, 3])]));
        assert_eq!(numbers(&request), ["1", "NaN", "NaN"], "{body}");
    }
    let request = good("[1, null]", &signature(&[("x", ElementType::F64, &[0])]));
    assert_eq!(numbers(&request), ["1", "NaN"]);
    assert!(
        message("[null]", &single()).starts_with("[0]: expected an array of 2 values"),
        "a row is no element"
    );
}
