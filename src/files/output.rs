//! The lines of the results and of the errors, as Vertex AI writes them.

use serde_json::value::RawValue;

use super::chunk::Form;
use super::job::{InputFormat, OutputFormat};
use super::records::{Chunk, Record};
use super::rows::Predictions;
use super::select::push_cell;
use crate::error::Rejection;

/// Bytes of an instance in an error, where it is no JSON.
const MAX_QUOTED: usize = 4 << 10;

/// Lines of some records.
#[derive(Debug, Default)]
pub struct Lines {
    pub results: Vec<u8>,
    pub errors: Vec<u8>,
    pub successful: u64,
    pub failed: u64,
    /// The first error, for a person to read.
    pub first_error: Option<String>,
}

/// Writes the lines of a chunk's records.
#[derive(Debug)]
pub struct Writer<'a> {
    pub form: &'a Form<'a>,
    /// Names of the model's outputs.
    pub outputs: Vec<String>,
    /// Address of the file that the records lie in; none where each is a file of its own.
    pub source: Option<&'a str>,
}

impl Writer<'_> {
    /// The first line of the results; empty where there is none.
    pub fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        if self.form.job.output_format == OutputFormat::Jsonl {
            return header;
        }
        match (&self.form.table, &self.form.job.key_field) {
            (_, Some(key)) => push_cell(&mut header, key),
            (Some(table), None) => header.extend_from_slice(&table.header),
            (None, None) => header.extend_from_slice(b"instance"),
        }
        let alone = ["prediction".to_owned()];
        let outputs = if self.outputs.len() > 1 { &self.outputs[..] } else { &alone };
        for output in outputs {
            header.push(b',');
            push_cell(&mut header, output);
        }
        header.push(b'\n');
        header
    }

    pub fn lines(&self, chunk: &Chunk, predictions: &Predictions) -> Lines {
        let mut lines = Lines::default();
        lines.results.reserve(2 * chunk.text.len());
        for (number, record) in chunk.records.iter().enumerate() {
            let key = predictions.keys[number].as_deref();
            let written = match predictions.row(number) {
                Ok(prediction) => self.result(&mut lines.results, chunk.bytes(record), key, prediction),
                Err(rejection) => Err(rejection.clone()),
            };
            match written {
                Ok(()) => lines.successful += 1,
                Err(rejection) => {
                    lines.failed += 1;
                    self.error(&mut lines, chunk, record, &rejection);
                }
            }
        }
        lines
    }

    fn result(
        &self,
        out: &mut Vec<u8>,
        record: &[u8],
        key: Option<&[u8]>,
        prediction: &[u8],
    ) -> Result<(), Rejection> {
        match self.form.job.output_format {
            OutputFormat::Jsonl => {
                match key {
                    Some(key) => {
                        out.extend_from_slice(b"{\"key\":");
                        out.extend_from_slice(key);
                    }
                    None => {
                        let begin = out.len();
                        out.extend_from_slice(b"{\"instance\":");
                        if let Err(rejection) = self.instance(out, record) {
                            out.truncate(begin);
                            return Err(rejection);
                        }
                    }
                }
                out.extend_from_slice(b",\"prediction\":");
                out.extend_from_slice(prediction);
                out.extend_from_slice(b"}\n");
            }
            OutputFormat::Csv => {
                match (key, self.form.format) {
                    (Some(key), _) => push_json_cell(out, key),
                    (None, InputFormat::Csv) => out.extend_from_slice(record),
                    (None, _) => push_cell(out, &String::from_utf8_lossy(record.trim_ascii())),
                }
                match self.outputs.len() {
                    0 | 1 => {
                        out.push(b',');
                        push_json_cell(out, prediction);
                    }
                    _ => {
                        let values: serde_json::Map<String, serde_json::Value> =
                            serde_json::from_slice(prediction).unwrap_or_default();
                        for output in &self.outputs {
                            out.push(b',');
                            if let Some(value) = values.get(output) {
                                push_json_cell(out, value.to_string().as_bytes());
                            }
                        }
                    }
                }
                out.push(b'\n');
            }
        }
        Ok(())
    }

    /// The record as JSON.
    fn instance(&self, out: &mut Vec<u8>, record: &[u8]) -> Result<(), Rejection> {
        match (self.form.format, &self.form.table) {
            (InputFormat::Jsonl, _) => out.extend_from_slice(record.trim_ascii()),
            (InputFormat::Csv, Some(table)) => out.extend_from_slice(&table.object(record)?),
            _ => push_text(out, &String::from_utf8_lossy(record.trim_ascii())),
        }
        Ok(())
    }

    fn error(&self, lines: &mut Lines, chunk: &Chunk, record: &Record, rejection: &Rejection) {
        let bytes = chunk.bytes(record).trim_ascii();
        let text = String::from_utf8_lossy(bytes);
        let out = &mut lines.errors;
        out.extend_from_slice(b"{\"error\":{\"code\":");
        push_text(out, rejection.code.as_str());
        out.extend_from_slice(b",\"message\":");
        push_text(out, &rejection.message);
        out.push(b'}');
        if let Some(source) = self.source {
            out.extend_from_slice(b",\"source\":");
            push_text(out, source);
            out.extend_from_slice(format!(",\"line\":{}", record.line).as_bytes());
        }
        out.extend_from_slice(b",\"instance\":");
        let is_json = self.form.format == InputFormat::Jsonl
            && !record.is_too_long
            && serde_json::from_slice::<&RawValue>(bytes).is_ok();
        match is_json {
            true => out.extend_from_slice(bytes),
            false if text.len() > MAX_QUOTED => {
                push_text(out, &format!("{}…", &text[..text.floor_char_boundary(MAX_QUOTED)]));
            }
            false => push_text(out, &text),
        }
        out.extend_from_slice(b"}\n");
        if lines.first_error.is_none() {
            let place = match self.source {
                Some(source) => format!("{source}, line {}", record.line),
                None => text.into_owned(),
            };
            lines.first_error = Some(format!("{place}: {}", rejection.message));
        }
    }
}

/// A JSON value as a cell: text without its quotes, null as nothing, lists and objects as JSON.
fn push_json_cell(out: &mut Vec<u8>, json: &[u8]) {
    match json.first() {
        Some(b'"') => push_cell(out, &serde_json::from_slice::<String>(json).unwrap_or_default()),
        Some(b'n') => {}
        _ => push_cell(out, &String::from_utf8_lossy(json)),
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a vector takes all bytes");
}
