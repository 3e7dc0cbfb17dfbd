use half::{bf16, f16};
use proptest::prelude::*;

use super::*;

/// Compares with Rust's parser, at the end of a body and with whole words behind the number.
fn check_number(text: &str) {
    for body in [format!("[{text}]"), format!("[{text} ]         "), format!("[{text}]{}", " ".repeat(40))] {
        check_number_in(text, &body);
    }
}

fn check_number_in(text: &str, body: &str) {
    let signature = |element| signature(&[("x", element, &[0])]);
    let (single, double) = (text.parse::<f32>().unwrap(), text.parse::<f64>().unwrap());
    match read(body, &signature(ElementType::F32)) {
        Ok(request) => {
            let Elements::F32(values) = &first(&request).elements else { panic!("float32 expected") };
            assert_eq!(values[0].to_bits(), single.to_bits(), "{text}");
        }
        Err(_) => assert!(single.is_infinite(), "{text}"),
    }
    match read(body, &signature(ElementType::F64)) {
        Ok(request) => {
            let Elements::F64(values) = &first(&request).elements else { panic!("float64 expected") };
            assert_eq!(values[0].to_bits(), double.to_bits(), "{text}");
        }
        Err(_) => assert!(double.is_infinite(), "{text}"),
    }
}

#[test]
fn numbers_in_the_middle_between_two_floats_round_to_even() {
    for bits in (0..0x7f7f_ffff_u32).step_by(1_000_003) {
        let (low, high) = (f64::from(f32::from_bits(bits)), f64::from(f32::from_bits(bits + 1)));
        let middle = (low + high) / 2.0;
        for near in [middle.next_down(), middle, middle.next_up()] {
            check_number(&format!("{near:e}"));
            check_number(&format!("{near}"));
        }
        // An f64 cannot tell these from the middle.
        check_number(&format!("{middle:.60}1"));
        check_number(&format!("{middle:.18e}"));
    }
}

