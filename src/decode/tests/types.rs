use half::{bf16, f16};

use super::*;

#[test]
fn every_type_reads_its_extremes() {
    let cases: [(&str, Elements); 15] = [
        ("[true, false, 1, 0]", Elements::Bool(vec![true, false, true, false])),
        ("[0, 255, -0]", Elements::U8(vec![0, 255, 0])),
        ("[0, 65535]", Elements::U16(vec![0, u16::MAX])),
        ("[0, 4294967295]", Elements::U32(vec![0, u32::MAX])),
        ("[0, 18446744073709551615, 1e19]", Elements::U64(vec![0, u64::MAX, 10_000_000_000_000_000_000])),
        ("[-128, 127]", Elements::I8(vec![i8::MIN, i8::MAX])),
        ("[-32768, 32767]", Elements::I16(vec![i16::MIN, i16::MAX])),
        ("[-2147483648, 2147483647]", Elements::I32(vec![i32::MIN, i32::MAX])),
        (
            "[-9223372036854775808, 9223372036854775807, 3.0, 1e2, 1200e-2, 0.0e-99999, 3.00000000000000000000000]",
            Elements::I64(vec![i64::MIN, i64::MAX, 3, 100, 12, 0, 3]),
        ),
        ("[0.1, -65504, 1e-7]", Elements::F16(vec![f16::from_f32(0.1), f16::MIN, f16::from_f32(1e-7)])),
        // Values are rounded once, not to a float32 first.
        (
            "[1.000488281250001, 1.00048828125, 1.000488281249999, -1.000488281250001]",
            Elements::F16([1.000_976_6, 1.0, 1.0, -1.000_976_6].map(f16::from_f32).to_vec()),
        ),
        (
            "[1.00390625000001, 1.00390625, 1e-45]",
            Elements::BF16([1.007_812_5, 1.0, 0.0].map(bf16::from_f32).to_vec()),
        ),
        ("[0.1, 3.4028235e38, 1e-45, 0]", Elements::F32(vec![0.1, f32::MAX, 1e-45, 0.0])),
        ("[0.1, 1.7976931348623157e308, 5e-324]", Elements::F64(vec![0.1, f64::MAX, 5e-324])),
        (
            r#"["", "a\"\\\/\b\f\n\r\t", "é\u00e9\ud83d\ude00", {"b64": "aMOp"}]"#,
            Elements::String(["", "a\"\\/\u{8}\u{c}\n\r\t", "éé😀", "hé"].map(str::to_owned).to_vec()),
        ),
    ];
    for (values, elements) in cases {
        let element = elements.element();
        let signature = signature(&[("x", element, &[0])]);
        let (count, datatype) = (elements.len(), element.datatype());
        let tensor = Tensor { shape: vec![count], elements };
        for body in [
            format!(r#"{{"instances": {values}}}"#),
            format!(r#"{{"inputs": {values}}}"#),
            format!(r#"{{"inputs": {{"x": {values}}}}}"#),
            format!(
                r#"{{"inputs": [{{"name": "x", "shape": [{count}], "datatype": "{datatype}", "data": {values}}}]}}"#
            ),
            format!(
                r#"{{"inputs": [{{"data": {values}, "name": "x", "shape": [{count}], "datatype": "{datatype}"}}]}}"#
            ),
        ] {
            assert_eq!(given(&good(&body, &signature)), std::slice::from_ref(&tensor), "{body}");
        }
    }
}

#[test]
fn a_negative_zero_keeps_its_sign() {
    let request = good("[[-0.0, -0]]", &single());
    let Elements::F32(values) = &first(&request).elements else { panic!("float32 expected") };
    assert_eq!(values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), [(-0.0_f32).to_bits(); 2]);
}

#[test]
fn what_a_type_cannot_hold_is_refused() {
    let whole = |name: &str, got: &str| format!("expected a whole number for {name}, got {got}");
    let range = |name: &str, low: &str, high: &str, got: &str| {
        let article = if name.starts_with("int") { "an" } else { "a" };
        format!("expected {article} {name} ({low} to {high}), got {got}")
    };
    let missing = "; to accept missing values, declare columns.missing in the bundle's model.yaml";
    let far = format!("1{}", "0".repeat(60));
    let far_shown = format!("1{}…", "0".repeat(39));
    let cases = [
        (ElementType::U8, "256", range("uint8", "0", "255", "256")),
        (ElementType::U8, "-1", range("uint8", "0", "255", "-1")),
        (ElementType::I8, "-129", range("int8", "-128", "127", "-129")),
        (ElementType::U16, "65536", range("uint16", "0", "65535", "65536")),
        (ElementType::I16, "1e5", range("int16", "-32768", "32767", "1e5")),
        (ElementType::U32, "4294967296", range("uint32", "0", "4294967295", "4294967296")),
        (ElementType::I32, "2147483648", range("int32", "-2147483648", "2147483647", "2147483648")),
        (ElementType::U64, "18446744073709551616", {
            range("uint64", "0", "18446744073709551615", "18446744073709551616")
        }),
        (ElementType::I64, &far, range("int64", "-9223372036854775808", "9223372036854775807", &far_shown)),
        (ElementType::I64, "1e999999999999999999999", {
            range("int64", "-9223372036854775808", "9223372036854775807", "1e999999999999999999999")
        }),
        (ElementType::I32, "3.5", whole("int32", "3.5")),
        (ElementType::I64, "1e-1", whole("int64", "1e-1")),
        (ElementType::F16, "65520", range("float16", "-65504.0", "65504.0", "65520")),
        (ElementType::F32, "1e39", { range("float32", "-3.4028235e38", "3.4028235e38", "1e39") }),
        (ElementType::F64, "1e999", {
            range("float64", "-1.7976931348623157e308", "1.7976931348623157e308", "1e999")
        }),
        (ElementType::Bool, "2", "expected true or false (or 1 or 0), got 2".to_owned()),
        (ElementType::Bool, "\"true\"", "expected true or false, got a string at byte 14".to_owned()),
        (ElementType::F32, "\"1\"", "expected a number, got a string at byte 14".to_owned()),
        (ElementType::F32, "true", "expected a number, got `true` at byte 14".to_owned()),
        (ElementType::I64, "null", format!("expected a number, got `null` at byte 14{missing}")),
        (ElementType::Bool, "null", format!("expected true or false, got `null` at byte 14{missing}")),
        (ElementType::String, "null", {
            format!("expected a string or {{\"b64\": \"…\"}}, got `null` at byte 14{missing}")
        }),
        (
            ElementType::String,
            "1",
            "expected a string or {\"b64\": \"…\"}, got a number at byte 14".to_owned(),
        ),
        (ElementType::String, "{\"b64\": \"*\"}", {
            "expected padded base64 in \"b64\", got an error: Invalid symbol 42, offset 0.".to_owned()
        }),
        (ElementType::String, "{\"b64\": \"/w==\"}", {
            "expected UTF-8 in \"b64\", got an invalid sequence at its byte 0".to_owned()
        }),
        (
            ElementType::String,
            "{\"b64\": \"\", \"c\": 1}",
            "expected nothing beside \"b64\", got another key".to_owned(),
        ),
        (ElementType::String, "{\"b64\": 1}", {
            "expected a string of base64 in \"b64\", got a number at byte 22".to_owned()
        }),
        (ElementType::Bytes, "\"a/cat.jpg\"", {
            "expected an image: {\"b64\": \"…\"}, got \"a/cat.jpg\", which is not base64".to_owned()
        }),
        (ElementType::Bytes, "1", "expected an image: {\"b64\": \"…\"}, got a number at byte 14".to_owned()),
    ];
    for (element, value, expected) in cases {
        let signature = signature(&[("x", element, &[0])]);
        let body = format!(r#"{{"instances":[{value}]}}"#);
        assert_eq!(message(&body, &signature), format!("instances[0]: {expected}"), "{body}");
    }
}
