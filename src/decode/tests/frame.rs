//! Rows as data frames send them.

use super::envelopes::{CSV, asked, refused};
use super::*;

#[test]
fn a_header_names_a_single_input_of_one_column() {
    let single = signature(&[("x", ElementType::F32, &[0, 1])]);
    for body in ["x\n1\n2\n", "1\n2\n", "\"x\"\n1\n2\n"] {
        assert_eq!(asked(&[CSV], body.as_bytes(), &single).inputs, [f32s(&[2, 1], &[1.0, 2.0])], "{body}");
    }
    let text = signature(&[("x", ElementType::Text, &[0, 1])]);
    assert!(refused(&[CSV], b"x\nhello\n", &text).starts_with("line 1 may be a header or a row of values"));
}
