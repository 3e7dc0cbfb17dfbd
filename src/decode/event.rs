//! CloudEvents 1.0 (github.com/cloudevents/spec) as requests: in headers (binary mode) or in the body
//! (structured mode, JSON format). Their data is read like any other body.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::{DecodeError, Decoded, key_twice, quoted};
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

/// True if a body is itself an event; [`check_format`] refuses the formats that are not supported.
pub(super) fn is_structured(media: &MediaType<'_>) -> bool {
    media.essence.starts_with("application/cloudevents")
}

/// The event in binary mode.
pub(super) fn from_headers(headers: Headers<'_>) -> Decoded<Event> {
    let given = |name: &str| headers.get(name).filter(|value| !value.is_empty());
    check_version(given("ce-specversion").unwrap_or_default())?;
    for required in ["ce-source", "ce-type"] {
        given(required).ok_or_else(|| missing(required))?;
    }
    let event = Event {
        mode: Mode::Binary,
        id: given("ce-id").ok_or_else(|| missing("ce-id"))?.to_owned(),
        subject: given("ce-subject").map(str::to_owned),
        correlation_id: given("ce-correlationid").map(str::to_owned),
    };
    event.check()
}

impl Event {
    /// Refuses an event whose attributes a response could not repeat.
    fn check(self) -> Decoded<Self> {
        let repeated = [
            ("id", Some(&self.id)),
            ("subject", self.subject.as_ref()),
            ("correlationid", self.correlation_id.as_ref()),
        ];
        for (name, value) in repeated {
            let place = |error: Box<DecodeError>| error.within(&format!("{name} of the CloudEvent"));
            value.map_or(Ok(()), |value| check_id(value)).map_err(place)?;
        }
        Ok(self)
    }
}

fn missing(name: &str) -> Box<DecodeError> {
    DecodeError::new(format!("expected a CloudEvent with specversion, id, source and type, got no {name}"))
}

fn check_version(version: &str) -> Decoded<()> {
    if version == "1.0" {
        return Ok(());
    }
    Err(DecodeError::new(format!("expected a CloudEvent of specversion \"1.0\", got {}", quoted(version))))
}

/// Refuses CloudEvents that are not one event in JSON.
pub(super) fn check_format(media: &MediaType<'_>) -> Decoded<()> {
    match &*media.essence {
        "application/cloudevents" | "application/cloudevents+json" => Ok(()),
        batch if batch.starts_with("application/cloudevents-batch") => Err(DecodeError::new(
            "batched CloudEvents (application/cloudevents-batch) are not supported; send each event as a \
             request",
        )),
        other => Err(DecodeError::new(format!(
            "CloudEvents as {} are not supported; send application/cloudevents+json or ce- attributes",
            quoted(other)
        ))),
    }
}

/// The members of an event that are used.
#[derive(Default)]
struct EventMembers<'a> {
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    r#type: Option<String>,
    subject: Option<String>,
    correlation_id: Option<String>,
    data_type: Option<String>,
    /// The position of `data`, which is read in place by its own content type.
    data: Option<Scanner<'a>>,
    data_base64: Option<Cow<'a, str>>,
    /// The extension with the address of data that is stored elsewhere.
    dataref: Option<String>,
}

/// The data of the event in structured mode, and its content type. Sets `found` as soon as the event is
/// known, so that errors of its data are answered by an event.
pub(super) fn from_body<'a>(
    body: &'a [u8],
    found: &mut Option<Box<Event>>,
) -> Decoded<(Cow<'a, [u8]>, String)> {
    let (event, data) = read_event(read_members(body)?)?;
    *found = Some(Box::new(event));
    data.into_body()
}

/// An event in structured mode, its `dataref` and its data's content type; `None` if it has data, or no
/// `dataref`.
pub(super) fn find_reference(body: &[u8]) -> Decoded<Option<(Event, String, Option<String>)>> {
    let mut members = read_members(body)?;
    let Some(address) = members.dataref.take() else { return Ok(None) };
    let (event, data) = read_event(members)?;
    let has_data = data.json.is_some() || data.base64.is_some();
    Ok((!has_data).then_some((event, address, data.content_type)))
}

