//! Inputs that are no plain tensors.

use super::*;

/// `x: float32[N, 2]`, and `w: float32[N, 2]`, which may be left out.
fn optional() -> Signature {
    let mut signature = signature(&[("x", ElementType::F32, &[0, 2]), ("w", ElementType::F32, &[0, 2])]);
    signature.inputs[1].kind = Kind::Optional;
    signature
}

#[test]
fn an_optional_input_may_be_left_out() {
    let x = || f32s(&[1, 2], &[1.0, 2.0]);
    let tensor =
        |name: &str| format!(r#"{{"name": "{name}", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}}"#);
    for body in [
        r#"{"instances": [{"x": [1, 2]}]}"#,
        r#"{"instances": [{"x": [1, 2], "w": null}]}"#,
        r#"{"inputs": {"x": [[1, 2]]}}"#,
        r#"{"inputs": {"w": null, "x": [[1, 2]]}}"#,
        r#"{"dataframe_split": {"columns": ["x"], "data": [[[1, 2]]]}}"#,
        &format!(r#"{{"inputs": [{}]}}"#, tensor("x")),
    ] {
        let request = good(body, &optional());
        assert_eq!(
            (request.inputs, request.rows),
            (vec![x(), Tensor::left_out(ElementType::F32)], 1),
            "{body}"
        );
    }
    for body in [
        r#"{"instances": [{"x": [1, 2], "w": [1, 2]}]}"#.to_owned(),
        r#"{"inputs": {"w": [[1, 2]], "x": [[1, 2]]}}"#.to_owned(),
        format!(r#"{{"inputs": [{}, {}]}}"#, tensor("x"), tensor("w")),
    ] {
        assert_eq!(good(&body, &optional()).inputs, [x(), x()], "{body}");
    }
}

#[test]
fn an_optional_input_is_in_all_rows_or_in_none() {
    let said = "expected input \"w\" (optional float32[N, 2]) in all rows or in none, got it in some; send them apart";
    for (body, place) in [
        (r#"[{"x": [1, 2], "w": [1, 2]}, {"x": [1, 2]}]"#, "[1]: "),
        (r#"[{"x": [1, 2]}, {"x": [1, 2], "w": [1, 2]}]"#, "[1]: "),
        (r#"[{"x": [1, 2], "w": null}, {"x": [1, 2], "w": [1, 2]}]"#, "[1]: "),
        (r#"[{"x": [1, 2], "w": [1, 2]}, {"x": [1, 2], "w": null}]"#, "[1]: "),
    ] {
        assert_eq!(message(body, &optional()), format!("{place}{said}"), "{body}");
    }
    let mut only = single();
    only.inputs[0].kind = Kind::Optional;
    assert_eq!(
        message("[null, [1, 2]]", &only),
        "expected input \"x\" (optional float32[N, 2]) in all rows or in none, got it in some; send them apart"
    );
    let request = good("[null, null]", &only);
    assert_eq!((request.inputs, request.rows), (vec![Tensor::left_out(ElementType::F32)], 2));
    // What is not optional stays asked for.
    assert!(message(r#"[{"w": [1, 2]}]"#, &optional()).contains("got none for \"x\""));
}
