//! The instances of a chunk as requests of the model.
//!
//! All instances are decoded together, straight into one request, if the model's rows share calls. If one of them
//! cannot be, each is decoded by itself, so that it alone fails.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::job::{InputFormat, JobSpec};
use super::records::{Chunk, MAX_RECORD};
use super::select::{self, Selected, Table};
use super::store::Store;
use crate::decode::{self, Protocol, Request, envelope};
use crate::engine::admit::LIMITS;
use crate::error::{Code, Rejection};
use crate::headers::Headers;
use crate::model::Model;

/// Instances that are decoded one by one are searched for this many requests with rows of their shape.
const OPEN_REQUESTS: usize = 8;

/// The form of a job's input.
#[derive(Debug)]
pub struct Form<'a> {
    pub job: &'a JobSpec,
    pub format: InputFormat,
    /// For tables.
    pub table: Option<Table>,
    /// Reads the files of a list.
    pub store: &'a Store,
}

/// The instances of a chunk as the model gets them.
pub struct Instances<'a> {
    form: &'a Form<'a>,
    /// In a table with the header in front.
    text: Cow<'a, [u8]>,
    /// Place of each record's instance, or why it has none.
    pub places: Vec<Result<Range<usize>, Rejection>>,
    /// The key of each record as JSON, if the job has a key field.
    pub keys: Vec<Option<Vec<u8>>>,
    /// The content of each file of a list.
    files: Vec<Option<Vec<u8>>>,
}

/// A request with the records that its rows belong to, in order.
#[derive(Debug)]
pub struct Part {
    pub request: Request,
    pub records: Vec<usize>,
}

impl<'a> Form<'a> {
    /// # Errors
    /// Files of a list cannot be read now.
    pub fn instances(&'a self, chunk: &'a Chunk) -> anyhow::Result<Instances<'a>> {
        let mut instances = Instances {
            form: self,
            text: Cow::Borrowed(&chunk.text),
            places: Vec::with_capacity(chunk.records.len()),
            keys: vec![None; chunk.records.len()],
            files: Vec::new(),
        };
        match self.format {
            InputFormat::FileList | InputFormat::Files => {
                let addresses: Vec<Cow<'_, str>> = chunk
                    .records
                    .iter()
                    .map(|record| String::from_utf8_lossy(chunk.bytes(record).trim_ascii()))
                    .collect();
                for read in self.store.read_all(&addresses, MAX_RECORD as u64)? {
                    instances.places.push(read.as_ref().map(|_| 0..0).map_err(Clone::clone));
                    instances.files.push(read.ok());
                }
                return Ok(instances);
            }
            InputFormat::Csv => {
                let header = &self.table.as_ref().expect("a table has a header").model_header;
                let mut text = Vec::with_capacity(header.len() + chunk.text.len());
                text.extend_from_slice(header);
                instances.text = text.into();
            }
            InputFormat::Jsonl if select::is_needed(self.job) => instances.text = Vec::new().into(),
            InputFormat::Jsonl => {}
        }
        for (record, own_key) in chunk.records.iter().zip(&mut instances.keys) {
            let bytes = chunk.bytes(record);
            if record.is_too_long {
                let message = format!("expected a record of at most {MAX_RECORD} bytes, got a longer one");
                instances.places.push(Err(Rejection::new(Code::InputTooLarge, message)));
                continue;
            }
            let Cow::Owned(text) = &mut instances.text else {
                instances.places.push(Ok(record.range.clone()));
                continue;
            };
            let selected = match &self.table {
                Some(table) if table.is_whole() => {
                    let begin = text.len();
                    text.extend_from_slice(bytes);
                    text.push(b'\n');
                    instances.places.push(Ok(begin..text.len() - 1));
                    continue;
                }
                Some(table) => table.row(bytes),
                None => select::object(self.job, bytes),
            };
            let place = selected.map(|Selected { instance, key }| {
                *own_key = key;
                let begin = text.len();
                text.extend_from_slice(&instance);
                text.push(b'\n');
                begin..text.len() - 1
            });
            instances.places.push(place);
        }
        Ok(instances)
    }
}

