//! DataFrames: columns in a declared order, of types narrower than the inputs', with missing values.

use super::*;
use crate::tensor::signature::{ColumnRule, ColumnRules, ColumnType};

const REQUIRED: ColumnRule = ColumnRule { column_type: ColumnType::Any, required: true };

/// `x: float32[N, 3]` of a whole number, a boolean and a float that may be left out.
fn typed() -> Signature {
    let rules = vec![
        ColumnRule { column_type: ColumnType::Long, required: true },
        ColumnRule { column_type: ColumnType::Boolean, required: true },
        ColumnRule { column_type: ColumnType::Any, required: false },
    ];
    Signature {
        columns: Some(["n", "is", "f"].map(str::to_owned).to_vec()),
        column_rules: ColumnRules { rules, ..ColumnRules::default() },
        ..signature(&[("x", ElementType::F32, &[0, 3])])
    }
}

/// `a: float32[N, 1]` (a boolean), `b: string[N]`; rows without names have `b` first.
fn turned() -> Signature {
    let boolean = ColumnRule { column_type: ColumnType::Boolean, required: true };
    Signature {
        column_rules: ColumnRules {
            order: vec![1, 0],
            rules: vec![boolean, REQUIRED],
            ..ColumnRules::default()
        },
        ..signature(&[("a", ElementType::F32, &[0, 1]), ("b", ElementType::String, &[0])])
    }
}

/// `a` without a value for a missing one, `b` with -1 and `c` with "red".
fn declared() -> Signature {
    Signature {
        column_rules: ColumnRules { never_missing: vec![0], ..ColumnRules::default() },
        missing: vec![(1, Elements::F32(vec![-1.0])), (2, Elements::String(vec!["red".to_owned()]))],
        ..signature(&[
            ("a", ElementType::F32, &[0]),
            ("b", ElementType::F32, &[0]),
            ("c", ElementType::String, &[0]),
        ])
    }
}

fn text_column(values: &[&str]) -> Tensor {
    Tensor { shape: vec![values.len()], elements: texts(values) }
}

/// Values as text, since no NaN equals another.
fn numbers(request: &Request) -> Vec<String> {
    first(request).elements.view().to_f64().iter().map(f64::to_string).collect()
}