proptest! {
    #[test]
    fn numbers_equal_the_standard_library(text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?") {
        check_number(&text);
    }

    #[test]
    fn short_numbers_equal_the_standard_library(text in "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,9})?([eE]-?[0-9])?") {
        check_number(&text);
    }

    /// Digits with any characters around them are read like serde_json reads them.
    #[test]
    fn malformed_numbers_are_refused_as_serde_json_does(text in "[-+.eE0-9/:]{1,12}") {
        let body = format!("[{text}]          ");
        let read = |element| read(&body, &signature(&[("x", element, &[0])])).is_ok();
        prop_assert_eq!(read(ElementType::F64), serde_json::from_str::<Vec<f64>>(&body).is_ok(), "{}", body);
        if read(ElementType::I64) {
            prop_assert!(serde_json::from_str::<Vec<f64>>(&body).is_ok(), "{}", body);
        }
    }

    /// Lists are read in fast runs; other numbers between the runs change none of their numbers.
    #[test]
    fn numbers_of_a_list_are_those_that_they_are_alone(
        numbers in proptest::collection::vec(
            ("-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,17})?", "(e-?[0-9])?", proptest::sample::select(vec![",", ", ", " ,", ",  ", ",\n"])),
            1..90,
        ),
        plain: bool,
        even: bool,
    ) {
        let numbers: Vec<(String, &str)> = numbers
            .into_iter()
            .map(|(number, exponent, comma)| {
                (if plain { number } else { number + &exponent }, if even { ", " } else { comma })
            })
            .collect();
        let mut body = String::from("[");
        for (number, comma) in &numbers {
            body += number;
            body += comma;
        }
        let body = body.trim_end().trim_end_matches(',').trim_end().to_owned() + "]";
        let texts = || numbers.iter().map(|(number, _)| number);
        let singles: Vec<f32> = texts().map(|text| text.parse().unwrap()).collect();
        let doubles: Vec<f64> = texts().map(|text| text.parse().unwrap()).collect();
        let elements = |element| {
            read(&format!("{{\"inputs\": {body}}}"), &signature(&[("x", element, &[0])]))
                .map(|request| first(&request).elements.clone())
        };
        prop_assert_eq!(elements(ElementType::F32).unwrap(), Elements::F32(singles), "{}", body);
        prop_assert_eq!(elements(ElementType::F64).unwrap(), Elements::F64(doubles), "{}", body);
        // The slow path reads numbers with an exponent.
        let slowly = body.replace([' ', '\n'], "").replace(',', "e0,").replace(']', "e0]");
        if !body.contains('e') {
            for element in [ElementType::F16, ElementType::BF16] {
                let quickly = elements(element).map_err(|failure| failure.rejection.code);
                let one_by_one = read(&format!("{{\"inputs\": {slowly}}}"), &signature(&[("x", element, &[0])]))
                    .map(|request| first(&request).elements.clone());
                prop_assert_eq!(quickly, one_by_one.map_err(|failure| failure.rejection.code), "{}", body);
            }
        }
        let whole: Option<Vec<i64>> = texts().map(|text| text.parse().ok()).collect();
        if let Some(whole) = whole {
            prop_assert_eq!(elements(ElementType::I64).unwrap(), Elements::I64(whole.clone()), "{}", body);
            let small: Option<Vec<u8>> = whole.iter().map(|number| u8::try_from(*number).ok()).collect();
            prop_assert_eq!(elements(ElementType::U8).ok(), small.map(Elements::U8), "{}", body);
        }
    }

    #[test]
    fn whole_numbers_of_a_list_are_those_that_they_are_alone(
        numbers in proptest::collection::vec(any::<i16>(), 1..200),
        wide in proptest::collection::vec(any::<i64>(), 1..200),
    ) {
        let body = format!("{{\"inputs\": {numbers:?}}}");
        let request = good(&body, &signature(&[("x", ElementType::I16, &[0])]));
        prop_assert_eq!(&first(&request).elements, &Elements::I16(numbers));
        let body = format!("{{\"inputs\": {wide:?}}}");
        prop_assert_eq!(first(&good(&body, &signature(&[("x", ElementType::I64, &[0])]))).clone(), i64s(&wide));
    }

    #[test]
    fn every_float_reads_back(bits: u64) {
        let (single, double) = (f32::from_bits(bits as u32), f64::from_bits(bits));
        for value in [double, f64::from(single)].into_iter().filter(|value| value.is_finite()) {
            check_number(&format!("{value}"));
            check_number(&format!("{value:e}"));
        }
        if single.is_finite() {
            check_number(&format!("{single}"));
        }
    }

    #[test]
    fn integers_equal_the_standard_library(value in any::<i128>(), shift in 0_u32..128) {
        let value = value >> shift;
        let integers = |element| read(&format!("[{value}]       "), &signature(&[("x", element, &[0])]));
        prop_assert_eq!(integers(ElementType::I64).is_ok(), i64::try_from(value).is_ok());
        prop_assert_eq!(integers(ElementType::U64).is_ok(), u64::try_from(value).is_ok());
        prop_assert_eq!(integers(ElementType::I8).is_ok(), i8::try_from(value).is_ok());
        if let Ok(value) = i64::try_from(value) {
            prop_assert_eq!(first(&integers(ElementType::I64).unwrap()).clone(), i64s(&[value]));
        }
    }

    #[test]
    fn any_bytes_are_answered(body: Vec<u8>) {
        for signature in [single(), several(), table(), whole()] {
            let _ = decode(&body, &signature, &Limits::DEFAULT);
        }
    }

    /// Pieces of JSON reach deep. serde_json accepts every accepted body, and tensors fill their shapes.
    #[test]
    fn whatever_is_accepted_is_json(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "[", "]", "{", "}", ",", ":", "1", "2.5", "-", "e3", "\"x\"", "\"n\"", "\"a\"", "\"b\"", "\"instances\"",
        "\"inputs\"", "\"name\"", "\"shape\"", "\"data\"", "\"datatype\"", "\"FP32\"", "[1,2]", "[[1,2]]", " ", "null",
        "{\"instances\":", "{\"inputs\":", "{\"x\":", "{\"a\":1,\"b\":2}", "\"\\u00e9", "é",
    ]), 0..14)) {
        let body = pieces.concat();
        for signature in [single(), several(), table(), whole()] {
            if let Ok(request) = read(&body, &signature) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{}", body);
                for tensor in inputs_of(&request) {
                    prop_assert_eq!(tensor.shape.iter().product::<usize>(), tensor.elements.len());
                }
            }
        }
    }

    /// A good body with one byte changed, dropped or doubled.
    #[test]
    fn damaged_bodies_are_answered(which in 0_usize..5, at in any::<prop::sample::Index>(), byte: u8, how in 0_u8..3) {
        let mut body = [
            r#"{"id": "é", "instances": [[1, 2.5], [-3e1, 4]], "parameters": {"a": [true, null]}}"#,
            r#"[{"a": 1, "b": 2}, {"b": 4, "a": 3}]"#,
            r#"{"inputs": {"x": [[1, 2], [3, 4]], "n": [5, 6]}}"#,
            r#"{"dataframe_split": {"columns": ["b", "a"], "data": [[2, 1], [4, 3]]}}"#,
            r#"{"inputs": [{"data": [1, 2], "name": "x", "shape": [1, 2], "datatype": "FP32"}], "outputs": [{"name": "label"}]}"#,
        ][which].as_bytes().to_vec();
        let at = at.index(body.len());
        match how {
            0 => body[at] = byte,
            1 => drop(body.remove(at)),
            _ => body.insert(at, byte),
        }
        for signature in [single(), several(), table(), whole()] {
            if decode(&body, &signature, &Limits::DEFAULT).is_ok() {
                let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
                prop_assert!(serde_json::from_slice::<serde_json::Value>(body).is_ok());
            }
        }
    }
}