impl Instances<'_> {
    /// Requests for all instances that can be decoded; the others get their errors.
    pub fn decode(&mut self, model: &Model) -> Vec<Part> {
        let shares = model.executor.shares_calls();
        if shares && self.files.is_empty() {
            let places: Result<Vec<Range<usize>>, _> = self.places.iter().cloned().collect();
            if let Ok(places) = places
                && let Ok(request) = self.decode_together(model, &places)
                && request.rows == places.len()
            {
                return vec![Part { request, records: (0..places.len()).collect() }];
            }
        }
        let mut parts: Vec<Part> = Vec::new();
        for number in 0..self.places.len() {
            if self.places[number].is_err() {
                continue;
            }
            let request = match self.decode_one(model, number) {
                Ok(request) => request,
                Err(rejection) => {
                    self.places[number] = Err(rejection);
                    continue;
                }
            };
            if shares {
                add(&mut parts, request, number);
            } else {
                parts.push(Part { request, records: vec![number] });
            }
        }
        parts
    }

    /// Like [`Self::decode`], with a request for each of these records.
    pub fn decode_each(&mut self, model: &Model, records: &[usize]) -> Vec<Part> {
        let mut parts = Vec::with_capacity(records.len());
        for &number in records {
            match self.decode_one(model, number) {
                Ok(request) => parts.push(Part { request, records: vec![number] }),
                Err(rejection) => self.places[number] = Err(rejection),
            }
        }
        parts
    }

    fn decode_together(&self, model: &Model, places: &[Range<usize>]) -> Result<Request, Rejection> {
        match self.form.format {
            InputFormat::Csv => decode::decode_table(&self.text, &model.signature, &LIMITS),
            _ => decode::decode_lines(&self.text, places, &model.signature, &LIMITS),
        }
    }

    fn decode_one(&self, model: &Model, number: usize) -> Result<Request, Rejection> {
        let signature = &model.signature;
        let place = self.places[number].clone()?;
        let text = &self.text[place];
        match self.form.format {
            InputFormat::Csv => {
                let header = &self.form.table.as_ref().expect("a table has a header").model_header;
                decode::decode_table(&[header, text].concat(), signature, &LIMITS).map_err(in_its_row)
            }
            InputFormat::Jsonl => {
                let instance =
                    decode::decode_lines(text, std::slice::from_ref(&(0..text.len())), signature, &LIMITS);
                instance.or_else(|rejection| {
                    // A body's own error says more about a body.
                    if !decode::is_body(text) {
                        return Err(rejection);
                    }
                    decode::decode(text, signature, &LIMITS).map_err(|failure| failure.rejection)
                })
            }
            InputFormat::FileList | InputFormat::Files => {
                let body = self.files[number].as_deref().unwrap_or_default();
                // The bytes say what they are.
                let headers = HashMap::new();
                let opened = envelope::open(Headers(&headers), body, &LIMITS);
                let decoded = opened.content?.decode(signature, &LIMITS);
                let mut request = decoded.map_err(|failure| failure.rejection)?;
                if request.response.protocol == Protocol::Rows && request.rows == 1 {
                    request.response.protocol = Protocol::Lines;
                }
                Ok(request)
            }
        }
    }
}

/// Adds a row to one of the last requests with rows of its shape, else as a request of its own.
fn add(parts: &mut Vec<Part>, mut request: Request, number: usize) {
    let has_lines = |request: &Request| request.response.protocol == Protocol::Lines;
    if has_lines(&request) {
        let last = parts.iter_mut().rev().take(OPEN_REQUESTS);
        for part in last.filter(|part| has_lines(&part.request)) {
            match part.request.append(request) {
                None => return part.records.push(number),
                Some(other) => request = other,
            }
        }
    }
    parts.push(Part { request, records: vec![number] });
}

/// The error of a row without its place in a table of this row alone. Its place in the file stands beside it.
fn in_its_row(rejection: Rejection) -> Rejection {
    let Some((_, rest)) =
        rejection.message.strip_prefix("row 1 (line ").and_then(|rest| rest.split_once(')'))
    else {
        return rejection;
    };
    let message = rest.trim_start_matches([',', ':', ' ']).to_owned();
    Rejection { message: message.into(), ..rejection }
}
