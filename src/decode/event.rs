//! CloudEvents 1.0 (github.com/cloudevents/spec) as requests: in headers (binary mode) or in the body
//! (structured mode, JSON format). Their data is read like any other body.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::{DecodeError, Decoded, quoted, refuse, set_once, twice};
use super::limits::check_id;
use super::media::MediaType;
use super::scanner::Scanner;
use crate::headers::Headers;

/// The place of an event's attributes, which is the same in its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `ce-…` headers beside the data.
    Binary,
    /// `application/cloudevents+json`.
    Structured,
}

/// The attributes of an event that its response repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub mode: Mode,
    pub id: String,
    pub subject: Option<String>,
    pub correlation_id: Option<String>,
}

/// The attributes that are used, by their headers in binary mode.
const ATTRIBUTES: [&str; 8] = [
    "ce-specversion",
    "ce-id",
    "ce-source",
    "ce-type",
    "ce-subject",
    "ce-correlationid",
    "ce-datacontenttype",
    "ce-dataref",
];

/// The name of an attribute in structured mode.
pub fn member_name(attribute: &str) -> &str {
    attribute.trim_start_matches("ce-")
}

/// True if a body is itself an event; [`check_format`] refuses the formats that are not supported.
pub(super) fn is_structured(media: &MediaType<'_>) -> bool {
    media.essence.starts_with("application/cloudevents")
}

impl Event {
    /// The event in binary mode; `None` if the headers have none.
    pub(super) fn from_headers(headers: Headers<'_>) -> Decoded<Option<Self>> {
        let is_event = headers.get("ce-specversion").is_some();
        is_event.then(|| Self::new(Mode::Binary, |attribute| headers.get(attribute))).transpose()
    }

    /// Refuses an event without a required attribute, or with one that a response could not repeat.
    fn new<'a>(mode: Mode, get: impl Fn(&str) -> Option<&'a str>) -> Decoded<Self> {
        let given = |attribute: &str| get(attribute).filter(|value| !value.is_empty());
        let required = |attribute: &str| {
            given(attribute).ok_or_else(|| {
                let name = if mode == Mode::Binary { attribute } else { member_name(attribute) };
                DecodeError::new(format!(
                    "expected a CloudEvent with specversion, id, source and type, got no {name}"
                ))
            })
        };
        let repeated = |attribute: &str, value: &str| match check_id(value) {
            Ok(()) => Ok(value.to_owned()),
            Err(error) => Err(error.within(&format!("{} of the CloudEvent", member_name(attribute)))),
        };
        let optional = |attribute: &str| given(attribute).map(|value| repeated(attribute, value)).transpose();
        let version = required("ce-specversion")?;
        if version != "1.0" {
            let got = quoted(version);
            return refuse(format!("expected a CloudEvent of specversion \"1.0\", got {got}"));
        }
        required("ce-source")?;
        required("ce-type")?;
        Ok(Self {
            mode,
            id: repeated("ce-id", required("ce-id")?)?,
            subject: optional("ce-subject")?,
            correlation_id: optional("ce-correlationid")?,
        })
    }
}

/// Refuses CloudEvents that are not one event in JSON.
pub(super) fn check_format(media: &MediaType<'_>) -> Decoded<()> {
    match &*media.essence {
        "application/cloudevents" | "application/cloudevents+json" => Ok(()),
        batch if batch.starts_with("application/cloudevents-batch") => refuse(
            "batched CloudEvents (application/cloudevents-batch) are not supported; send each event as a \
             request",
        ),
        other => refuse(format!(
            "CloudEvents as {} are not supported; send application/cloudevents+json or ce- attributes",
            quoted(other)
        )),
    }
}

/// The members of an event that are used.
#[derive(Default)]
struct EventMembers<'a> {
    attributes: Vec<(&'static str, Cow<'a, str>)>,
    /// The position of `data`, which is read in place by its own content type.
    data: Option<Scanner<'a>>,
    data_base64: Option<Cow<'a, str>>,
}