/// Writes elements as arrays nested by `shape`, with serde_json.
fn nest(values: &[serde_json::Value], shape: &[usize]) -> serde_json::Value {
    match shape.split_first() {
        None => values[0].clone(),
        Some((length, inner)) => {
            let width = values.len() / length;
            (0..*length).map(|index| nest(&values[index * width..(index + 1) * width], inner)).collect()
        }
    }
}

macro_rules! round_trips {
    ($(($variant:ident, $rust:ty, $name:literal, $datatype:literal)),+ $(,)?) => {
        /// One tensor of each type, from the same random bits.
        fn tensors(bits: &[u64]) -> Vec<(Elements, Vec<serde_json::Value>)> {
            vec![$({
                let elements: Vec<$rust> = bits.iter().map(|bits| <$rust as Arbitrary>::make(*bits)).collect();
                let values = elements.iter().map(Arbitrary::json).collect();
                (Elements::$variant(elements), values)
            }),+]
        }
    };
}
crate::for_each_element_type!(round_trips);

fn is_tensor((elements, _): &(Elements, Vec<serde_json::Value>)) -> bool {
    elements.element() != ElementType::Composite
}

/// Composites have tests of their own.
impl Arbitrary for crate::tensor::Composite {
    fn make(_: u64) -> Self {
        Self::default()
    }
    fn json(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

trait Arbitrary {
    fn make(bits: u64) -> Self;
    fn json(&self) -> serde_json::Value;
}

macro_rules! numbers {
    ($($rust:ty: $make:expr, $json:expr);+) => { $(
        impl Arbitrary for $rust {
            fn make(bits: u64) -> Self {
                ($make)(bits)
            }
            fn json(&self) -> serde_json::Value {
                ($json)(self.clone())
            }
        }
    )+ };
}
numbers!(
    bool: |bits| bits % 2 == 1, serde_json::Value::from;
    u8: |bits| bits as u8, serde_json::Value::from;
    u16: |bits| bits as u16, serde_json::Value::from;
    u32: |bits| bits as u32, serde_json::Value::from;
    u64: |bits| bits, serde_json::Value::from;
    i8: |bits| bits as i8, serde_json::Value::from;
    i16: |bits| bits as i16, serde_json::Value::from;
    i32: |bits| bits as i32, serde_json::Value::from;
    i64: |bits| bits as i64, serde_json::Value::from;
    f16: |bits| Some(f16::from_bits(bits as u16)).filter(|value| value.is_finite()).unwrap_or_default(),
        |value: f16| serde_json::Value::from(value.to_f32());
    bf16: |bits| Some(bf16::from_bits(bits as u16)).filter(|value| value.is_finite()).unwrap_or_default(),
        |value: bf16| serde_json::Value::from(value.to_f32());
    Vec<u8>: |bits: u64| bits.to_le_bytes().to_vec(),
        |value: Vec<u8>| serde_json::json!({ "b64": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, value) });
    f32: |bits| Some(f32::from_bits(bits as u32)).filter(|value| value.is_finite()).unwrap_or_default(),
        serde_json::Value::from;
    f64: |bits| Some(f64::from_bits(bits)).filter(|value| value.is_finite()).unwrap_or_default(), serde_json::Value::from;
    String: |bits: u64| bits.to_le_bytes().into_iter().filter(|byte| *byte > 0).map(char::from).collect(), serde_json::Value::from
);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tensors_of_every_type_and_rank_read_back(
        shape in proptest::collection::vec(1_usize..4, 1..5),
        seed in proptest::collection::vec(any::<u64>(), 256),
        fixed in any::<bool>(),
        pretty in any::<bool>(),
    ) {
        let count = shape.iter().product();
        for (elements, values) in tensors(&seed[..count]).into_iter().filter(is_tensor) {
            let element = elements.element();
            let dims: Vec<usize> = shape.iter().enumerate().map(|(i, n)| if i > 0 && fixed { *n } else { 0 }).collect();
            let signature = signature(&[("x", element, &dims)]);
            let nested = nest(&values, &shape);
            let v2 = |data| serde_json::json!({
                "inputs": [{"data": data, "datatype": element.datatype(), "name": "x", "shape": shape}]
            });
            for body in [
                serde_json::json!({"instances": nested}),
                serde_json::json!({"inputs": nested}),
                serde_json::json!({"inputs": {"x": nested}}),
                nested.clone(),
                v2(nested.clone()),
                v2(serde_json::Value::from(values.clone())),
            ] {
                let body = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
                let request = good(&body, &signature);
                prop_assert_eq!(request.rows, shape[0]);
                prop_assert_eq!(&first(&request).shape, &shape);
                prop_assert_eq!(&first(&request).elements, &elements, "{}", body);
            }
        }
    }
}

