//! Memory that decoding takes, measured on hostile bodies and on bodies from a grammar of all forms.

use proptest::prelude::*;

use super::*;
use crate::decode::MAX_ID_BYTES;
use crate::decode::limits::element_weight;
use crate::error::Code;
use crate::gzip::compress;
use crate::tensor::signature::{PadTo, Padding};

/// The worker's own limits, 256 times smaller.
const LIMITS: Limits = Limits {
    max_elements: Limits::DEFAULT.max_elements >> 8,
    max_rows: Limits::DEFAULT.max_rows >> 8,
    max_body_bytes: Limits::DEFAULT.max_body_bytes >> 8,
    max_fields: Limits::DEFAULT.max_fields >> 8,
};
/// Peak of memory for each byte of the largest body: the body, what the tensors take, and what they took
/// before they grew.
const MOST: u64 = 3;

/// `ids: int64[N, N]`, padded.
fn padded() -> Signature {
    let padding = Padding { input: 0, axis: 1, value: Elements::I64(vec![0]), to: PadTo::Multiple(8) };
    Signature { padding: vec![padding], ..signature(&[("ids", ElementType::I64, &[0, 0])]) }
}

/// `x: float32[N]`, and strings that a row may leave out.
fn with_missing() -> Signature {
    let names: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
    let mut inputs = vec![("x", ElementType::F32, &[0][..])];
    inputs.extend(names.iter().map(|name| (&**name, ElementType::String, &[0][..])));
    let missing = (1..=20).map(|input| (input, Elements::String(vec!["unknown".to_owned()]))).collect();
    Signature { missing, ..signature(&inputs) }
}

fn composite(kind: ValueKind) -> Signature {
    let mut signature = signature(&[("v", ElementType::Composite, &[])]);
    signature.inputs[0].kind = kind;
    Signature { batched: false, ..signature }
}

fn signatures() -> Vec<Signature> {
    vec![
        single(),
        several(),
        table(),
        whole(),
        padded(),
        with_missing(),
        signature(&[("s", ElementType::String, &[0])]),
        signature(&[("s", ElementType::String, &[0, 0]), ("t", ElementType::Bytes, &[0])]),
        composite(ValueKind::Map { key: ElementType::String, value: ElementType::String }),
        composite(ValueKind::Map { key: ElementType::I64, value: ElementType::F32 }),
        composite(ValueKind::Sequence { element: ElementType::String, shape: Vec::new() }),
    ]
}

/// Decompresses and decodes a body; returns the outcome and the peak of memory.
fn measured(
    attributes: &[(&str, &str)],
    body: &[u8],
    signature: &Signature,
) -> (Result<Request, Failure>, u64) {
    let headers = super::attributes(attributes);
    let mut read = Err(Failure { rejection: crate::error::Rejection::invalid(""), id: None });
    let measured = allocation_counter::measure(|| {
        read = decode_within(&LIMITS, &headers, body, signature);
    });
    (read, measured.bytes_max)
}

/// Checks the invariants of every outcome.
fn check(attributes: &[(&str, &str)], body: &[u8], signature: &Signature) -> Result<Request, Failure> {
    let (read, peak) = measured(attributes, body, signature);
    let shown = || String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    let most = MOST * LIMITS.max_body_bytes as u64;
    assert!(peak <= most, "{peak} bytes, at most {most}: {attributes:?} {}", shown());
    let id = match &read {
        Ok(request) => request.response.id.as_ref(),
        Err(failure) => failure.id.as_ref(),
    };
    assert!(id.is_none_or(|id| id.as_str().len() <= MAX_ID_BYTES), "{}", shown());
    if let Ok(request) = &read {
        assert!(request.rows > 0 && request.rows <= LIMITS.max_rows);
        for (tensor, spec) in request.inputs.iter().flatten().zip(&signature.inputs) {
            let instances = if signature.batched { 1 } else { request.rows };
            assert_eq!(tensor.shape.iter().product::<usize>() * instances, tensor.elements.len());
            assert!(tensor.elements.len() * element_weight(spec.element) <= LIMITS.max_elements);
        }
    }
    read
}

/// `unit`s between two ends, as many as fit.
fn filled(begin: &str, unit: &str, last: &str) -> String {
    let times = (LIMITS.max_body_bytes - begin.len() - last.len()) / unit.len();
    format!("{begin}{}{last}", unit.repeat(times))
}

