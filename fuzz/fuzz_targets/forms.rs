//! Bodies from a grammar of every form, for models of every kind: lengths, ids and lists of any size in every
//! place, compressed or not. Each gives a request that fills its tensors, or an error that fits into a
//! message. Memory is limited by `cargo +nightly fuzz run forms -- -rss_limit_mb=512`.
#![no_main]

mod signatures;

use std::collections::HashMap;
use std::io::Write as _;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use predictd::decode::envelope::open;
use predictd::decode::{Limits, MAX_ID_BYTES};
use predictd::encode;
use predictd::headers::Headers;

const LENGTHS: [u64; 12] =
    [0, 1, 2, 3, 4, 1000, 100_000, 100_001, 1 << 20, 1 << 32, 1_000_000_000_000, u64::MAX];
const TIMES: [usize; 6] = [0, 1, 3, 400, 70_000, 1 << 20];
const UNITS: [&str; 18] = [
    "0,",
    "1.5,",
    "\"\",",
    "\"a\",",
    "null,",
    "[],",
    "{},",
    "[0,0],",
    "[[]],",
    "\"a\":0,",
    "{\"x\":0},",
    "{\"x\":\"\"},",
    "\"\\u0000\",",
    "{\"b64\":\"\"},",
    "true,",
    "\n",
    ",",
    "{\"a\":1,\"b\":2},",
];
const NAMES: [&str; 5] = ["x", "y", "ids", "a", "label"];
const TYPES: [&str; 6] = ["FP32", "FP64", "INT64", "BYTES", "BOOL", "UINT8"];

/// One to three runs, each of one unit.
fn list(input: &mut Unstructured<'_>) -> Result<String> {
    let mut list = String::new();
    for _ in 0..input.int_in_range(1..=3)? {
        let (unit, times) = (input.choose(&UNITS)?, *input.choose(&TIMES)?);
        list += &unit.repeat(times.min((3 << 20) / unit.len()));
    }
    Ok(list.trim_end_matches(',').to_owned())
}

fn id(input: &mut Unstructured<'_>) -> Result<String> {
    let length = *input.choose(&[0, 1, MAX_ID_BYTES, MAX_ID_BYTES + 1, 1 << 20])?;
    Ok(match input.int_in_range(0..=3)? {
        0 => format!("\"{}\"", "i".repeat(length)),
        1 => "7".repeat(length),
        2 => format!("\"{}\"", "\\u0001".repeat(length.min(1 << 18))),
        _ => "null".to_owned(),
    })
}

fn tensor(input: &mut Unstructured<'_>) -> Result<String> {
    let shape: Vec<String> = (0..input.int_in_range(0..=4)?)
        .map(|_| Ok(input.choose(&LENGTHS)?.to_string()))
        .collect::<Result<_>>()?;
    let (name, kind, shape) = (input.choose(&NAMES)?, input.choose(&TYPES)?, shape.join(","));
    let data = if input.ratio(1, 4)? {
        format!("\"parameters\":{{\"binary_data_size\":{}}}", input.choose(&LENGTHS)?)
    } else {
        format!("\"data\":[{}]", list(input)?)
    };
    let head = format!("\"name\":\"{name}\",\"datatype\":\"{kind}\",\"shape\":[{shape}]");
    Ok(if input.ratio(1, 2)? { format!("{{{head},{data}}}") } else { format!("{{{data},{head}}}") })
}

/// The headers and the body.
fn request(input: &mut Unstructured<'_>) -> Result<(HashMap<String, String>, Vec<u8>)> {
    let mut attributes = HashMap::new();
    let mut set = |name: &str, value: String| attributes.insert(name.to_owned(), value);
    let id = id(input)?;
    let mut body = match input.int_in_range(0..=9)? {
        0 => format!("{{\"id\":{id},\"instances\":[{}]}}", list(input)?),
        1 => format!("{{\"instances\":[[{}]],\"id\":{id}}}", list(input)?),
        2 => format!("{{\"inputs\":{{\"{}\":[{}]}},\"id\":{id}}}", input.choose(&NAMES)?, list(input)?),
        3 => format!("{{\"inputs\":[{},{}],\"id\":{id}}}", tensor(input)?, tensor(input)?),
        4 => format!("{{\"id\":{id},\"inputs\":[{}],\"outputs\":[{}]}}", tensor(input)?, list(input)?),
        5 => format!("{{\"dataframe_split\":{{\"columns\":[{}],\"data\":[[{}]]}}}}", list(input)?, list(input)?),
        6 => format!("{{\"dataframe_records\":[{}],\"id\":{id}}}", list(input)?),
        7 => format!("[{}]", list(input)?),
        8 => {
            set("content-type", "text/csv".to_owned());
            format!("{}\n{}", input.choose(&NAMES)?, list(input)?)
        }
        _ => {
            set("content-type", "application/cloudevents+json".to_owned());
            let data = format!("{{\"instances\":[{}]}}", list(input)?);
            format!("{{\"specversion\":\"1.0\",\"id\":{id},\"source\":\"s\",\"type\":\"t\",\"subject\":{id},\"data\":{data}}}")
        }
    }
    .into_bytes();
    if input.ratio(1, 4)? {
        set("inference-header-content-length", body.len().to_string());
        body.extend(vec![0; *input.choose(&TIMES)?]);
    }
    if input.ratio(1, 2)? {
        set("content-encoding", "gzip".to_owned());
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&body).expect("memory takes it");
        body = encoder.finish().expect("memory takes it");
        // Changes the size that the trailer claims.
        let at = body.len() - 4 + input.int_in_range(0..=3)?;
        body[at] = body[at].wrapping_add(input.arbitrary()?);
    }
    Ok((attributes, body))
}

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let Ok(which) = input.arbitrary() else { return };
    let Ok((attributes, body)) = request(&mut input) else { return };
    let limits = Limits { max_elements: 1 << 19, max_body_bytes: 4 << 20, ..Limits::DEFAULT };
    let signature = signatures::signature(which);
    let Ok(content) = open(Headers(&attributes), &body, &limits).content else { return };
    match content.decode(&signature, &limits) {
        Ok(request) => {
            assert!(request.response.id.is_none_or(|id| id.as_str().len() <= MAX_ID_BYTES));
            assert!((1..=limits.max_rows).contains(&request.rows));
            let instances = if signature.batched { 1 } else { request.rows };
            for tensor in request.inputs.iter().flatten() {
                let count = tensor.shape.iter().product::<usize>() * instances;
                assert_eq!(count, tensor.elements.len());
            }
        }
        Err(failure) => {
            let body = encode::error(&failure.rejection, failure.id.as_ref());
            assert!(body.len() < 1 << 20, "{} bytes", body.len());
        }
    }
});
