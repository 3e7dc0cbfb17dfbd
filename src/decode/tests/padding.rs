use super::*;
use crate::tensor::signature::{PadTo, Padding};

fn tokens(to: PadTo) -> Signature {
    let padding = Padding { input: 0, axis: 1, value: Elements::I64(vec![7]), to };
    Signature { padding: vec![padding], ..signature(&[("ids", ElementType::I64, &[0, 0])]) }
}

fn read(body: &str, to: PadTo) -> Tensor {
    decode(body.as_bytes(), &tokens(to), &Limits::DEFAULT).unwrap().inputs.remove(0).unwrap()
}

#[test]
fn rows_of_several_lengths_are_padded_in_every_form() {
    let expected = Tensor { shape: vec![2, 4], elements: Elements::I64(vec![1, 2, 3, 7, 4, 7, 7, 7]) };
    for body in [
        r#"{"instances": [[1, 2, 3], [4]]}"#,
        r#"{"instances": [{"ids": [1, 2, 3]}, {"ids": [4]}]}"#,
        r#"{"inputs": {"ids": [[1, 2, 3], [4]]}}"#,
        r#"{"inputs": [[1, 2, 3], [4]]}"#,
    ] {
        assert_eq!(read(body, PadTo::Multiple(4)), expected, "{body}");
        assert_eq!(read(body, PadTo::Buckets(vec![2, 4, 8])), expected, "{body}");
    }
    let table = asked(&[CSV], b"1,2,3\n4,5,6\n", &tokens(PadTo::Multiple(4)));
    let elements = Elements::I64(vec![1, 2, 3, 7, 4, 5, 6, 7]);
    assert_eq!(*first(&table), Tensor { shape: vec![2, 4], elements });
    let v2 = r#"{"inputs": [{"name": "ids", "shape": [1, 3], "datatype": "INT64", "data": [1, 2, 3]}]}"#;
    let expected = Tensor { shape: vec![1, 5], elements: Elements::I64(vec![1, 2, 3, 7, 7]) };
    assert_eq!(read(v2, PadTo::Multiple(5)), expected);
    let longest = read("[[1], [2, 3]]", PadTo::Multiple(1));
    assert_eq!(longest, Tensor { shape: vec![2, 2], elements: Elements::I64(vec![1, 7, 2, 3]) });
    assert_eq!(read("[[1, 2]]", PadTo::Multiple(2)).shape, [1, 2]);
    assert_eq!(read("[[]]", PadTo::Multiple(3)).elements, Elements::I64(vec![7, 7, 7]));
}

/// Rows of cells are padded, too: their length is known from the start.
#[test]
fn rows_of_tables_are_padded() {
    let expected = Tensor { shape: vec![2, 4], elements: Elements::I64(vec![1, 2, 3, 7, 4, 5, 6, 7]) };
    let signature = tokens(PadTo::Multiple(4));
    let table = asked(&[CSV], b"1,2,3\n4,5,6\n", &signature);
    assert_eq!(given(&table), std::slice::from_ref(&expected));
    let named = Signature { columns: Some(["a", "b", "c"].map(str::to_owned).to_vec()), ..signature };
    for body in [
        r#"{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3], [4, 5, 6]]}}"#,
        r#"{"dataframe_split": {"columns": ["c", "b", "a"], "data": [[3, 2, 1], [6, 5, 4]]}}"#,
        r#"{"instances": [{"a": 1, "b": 2, "c": 3}, {"a": 4, "b": 5, "c": 6}]}"#,
    ] {
        let request = decode(body.as_bytes(), &named, &Limits::DEFAULT).unwrap();
        assert_eq!(given(&request), std::slice::from_ref(&expected), "{body}");
    }
}

#[test]
fn an_inner_dimension_is_padded() {
    let padding = Padding { input: 0, axis: 2, value: Elements::F32(vec![0.5]), to: PadTo::Multiple(3) };
    let signature = Signature { padding: vec![padding], ..signature(&[("x", ElementType::F32, &[0, 2, 0])]) };
    let request = decode(b"[[[1, 2], [3, 4]]]", &signature, &Limits::DEFAULT).unwrap();
    let elements = Elements::F32(vec![1.0, 2.0, 0.5, 3.0, 4.0, 0.5]);
    assert_eq!(*first(&request), Tensor { shape: vec![1, 2, 3], elements });
}

#[test]
fn rows_that_are_too_long_are_refused() {
    let message = |body: &str, to, limits: &Limits| {
        decode(body.as_bytes(), &tokens(to), limits).unwrap_err().rejection.message.into_owned()
    };
    assert_eq!(
        message("[[1, 2, 3]]", PadTo::Buckets(vec![1, 2]), &Limits::DEFAULT),
        "input \"ids\": expected at most 2 values in dimension 1, got 3"
    );
    let limits = Limits { max_elements: 100, ..Limits::DEFAULT };
    assert_eq!(
        message("[[1], [1]]", PadTo::Multiple(64), &limits),
        "input \"ids\": expected at most 100 elements when padded to 64, got more"
    );
    assert_eq!(
        message("[[1], 2]", PadTo::Multiple(2), &Limits::DEFAULT),
        "[1]: expected an array (int64[N, N]), got a number at byte 6"
    );
}
