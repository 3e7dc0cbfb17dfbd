//! Fields of an instance that the model gets, and the one that names the instance in the results.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::job::JobSpec;
use crate::error::Rejection;

/// An instance as the model gets it, and its key as JSON.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selected {
    pub instance: Vec<u8>,
    pub key: Option<Vec<u8>>,
}

/// True if the job's options change instances.
pub fn is_needed(job: &JobSpec) -> bool {
    job.key_field.is_some()
        || !(job.include.is_empty() && job.exclude.is_empty() && job.parameters.is_empty())
}

/// True if the model gets the field.
fn is_kept(job: &JobSpec, name: &str) -> bool {
    let is_in = |names: &[String]| names.iter().any(|other| other == name);
    job.key_field.as_deref() != Some(name)
        && (job.include.is_empty() || is_in(&job.include))
        && !is_in(&job.exclude)
}

/// Applies the job's options to an instance that is a JSON object.
///
/// # Errors
/// `INVALID_INPUT`: it is no object, or has no key.
pub fn object(job: &JobSpec, instance: &[u8]) -> Result<Selected, Rejection> {
    let fields: Fields<'_> = serde_json::from_slice(instance)
        .map_err(|error| Rejection::invalid(format!("expected an object with named fields: {error}")))?;
    let mut selected = Selected { instance: b"{".to_vec(), key: None };
    let mut push = |name: &str, value: &str| {
        if selected.instance.len() > 1 {
            selected.instance.push(b',');
        }
        serde_json::to_writer(&mut selected.instance, name).expect("a vector takes all bytes");
        selected.instance.push(b':');
        selected.instance.extend_from_slice(value.as_bytes());
    };
    for (name, value) in &fields.0 {
        if job.key_field.as_deref() == Some(name) {
            selected.key = Some(value.get().as_bytes().to_vec());
        }
        if is_kept(job, name) {
            push(name, value.get());
        }
    }
    for (name, value) in &job.parameters {
        if !fields.0.iter().any(|(known, _)| known == name) {
            push(name, &value.to_string());
        }
    }
    selected.instance.push(b'}');
    match &job.key_field {
        Some(field) if selected.key.is_none() => {
            Err(Rejection::invalid(format!("expected the key field {field:?}, got none")))
        }
        _ => Ok(selected),
    }
}

/// The fields of an object, in order.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    fields.push((name.0, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The columns of a table.
#[derive(Debug)]
pub struct Table {
    /// The header as the file has it, without its line end.
    pub header: Vec<u8>,
    pub names: Vec<String>,
    /// The header of the columns that the model gets, with a line end.
    pub model_header: Vec<u8>,
    /// Positions of these; none if they are all columns.
    kept: Option<Vec<usize>>,
    key: Option<usize>,
    /// Cells that every row gets, each after a comma.
    added: Vec<u8>,
}

impl Table {
    /// # Errors
    /// A column that an option names is not there.
    pub fn new(job: &JobSpec, header: &[u8]) -> Result<Self, String> {
        let cells = cells(header);
        let names: Vec<String> =
            cells.iter().map(|cell| text(&header[cell.clone()]).trim().to_owned()).collect();
        let named = job.key_field.iter().chain(&job.include).chain(&job.exclude);
        for name in named {
            if !names.contains(name) {
                return Err(format!("expected a column {name:?}, got {}", names.join(", ")));
            }
        }
        let key = names.iter().position(|name| job.key_field.as_ref() == Some(name));
        let (mut model_header, mut added, mut kept) = (Vec::new(), Vec::new(), None);
        if is_needed(job) {
            let places: Vec<usize> = (0..names.len()).filter(|place| is_kept(job, &names[*place])).collect();
            push_cells(&mut model_header, header, &cells, &places);
            for (name, value) in &job.parameters {
                if names.contains(name) {
                    continue;
                }
                model_header.push(b',');
                push_cell(&mut model_header, name);
                added.push(b',');
                push_cell(&mut added, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
            kept = Some(places);
        } else {
            model_header.extend_from_slice(header);
        }
        model_header.push(b'\n');
        Ok(Self { header: header.to_vec(), names, model_header, kept, key, added })
    }

    /// True if the model gets rows as they are.
    pub fn is_whole(&self) -> bool {
        self.kept.is_none()
    }

    /// Applies the job's options to a row.
    ///
    /// # Errors
    /// `INVALID_INPUT`: it has another number of cells than the header.
    pub fn row(&self, row: &[u8]) -> Result<Selected, Rejection> {
        let Some(kept) = &self.kept else { return Ok(Selected { instance: row.to_vec(), key: None }) };
        let cells = self.cells(row)?;
        let mut instance = Vec::with_capacity(row.len() + self.added.len());
        push_cells(&mut instance, row, &cells, kept);
        instance.extend_from_slice(&self.added);
        let key = self.key.map(|place| json(&row[cells[place].clone()]));
        Ok(Selected { instance, key })
    }

    /// The row as a JSON object by column.
    ///
    /// # Errors
    /// `INVALID_INPUT`: it has another number of cells than the header.
    pub fn object(&self, row: &[u8]) -> Result<Vec<u8>, Rejection> {
        let cells = self.cells(row)?;
        let mut out = b"{".to_vec();
        for (place, (name, cell)) in self.names.iter().zip(cells).enumerate() {
            if place > 0 {
                out.push(b',');
            }
            serde_json::to_writer(&mut out, name).expect("a vector takes all bytes");
            out.push(b':');
            out.extend_from_slice(&json(&row[cell]));
        }
        out.push(b'}');
        Ok(out)
    }

    fn cells(&self, row: &[u8]) -> Result<Vec<Range<usize>>, Rejection> {
        let cells = cells(row);
        if cells.len() == self.names.len() {
            return Ok(cells);
        }
        let (expected, got) = (self.names.len(), cells.len());
        Err(Rejection::invalid(format!("expected {expected} cells, one a column, got {got}")))
    }
}

/// The places of a row's cells, with their quotes.
fn cells(row: &[u8]) -> Vec<Range<usize>> {
    let mut cells = Vec::new();
    let mut begin = 0;
    loop {
        let mut end = begin;
        if row.get(begin) == Some(&b'"') {
            // An even number of quotes ends the cell.
            let mut quotes = 0;
            while end < row.len() && !(quotes % 2 == 0 && quotes > 0 && row[end] == b',') {
                quotes += usize::from(row[end] == b'"');
                end += 1;
            }
        } else {
            end += memchr::memchr(b',', &row[begin..]).unwrap_or(row.len() - begin);
        }
        cells.push(begin..end);
        if end >= row.len() {
            return cells;
        }
        begin = end + 1;
    }
}

fn push_cells(out: &mut Vec<u8>, row: &[u8], cells: &[Range<usize>], places: &[usize]) {
    for (number, place) in places.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&row[cells[*place].clone()]);
    }
}

