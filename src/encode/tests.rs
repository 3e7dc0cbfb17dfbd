//! Whole bodies, as users see them; that they read back is the decoder's round trip.

use half::f16;
use proptest::prelude::*;

use super::*;

fn answer(form: Form, id: Option<&str>) -> Answer {
    Answer { form, id: id.map(str::to_owned) }
}

fn outputs() -> [Output<'static>; 2] {
    [
        Output { name: "label", shape: &[2], elements: View::I64(&[1, -2]) },
        Output { name: "p\"", shape: &[2, 2], elements: View::F32(&[0.1, 0.9, 1.0, f32::NAN]) },
    ]
}

#[test]
fn responses_mirror_the_request() {
    let both = outputs();
    let one = &both[..1];
    for (form, outputs, rows, expected) in [
        (Form::Rows, one, Some(2), r#"{"predictions":[1,-2],"model":"wine","model_version":"3","id":"q"}"#),
        (
            Form::Rows,
            &both[..],
            Some(2),
            r#"{"predictions":[{"label":1,"p\"":[0.1,0.9]},{"label":-2,"p\"":[1.0,"NaN"]}],"model":"wine","model_version":"3","id":"q"}"#,
        ),
        (
            Form::Rows,
            &both[1..],
            None,
            r#"{"predictions":[[[0.1,0.9],[1.0,"NaN"]]],"model":"wine","model_version":"3","id":"q"}"#,
        ),
        (Form::Columns, one, Some(2), r#"{"outputs":[1,-2],"model":"wine","model_version":"3","id":"q"}"#),
        (
            Form::Columns,
            &both[..],
            Some(2),
            r#"{"outputs":{"label":[1,-2],"p\"":[[0.1,0.9],[1.0,"NaN"]]},"model":"wine","model_version":"3","id":"q"}"#,
        ),
        (
            Form::V2 { outputs: vec![] },
            &both[..],
            Some(2),
            r#"{"outputs":[{"name":"label","datatype":"INT64","shape":[2],"data":[1,-2]},{"name":"p\"","datatype":"FP32","shape":[2,2],"data":[0.1,0.9,1.0,"NaN"]}],"model_name":"wine","model_version":"3","id":"q"}"#,
        ),
        (
            Form::V2 { outputs: vec!["label".into()] },
            &both[..],
            None,
            r#"{"outputs":[{"name":"label","datatype":"INT64","shape":[2],"data":[1,-2]}],"model_name":"wine","model_version":"3","id":"q"}"#,
        ),
    ] {
        let body = response(&answer(form, Some("q")), outputs, rows, "wine", "3").unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }
    let body = response(&answer(Form::Rows, None), one, Some(2), "wine", "3").unwrap();
    assert_eq!(
        String::from_utf8(body).unwrap(),
        r#"{"predictions":[1,-2],"model":"wine","model_version":"3"}"#
    );
}

#[test]
fn every_type_has_its_shortest_form() {
    for (elements, expected) in [
        (View::Bool(&[true, false]), "true,false"),
        (View::U8(&[0, 255]), "0,255"),
        (View::U16(&[65535]), "65535"),
        (View::U32(&[u32::MAX]), "4294967295"),
        (View::U64(&[u64::MAX]), "18446744073709551615"),
        (View::I8(&[-128]), "-128"),
        (View::I16(&[-1]), "-1"),
        (View::I32(&[i32::MIN]), "-2147483648"),
        (View::I64(&[i64::MIN]), "-9223372036854775808"),
        (View::F16(&[f16::from_f32_const(0.1), f16::MAX, f16::INFINITY]), "0.1,65500.0,\"Infinity\""),
        (View::F32(&[0.1, -0.0, 1e30, f32::NEG_INFINITY]), "0.1,-0.0,1e+30,\"-Infinity\""),
        (View::F64(&[0.1, 3.0, 1e-7, f64::NAN]), "0.1,3.0,1e-7,\"NaN\""),
        (View::Text(&["a\"\\\n\r\t\u{1}\u{1f}é".to_owned()]), "\"a\\\"\\\\\\n\\r\\t\\u0001\\u001fé\""),
    ] {
        let mut body = Vec::new();
        element::list(&mut body, elements);
        assert_eq!(String::from_utf8(body).unwrap(), expected, "{}", elements.element());
    }
}

#[test]
fn errors_carry_code_message_and_id() {
    let rejection = Rejection::invalid("input \"x\": é\n");
    let expected = r#"{"error":{"code":"INVALID_INPUT","message":"input \"x\": é\n"}}"#;
    assert_eq!(String::from_utf8(error(&rejection, None)).unwrap(), expected);
    let expected = r#"{"error":{"code":"INVALID_INPUT","message":"input \"x\": é\n"},"id":"a\\"}"#;
    assert_eq!(String::from_utf8(error(&rejection, Some("a\\"))).unwrap(), expected);
}

#[test]
fn outputs_that_do_not_fit_the_rows_are_a_failed_inference() {
    let both = outputs();
    for (form, rows, expected) in [
        (Form::Rows, Some(3), "output \"label\": expected 3 rows, got 2 elements in shape [2]"),
        (
            Form::V2 { outputs: vec!["z".into()] },
            Some(2),
            "output \"z\" was asked for, but the model gave none",
        ),
    ] {
        let rejection = response(&answer(form, None), &both, rows, "m", "1").unwrap_err();
        assert_eq!(rejection, Rejection::new(Code::InferenceFailed, expected));
    }
    let short = [Output { name: "y", shape: &[2, 2], elements: View::U8(&[1]) }];
    let rejection = response(&answer(Form::Rows, None), &short, None, "m", "1").unwrap_err();
    assert_eq!(rejection.message, "output \"y\": expected a whole tensor, got 1 elements in shape [2, 2]");
}

proptest! {
    #[test]
    fn any_text_is_the_same_to_other_parsers(value: String) {
        let mut body = Vec::new();
        text(&mut body, &value);
        prop_assert_eq!(serde_json::from_slice::<String>(&body).unwrap(), value);
    }

    #[test]
    fn any_float_is_the_same_to_other_parsers(bits: u64) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let mut body = Vec::new();
        element::list(&mut body, View::F64(&[value]));
        prop_assert_eq!(std::str::from_utf8(&body).unwrap().parse::<f64>().unwrap().to_bits(), bits);
    }
}
