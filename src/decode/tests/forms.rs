use super::*;

#[test]
fn every_form_of_two_rows_reads_the_same() {
    let tensor = f32s(&[2, 2], &[1.0, 2.5, -3.0, 4e2]);
    let plain = [
        (r#"{"instances": [[1, 2.5], [-3, 4e2]]}"#, Protocol::Rows),
        (r#"[[1, 2.5], [-3, 4e2]]"#, Protocol::Rows),
        ("\u{feff} [[1,2.5],\r\n\t[-3,4E+2]] ", Protocol::Rows),
        (r#"[{"x": [1, 2.5]}, [-3, 4e2]]"#, Protocol::Rows),
        (r#"{"instances": [{"\u0078": [1, 2.5]}, {"x": [-3, 4e2]}]}"#, Protocol::Rows),
        (
            r#"{"signature_name": "s", "instances": [[1, 2.5], [-3, 4e2]], "parameters": {"a": [{}]}}"#,
            Protocol::Rows,
        ),
        (r#"{"dataframe_records": [{"x": [1, 2.5]}, {"x": [-3, 4e2]}]}"#, Protocol::Rows),
        (
            r#"{"dataframe_split": {"columns": ["p", 7], "index": [0, 1], "data": [[1, 2.5], [-3, 4e2]]}}"#,
            Protocol::Rows,
        ),
        (r#"{"inputs": [[1, 2.5], [-3, 4e2]]}"#, Protocol::Columns),
        (r#"{"inputs": {"x": [[1, 2.5], [-3, 4e2]]}}"#, Protocol::Columns),
        (r#"{"outputs": 1, "inputs": {"x": [[1, 2.5], [-3, 4e2]]}}"#, Protocol::Columns),
    ];
    let tensors = [
        r#"{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, -3, 4e2]}"#,
        r#"{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [-3, 4e2]]}"#,
        r#"{"data": [1, 2.5, -3, 4e2], "datatype": "FP32", "shape": [2, 2], "name": "x"}"#,
        r#"{"shape": [2, 2], "data": [[1, 2.5], [-3, 4e2]], "parameters": {"a": 1}, "datatype": "FP32", "name": "x"}"#,
    ];
    for (body, form) in plain {
        let request = good(body, &single());
        assert_eq!((&given(&request)[..], request.rows), (&[tensor.clone()][..], 2), "{body}");
        assert_eq!((request.response.protocol, request.response.id), (form, None), "{body}");
    }
    for body in tensors {
        let request = good(&format!(r#"{{"inputs": [{body}]}}"#), &single());
        assert_eq!((&given(&request)[..], request.rows), (&[tensor.clone()][..], 2), "{body}");
        assert_eq!(request.response.protocol, Protocol::V2 { outputs: vec![], binary: false }, "{body}");
    }
}

#[test]
fn several_inputs_come_by_name() {
    let expected = vec![f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), i64s(&[5, 6])];
    for body in [
        r#"{"instances": [{"x": [1, 2], "n": 5}, {"n": 6, "x": [3, 4]}]}"#,
        r#"{"inputs": {"n": [5, 6], "x": [[1, 2], [3, 4]]}}"#,
        r#"{"dataframe_split": {"data": [[5, [1, 2]], [6, [3, 4]]], "columns": ["n", "x"]}}"#,
        r#"{"inputs": [{"name": "n", "shape": [2], "datatype": "INT64", "data": [5, 6]},
            {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}"#,
    ] {
        let request = good(body, &several());
        assert_eq!((given(&request), request.rows), (expected.clone(), 2), "{body}");
    }
}

#[test]
fn named_columns_come_in_any_order() {
    let expected = vec![f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0])];
    for body in [
        r#"[{"a": 1, "b": 2}, {"b": 4, "a": 3}]"#,
        r#"{"dataframe_records": [{"b": 2, "a": 1}, {"a": 3, "b": 4}]}"#,
        r#"{"dataframe_split": {"columns": ["b", "a"], "data": [[2, 1], [4, 3]]}}"#,
        r#"{"instances": [{"x": [1, 2]}, {"a": 3, "b": 4}]}"#,
        r#"{"instances": [[1, 2], [3, 4]]}"#,
    ] {
        assert_eq!(given(&good(body, &table())), expected, "{body}");
    }
}

#[test]
fn a_model_without_a_batch_dimension_takes_one_instance() {
    let expected = vec![f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0])];
    for body in [
        r#"{"instances": [[[1, 2], [3, 4]]]}"#,
        r#"{"inputs": [[1, 2], [3, 4]]}"#,
        r#"[{"x": [[1, 2], [3, 4]]}]"#,
    ] {
        let request = good(body, &whole());
        assert_eq!((given(&request), request.rows), (expected.clone(), 1), "{body}");
    }
    let scalar = Signature { batched: false, ..signature(&[("x", ElementType::F32, &[])]) };
    let v2 = r#"{"inputs": [{"name": "x", "shape": [], "datatype": "FP32", "data": [7]}]}"#;
    for body in [r#"{"instances": [7]}"#, r#"{"inputs": 7}"#, v2] {
        assert_eq!(given(&good(body, &scalar)), [f32s(&[], &[7.0])], "{body}");
    }
}

#[test]
fn brackets_around_a_single_value_may_be_left_out() {
    let signature = signature(&[("x", ElementType::F32, &[0, 1]), ("n", ElementType::I64, &[0])]);
    let request = good(r#"{"dataframe_records": [{"x": 1, "n": 2}, {"x": [3], "n": 4}]}"#, &signature);
    assert_eq!(given(&request), [f32s(&[2, 1], &[1.0, 3.0]), i64s(&[2, 4])]);
}

#[test]
fn symbolic_dimensions_follow_the_first_value() {
    let signature = signature(&[("x", ElementType::F32, &[0, 0, 2])]);
    let request = good("[[[1, 2], [3, 4], [5, 6]]]", &signature);
    assert_eq!(given(&request), [f32s(&[1, 3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
    assert_eq!(given(&good("[[], []]", &signature)), [f32s(&[2, 0, 2], &[])]);
}

#[test]
fn ids_are_kept_as_given_in_every_place() {
    let number = |text: &str| Some(Id::Number(text.to_owned()));
    for (given, expected) in [
        (r#""a\n\ud83d\ude00""#, string_id("a\n😀")),
        ("42", number("42")),
        ("-1.50e3", number("-1.50e3")),
        ("null", None),
    ] {
        for body in [
            format!(r#"{{"id": {given}, "instances": [[1, 2]]}}"#),
            format!(r#"{{"inputs": [[1, 2]], "id": {given}}}"#),
            format!(
                r#"{{"inputs": [{{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}}], "id": {given}}}"#
            ),
        ] {
            assert_eq!(good(&body, &single()).response.id, expected, "{body}");
        }
        // An error response repeats the id, though it comes after the error.
        let failure = read(&format!(r#"{{"instances": [[1]], "id": {given}}}"#), &single()).unwrap_err();
        assert_eq!(failure.id, expected);
    }
    assert_eq!(good(r#"{"id": "é", "instances": [[1, 2]]}"#, &single()).response.id.unwrap().as_str(), "é");
}

#[test]
fn v2_names_the_requested_outputs() {
    let tensor = v2_tensor("x", "[1, 2]", "FP32", "[1, 2]");
    let wanted = |name: &str, binary| RequestedOutput { name: name.to_owned(), binary };
    for (outputs, expected) in [
        (
            r#"[{"name": "scores", "parameters": {"binary_data": false}}, {"name": "label"}]"#,
            vec![wanted("scores", Some(false)), wanted("label", None)],
        ),
        ("[]", vec![]),
    ] {
        for body in [
            format!(r#"{{"outputs": {outputs}, "inputs": [{tensor}]}}"#),
            format!(r#"{{"inputs": [{tensor}], "outputs": {outputs}}}"#),
        ] {
            let form = Protocol::V2 { outputs: expected.clone(), binary: false };
            assert_eq!(good(&body, &single()).response.protocol, form, "{body}");
        }
    }
}

/// Clients of other servers write null for what they do not set, and a column as `[rows, 1]`.
#[test]
fn v2_is_read_as_other_clients_write_it() {
    let plain = r#"{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]},
        {"name": "n", "shape": [2], "datatype": "INT64", "data": [5, 6]}]}"#;
    let expected = good(plain, &several());
    for (from, to) in [
        (
            r#""data": [5, 6]}]"#,
            r#""data": [5, 6], "parameters": null}], "outputs": null, "parameters": null, "id": null"#,
        ),
        (
            r#""data": [5, 6]"#,
            r#""data": [5, 6], "parameters": {"binary_data_size": null, "content_type": null}"#,
        ),
        (r#""shape": [2], "#, r#""shape": [2, 1], "#),
        (
            r#""shape": [2], "datatype": "INT64", "data": [5, 6]"#,
            r#""shape": [2, 1], "datatype": "INT64", "data": [[5], [6]]"#,
        ),
    ] {
        let body = plain.replace(from, to);
        assert_ne!(body, plain);
        assert_eq!(good(&body, &several()), expected, "{body}");
    }
}

#[test]
fn v2_takes_a_column_with_and_without_a_last_dimension() {
    let narrow = signature(&[("x", ElementType::F32, &[0, 1]), ("n", ElementType::I64, &[0])]);
    let expected = [f32s(&[2, 1], &[1.0, 2.0]), i64s(&[5, 6])];
    for (shape, x, n) in
        [("[2]", "[1, 2]", "[5, 6]"), ("[2, 1]", "[1, 2]", "[5, 6]"), ("[2, 1]", "[[1], [2]]", "[[5], [6]]")]
    {
        let body = format!(
            r#"{{"inputs": [{{"name": "x", "shape": {shape}, "datatype": "FP32", "data": {x}}},
                {{"name": "n", "shape": {shape}, "datatype": "INT64", "data": {n}}}]}}"#
        );
        assert_eq!(given(&good(&body, &narrow)), expected, "{body}");
        // Columns of a DataFrame have the widest types.
        let frame = body.replace("FP32", "FP64").replace("INT64", "INT32");
        assert_eq!(given(&good(&frame, &narrow)), expected, "{frame}");
    }
}

/// MLServer's pandas codec sends one tensor for each column of a DataFrame.
#[test]
fn v2_takes_the_columns_of_the_one_input_by_their_names() {
    let body = |tensors: &[String]| format!(r#"{{"inputs": [{}]}}"#, tensors.join(", "));
    let expected = [f32s(&[2, 2], &[1.0, 2.5, 3.0, 4.0])];
    let a = v2_tensor("a", "[2, 1]", "INT64", "[1, 3]");
    let b = v2_tensor("b", "[2, 1]", "FP64", "[2.5, 4]");
    for tensors in [
        [a.clone(), b.clone()],
        [b.clone(), a.clone()],
        [v2_tensor("a", "[2]", "INT64", "[1, 3]"), v2_tensor("b", "[2, 1]", "FP64", "[[2.5], [4]]")],
        [a.clone(), r#"{"data": [2.5, 4], "shape": [2], "datatype": "FP32", "name": "b"}"#.to_owned()],
    ] {
        let body = body(&tensors);
        let request = good(&body, &table());
        assert_eq!((&given(&request)[..], request.rows), (&expected[..], 2), "{body}");
    }
    let whole = v2_tensor("x", "[2, 2]", "FP32", "[1, 2.5, 3, 4]");
    assert_eq!(given(&good(&body(std::slice::from_ref(&whole)), &table())), expected);
    for (tensors, says) in [
        (vec![a.clone()], "inputs: expected a value for each of 2 columns, got none for \"b\""),
        (vec![a.clone(), a.clone()], "input \"a\": expected each input once, got it twice"),
        (vec![a.clone(), whole.clone()], "input \"x\": expected the whole input or its columns, got both"),
        (vec![whole, a.clone()], "input \"a\": expected the whole input or its columns, got both"),
        (vec![a.clone(), v2_tensor("b", "[3]", "FP32", "[1, 2, 3]")], {
            "input \"b\": expected 2 values as before, got more"
        }),
        (
            vec![v2_tensor("a", "[3]", "FP32", "[1, 2]")],
            "input \"a\": expected 3 values for shape [3], got 2",
        ),
        (vec![v2_tensor("a", "[1, 2]", "FP32", "[1, 2]")], {
            "input \"a\": expected a column of shape [rows] or [rows, 1], got shape [1, 2]"
        }),
        (vec![v2_tensor("a", "[1]", "BYTES", "[\"r\"]")], {
            "input \"a\": expected datatype \"FP32\" (float32[N, 2]), got \"BYTES\""
        }),
        (vec![v2_tensor("a", "[1]", "FP64", "[1e99]")], {
            "input \"a\"[0]: expected a float32 (-3.4028235e38 to 3.4028235e38), got 1e99"
        }),
        (vec![a, v2_tensor("c", "[2]", "FP32", "[1, 2]")], {
            "input \"c\": expected one of the columns \"a\", \"b\", got unknown column \"c\""
        }),
    ] {
        assert_eq!(message(&body(&tensors), &table()), says);
    }
}

#[test]
fn a_model_without_inputs_takes_empty_objects() {
    let signature = Signature { batched: false, ..signature(&[]) };
    let v2 = Protocol::V2 { outputs: vec![], binary: false };
    for (body, form) in [
        (r#"{"instances": [{}]}"#, Protocol::Rows),
        ("[{}]", Protocol::Rows),
        (r#"{"inputs": {}}"#, Protocol::Columns),
        (r#"{"inputs": []}"#, v2.clone()),
        (r#"{"id": "a", "inputs": [ ], "outputs": []}"#, v2),
    ] {
        let request = good(body, &signature);
        assert_eq!(
            (&given(&request)[..], request.rows, &request.response.protocol),
            (&[][..], 1, &form),
            "{body}"
        );
    }
    for body in ["[1]", r#"{"instances": [{"x": 1}]}"#] {
        assert!(decode(body.as_bytes(), &signature, &Limits::DEFAULT).is_err(), "{body}");
    }
}