#[test]
fn claims_of_a_body_take_no_memory() {
    let v2 = |shape: &str| format!(r#"{{"inputs": [{}]}}"#, v2_tensor("ids", shape, "INT64", "[]"));
    let cases = [
        (v2("[1000000000000, 0]"), "input \"ids\": expected at most 32768 lists without elements, got shape"),
        (v2("[391, 0]"), "expected at most 390 rows, got more"),
        (v2("[0, 1000000000000]"), "input \"ids\": expected at most 32768 lists without elements, got shape"),
        (v2("[1000000000000, 1000000000000]"), "input \"ids\": expected at most 32768 elements, got shape"),
        (
            v2("[18446744073709551615, 0]"),
            "input \"ids\": expected at most 32768 lists without elements, got shape",
        ),
    ];
    for (body, says) in cases {
        let failure = check(&[], body.as_bytes(), &padded()).unwrap_err();
        assert_eq!(failure.rejection.code, Code::InputTooLarge, "{body}: {}", failure.rejection);
        assert!(failure.rejection.message.starts_with(says), "{body}: {}", failure.rejection);
    }
    assert_eq!(first(&check(&[], v2("[3, 0]").as_bytes(), &padded()).unwrap()).shape, [3, 8]);
    let open = Signature { batched: false, ..signature(&[("ids", ElementType::I64, &[0, 0, 0])]) };
    let failure = check(&[], v2("[4294967296, 4294967296, 0]").as_bytes(), &open).unwrap_err();
    assert_eq!(failure.rejection.code, Code::InputTooLarge);
}

#[test]
fn short_values_are_counted_by_the_memory_that_they_take() {
    let texts = || signature(&[("s", ElementType::String, &[0, 0])]);
    let maps = || composite(ValueKind::Map { key: ElementType::String, value: ElementType::String });
    let columns = filled(r#"{"dataframe_split": {"columns": [""#, "\",\"", r#""], "data": [[1]]}}"#);
    for (body, signature, says) in [
        (
            filled("{\"inputs\": [[", "\"\",", "\"\"]]}"),
            texts(),
            "inputs[0]: expected at most 32768 elements in all inputs, got more (one of this input counts for 8)",
        ),
        (
            filled(
                r#"{"inputs": [{"name": "s", "datatype": "BYTES", "shape": [1, 4097], "data": ["#,
                "\"\",",
                "\"\"]}]}",
            ),
            texts(),
            "input \"s\": expected at most 32768 elements, got shape [1, 4097]",
        ),
        (filled("[", "{},", "{}]"), maps(), "expected at most 390 rows, got more"),
        (columns, table(), "dataframe_split.columns: expected at most 256 columns, got more"),
        (
            format!("{{\"inputs\": {{\"x\": [{}]}}}}", vec!["0"; 391].join(",")),
            with_missing(),
            "inputs: expected at most 390 rows, got more; send several requests",
        ),
        (
            format!("{{\"instances\": [{}]}}", vec!["{\"x\":0}"; 300].join(",")),
            with_missing(),
            "instances[203]: expected at most 32768 elements in all inputs, got more (one of this input counts for 8)",
        ),
        (
            format!("{{\"inputs\": {{\"x\": [{}]}}}}", vec!["0"; 300].join(",")),
            with_missing(),
            "inputs: expected at most 32768 elements in all inputs, got more (one of this input counts for 8)",
        ),
    ] {
        let compressed = compress(body.as_bytes());
        let failure = check(&[("content-encoding", "gzip")], &compressed, &signature).unwrap_err();
        assert_eq!(failure.rejection.code, Code::InputTooLarge, "{}", failure.rejection);
        assert!(failure.rejection.message.starts_with(says), "{}", failure.rejection);
    }
    let table = format!("x\n{}", "0\n".repeat(300));
    let failure = check(&[("content-type", "text/csv; header=present")], table.as_bytes(), &with_missing())
        .unwrap_err();
    assert_eq!(failure.rejection.code, Code::InputTooLarge, "{}", failure.rejection);
}

const LENGTHS: [&str; 9] =
    ["0", "1", "2", "3", "391", "4096", "4097", "1000000000000", "18446744073709551615"];
const UNITS: [&str; 16] = [
    "0,",
    "1.5,",
    "\"\",",
    "\"a\",",
    "null,",
    "[],",
    "{},",
    "[0,0],",
    "\"a\":0,",
    "{\"x\":0},",
    "[[]],",
    "\"\\u0000\",",
    "{\"b64\":\"\"},",
    "{\"s\":\"\"},",
    "\n",
    ",",
];
const NAMES: [&str; 6] = ["x", "ids", "s", "n", "a", "v"];
const TYPES: [&str; 4] = ["FP32", "INT64", "BYTES", "BOOL"];

/// A list of `unit`s without the last comma.
fn list(unit: &str, times: usize) -> String {
    unit.repeat(times).trim_end_matches(',').to_owned()
}

/// A body of one of the forms, with lengths and ids of every size in every place.
fn body() -> impl Strategy<Value = (usize, String)> {
    let times = prop_oneof![0_usize..5, 380_usize..400, 4000_usize..5000, Just(60_000)];
    let shape = prop::collection::vec(prop::sample::select(&LENGTHS[..]), 0..4);
    let id = prop_oneof![Just(0_usize), 1_usize..2000, Just(200_000)];
    let (unit, name, kind) = (
        prop::sample::select(&UNITS[..]),
        prop::sample::select(&NAMES[..]),
        prop::sample::select(&TYPES[..]),
    );
    (0_usize..12, unit, times, shape, id, name, kind).prop_map(
        |(form, unit, times, shape, id, name, kind)| {
            let (items, shape) = (list(unit, times), shape.join(","));
            let id = if id % 2 == 0 { format!("\"{}\"", "i".repeat(id)) } else { "7".repeat(id) };
            let body = match form {
                0 => format!("{{\"id\":{id},\"instances\":[{items}]}}"),
                1 => format!("{{\"instances\":[[{items}]],\"id\":{id}}}"),
                2 => format!("{{\"inputs\":{{\"{name}\":[{items}]}},\"id\":{id}}}"),
                3 => format!("{{\"inputs\":[{items}]}}"),
                4 => format!(
                    "{{\"id\":{id},\"inputs\":[{{\"name\":\"{name}\",\"datatype\":\"{kind}\",\"shape\":[{shape}],\"data\":[{items}]}}]}}"
                ),
                5 => format!(
                    "{{\"inputs\":[{{\"data\":[{items}],\"shape\":[{shape}],\"datatype\":\"{kind}\",\"name\":\"{name}\"}}]}}"
                ),
                6 => format!("{{\"dataframe_split\":{{\"columns\":[{items}],\"data\":[[{items}]]}}}}"),
                7 => format!("{{\"dataframe_records\":[{items}],\"id\":{id}}}"),
                8 => format!("{{\"inputs\":{{{items}}},\"outputs\":[{items}]}}"),
                9 => format!("{name}\n{items}"),
                10 => format!(
                    "{{\"specversion\":\"1.0\",\"id\":{id},\"source\":\"s\",\"type\":\"t\",\"data\":{{\"instances\":[{items}]}}}}"
                ),
                _ => format!(
                    "{{\"inputs\":[{{\"name\":\"{name}\",\"datatype\":\"{kind}\",\"shape\":[{shape}],\"parameters\":{{\"binary_data_size\":{times}}}}}]}}{}",
                    "\0".repeat(times)
                ),
            };
            (form, body)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_form_is_answered_within_its_memory((form, body) in body(), is_compressed: bool, lie in 0_u32..3) {
        let content_type = match form {
            9 => "text/csv",
            10 => "application/cloudevents+json",
            _ => "application/json",
        };
        let header = body.find('\0').unwrap_or(body.len()).to_string();
        let mut attributes = vec![("content-type", content_type)];
        if form == 11 {
            attributes.push(("inference-header-content-length", &header));
        }
        let mut bytes = body.into_bytes();
        if is_compressed {
            bytes = compress(&bytes);
            attributes.push(("content-encoding", "gzip"));
            // The trailer may claim more or less than the decompressed size.
            let at = bytes.len() - 2;
            bytes[at] = bytes[at].wrapping_add(lie as u8);
        }
        for signature in signatures() {
            let _ = check(&attributes, &bytes, &signature);
        }
    }
}

/// Neither a request nor its error repeats more than fits into a response.
#[test]
fn an_id_has_at_most_1_kib() {
    let longest = "i".repeat(MAX_ID_BYTES);
    let request =
        check(&[], format!(r#"{{"id": "{longest}", "instances": [[1, 2]]}}"#).as_bytes(), &single());
    assert_eq!(request.unwrap().response.id, string_id(&longest));
    let too_long = format!("{longest}i");
    let event = |id: &str, subject: &str, body: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","subject":"{subject}","correlationid":"{body}","data":[[1,2]]}}"#
        )
    };
    let structured = [("content-type", "application/cloudevents+json")];
    let json: [(&str, &str); 0] = [];
    for (attributes, body, says) in [
        (
            &json[..],
            format!(r#"{{"id": "{too_long}", "instances": [[1, 2]]}}"#),
            "id: expected at most 1024 bytes, got 1025",
        ),
        (
            &json,
            format!(r#"{{"instances": [[1, 2]], "id": {}}}"#, "1".repeat(11_000)),
            "id: expected at most 1024 bytes, got 11000",
        ),
        // The id is not repeated if another error comes first, either.
        (
            &json,
            format!(r#"{{"instances": [[1]], "id": "{too_long}"}}"#),
            "instances[0]: expected 2 values (float32[N, 2]), got 1",
        ),
        (
            &json,
            format!(r#"{{"dataref": "gs://a/b", "id": "{too_long}"}}"#),
            "id: expected at most 1024 bytes, got 1025",
        ),
        (
            &structured,
            event(&too_long, "s", "c"),
            "id of the CloudEvent: expected at most 1024 bytes, got 1025",
        ),
        (
            &structured,
            event("1", &too_long, "c"),
            "subject of the CloudEvent: expected at most 1024 bytes, got 1025",
        ),
        (
            &structured,
            event("1", "s", &too_long),
            "correlationid of the CloudEvent: expected at most 1024 bytes, got 1025",
        ),
    ] {
        let failure = check(attributes, body.as_bytes(), &single()).unwrap_err();
        assert_eq!((&*failure.rejection.message, failure.id), (says, None));
        assert_eq!(failure.rejection.code, Code::InvalidInput);
        let headers = super::attributes(attributes);
        assert_eq!(open(Headers(&headers), body.as_bytes(), &LIMITS).response_format.event, None);
        assert!(crate::decode::reference::find(Headers(&headers), body.as_bytes()).is_none());
    }
}
