//! Inputs that are no plain tensors.

use proptest::prelude::*;

use super::*;
use crate::error::Code;
use crate::tensor::Composite;

/// `x: float32[N, 2]`, and `w: float32[N, 2]`, which may be left out.
fn optional() -> Signature {
    let mut signature = signature(&[("x", ElementType::F32, &[0, 2]), ("w", ElementType::F32, &[0, 2])]);
    signature.inputs[1].kind = ValueKind::Optional;
    signature
}

#[test]
fn an_optional_input_may_be_left_out() {
    let x = || f32s(&[1, 2], &[1.0, 2.0]);
    let tensor = |name: &str| v2_tensor(name, "[1, 2]", "FP32", "[1, 2]");
    for body in [
        r#"{"instances": [{"x": [1, 2]}]}"#,
        r#"{"instances": [{"x": [1, 2], "w": null}]}"#,
        r#"{"inputs": {"x": [[1, 2]]}}"#,
        r#"{"inputs": {"w": null, "x": [[1, 2]]}}"#,
        r#"{"dataframe_split": {"columns": ["x"], "data": [[[1, 2]]]}}"#,
        &format!(r#"{{"inputs": [{}]}}"#, tensor("x")),
    ] {
        let request = good(body, &optional());
        assert_eq!((request.inputs, request.rows), (vec![Some(x()), None], 1), "{body}");
    }
    for body in [
        r#"{"instances": [{"x": [1, 2], "w": [1, 2]}]}"#.to_owned(),
        r#"{"inputs": {"w": [[1, 2]], "x": [[1, 2]]}}"#.to_owned(),
        format!(r#"{{"inputs": [{}, {}]}}"#, tensor("x"), tensor("w")),
    ] {
        assert_eq!(given(&good(&body, &optional())), [x(), x()], "{body}");
    }
}

#[test]
fn an_optional_input_is_in_all_rows_or_in_none() {
    let said = "expected input \"w\" (optional float32[N, 2]) in all rows or in none, got it in some; send them in separate requests";
    for (body, place) in [
        (r#"[{"x": [1, 2], "w": [1, 2]}, {"x": [1, 2]}]"#, "[1]: "),
        (r#"[{"x": [1, 2]}, {"x": [1, 2], "w": [1, 2]}]"#, "[1]: "),
        (r#"[{"x": [1, 2], "w": null}, {"x": [1, 2], "w": [1, 2]}]"#, "[1]: "),
        (r#"[{"x": [1, 2], "w": [1, 2]}, {"x": [1, 2], "w": null}]"#, "[1]: "),
    ] {
        assert_eq!(message(body, &optional()), format!("{place}{said}"), "{body}");
    }
    let mut only = single();
    only.inputs[0].kind = ValueKind::Optional;
    assert_eq!(
        message("[null, [1, 2]]", &only),
        "expected input \"x\" (optional float32[N, 2]) in all rows or in none, got it in some; send them in separate requests"
    );
    let request = good("[null, null]", &only);
    assert_eq!((request.inputs, request.rows), (vec![None], 2));
    // Inputs that are not optional are still required.
    assert!(message(r#"[{"w": [1, 2]}]"#, &optional()).contains("got none for \"x\""));
}

/// `x: float32[…]`, or `float32[N, …]` if `batched`.
fn open_rank(batched: bool) -> Signature {
    let dims: &[usize] = if batched { &[0] } else { &[] };
    let mut signature = signature(&[("x", ElementType::F32, dims)]);
    signature.inputs[0].kind = ValueKind::OpenRank;
    Signature { batched, ..signature }
}

#[test]
fn where_the_rank_is_open_the_request_gives_the_shape() {
    let v2 = |shape: &str, data: &str| format!(r#"{{"inputs": [{}]}}"#, v2_tensor("x", shape, "FP32", data));
    for (batched, body, shape, rows) in [
        (false, r#"{"inputs": 7}"#, &[][..], 1),
        (false, r#"{"inputs": [[7, 8]]}"#, &[1, 2], 1),
        (false, r#"{"inputs": {"x": [[[]]]}}"#, &[1, 1, 0], 1),
        (false, r#"{"instances": [[7, 8], [9, 1]]}"#, &[2], 2),
        (false, &v2("[]", "[7]"), &[], 1),
        (false, &v2("[2, 1]", "[7, 8]"), &[2, 1], 1),
        (true, r#"{"instances": [7, 8]}"#, &[2], 2),
        (true, r#"{"instances": [{"x": [[7, 8]]}, {"x": [[9, 1]]}]}"#, &[2, 1, 2], 2),
        (true, r#"{"inputs": [[7, 8]]}"#, &[1, 2], 1),
        (true, &v2("[2, 1]", "[7, 8]"), &[2, 1], 2),
        (true, r#"{"dataframe_split": {"columns": ["x"], "data": [[7], [8]]}}"#, &[2], 2),
    ] {
        let request = good(body, &open_rank(batched));
        assert_eq!((&*first(&request).shape, request.rows), (shape, rows), "{body}");
    }
    for (batched, body, said) in [
        (false, "[[1, 2], [3]]", "[1]: expected 2 values as before in input \"x\" (float32[…]), got 1"),
        (false, "[[1], [[2]]]", "[1][0]: expected a number, got an array at byte 7"),
        (true, "[[1], 2]", "[1]: expected an array of 1 value (float32[N, …]), got a number at byte 6"),
        (true, r#"{"inputs": 5}"#, "inputs: expected an array (float32[N, …]), got a number at byte 11"),
        (
            false,
            &v2("[2, 2]", "[[1, 2], [3]]"),
            "input \"x\"[1]: expected 2 values by its shape (float32[…]), got 1",
        ),
        (true, &v2("[]", "[7]"), "input \"x\": expected a shape that fits float32[N, …], got []"),
    ] {
        assert_eq!(message(body, &open_rank(batched)), said, "{body}");
    }
    for content_type in ["text/csv", "application/octet-stream"] {
        let said = refused(&[("content-type", content_type)], b"1.5,2", &open_rank(true));
        assert!(said.contains("float32[N, …]"), "{said}");
    }
}

fn of_kind(kind: ValueKind) -> Signature {
    let mut signature = signature(&[("v", ElementType::Composite, &[])]);
    signature.inputs[0].kind = kind;
    signature.batched = false;
    signature
}

fn map_of(key: ElementType, value: ElementType) -> Signature {
    of_kind(ValueKind::Map { key, value })
}

fn sequence_of(element: ElementType, shape: &[Dim]) -> Signature {
    of_kind(ValueKind::Sequence { element, shape: shape.to_vec() })
}

fn values(request: &Request) -> &[Composite] {
    match &first(request).elements {
        Elements::Composite(values) => values,
        other => panic!("{other:?}"),
    }
}

fn map(keys: Elements, values: Elements) -> Composite {
    Composite::Map { keys, values }
}

#[test]
fn maps_are_objects() {
    let floats = map_of(ElementType::String, ElementType::F32);
    let two = map(texts(&["b\"", "a"]), Elements::F32(vec![1.5, -2.0]));
    let none = map(texts(&[]), Elements::F32(vec![]));
    for body in
        [r#"{"instances": [{"b\"": 1.5, "a": -2}, {}]}"#, r#"[{"v": {"b\"": 1.5, "a": -2}}, {"v": {}}]"#]
    {
        let request = good(body, &floats);
        assert_eq!(values(&request), [two.clone(), none.clone()], "{body}");
        assert_eq!((request.rows, &*first(&request).shape), (2, &[][..]), "{body}");
    }
    let request = good(r#"{"inputs": {"v": {"b\"": 1.5, "a": -2}}}"#, &floats);
    assert_eq!((values(&request), request.rows), (&[two][..], 1));
    // A key with the input's name is a key like any other.
    let request = good(r#"[{"v": 1}]"#, &floats);
    assert_eq!(values(&request), [map(texts(&["v"]), Elements::F32(vec![1.0]))]);
    let request =
        good(r#"[{"-9223372036854775808": "x", "7": ""}]"#, &map_of(ElementType::I64, ElementType::String));
    assert_eq!(values(&request), [map(Elements::I64(vec![i64::MIN, 7]), texts(&["x", ""]))]);
}

/// A tensor of a sequence counts for few elements, so it must not take room for many.
#[test]
fn tensors_of_a_sequence_take_the_room_that_they_need() {
    let request = good("[[[1.5], [2.5, 3.5]]]", &sequence_of(ElementType::F64, &[]));
    let [Composite::Sequence(tensors)] = values(&request) else { panic!("{request:?}") };
    let capacity = |tensor: &Tensor| match &tensor.elements {
        Elements::F64(values) => values.capacity(),
        other => panic!("{other:?}"),
    };
    assert!(tensors.iter().all(|tensor| capacity(tensor) <= 4), "{tensors:?}");
}

#[test]
fn sequences_are_lists_of_tensors() {
    let tensor = |shape: &[usize], values: &[i64]| Tensor {
        shape: shape.to_vec(),
        elements: Elements::I64(values.to_vec()),
    };
    let rows = sequence_of(ElementType::I64, &[Dim::Any("n".to_owned()), Dim::Fixed(2)]);
    let expected = [
        Composite::Sequence(vec![tensor(&[2, 2], &[1, 2, 3, 4]), tensor(&[0, 2], &[])]),
        Composite::Sequence(vec![tensor(&[1, 2], &[5, 6])]),
    ];
    let request = good("[[[[1, 2], [3, 4]], []], [[[5, 6]]]]", &rows);
    assert_eq!((values(&request), request.rows), (&expected[..], 2));
    for body in [r#"{"inputs": {"v": [[[5, 6]]]}}"#, r#"{"inputs": [[[5, 6]]]}"#] {
        assert_eq!(values(&good(body, &rows)), &expected[1..], "{body}");
    }
    // Each tensor has its own rank if the model leaves it open.
    let any = sequence_of(ElementType::I64, &[]);
    let request = good("[[1, [2], [[3, 4]], []]]", &any);
    let ranks = vec![tensor(&[], &[1]), tensor(&[1], &[2]), tensor(&[1, 2], &[3, 4]), tensor(&[0], &[])];
    assert_eq!(values(&request), [Composite::Sequence(ranks)]);
}

#[test]
fn what_is_wrong_in_a_map_or_a_sequence_is_said() {
    let floats = map_of(ElementType::String, ElementType::F32);
    let numbers = map_of(ElementType::I64, ElementType::F64);
    let pairs = sequence_of(ElementType::I64, &[Dim::Fixed(2)]);
    for (signature, body, expected) in [
        (&floats, r#"[{"a": "red"}]"#, "[0][\"a\"]: expected a number, got a string at byte 7"),
        (&floats, r#"[{"a": 1, "a": 2}]"#, "[0]: expected each key once, got \"a\" twice"),
        (&floats, "[[1]]", "[0]: expected an object (map(string, float32)), got an array at byte 1"),
        (&numbers, r#"[{"x": 1}]"#, "[0]: expected keys that are int64s, got \"x\""),
        (&numbers, r#"[{"7": 1, "07": 2}]"#, "[0]: expected each key once, got \"7\" twice"),
        (&pairs, "[[[1, 2], [3]]]", "[0][1]: expected 2 values (int64[2]), got 1"),
        (&pairs, "[[]]", "[0]: expected at least one tensor (sequence(int64[2])), got none"),
        (&pairs, "[{}]", "[0]: expected a value for every input, got none for \"v\" (sequence(int64[2]))"),
        (
            &pairs,
            r#"{"inputs": [{"name": "v", "shape": [2], "datatype": "INT64", "data": [1, 2]}]}"#,
            "input \"v\": expected {\"instances\": […]} or {\"inputs\": {…}}: sequence(int64[2]) is no tensor",
        ),
        (
            &pairs,
            r#"{"inputs": {}}"#,
            "inputs: expected a value for every input, got none for \"v\" (sequence(int64[2]))",
        ),
    ] {
        let found = message(body, signature);
        assert!(found.starts_with(expected), "{body}: {found}");
    }
    for (content_type, says) in [
        ("application/octet-stream", "cannot carry rows of map(string, float32): it is no tensor"),
        ("text/csv; header=absent", "no batch dimension"),
        ("text/plain", "its input \"v\" is map(string, float32)"),
    ] {
        let said = refused(&[("content-type", content_type)], b"1", &floats);
        assert!(said.contains(says), "{content_type}: {said}");
    }
}

#[test]
fn maps_and_sequences_count_towards_the_limits() {
    let limits = Limits { max_elements: 47, ..Limits::DEFAULT };
    let floats = map_of(ElementType::String, ElementType::F32);
    let any = sequence_of(ElementType::I64, &[]);
    let entries = |count: usize| {
        let entries: Vec<String> = (0..count).map(|key| format!("\"{key}\": 0")).collect();
        format!("[{{{}}}]", entries.join(","))
    };
    let maps = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    for (signature, good, bad) in [
        // 8 for each map or sequence, 10 for each key, 1 for its value.
        (&floats, entries(3), entries(4)),
        (&floats, maps(5), maps(6)),
        // 8 for the sequence, 16 for each tensor, 1 for each element.
        (&any, "[[[1, 2, 3], [4, 5, 6, 7]]]".to_owned(), "[[[1, 2, 3], [4, 5, 6, 7, 8]]]".to_owned()),
        (&any, "[[[], []]]".to_owned(), "[[[], [], []]]".to_owned()),
    ] {
        assert!(decode(good.as_bytes(), signature, &limits).is_ok(), "{good}");
        let rejection = decode(bad.as_bytes(), signature, &limits).unwrap_err().rejection;
        assert_eq!(rejection.code, Code::InputTooLarge, "{bad}: {rejection}");
    }
    let deep = format!("[[{}", "[".repeat(100_000));
    assert!(message(&deep, &any).contains("at most 64 arrays"));
}

proptest! {
    /// Any text for a map or a sequence gives a request or an error.
    #[test]
    fn any_text_is_read_or_refused(text in "[\\[\\]{}\",:0-9a ]{0,40}") {
        for signature in [map_of(ElementType::I64, ElementType::F32), sequence_of(ElementType::String, &[])] {
            let _ = read(&text, &signature);
            let _ = read(&format!("[{text}]"), &signature);
            let _ = read(&format!("{{\"inputs\": {{\"v\": {text}}}}}"), &signature);
        }
    }
}