/// Any headers with any bytes give a request whose tensors fill their shapes, or an error.
fn answered(attributes: &[(&str, &str)], body: &[u8]) {
    let headers = super::attributes(attributes);
    let limits = Limits { max_elements: 1000, max_rows: 50, max_body_bytes: 10_000, max_fields: 50 };
    let strings = signature(&[("s", ElementType::String, &[0]), ("t", ElementType::String, &[0, 1])]);
    let flags = signature(&[("b", ElementType::Bool, &[0, 0])]);
    for signature in [single(), several(), table(), whole(), strings, flags] {
        let Ok(request) = decode_within(&limits, &headers, body, &signature) else { continue };
        assert!(request.rows > 0 && request.rows <= limits.max_rows);
        for tensor in inputs_of(&request) {
            assert_eq!(tensor.shape.iter().product::<usize>(), tensor.elements.len());
            assert!(tensor.elements.len() <= limits.max_elements);
        }
    }
}

const DECLARED: [&[(&str, &str)]; 8] = [
    &[],
    &[("content-type", "text/csv")],
    &[("content-type", "text/csv; header=present")],
    &[("content-type", "text/csv; header=absent")],
    &[("content-type", "application/octet-stream")],
    &[("inference-header-content-length", "103")],
    &[("content-type", "application/cloudevents+json")],
    &[("content-encoding", "gzip")],
];

