//! CSV.

use super::*;
use crate::error::Code;

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
        assert_eq!(given(&request), expected, "{body}");
        assert_eq!(request.response, super::super::ResponseSpec { protocol: Protocol::Rows, id: None });
    }
    // A declared header is ignored if the columns have no names.
    let declared = [("content-type", "text/csv; header=present")];
    assert_eq!(given(&asked(&declared, b"what,ever\n1,2.5\n-3,4e10", &single())), expected);
    assert_eq!(given(&asked(&[CSV], b"1,2.5\n-3,4e10", &single())), expected);
    // The first line sets a width that the model leaves open.
    let open_width = signature(&[("x", ElementType::F32, &[0, 0])]);
    assert_eq!(given(&asked(&[CSV], b"1,2,3\n", &open_width)), [f32s(&[1, 3], &[1.0, 2.0, 3.0])]);
}

#[test]
fn columns_of_several_types_are_inputs() {
    let signature = signature(&[
        ("s", ElementType::String, &[0, 1]),
        ("n", ElementType::I64, &[0]),
        ("f", ElementType::F64, &[0, 1]),
        ("b", ElementType::Bool, &[0]),
    ]);
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
        assert_eq!(given(&asked(&[CSV], body.as_bytes(), &signature)), expected(texts(&text)), "{body}");
    }
    // Empty cells are missing values: NaN for floats.
    let request = asked(&[CSV], b"x,1,,true\ny,2,\"\",true\n", &signature);
    let Elements::F64(values) = &inputs_of(&request)[2].elements else { panic!("float64 expected") };
    assert!(values.iter().all(|value| value.is_nan()));
}

#[test]
fn what_is_wrong_with_a_table_is_said_with_its_place() {
    let declare = "set content-type to \"text/csv; header=present\" or \"text/csv; header=absent\"";
    let text = signature(&[("s", ElementType::String, &[0])]);
    let bytes = signature(&[("x", ElementType::U8, &[0, 2])]);
    let deep = signature(&[("x", ElementType::F32, &[0, 2, 2])]);
    let one = signature(&[("x", ElementType::F32, &[0, 1])]);
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
                "row 2 (line 2), column \"b\": expected a float32 ({:?} to {:?}), got 1e99",
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
                "line 1 is neither a header (expected one of the columns \"a\", \"b\", got \"1;2\") nor a row of values; {declare} \
                 to learn which cell is wrong"
            ),
        ),
        (
            "text/csv",
            "alcohol,acid\n1,2\n",
            &table(),
            &format!(
                "line 1 is neither a header (expected one of the columns \"a\", \"b\", got \"alcohol\") nor a row of values; \
                 {declare} to learn which cell is wrong"
            ),
        ),
        (
            "text/csv",
            "a,acid\n1,2\n",
            &table(),
            "line 1: expected one of the columns \"a\", \"b\", got unknown column \"acid\"",
        ),
        (
            "text/csv",
            "alcohol,acid\n1,2\n",
            &single(),
            &format!(
                "line 1 is no row of values, and the model's columns have no names for a header to hold; {declare} to ignore \
                 it or to learn which cell is wrong"
            ),
        ),
        ("text/csv", "S\nx\n", &text, &format!("line 1 may be a header or a row of values; {declare}")),
        (
            present,
            "S\nx\n",
            &text,
            "line 1: expected input \"s\", got unknown input \"S\"; did you mean \"s\"?",
        ),
        (present, "y\n1\n", &one, "line 1: expected input \"x\", got unknown input \"y\""),
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
            "row 2 (line 2), column 2: expected a whole number, got an empty cell; to accept missing values, declare columns.missing in the bundle's model.yaml",
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
    let two = signature(&[("s", ElementType::String, &[0]), ("t", ElementType::String, &[0])]);
    assert_eq!(
        refused(&[("content-type", absent)], b"x,y\n,z\n", &two),
        "row 2 (line 2), column \"s\": expected a string (\"\" for an empty one), got an empty cell; to accept missing values, declare columns.missing in the bundle's model.yaml"
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
    for (body, expected) in [
        ("1,2\n3,4\n5,6\n", "expected at most 2 rows, got more; send several requests"),
        ("1,2,3\n1,2,3\n", "row 2 (line 2): expected at most 5 elements in all inputs, got more"),
        ("1,2,3,4,5\n", "line 1: expected at most 4 cells, got more"),
    ] {
        let open_width = signature(&[("x", ElementType::F32, &[0, 0])]);
        let failure = decode_within(&limits, &attributes(&[CSV]), body.as_bytes(), &open_width);
        let rejection = failure.unwrap_err().rejection;
        assert_eq!((rejection.code, &*rejection.message), (Code::InputTooLarge, expected));
    }
}
