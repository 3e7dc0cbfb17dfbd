//! The outermost level of a JSON body: which protocol it speaks, and the keys that all of them share.

use super::binary::Section;
use super::inputs::Inputs;
use super::scanner::Scanner;
use super::{Id, Limits, Protocol, Request, ResponseSpec, columns, example, rows, v2};
use crate::decode::error;
use crate::decode::error::{DecodeError, Decoded, quoted};
use crate::decode::pandas_split;
use crate::tensor::signature::Signature;

const FORMS: &str = "{\"instances\": […]}, {\"inputs\": …} or an Open Inference Protocol v2 request";

/// `binary` is what stands behind the JSON, where the request says that something does.
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
        None => return Err(DecodeError::new(format!("expected {FORMS}, got an empty body"))),
        Some(b'[') => {
            let rows = rows::read(&mut scanner, &mut inputs)?;
            scanner.end()?;
            return inputs.finish(Some(rows), ResponseSpec { protocol: Protocol::Rows, id: None });
        }
        Some(b'{') => {}
        Some(_) => return Err(scanner.unexpected(FORMS)),
    }
    let seen = object(&mut scanner, &mut inputs, &mut section)?;
    let Some(found) = seen.data else {
        let hint = if seen.is_event {
            "; send a CloudEvent with content-type application/cloudevents+json".to_owned()
        } else if seen.has_columns && seen.has_data {
            format!("; columns and data are those of a frame, which is sent as {}", example::frame(&inputs))
        } else {
            String::new()
        };
        return Err(DecodeError::new(format!(
            "expected {FORMS}, got an object with none of their keys{hint}"
        )));
    };
    let protocol = match found.protocol {
        Protocol::V2 { .. } => {
            let asked = seen.outputs.map(|mut at| v2::outputs(&mut at, signature)).transpose();
            let binary = seen.parameters.map(|mut at| v2::wants_binary(&mut at)).transpose();
            Protocol::V2 {
                outputs: asked.map_err(|error| error.within("outputs"))?.unwrap_or_default(),
                binary: binary.map_err(|error| error.within("parameters"))?.unwrap_or_default(),
            }
        }
        protocol => protocol,
    };
    if let Some(section) = section {
        section.end()?;
    }
    inputs.finish(found.rows, ResponseSpec { protocol, id: seen.id })
}

/// The tensors of a body.
struct Data {
    key: &'static str,
    protocol: Protocol,
    /// How many, where the body lists rows one by one.
    rows: Option<usize>,
}

#[derive(Default)]
struct Seen<'a> {
    id: Option<Id>,
    data: Option<Data>,
    /// Where v2's list of wanted outputs stands; only `inputs` tells whether it is v2, and may come later.
    outputs: Option<Scanner<'a>>,
    /// Likewise v2's parameters; those of the other forms change nothing.
    parameters: Option<Scanner<'a>>,
    /// It looks like a CloudEvent.
    is_event: bool,
    /// It looks like a frame as MLflow 1 took it.
    has_columns: bool,
    has_data: bool,
}

fn object<'a>(
    scanner: &mut Scanner<'a>,
    inputs: &mut Inputs<'_>,
    section: &mut Option<Section<'_>>,
) -> Decoded<Seen<'a>> {
    scanner.open(b'{')?;
    let mut seen = Seen::default();
    let mut first = true;
    while let Some(key) = scanner.key(first)? {
        first = false;
        let twice = || DecodeError::new(format!("expected each key once, got {} twice", quoted(&key)));
        let known = match &*key {
            "instances" => "instances",
            "inputs" => "inputs",
            "dataframe_records" => "dataframe_records",
            "dataframe_split" => "dataframe_split",
            "id" if seen.id.is_some() => return Err(twice()),
            "id" => {
                seen.id = id(scanner)?;
                continue;
            }
            "outputs" | "parameters" => {
                scanner.peek();
                let place = if key == "outputs" { &mut seen.outputs } else { &mut seen.parameters };
                if place.replace(scanner.clone()).is_some() {
                    return Err(twice());
                }
                scanner.skip()?;
                continue;
            }
            // `signature_name` and what else clients of other servers add.
            _ => {
                seen.is_event |= key == "specversion";
                seen.has_columns |= key == "columns";
                seen.has_data |= key == "data";
                scanner.skip()?;
                continue;
            }
        };
        match &seen.data {
            Some(data) if data.key == known => return Err(twice()),
            Some(data) => {
                return Err(DecodeError::new(format!(
                    "expected one of {FORMS}, got both \"{}\" and \"{known}\"",
                    data.key
                )));
            }
            None => seen.data = Some(data(scanner, inputs, section, known)?),
        }
    }
    scanner.end()?;
    Ok(seen)
}

fn data(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    section: &mut Option<Section<'_>>,
    key: &'static str,
) -> Decoded<Data> {
    let mut rows = None;
    let mut protocol = Protocol::Rows;
    match key {
        "inputs" if v2::is_next(scanner, inputs.signature) => {
            protocol = Protocol::V2 { outputs: Vec::new(), binary: false };
            v2::read(scanner, inputs, section)?;
        }
        "inputs" => {
            protocol = Protocol::Columns;
            columns::read(scanner, inputs)?;
        }
        "dataframe_split" => {
            rows = Some(pandas_split::read(scanner, inputs).map_err(|error| error.within(key))?)
        }
        _ => rows = Some(rows::read(scanner, inputs).map_err(|error| error.within(key))?),
    }
    Ok(Data { key, protocol, rows })
}

/// A string or a number; null is none.
pub(super) fn id(scanner: &mut Scanner<'_>) -> Decoded<Option<Id>> {
    match scanner.peek() {
        Some(b'"') => {
            let text = scanner.string()?;
            error::check_id(&text).map_err(|error| error.within("id"))?;
            Ok(Some(Id::String(text.into_owned())))
        }
        Some(b'-' | b'0'..=b'9') => {
            let number = super::number::scan(scanner)?;
            error::check_id(number.text()).map_err(|error| error.within("id"))?;
            Ok(Some(Id::Number(number.text().to_owned())))
        }
        _ if scanner.word("null") => Ok(None),
        _ => Err(scanner.unexpected("a string or a number").within("id")),
    }
}

/// The id of a body that is no request, for its error response: found wherever the body is JSON up to it.
/// None where it is one that no response repeats.
pub(super) fn find_id(body: &[u8]) -> Option<Id> {
    let mut scanner = Scanner::new(body).ok()?;
    scanner.open(b'{').ok().filter(|open| *open)?;
    let mut first = true;
    while let Some(key) = scanner.key(first).ok()? {
        first = false;
        if key == "id" {
            return id(&mut scanner).ok()?;
        }
        scanner.skip().ok()?;
    }
    None
}