proptest! {
    #[test]
    fn any_bytes_in_any_form_are_answered(body: Vec<u8>) {
        for attributes in DECLARED {
            answered(attributes, &body);
        }
    }

    #[test]
    fn damaged_bodies_of_any_form_are_answered(
        which in 0_usize..4,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..4),
    ) {
        let mut body = [
            &b"a,b\r\n1,\"2.5\"\r\n-3e1,\r\n"[..],
            b"s,t\n\"a \"\"b\"\"\",x\n\"\",\"\n\"\n",
            b"{\"inputs\":[{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":8}}],\"id\":\"\"}\0\0\x80?\0\0\0@",
            br#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"instances":[[1,2]]},"datacontenttype":"text/csv"}"#,
        ][which].to_vec();
        for (at, byte, how) in damage {
            let at = at.index(body.len().max(1));
            match how {
                _ if body.is_empty() => {}
                0 => body[at] = byte,
                1 => drop(body.remove(at)),
                2 => body.insert(at, byte),
                _ => body[at] ^= 1 << (byte % 8),
            }
        }
        for attributes in DECLARED {
            answered(attributes, &body);
        }
    }

    #[test]
    fn tables_read_back(
        cells in proptest::collection::vec(("[^\0]*", any::<i64>(), any::<f64>()), 1..20),
        crlf: bool,
        header: bool,
    ) {
        let signature = signature(&[
            ("s", ElementType::String, &[0]),
            ("n", ElementType::I64, &[0, 1]),
            ("f", ElementType::F64, &[0]),
        ]);
        let end = if crlf { "\r\n" } else { "\n" };
        let mut body = if header { format!("f,n,s{end}") } else { String::new() };
        for (text, number, float) in &cells {
            let text = format!("\"{}\"", text.replace('"', "\"\""));
            let (number, float) = (number.to_string(), if float.is_nan() { String::new() } else { float.to_string() });
            let row = if header { [float, number, text] } else { [text, number, float] };
            body.push_str(&(row.join(",") + end));
        }
        let declared = if header { "text/csv; header=present" } else { "text/csv; header=absent" };
        let request = asked(&[("content-type", declared)], body.as_bytes(), &signature);
        prop_assert_eq!(request.rows, cells.len());
        let texts: Vec<String> = cells.iter().map(|cell| cell.0.clone()).collect();
        prop_assert_eq!(&first(&request).elements, &Elements::String(texts));
        prop_assert_eq!(&inputs_of(&request)[1].elements, &Elements::I64(cells.iter().map(|cell| cell.1).collect()));
        let Elements::F64(floats) = &inputs_of(&request)[2].elements else { panic!("float64 expected") };
        for (got, cell) in floats.iter().zip(&cells) {
            prop_assert!(got.to_bits() == cell.2.to_bits() || (got.is_nan() && cell.2.is_nan()));
        }
    }

    /// `decode` reads the binary data of `encode` bit for bit; raw rows are the same bytes.
    #[test]
    fn binary_tensors_of_every_type_read_back(
        shape in proptest::collection::vec(1_usize..4, 1..4),
        seed in proptest::collection::vec(any::<u64>(), 64),
    ) {
        use crate::encode::{ServedModel, response};
        use crate::tensor::Output;
        let count: usize = shape.iter().product();
        for (elements, _) in tensors(&seed[..count]).into_iter().filter(is_tensor) {
            let output = [Output { name: "x", shape: &shape, elements: elements.view(), show: crate::tensor::Show::Values }];
            let spec = super::super::ResponseSpec { protocol: Protocol::V2 { outputs: vec![], binary: true }, id: None };
            let body = response(&spec, &output, &ServedModel { model: "m", version: "1", batched: true }).unwrap();
            let json_length = body.json_length.unwrap();
            // Makes a request of the response.
            let json = String::from_utf8(body.bytes[..json_length].to_vec()).unwrap().replace("\"outputs\"", "\"inputs\"");
            let request = [json.as_bytes(), &body.bytes[json_length..]].concat();
            let attributes = [("inference-header-content-length".to_owned(), json.len().to_string())].into();
            let dims: Vec<usize> = std::iter::once(0).chain(shape[1..].iter().copied()).collect();
            let signature = signature(&[("x", elements.element(), &dims)]);
            let read = |attributes, body: &[u8]| {
                open(Headers(attributes), body, &Limits::DEFAULT).content.unwrap().decode(&signature, &Limits::DEFAULT)
            };
            let request = read(&attributes, &request).unwrap_or_else(|f| panic!("{json}: {}", f.rejection));
            prop_assert_eq!(&first(&request).shape, &shape);
            prop_assert_eq!(&first(&request).elements, &elements);
            if !matches!(elements.element(), ElementType::String | ElementType::Bytes) {
                let raw = [("content-type".to_owned(), "application/octet-stream".to_owned())].into();
                prop_assert_eq!(read(&raw, &body.bytes[json_length..]).unwrap().inputs, request.inputs);
            }
        }
    }
}