#[test]
fn rows_without_names_come_in_the_declared_order() {
    let expected = [f32s(&[2, 1], &[1.0, 0.0]), text_column(&["x", "y"])];
    for body in ["x,1\ny,0\n", "x,True\ny,false\n", "a,b\n1,x\n0,y\n"] {
        assert_eq!(given(&asked(&[CSV], body.as_bytes(), &turned())), expected, "{body}");
    }
    for body in [
        r#"{"instances": [["x", 1], ["y", false]]}"#,
        r#"[["x", [1]], {"a": 0, "b": "y"}]"#,
        r#"{"dataframe_split": {"columns": ["a", "b"], "data": [[true, "x"], [0, "y"]]}}"#,
        r#"{"inputs": {"a": [true, false], "b": ["x", "y"]}}"#,
    ] {
        assert_eq!(given(&good(body, &turned())), expected, "{body}");
    }
    let says = |body: &str| message(body, &turned());
    assert_eq!(says(r#"[["x"]]"#), "[0]: expected 2 cells, one a column, got 1");
    assert_eq!(says(r#"[["x", 1, 2]]"#), "[0]: expected 2 cells, one a column, got 3");
    assert_eq!(
        says(r#"[[1, "x"]]"#),
        "[0][0]: expected a string or {\"b64\": \"…\"}, got a number at byte 2"
    );
    assert_eq!(
        says(r#"[["x", 2]]"#),
        "[0][\"a\"]: expected true or false (or 1 or 0), as the signature's type boolean says, got 2"
    );
}

#[test]
fn a_header_names_a_single_input_of_one_column() {
    let single = signature(&[("x", ElementType::F32, &[0, 1])]);
    for body in ["x\n1\n2\n", "1\n2\n", "\"x\"\n1\n2\n"] {
        assert_eq!(given(&asked(&[CSV], body.as_bytes(), &single)), [f32s(&[2, 1], &[1.0, 2.0])], "{body}");
    }
    let text = signature(&[("x", ElementType::String, &[0, 1])]);
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

#[test]
fn declared_values_replace_missing_ones_in_every_form() {
    let expected = [f32s(&[2], &[1.0, 2.0]), f32s(&[2], &[-1.0, 3.0]), text_column(&["blue", "red"])];
    for body in [
        r#"[{"a": 1, "b": null, "c": "blue"}, {"a": 2, "b": 3}]"#,
        r#"[[1, null, "blue"], [2, 3, null]]"#,
        r#"{"inputs": {"a": [1, 2], "b": [null, 3], "c": ["blue", null]}}"#,
        r#"{"inputs": [{"name": "a", "shape": [2], "datatype": "FP32", "data": [1, 2]},
            {"name": "b", "shape": [2], "datatype": "FP32", "data": [null, 3]},
            {"name": "c", "shape": [2], "datatype": "BYTES", "data": ["blue", null]}]}"#,
    ] {
        assert_eq!(given(&good(body, &declared())), expected, "{body}");
    }
    for body in ["1,,blue\n2,3,\n", "c,a,b\nblue,1, \n,2,3\n"] {
        assert_eq!(given(&asked(&[CSV], body.as_bytes(), &declared())), expected, "{body}");
    }
    let missing = "to accept missing values, declare columns.missing in the bundle's model.yaml";
    for body in [
        r#"[{"a": null, "c": "x"}]"#,
        r#"{"inputs": {"a": [null], "c": ["x"]}}"#,
        r#"{"inputs": [{"name": "a", "shape": [1], "datatype": "FP32", "data": [null]}]}"#,
    ] {
        let said = message(body, &declared());
        assert!(said.contains("expected a number, got `null`") && said.ends_with(missing), "{said}");
    }
    for cell in ["", " "] {
        let said = refused(&[CSV], format!("{cell},2,red\n").as_bytes(), &declared());
        assert_eq!(
            said,
            format!("row 1 (line 1), column \"a\": expected a number, got an empty cell; {missing}")
        );
    }
    let few = r#"{"inputs": [{"name": "b", "shape": [2], "datatype": "FP32", "data": [null]}]}"#;
    assert!(message(few, &declared()).contains("expected 2 values for shape [2], got 1"));
}

#[test]
fn a_fixed_number_of_rows_holds_for_values_read_one_by_one() {
    let fixed = Signature { batched: false, ..signature(&[("x", ElementType::F32, &[2])]) };
    let fixed = Signature { missing: vec![(0, Elements::F32(vec![-1.0]))], ..fixed };
    assert_eq!(given(&good(r#"{"inputs": [1, null]}"#, &fixed)), [f32s(&[2], &[1.0, -1.0])]);
    assert_eq!(message(r#"{"inputs": [1]}"#, &fixed), "inputs: expected 2 values (float32[2]), got 1");
}

/// MLflow ignores them, too. A request without a declared column is refused all the same.
#[test]
fn columns_that_a_mlflow_signature_lacks_are_ignored() {
    let passing = |signature: Signature| {
        let column_rules = ColumnRules { ignores_unknown: true, ..signature.column_rules.clone() };
        Signature { column_rules, ..signature }
    };
    let (one, each) = (passing(table()), passing(turned()));
    let expected = [f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0])];
    for body in [
        r#"[{"z": [{}], "a": 1, "b": 2}, {"b": 4, "y": null, "a": 3}]"#,
        r#"{"dataframe_split": {"columns": ["z", "b", 0, "a"], "data": [["q", 2, 9, 1], [null, 4, [], 3]]}}"#,
        r#"{"inputs": {"z": ["q"], "b": [2, 4], "a": [1, 3]}}"#,
        r#"{"inputs": [{"name": "z", "shape": [7], "datatype": "BYTES", "data": ["q"]},
            {"name": "b", "shape": [2, 1], "datatype": "FP64", "data": [2, 4]},
            {"data": ["q"], "name": "y", "shape": [1], "datatype": "BYTES"},
            {"name": "a", "shape": [2], "datatype": "INT64", "data": [1, 3]}]}"#,
    ] {
        assert_eq!(given(&good(body, &one)), expected, "{body}");
        assert!(read(body, &table()).is_err(), "{body}");
    }
    assert_eq!(given(&asked(&[CSV], b"z,b,a\n\"q,r\",2,1\n,4,3\n", &one)), expected);
    let lacking = "expected a value for each of 2 columns, got none for \"b\"";
    assert_eq!(message(r#"[{"a": 1, "z": 2}]"#, &one), format!("[0]: {lacking}"));
    assert_eq!(refused(&[CSV], b"a,z\n1,2\n", &one), format!("line 1: {lacking}"));

    let expected = [f32s(&[2, 1], &[1.0, 0.0]), text_column(&["x", "y"])];
    for body in [
        r#"[{"z": 1, "b": "x", "a": 1}, {"a": 0, "b": "y", "z": {}}]"#,
        r#"{"dataframe_split": {"columns": ["a", "z", "b"], "data": [[true, 1, "x"], [0, 2, "y"]]}}"#,
        r#"{"inputs": {"a": [true, false], "z": [1], "b": ["x", "y"]}}"#,
    ] {
        assert_eq!(given(&good(body, &each)), expected, "{body}");
    }
    assert_eq!(given(&asked(&[CSV], b"a,z,b\n1,,x\n0,7,y\n", &each)), expected);
}

#[test]
fn columns_take_values_of_their_types_and_optional_ones_may_be_left_out() {
    let expected = ["3", "1", "NaN", "4", "0", "0.5"];
    for body in [
        r#"[{"n": 3, "is": true}, {"f": 0.5, "is": false, "n": 4}]"#,
        r#"{"inputs": {"is": [true, 0], "n": [3, 4], "f": [null, 0.5]}}"#,
        r#"{"dataframe_split": {"columns": ["f", "is", "n"], "data": [[null, true, 3], [0.5, false, 4]]}}"#,
        r#"{"instances": [[3, 1, null], [4, 0, 0.5]]}"#,
    ] {
        assert_eq!(numbers(&good(body, &typed())), expected, "{body}");
    }
    for body in ["3,TRUE,\n4,false,.5\n", "n,f,is\n3,,1\n4,.5,0\n"] {
        assert_eq!(numbers(&asked(&[CSV], body.as_bytes(), &typed())), expected, "{body}");
    }
    let left_out = ["3", "1", "NaN", "4", "0", "NaN"];
    for body in [
        r#"{"inputs": {"is": [true, 0], "n": [3, 4]}}"#,
        r#"{"dataframe_split": {"columns": ["is", "n"], "data": [[true, 3], [false, 4]]}}"#,
        r#"{"dataframe_records": [{"n": 3, "is": 1}, {"n": 4, "is": false}]}"#,
    ] {
        assert_eq!(numbers(&good(body, &typed())), left_out, "{body}");
    }
    assert_eq!(numbers(&asked(&[CSV], b"is,n\ntrue,3\nfalse,4\n", &typed())), left_out);
    let long = "expected a whole number, as the signature's type long says, got";
    let boolean = "expected true or false (or 1 or 0), as the signature's type boolean says, got";
    for (body, says) in [
        (r#"[{"n": 1, "is": 1}, {"n": 2.5, "is": 1}]"#, format!("[1][\"n\"]: {long} 2.5")),
        (r#"[{"n": null, "is": 1}]"#, format!("[0][\"n\"]: {long} NaN")),
        (r#"{"instances": [[2.5, 1, 0]]}"#, format!("[0][\"n\"]: {long} 2.5")),
        (r#"{"inputs": {"n": [1], "is": [2]}}"#, format!("[0][\"is\"]: {boolean} 2")),
        (r#"[{"n": true, "is": 1}]"#, "[0][\"n\"]: expected a number, got `true` at byte 7".to_owned()),
        (
            r#"[{"f": 1, "is": 1}]"#,
            "[0]: expected a value for each of 3 columns, got none for \"n\"".to_owned(),
        ),
        (r#"{"inputs": {"n": [1, 2], "is": [1]}}"#, {
            "inputs[\"is\"]: expected 2 values as before, got 1".to_owned()
        }),
        (r#"{"inputs": {"n": [1], "is": [1, 0]}}"#, {
            "inputs[\"is\"]: expected 1 values as before, got more".to_owned()
        }),
        (r#"{"inputs": {"n": [1]}}"#, {
            "inputs: expected a value for each of 3 columns, got none for \"is\"".to_owned()
        }),
        (r#"{"inputs": {"n": [1], "n": [1]}}"#, "inputs: expected each key once, got \"n\" twice".to_owned()),
        (r#"{"inputs": {"n": [], "is": []}}"#, {
            "input \"x\": expected at least one row, got none".to_owned()
        }),
    ] {
        assert_eq!(message(body, &typed()), says, "{body}");
    }
    let few = Limits { max_rows: 1, max_elements: 5, ..Limits::DEFAULT };
    let body = br#"{"inputs": {"n": [1, 2], "is": [1, 1]}}"#;
    let failure = decode(body, &typed(), &few).unwrap_err();
    assert_eq!(failure.rejection.code, crate::error::Code::InputTooLarge);
    let failure = decode(body, &typed(), &Limits { max_rows: 9, ..few }).unwrap_err();
    assert_eq!(failure.rejection.code, crate::error::Code::InputTooLarge);
}