/// The data of the event in structured mode, and its content type. Sets `found` as soon as the event is
/// known, so that errors of its data are answered by an event.
pub(super) fn from_body<'a>(
    body: &'a [u8],
    found: &mut Option<Box<Event>>,
) -> Decoded<(Cow<'a, [u8]>, String)> {
    let members = EventMembers::read(body)?;
    *found = Some(Box::new(members.event()?));
    members.into_body()
}

/// An event in structured mode, its `dataref` and its data's content type; `None` if it has data, or no
/// `dataref`.
pub(super) fn find_reference(body: &[u8]) -> Decoded<Option<(Event, String, Option<String>)>> {
    let members = EventMembers::read(body)?;
    let has_data = members.data.is_some() || members.data_base64.is_some();
    let Some(address) = members.get("ce-dataref").filter(|_| !has_data) else { return Ok(None) };
    let content_type = members.get("ce-datacontenttype").map(str::to_owned);
    Ok(Some((members.event()?, address.to_owned(), content_type)))
}

/// Reads a string; `None` for null (CloudEvents JSON format, section 2.2).
fn read_string<'a>(scanner: &mut Scanner<'a>, key: &str) -> Decoded<Option<Cow<'a, str>>> {
    match scanner.peek() {
        Some(b'"') => scanner.string().map(Some),
        _ if scanner.word("null") => Ok(None),
        _ => Err(scanner.unexpected(&format!("a string in {}", quoted(key)))),
    }
}

impl<'a> EventMembers<'a> {
    fn read(body: &'a [u8]) -> Decoded<Self> {
        let mut scanner = Scanner::new(body)?;
        scanner.enter(b'{', "a CloudEvent, a JSON object")?;
        let mut members = Self::default();
        while let Some(key) = scanner.key()? {
            if key == "data" {
                set_once(&mut members.data, scanner.set_aside()?, &key)?;
            } else if key == "data_base64" {
                if let Some(data) = read_string(&mut scanner, &key)? {
                    set_once(&mut members.data_base64, data, &key)?;
                }
            } else if let Some(attribute) = ATTRIBUTES.into_iter().find(|name| member_name(name) == key) {
                let value = read_string(&mut scanner, &key)?;
                if members.get(attribute).is_some() {
                    return Err(twice("key", &key));
                }
                members.attributes.extend(value.map(|value| (attribute, value)));
            } else {
                scanner.skip()?;
            }
        }
        scanner.end()?;
        Ok(members)
    }

    fn get(&self, attribute: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| *name == attribute).map(|(_, value)| &**value)
    }

    fn event(&self) -> Decoded<Event> {
        Event::new(Mode::Structured, |attribute| self.get(attribute))
    }

    fn into_body(self) -> Decoded<(Cow<'a, [u8]>, String)> {
        let content_type = self.get("ce-datacontenttype").unwrap_or("application/json").to_owned();
        let body = match (self.data, self.data_base64) {
            (Some(_), Some(_)) => return refuse("expected data or data_base64, got both"),
            (None, None) => return refuse("expected data or data_base64 in the CloudEvent, got neither"),
            (None, Some(encoded)) => Cow::Owned(STANDARD.decode(encoded.as_bytes()).map_err(|e| {
                DecodeError::new(format!("data_base64: expected padded base64, got an error: {e}"))
            })?),
            (Some(data), None) => read_data(data, &MediaType::parse(&content_type))?,
        };
        Ok((body, content_type))
    }
}

/// Reads `data`: JSON is in the event as it is, text is in a string.
fn read_data<'a>(mut data: Scanner<'a>, media: &MediaType<'_>) -> Decoded<Cow<'a, [u8]>> {
    if media.is_json() {
        let begin = data.at;
        data.skip()?;
        return Ok(Cow::Borrowed(&data.bytes[begin..data.at]));
    }
    if !media.essence.starts_with("text/") && media.essence != "application/csv" {
        let got = quoted(&media.essence);
        return refuse(format!("expected data_base64 for datacontenttype {got}, got data"));
    }
    match read_string(&mut data, "data")? {
        None => refuse("expected a string in \"data\", got null"),
        Some(Cow::Borrowed(text)) => Ok(Cow::Borrowed(text.as_bytes())),
        Some(Cow::Owned(text)) => Ok(Cow::Owned(text.into_bytes())),
    }
}
