use half::f16;
use proptest::prelude::*;

use super::response::capacity;
use super::value::push_nested;
use super::*;
use crate::decode::{Id, Limits, Protocol, RequestedOutput, ResponseSpec, decode};
use crate::error::{Code, Rejection};
use crate::tensor::signature::{Dim, Signature, TensorSpec, ValueKind};
use crate::tensor::{ElementType, Elements, Output, Show, Tensor, View};

const SERVED: ServedModel<'static> = ServedModel { model: "wine", version: "3", batched: true };

fn spec(protocol: Protocol) -> ResponseSpec {
    ResponseSpec { protocol, id: None }
}

fn v2(outputs: &[&str]) -> Protocol {
    let wanted = |name: &&str| RequestedOutput { name: (*name).to_owned(), binary: None };
    Protocol::V2 { outputs: outputs.iter().map(wanted).collect(), binary: false }
}

fn body(spec: &ResponseSpec, outputs: &[Output<'_>], served: &ServedModel<'_>) -> String {
    let body = response(spec, outputs, served).unwrap();
    assert_eq!(body.json_length, None);
    String::from_utf8(body.bytes).unwrap()
}

#[test]
fn every_form_mirrors_its_request() {
    let label = Output { name: "label", shape: &[2], elements: View::I64(&[1, -2]), show: Show::Values };
    let scores = Output {
        name: "sc\"ores",
        shape: &[2, 2],
        elements: View::F32(&[0.1, 1.0, 1e20, -0.5]),
        show: Show::Values,
    };
    let tail = r#""model":"wine","model_version":"3""#;
    let both = [label, scores];
    let one = std::slice::from_ref(&scores);
    let whole = ServedModel { batched: false, ..SERVED };
    let v2_label = r#"{"name":"label","datatype":"INT64","shape":[2],"data":[1,-2]}"#;
    let v2_scores = r#"{"name":"sc\"ores","datatype":"FP32","shape":[2,2],"data":[0.1,1.0,1e+20,-0.5]}"#;
    let v2_head = r#"{"model_name":"wine","model_version":"3","outputs":["#;
    for (protocol, outputs, served, expected) in [
        (Protocol::Rows, one, SERVED, format!(r#"{{"predictions":[[0.1,1.0],[1e+20,-0.5]],{tail}}}"#)),
        (Protocol::Rows, &both[..1], SERVED, format!(r#"{{"predictions":[1,-2],{tail}}}"#)),
        (Protocol::Rows, one, whole, format!(r#"{{"predictions":[[[0.1,1.0],[1e+20,-0.5]]],{tail}}}"#)),
        (
            Protocol::Rows,
            &both,
            SERVED,
            format!(
                r#"{{"predictions":[{{"label":1,"sc\"ores":[0.1,1.0]}},{{"label":-2,"sc\"ores":[1e+20,-0.5]}}],{tail}}}"#
            ),
        ),
        (Protocol::Columns, one, SERVED, format!(r#"{{"outputs":[[0.1,1.0],[1e+20,-0.5]],{tail}}}"#)),
        (
            Protocol::Columns,
            &both,
            SERVED,
            format!(r#"{{"outputs":{{"label":[1,-2],"sc\"ores":[[0.1,1.0],[1e+20,-0.5]]}},{tail}}}"#),
        ),
        (v2(&[]), &both, SERVED, format!("{v2_head}{v2_label},{v2_scores}]}}")),
        (v2(&["sc\"ores", "label"]), &both, SERVED, format!("{v2_head}{v2_scores},{v2_label}]}}")),
        (v2(&["label"]), &both, SERVED, format!("{v2_head}{v2_label}]}}")),
    ] {
        assert_eq!(body(&spec(protocol), outputs, &served), expected);
    }
    let scalar = [Output { name: "s", shape: &[], elements: View::F64(&[2.0]), show: Show::Values }];
    assert_eq!(body(&spec(Protocol::Rows), &scalar, &whole), format!(r#"{{"predictions":[2.0],{tail}}}"#));
}

#[test]
fn ids_are_echoed_as_they_were_given() {
    let output = [Output { name: "y", shape: &[1], elements: View::Bool(&[true]), show: Show::Values }];
    for (id, shown) in [
        (Id::String("a\"\u{1}é".to_owned()), "\"a\\\"\\u0001é\""),
        (Id::Number("-1.50e3".to_owned()), "-1.50e3"),
    ] {
        let rejection = Rejection::invalid("input \"x\": no");
        let expected =
            format!(r#"{{"error":{{"code":"INVALID_INPUT","message":"input \"x\": no"}},"id":{shown}}}"#);
        assert_eq!(String::from_utf8(error(&rejection, Some(&id))).unwrap(), expected);
        for protocol in [Protocol::Rows, Protocol::Columns, v2(&[])] {
            let body = body(&ResponseSpec { protocol, id: Some(id.clone()) }, &output, &SERVED);
            assert!(body.contains(&format!(",\"id\":{shown}")), "{body}");
            serde_json::from_str::<serde_json::Value>(&body).unwrap();
        }
    }
    let plain = error(&Rejection::new(Code::InputTooLarge, "much"), None);
    assert_eq!(plain, br#"{"error":{"code":"INPUT_TOO_LARGE","message":"much"}}"#);
}

/// The message may come from a request or from ONNX Runtime.
#[test]
fn an_error_fits_into_a_message() {
    for message in ["é".repeat(1 << 20), "\u{1}".repeat(1 << 20)] {
        let id = Id::String("\u{1}".repeat(crate::decode::MAX_ID_BYTES));
        let body = error(&Rejection::invalid(message.clone()), Some(&id));
        assert!(body.len() < 500_000, "{} bytes", body.len());
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let shown = body["error"]["message"].as_str().unwrap();
        assert!(shown.ends_with('…') && message.starts_with(shown.trim_end_matches('…')));
        assert_eq!(body["id"], id.as_str());
    }
}

#[test]
fn every_type_has_its_spelling() {
    let texts = ["a\n\r\t\\\"\u{0}".to_owned(), "é😀".to_owned()];
    let half = [f16::from_f32(0.1), f16::MAX, f16::NAN, f16::from_f32(1.0), f16::MIN_POSITIVE_SUBNORMAL];
    for (elements, expected) in [
        (View::Bool(&[true, false]), "[true,false]"),
        (View::U8(&[0, 255]), "[0,255]"),
        (View::U16(&[u16::MAX]), "[65535]"),
        (View::U32(&[u32::MAX]), "[4294967295]"),
        (View::U64(&[u64::MAX]), "[18446744073709551615]"),
        (View::I8(&[i8::MIN]), "[-128]"),
        (View::I16(&[i16::MIN]), "[-32768]"),
        (View::I32(&[i32::MIN]), "[-2147483648]"),
        (View::I64(&[i64::MIN]), "[-9223372036854775808]"),
        (View::F16(&half), r#"[0.1,65500.0,"NaN",1.0,6e-8]"#),
        (View::F32(&[0.1, 3.0, -0.0, f32::INFINITY]), r#"[0.1,3.0,-0.0,"Infinity"]"#),
        (View::F64(&[0.1, 1e300, f64::NEG_INFINITY, f64::NAN]), r#"[0.1,1e+300,"-Infinity","NaN"]"#),
        (View::String(&texts), "[\"a\\n\\r\\t\\\\\\\"\\u0000\",\"é😀\"]"),
    ] {
        let output = [Output { name: "y", shape: &[elements.len()], elements, show: Show::Values }];
        let body = body(&spec(Protocol::Columns), &output, &SERVED);
        assert_eq!(body, format!(r#"{{"outputs":{expected},"model":"wine","model_version":"3"}}"#));
    }
}

#[test]
fn every_finite_float16_reads_back() {
    for bits in 0..=u16::MAX {
        let value = f16::from_bits(bits);
        if value.is_finite() {
            let mut out = Vec::new();
            push_nested(&mut out, View::F16(&[value]), &[]);
            let read: f32 = std::str::from_utf8(&out).unwrap().parse().unwrap();
            assert_eq!(f16::from_f32(read).to_bits(), bits);
        }
    }
}

#[test]
fn outputs_that_do_not_fit_are_refused() {
    let output = |name, shape, elements| Output { name, shape, elements, show: Show::Values };
    let good = output("a", &[2], View::U8(&[1, 2]));
    let failed = Code::InferenceFailed;
    for (protocol, outputs, code, message) in [
        (
            Protocol::Rows,
            vec![output("a", &[2, 2], View::U8(&[1]))],
            failed,
            "output \"a\": expected 4 elements for shape [2, 2], got 1",
        ),
        (
            Protocol::Rows,
            vec![good, output("b", &[1], View::U8(&[1]))],
            failed,
            "output \"b\": expected 2 rows as in the first output, got 1",
        ),
        (
            Protocol::Rows,
            vec![output("a", &[], View::U8(&[1]))],
            failed,
            "output \"a\": expected a dimension that counts rows, got a scalar",
        ),
        (
            Protocol::Columns,
            vec![output("a", &[1, 1_000_000_000_000, 1_000_000_000_000, 0], View::U8(&[]))],
            Code::ResponseTooLarge,
            "output \"a\": expected a shape that can be written, got [1, 1000000000000, 1000000000000, 0]",
        ),
        (
            Protocol::Columns,
            vec![Output {
                show: Show::Sequence(&[output("", &[1_000_000_000_000, 0], View::U8(&[]))]),
                ..output("s", &[], View::U8(&[]))
            }],
            Code::ResponseTooLarge,
            "output \"s\": expected a shape that can be written, got []",
        ),
        (
            v2(&["z"]),
            vec![good],
            Code::InvalidInput,
            "outputs: expected names of the model's outputs, got \"z\"",
        ),
    ] {
        let rejection = response(&spec(protocol), &outputs, &SERVED).unwrap_err();
        assert_eq!((rejection.code, &*rejection.message), (code, message));
    }
}

#[test]
fn empty_dimensions_keep_their_brackets() {
    let output = [Output { name: "y", shape: &[2, 0, 3], elements: View::F32(&[]), show: Show::Values }];
    let expected = r#"{"predictions":[[],[]],"model":"wine","model_version":"3"}"#;
    assert_eq!(body(&spec(Protocol::Rows), &output, &SERVED), expected);
    let output = [Output { name: "y", shape: &[1, 2, 0], elements: View::F32(&[]), show: Show::Values }];
    let expected = r#"{"outputs":[[[],[]]],"model":"wine","model_version":"3"}"#;
    assert_eq!(body(&spec(Protocol::Columns), &output, &SERVED), expected);
}

/// Encodes a tensor as the output of each protocol and decodes it as an input of the same.
fn check_round_trip(tensor: &Tensor) {
    let element: ElementType = tensor.elements.element();
    let shape = tensor.shape.iter().map(|_| Dim::Any(String::new())).collect();
    let inputs = vec![TensorSpec { name: "y".to_owned(), element, shape, kind: ValueKind::Tensor }];
    let signature = Signature { inputs, batched: true, ..Signature::default() };
    let output =
        [Output { name: "y", shape: &tensor.shape, elements: tensor.elements.view(), show: Show::Values }];
    for (protocol, ours, theirs) in [
        (Protocol::Rows, "predictions", "instances"),
        (Protocol::Columns, "outputs", "inputs"),
        (v2(&[]), "outputs", "inputs"),
    ] {
        let spec = spec(protocol);
        let encoded = response(&spec, &output, &SERVED).unwrap().bytes;
        let bound = capacity(&spec, &[&output[0]], &SERVED, tensor.shape[0]);
        if element != ElementType::String {
            assert!(encoded.len() <= bound, "{} bytes where {bound} were expected", encoded.len());
        }
        let text = String::from_utf8(encoded).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let request = text.replacen(&format!("\"{ours}\":"), &format!("\"{theirs}\":"), 1);
        let decoded = decode(request.as_bytes(), &signature, &Limits::DEFAULT).unwrap();
        assert_eq!(decoded.inputs, [Some(tensor.clone())], "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_reads_back(
        shape in proptest::collection::vec(1_usize..4, 1..5),
        bits in proptest::collection::vec(any::<u64>(), 81),
        strings in proptest::collection::vec(any::<String>(), 81),
    ) {
        let count: usize = shape.iter().product();
        let bits = &bits[..count];
        fn each<T>(bits: &[u64], make: impl Fn(u64) -> T) -> Vec<T> {
            bits.iter().map(|bits| make(*bits)).collect()
        }
        let f32s = |bits| Some(f32::from_bits(bits as u32)).filter(|value| value.is_finite()).unwrap_or(1.0);
        let f64s = |bits| Some(f64::from_bits(bits)).filter(|value| value.is_finite()).unwrap_or(1.0);
        for elements in [
            Elements::Bool(each(bits, |bits| bits % 2 == 0)),
            Elements::U8(each(bits, |bits| bits as u8)),
            Elements::U16(each(bits, |bits| bits as u16)),
            Elements::U32(each(bits, |bits| bits as u32)),
            Elements::U64(each(bits, |bits| bits)),
            Elements::I8(each(bits, |bits| bits as i8)),
            Elements::I16(each(bits, |bits| bits as i16)),
            Elements::I32(each(bits, |bits| bits as i32)),
            Elements::I64(each(bits, |bits| bits as i64)),
            Elements::F32(each(bits, f32s)),
            Elements::F64(each(bits, f64s)),
            Elements::String(strings[..count].to_vec()),
        ] {
            check_round_trip(&Tensor { shape: shape.clone(), elements });
        }
    }
}

#[test]
fn names_rankings_sequences_and_missing_outputs_are_shown() {
    let names = ["a".to_owned(), "b\"".to_owned(), "c".to_owned()];
    let scores = View::F32(&[0.25, 0.5, 0.25, 0.75, 0.125, 0.125]);
    let output = |show| [Output { name: "p", shape: &[2, 3], elements: scores, show }];
    let named = Show::Named(&names);
    let ranked = Show::Ranked { labels: Some(&names), top: 2, threshold: f64::NEG_INFINITY };
    let over = Show::Ranked { labels: None, top: usize::MAX, threshold: 0.25 };
    let tail = r#""model":"wine","model_version":"3""#;
    for (show, predictions) in [
        (named, r#"{"a":0.25,"b\"":0.5,"c":0.25},{"a":0.75,"b\"":0.125,"c":0.125}"#),
        (
            ranked,
            r#"[{"label":"b\"","score":0.5},{"label":"a","score":0.25}],[{"label":"a","score":0.75},{"label":"b\"","score":0.125}]"#,
        ),
        (
            over,
            r#"[{"index":1,"score":0.5},{"index":0,"score":0.25},{"index":2,"score":0.25}],[{"index":0,"score":0.75}]"#,
        ),
    ] {
        let expected = format!(r#"{{"predictions":[{predictions}],{tail}}}"#);
        assert_eq!(body(&spec(Protocol::Rows), &output(show), &SERVED), expected);
    }
    let tensors = |show| {
        let body = body(&spec(v2(&[])), &output(show), &SERVED);
        body[body.find(r#""outputs":"#).unwrap()..].to_owned()
    };
    assert_eq!(
        tensors(named),
        r#""outputs":[{"name":"p","datatype":"FP32","shape":[2,3],"parameters":{"labels":["a","b\"","c"]},"data":[0.25,0.5,0.25,0.75,0.125,0.125]}]}"#
    );
    assert_eq!(
        tensors(ranked),
        r#""outputs":[{"name":"p","datatype":"FP32","shape":[2,2],"data":[0.5,0.25,0.75,0.125]},{"name":"p.labels","datatype":"BYTES","shape":[2,2],"data":["b\"","a","a","b\""]}]}"#
    );
    assert_eq!(
        tensors(over),
        r#""outputs":[{"name":"p","datatype":"FP32","shape":[2,3],"data":[0.5,0.25,0.25,0.75,0.0,0.0]},{"name":"p.indices","datatype":"INT64","shape":[2,3],"data":[1,0,2,0,-1,-1]}]}"#
    );
    // A NaN of either sign is shown, and hides no score.
    let with_nan = [Output {
        name: "p",
        shape: &[2, 3],
        elements: View::F32(&[0.25, -f32::NAN, 0.5, f32::NAN, 0.125, 0.75]),
        show: ranked,
    }];
    let all = Show::Ranked { labels: None, top: 3, threshold: 0.5 };
    let first = |show| body(&spec(Protocol::Rows), &[Output { show, ..with_nan[0] }], &SERVED);
    assert_eq!(
        first(ranked),
        format!(
            r#"{{"predictions":[[{{"label":"b\"","score":"NaN"}},{{"label":"c","score":0.5}}],[{{"label":"a","score":"NaN"}},{{"label":"c","score":0.75}}]],{tail}}}"#
        )
    );
    assert_eq!(
        first(all),
        format!(
            r#"{{"predictions":[[{{"index":1,"score":"NaN"}},{{"index":2,"score":0.5}}],[{{"index":0,"score":"NaN"}},{{"index":2,"score":0.75}}]],{tail}}}"#
        )
    );
    let part = |elements| Output { name: "s", shape: &[2], elements, show: Show::Values };
    let parts = [part(View::I64(&[1, 2])), part(View::I64(&[3, 4]))];
    let whole = ServedModel { batched: false, ..SERVED };
    let empty = View::U8(&[]);
    let both = [
        Output { name: "s", shape: &[0], elements: empty, show: Show::Sequence(&parts) },
        Output { name: "o", shape: &[0], elements: empty, show: Show::Missing },
    ];
    assert_eq!(
        body(&spec(Protocol::Rows), &both, &whole),
        format!(r#"{{"predictions":[{{"s":[[1,2],[3,4]],"o":null}}],{tail}}}"#)
    );
    let missing = [Output { name: "o", shape: &[2], elements: empty, show: Show::Missing }];
    assert_eq!(
        body(&spec(Protocol::Rows), &missing, &SERVED),
        format!(r#"{{"predictions":[null,null],{tail}}}"#)
    );
    assert_eq!(body(&spec(Protocol::Columns), &missing, &SERVED), format!(r#"{{"outputs":null,{tail}}}"#));
    assert!(body(&spec(v2(&[])), &missing, &SERVED).ends_with(r#""outputs":[]}"#));
    assert!(body(&spec(v2(&[])), &both, &whole).ends_with(
        r#"[{"name":"s.0","datatype":"INT64","shape":[2],"data":[1,2]},{"name":"s.1","datatype":"INT64","shape":[2],"data":[3,4]}]}"#
    ));
}