fn read_members(body: &[u8]) -> Decoded<EventMembers<'_>> {
    let mut scanner = Scanner::new(body)?;
    if !scanner.open(b'{')? {
        return Err(scanner.unexpected("a CloudEvent, a JSON object"));
    }
    let mut members = EventMembers::default();
    let mut first = true;
    while let Some(key) = scanner.key(first)? {
        first = false;
        let seen = match &*key {
            "data" => {
                scanner.peek();
                let seen = members.data.replace(scanner.clone()).is_some();
                scanner.skip()?;
                seen
            }
            "data_base64" => read_string(&mut scanner, &key)?
                .is_some_and(|data| members.data_base64.replace(data).is_some()),
            _ => {
                let member = match &*key {
                    "specversion" => &mut members.specversion,
                    "id" => &mut members.id,
                    "source" => &mut members.source,
                    "type" => &mut members.r#type,
                    "subject" => &mut members.subject,
                    "correlationid" => &mut members.correlation_id,
                    "datacontenttype" => &mut members.data_type,
                    "dataref" => &mut members.dataref,
                    _ => {
                        scanner.skip()?;
                        continue;
                    }
                };
                let value = read_string(&mut scanner, &key)?;
                let seen = member.is_some();
                *member = value.map(Cow::into_owned).or_else(|| member.take());
                seen
            }
        };
        if seen {
            return Err(key_twice(&key));
        }
    }
    scanner.end()?;
    Ok(members)
}

/// Reads a string; `None` for null (CloudEvents JSON format, section 2.2).
fn read_string<'a>(scanner: &mut Scanner<'a>, key: &str) -> Decoded<Option<Cow<'a, str>>> {
    match scanner.peek() {
        Some(b'"') => scanner.string().map(Some),
        _ if scanner.word("null") => Ok(None),
        _ => Err(scanner.unexpected(&format!("a string in {}", quoted(key)))),
    }
}

struct EventData<'a> {
    content_type: Option<String>,
    json: Option<Scanner<'a>>,
    base64: Option<Cow<'a, str>>,
}

fn read_event(members: EventMembers<'_>) -> Decoded<(Event, EventData<'_>)> {
    let given = |value: Option<String>| value.filter(|value| !value.is_empty());
    check_version(&given(members.specversion).ok_or_else(|| missing("specversion"))?)?;
    given(members.source).ok_or_else(|| missing("source"))?;
    given(members.r#type).ok_or_else(|| missing("type"))?;
    let event = Event {
        mode: Mode::Structured,
        id: given(members.id).ok_or_else(|| missing("id"))?,
        subject: given(members.subject),
        correlation_id: given(members.correlation_id),
    };
    let data = EventData { content_type: members.data_type, json: members.data, base64: members.data_base64 };
    Ok((event.check()?, data))
}

impl<'a> EventData<'a> {
    fn into_body(self) -> Decoded<(Cow<'a, [u8]>, String)> {
        let content_type = self.content_type.unwrap_or_else(|| "application/json".to_owned());
        match (self.json, self.base64) {
            (Some(_), Some(_)) => Err(DecodeError::new("expected data or data_base64, got both")),
            (None, None) => {
                Err(DecodeError::new("expected data or data_base64 in the CloudEvent, got neither"))
            }
            (None, Some(encoded)) => {
                let data = STANDARD.decode(encoded.as_bytes()).map_err(|e| {
                    DecodeError::new(format!("data_base64: expected padded base64, got an error: {e}"))
                })?;
                Ok((Cow::Owned(data), content_type))
            }
            (Some(mut at), None) => {
                // Text is in a string; JSON is in the event as it is.
                let media = MediaType::parse(&content_type);
                if !media.is_json()
                    && !media.essence.starts_with("text/")
                    && media.essence != "application/csv"
                {
                    return Err(DecodeError::new(format!(
                        "expected data_base64 for datacontenttype {}, got data",
                        quoted(&media.essence)
                    )));
                }
                if !media.is_json() {
                    let Some(text) = read_string(&mut at, "data")? else {
                        return Err(DecodeError::new("expected a string in \"data\", got null"));
                    };
                    let text = match text {
                        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                    };
                    return Ok((text, content_type));
                }
                let begin = at.at;
                at.skip()?;
                Ok((Cow::Borrowed(&at.bytes[begin..at.at]), content_type))
            }
        }
    }
}