/// The text of a cell without its quotes.
fn text(cell: &[u8]) -> Cow<'_, str> {
    let inner = cell.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    match inner {
        Some(inner) => String::from_utf8_lossy(inner).replace("\"\"", "\"").into(),
        None => String::from_utf8_lossy(cell),
    }
}

/// A cell as JSON: a number that JSON writes in the same way, else a string.
fn json(cell: &[u8]) -> Vec<u8> {
    let is_number = !cell.starts_with(b"\"") && serde_json::from_slice::<serde_json::Number>(cell).is_ok();
    if is_number { cell.trim_ascii().to_vec() } else { serde_json::to_vec(&text(cell)).unwrap_or_default() }
}

/// Writes a cell of a table, with quotes where it needs them.
pub fn push_cell(out: &mut Vec<u8>, text: &str) {
    if !text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(change: impl FnOnce(&mut JobSpec)) -> JobSpec {
        let mut job = JobSpec::new("m".to_owned(), vec!["in".to_owned()], "out".to_owned());
        change(&mut job);
        job
    }

    #[test]
    fn fields_are_chosen_and_kept_as_they_are_written() {
        let keyed = job(|job| {
            job.key_field = Some("id".to_owned());
            job.exclude = vec!["note".to_owned()];
            job.parameters.insert("top".to_owned(), 3.into());
        });
        let selected = object(&keyed, br#"{"b": 1.50, "id": 9007199254740993, "note": "x", "a\"": [1, 2]}"#);
        let expected = br#"{"b":1.50,"a\"":[1, 2],"top":3}"#.to_vec();
        assert_eq!(
            selected.unwrap(),
            Selected { instance: expected, key: Some(b"9007199254740993".to_vec()) }
        );
        assert!(object(&keyed, b"{\"b\": 1}").unwrap_err().message.contains("expected the key field \"id\""));
        assert!(object(&keyed, b"[1]").unwrap_err().message.contains("expected an object"));
        let included = job(|job| job.include = vec!["b".to_owned()]);
        assert_eq!(object(&included, br#"{"a": 1, "b": 2}"#).unwrap().instance, br#"{"b":2}"#);
    }

    #[test]
    fn columns_are_chosen_by_the_header() {
        let keyed = job(|job| {
            job.key_field = Some("id".to_owned());
            job.parameters.insert("kind".to_owned(), "a,b".into());
        });
        let table = Table::new(&keyed, br#"x,"id","y, z""#).unwrap();
        assert_eq!(String::from_utf8_lossy(&table.model_header), "x,\"y, z\",kind\n");
        let row = br#"1,"a ""b"", c",2.0"#;
        let selected = table.row(row).unwrap();
        assert_eq!(String::from_utf8_lossy(&selected.instance), "1,2.0,\"a,b\"");
        assert_eq!(selected.key.unwrap(), br#""a \"b\", c""#);
        let object = table.object(row).unwrap();
        assert_eq!(String::from_utf8_lossy(&object), r#"{"x":1,"id":"a \"b\", c","y, z":2.0}"#);
        assert!(table.row(b"1,2").is_err());
        assert_eq!(cells(b"").len(), 1);
        assert_eq!(cells(b"a,,").len(), 3);
        let unknown = job(|job| job.include = vec!["w".to_owned()]);
        assert!(Table::new(&unknown, b"x,y").unwrap_err().contains("expected a column \"w\", got x, y"));
    }
}
