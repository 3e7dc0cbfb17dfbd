//! The outermost level of a JSON body: its protocol, and the keys that all protocols share.

use std::ops::Range;

use super::binary::Section;
use super::columns::read_columns;
use super::error::{Decoded, Located, refuse, set_once, twice};
use super::inputs::Inputs;
use super::limits::{Limits, check_id};
use super::number::scan_number;
use super::pandas_split::read_split;
use super::request::{Id, Protocol, Request, ResponseSpec};
use super::rows::{read_lines, read_rows};
use super::scanner::Scanner;
use super::{example, v2};
use crate::tensor::signature::Signature;

/// The keys that hold a request's tensors.
pub(super) const PAYLOAD_KEYS: [&str; 4] = ["instances", "inputs", "dataframe_records", "dataframe_split"];

const FORMS: &str = "{\"instances\": […]}, {\"inputs\": …} or an Open Inference Protocol v2 request";

/// `binary`: the bytes behind the JSON, if the request says that there are any.
pub(super) fn decode(
    body: &[u8],
    binary: Option<&[u8]>,
    signature: &Signature,
    limits: &Limits,
) -> Decoded<Request> {
    let mut section = binary.map(Section);
    let mut scanner = Scanner::new(body)?;
    let mut inputs = Inputs::new(signature, *limits, body.len());
    match scanner.peek() {
        None => return refuse(format!("expected {FORMS}, got an empty body")),
        Some(b'[') => {
            let rows = read_rows(&mut scanner, &mut inputs)?;
            scanner.end()?;
            return inputs.finish(Some(rows), ResponseSpec::rows());
        }
        Some(b'{') => {}
        Some(_) => return Err(scanner.unexpected(FORMS)),
    }
    let seen = read_object(&mut scanner, &mut inputs, &mut section)?;
    let Some(found) = seen.data else {
        let hint = if seen.is_event {
            "; send a CloudEvent with content-type application/cloudevents+json".to_owned()
        } else if seen.has_columns && seen.has_data {
            format!("; send a DataFrame, which has columns and data, as {}", example::dataframe(&inputs))
        } else {
            String::new()
        };
        return refuse(format!("expected {FORMS}, got an object with none of their keys{hint}"));
    };
    let (mut protocol, mut timeout) = (found.protocol, None);
    if let Protocol::V2 { outputs, binary } = &mut protocol {
        if let Some(mut at) = seen.outputs {
            *outputs = v2::read_outputs(&mut at, signature).within("outputs")?;
        }
        if let Some(mut at) = seen.parameters {
            timeout = v2::read_timeout(&mut at.clone()).within("parameters")?;
            *binary = v2::read_binary_output(&mut at).within("parameters")?;
        }
    }
    if let Some(section) = section {
        section.end()?;
    }
    let request = inputs.finish(found.rows, ResponseSpec { protocol, id: seen.id })?;
    Ok(Request { timeout, ..request })
}

/// Each of `lines`, which are parts of `text`, is a row.
pub(super) fn decode_lines(
    text: &[u8],
    lines: &[Range<usize>],
    signature: &Signature,
    limits: &Limits,
) -> Decoded<Request> {
    let mut scanner = Scanner::new(text)?;
    let mut inputs = Inputs::new(signature, *limits, text.len());
    read_lines(&mut scanner, &mut inputs, lines)?;
    inputs.finish(Some(lines.len()), ResponseSpec::lines())
}

/// The key with the tensors of a body.
struct Payload {
    key: &'static str,
    protocol: Protocol,
    /// Number of rows, if the body lists them one by one.
    rows: Option<usize>,
}

#[derive(Default)]
struct Seen<'a> {
    id: Option<Id>,
    data: Option<Payload>,
    /// The position of v2's list of requested outputs, which is read last: only `inputs`, which may follow
    /// it, says that the body is v2.
    outputs: Option<Scanner<'a>>,
    /// The position of v2's parameters; those of the other protocols are ignored.
    parameters: Option<Scanner<'a>>,
    /// The body looks like a CloudEvent.
    is_event: bool,
    /// The body has keys of a DataFrame as MLflow 1 took it.
    has_columns: bool,
    has_data: bool,
}

fn read_object<'a>(
    scanner: &mut Scanner<'a>,
    inputs: &mut Inputs<'_>,
    section: &mut Option<Section<'_>>,
) -> Decoded<Seen<'a>> {
    scanner.open(b'{')?;
    let mut seen = Seen::default();
    while let Some(key) = scanner.key()? {
        let payload = PAYLOAD_KEYS.into_iter().find(|known| key == *known);
        match (payload, &seen.data) {
            (Some(known), Some(data)) if data.key == known => return Err(twice("key", &key)),
            (Some(known), Some(data)) => {
                return refuse(format!("expected one of {FORMS}, got both \"{}\" and \"{known}\"", data.key));
            }
            (Some(known), None) => seen.data = Some(read_data(scanner, inputs, section, known)?),
            (None, _) => match &*key {
                "id" if seen.id.is_some() => return Err(twice("key", &key)),
                "id" => seen.id = read_id(scanner)?,
                "outputs" => set_once(&mut seen.outputs, scanner.set_aside()?, &key)?,
                "parameters" => set_once(&mut seen.parameters, scanner.set_aside()?, &key)?,
                // Ignored: `signature_name` and other additions of other servers' clients.
                _ => {
                    seen.is_event |= key == "specversion";
                    seen.has_columns |= key == "columns";
                    seen.has_data |= key == "data";
                    scanner.skip()?;
                }
            },
        }
    }
    scanner.end()?;
    Ok(seen)
}

fn read_data(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    section: &mut Option<Section<'_>>,
    key: &'static str,
) -> Decoded<Payload> {
    let mut rows = None;
    let mut protocol = Protocol::Rows;
    match key {
        "inputs" if v2::is_next(scanner, inputs.signature) => {
            protocol = Protocol::V2 { outputs: Vec::new(), binary: false };
            v2::read_tensors(scanner, inputs, section)?;
        }
        "inputs" => {
            protocol = Protocol::Columns;
            read_columns(scanner, inputs)?;
        }
        "dataframe_split" => rows = Some(read_split(scanner, inputs).within(key)?),
        _ => rows = Some(read_rows(scanner, inputs).within(key)?),
    }
    Ok(Payload { key, protocol, rows })
}

/// True if the body is an object with a payload key. Stops at the first, or where it is no JSON.
pub(super) fn is_body(body: &[u8]) -> bool {
    let find = || {
        let mut scanner = Scanner::new(body)?;
        scanner.enter(b'{', FORMS)?;
        while let Some(key) = scanner.key()? {
            if PAYLOAD_KEYS.iter().any(|known| key == *known) {
                return Ok(true);
            }
            scanner.skip()?;
        }
        Decoded::Ok(false)
    };
    find().unwrap_or(false)
}

/// Reads a string or a number; `None` for null.
pub(super) fn read_id(scanner: &mut Scanner<'_>) -> Decoded<Option<Id>> {
    match scanner.peek() {
        Some(b'"') => {
            let text = scanner.string()?;
            check_id(&text).within("id")?;
            Ok(Some(Id::String(text.into_owned())))
        }
        Some(b'-' | b'0'..=b'9') => {
            let number = scan_number(scanner)?;
            check_id(number.text()).within("id")?;
            Ok(Some(Id::Number(number.text().to_owned())))
        }
        _ if scanner.word("null") => Ok(None),
        _ => Err(scanner.unexpected("a string or a number").within("id")),
    }
}

/// The id of a body that is no request, for its error response. Found if the body is JSON up to the id;
/// `None` if the id cannot be repeated.
pub(super) fn find_id(body: &[u8]) -> Option<Id> {
    let mut scanner = Scanner::new(body).ok()?;
    scanner.open(b'{').ok().filter(|open| *open)?;
    while let Some(key) = scanner.key().ok()? {
        if key == "id" {
            return read_id(&mut scanner).ok()?;
        }
        scanner.skip().ok()?;
    }
    None
}
