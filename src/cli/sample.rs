//! Requests that a model takes as they stand: the examples of its bundle, and one of each form that fits it,
//! made of zeros of the right shape, which mean nothing. Each was answered by the model before it is shown.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::predict::predict;
use crate::model::{Model, Models};
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};

/// Lengths of free dimensions to try: convolutions and poolings need some height and width.
const SIZES: [usize; 5] = [1, 8, 32, 64, 224];
/// As many more dimensions to try where a model leaves their number open.
const MOST_OPEN: usize = 4;
/// Texts to try: some models read numbers out of them.
const TEXTS: [&str; 2] = ["a", "0"];
/// No sample has more elements in an input.
const MOST_ELEMENTS: usize = 1 << 20;

/// A request for `predictd predict`, and for Pub/Sub.
#[derive(Debug, serde::Serialize)]
pub struct Sample {
    pub protocol: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<&'static str, String>,
    #[serde(flatten)]
    pub body: Body,
    /// What asks it of the model, for a shell.
    pub command: String,
}

#[derive(Debug, serde::Serialize)]
pub enum Body {
    #[serde(rename = "body")]
    Text(String),
    #[serde(rename = "body_base64", serialize_with = "base64")]
    Bytes(Vec<u8>),
}

fn base64<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

impl Body {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Sample {
    fn new(model: &Model, protocol: &'static str, attributes: &[(&'static str, String)], body: Body) -> Self {
        let mut command = match &body {
            Body::Text(text) => format!("printf %s {}", quoted(text)),
            Body::Bytes(bytes) => format!("printf %s {} | base64 -d", STANDARD.encode(bytes)),
        };
        command += &format!(" | predictd predict --model {}", quoted(&model.from));
        for (key, value) in attributes {
            command += &match *key {
                "content-type" => format!(" --content-type {}", quoted(value)),
                key => format!(" --attribute {}", quoted(&format!("{key}={value}"))),
            };
        }
        Self { protocol, attributes: attributes.iter().cloned().collect(), body, command }
    }

    fn is_answered(&self, models: &Models) -> bool {
        let attributes = self.attributes.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let attributes: HashMap<String, String> = attributes.collect();
        predict(models, self.body.bytes(), attributes).is_prediction
    }
}

/// The examples of the bundle, then the forms in which the model answers zeros; none where it refuses all of
/// them.
pub fn samples(models: &Models, model: &Model, serving_example: Option<String>) -> Vec<Sample> {
    let declared = model.declaration.samples.iter().map(|sample| ("sample", sample.request.to_string()));
    let given = declared.chain(serving_example.map(|body| ("mlflow-example", body)));
    let mut examples: Vec<Sample> =
        given.map(|(protocol, body)| Sample::new(model, protocol, &[], Body::Text(body))).collect();
    examples.retain(|sample| sample.is_answered(models));
    examples.extend(zeros(models, model));
    examples
}

fn zeros(models: &Models, model: &Model) -> Vec<Sample> {
    let image = model.executor.input_adapter.sample_image();
    let has_open_rank = model.signature.inputs.iter().any(|spec| spec.kind == ValueKind::OpenRank);
    let ranks = if has_open_rank { 0..=MOST_OPEN } else { 0..=0 };
    let tries =
        ranks.flat_map(|open| TEXTS.into_iter().flat_map(move |text| SIZES.map(|size| (open, text, size))));
    for (open, text, size) in tries {
        let zeros = Zeros { model, text, size, open, image: image.as_deref() };
        let count = |spec: &TensorSpec| {
            zeros.whole(spec).into_iter().chain(zeros.inner(&spec.kind)).try_fold(1, usize::checked_mul)
        };
        if !model.signature.inputs.iter().all(|spec| count(spec).is_some_and(|count| count <= MOST_ELEMENTS))
        {
            continue;
        }
        let mut samples = zeros.samples();
        samples.retain(|sample| sample.is_answered(models));
        if !samples.is_empty() {
            return samples;
        }
    }
    Vec::new()
}

/// Makes the samples of one model.
struct Zeros<'a> {
    model: &'a Model,
    text: &'static str,
    /// Of free dimensions, but for the rows.
    size: usize,
    /// How many dimensions an input has beyond those that are known, where the model leaves that open.
    open: usize,
    /// For a model that takes images.
    image: Option<&'a [u8]>,
}

/// One row as cells: their names, where they have any, and their values in JSON.
type Table = (Option<Vec<String>>, Vec<String>);

impl<'a> Zeros<'a> {
    fn inputs(&self) -> &'a [TensorSpec] {
        &self.model.signature.inputs
    }

    /// What may fit; whether it does, the model says.
    fn samples(&self) -> Vec<Sample> {
        let json = |protocol, body: String| self.sample(protocol, &[], Body::Text(body));
        let rows = format!("{{\"instances\": [{}]}}", self.named(|spec| self.row(spec)));
        let event = format!(
            "{{\"specversion\": \"1.0\", \"id\": \"1\", \"source\": \"//example\", \"type\": \"example.request\", \"data\": {rows}}}"
        );
        let mut samples =
            vec![json("rows", rows), json("columns", format!("{{\"inputs\": {}}}", self.whole_inputs()))];
        if self.inputs().iter().all(|spec| !spec.kind.is_composite()) {
            let tensors: Vec<String> = self.inputs().iter().map(|spec| self.v2(spec)).collect();
            samples.push(json("v2", format!("{{\"inputs\": [{}]}}", tensors.join(", "))));
            samples.extend(self.v2_binary());
        }
        if let Some((names, cells)) = self.table() {
            samples.extend(self.tables(names.as_deref(), &cells));
        }
        samples.extend(self.single());
        let structured = [("content-type", "application/cloudevents+json".to_owned())];
        samples.push(self.sample("cloudevent", &structured, Body::Text(event)));
        samples
    }

    fn sample(&self, protocol: &'static str, attributes: &[(&'static str, String)], body: Body) -> Sample {
        Sample::new(self.model, protocol, attributes, body)
    }

    fn whole_inputs(&self) -> String {
        let whole = |spec: &TensorSpec| {
            self.composite(spec).unwrap_or_else(|| value(&self.whole(spec), &self.element(spec)))
        };
        match self.inputs() {
            // A bare map would be taken for inputs by name.
            [only] if matches!(only.kind, ValueKind::Map { .. }) => object(self.inputs(), whole),
            _ => self.named(whole),
        }
    }

    /// The bare value of a single input, else an object by name.
    fn named(&self, value: impl Fn(&TensorSpec) -> String) -> String {
        if let [only] = self.inputs() { value(only) } else { object(self.inputs(), value) }
    }

    /// One row of an input.
    fn row(&self, spec: &TensorSpec) -> String {
        self.composite(spec).unwrap_or_else(|| {
            let rows = usize::from(self.counts_rows());
            let mut shape = self.whole(spec);
            let shape = shape.split_off(rows.min(shape.len()));
            value(&shape, &self.element(spec))
        })
    }

    fn counts_rows(&self) -> bool {
        self.model.signature.batched || self.model.signature.row_by_row
    }

    fn whole(&self, spec: &TensorSpec) -> Vec<usize> {
        let length = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Fixed(length) => *length,
            Dim::Any(_) if axis == 0 && self.counts_rows() => 1,
            Dim::Any(_) => self.size,
        };
        let mut shape: Vec<usize> = spec.shape.iter().enumerate().map(length).collect();
        if spec.kind == ValueKind::OpenRank {
            shape.extend(std::iter::repeat_n(self.size, self.open));
        }
        shape
    }

    /// A map of one zero, or a sequence of one tensor of zeros.
    fn composite(&self, spec: &TensorSpec) -> Option<String> {
        match &spec.kind {
            ValueKind::Tensor | ValueKind::Optional | ValueKind::OpenRank => None,
            ValueKind::Map { key, value } => {
                let key = if *key == ElementType::I64 { "0" } else { "a" };
                Some(format!("{{\"{key}\": {}}}", self.zero(*value)))
            }
            ValueKind::Sequence { element, .. } => {
                Some(format!("[{}]", value(&self.inner(&spec.kind), &self.zero(*element))))
            }
        }
    }

    /// The shape of each tensor of a sequence.
    fn inner(&self, kind: &ValueKind) -> Vec<usize> {
        let ValueKind::Sequence { shape, .. } = kind else { return Vec::new() };
        shape.iter().map(|dim| dim.fixed().unwrap_or(self.size)).collect()
    }

    /// One element of an input: the first category of a column that has some.
    fn element(&self, spec: &TensorSpec) -> String {
        if spec.element == ElementType::String { string(&self.text(spec)) } else { self.zero(spec.element) }
    }

    fn text(&self, spec: &TensorSpec) -> String {
        let mut columns = self.model.declaration.columns.iter();
        let column = columns.find(|column| column.name == spec.name);
        let categories = column.and_then(|column| column.categories.as_ref());
        categories.and_then(|texts| texts.first().cloned()).unwrap_or_else(|| self.text.to_owned())
    }

    fn zero(&self, element: ElementType) -> String {
        match element {
            ElementType::Bool => "false".to_owned(),
            ElementType::String => string(self.text),
            ElementType::Bytes => {
                format!("{{\"b64\": \"{}\"}}", STANDARD.encode(self.image.unwrap_or_default()))
            }
            ElementType::F16 | ElementType::BF16 | ElementType::F32 | ElementType::F64 => "0.0".to_owned(),
            _ => "0".to_owned(),
        }
    }

    fn v2(&self, spec: &TensorSpec) -> String {
        let data = value(&[self.whole(spec).iter().product()], &self.element(spec));
        format!("{{{}, \"data\": {data}}}", self.v2_head(spec))
    }

    fn v2_head(&self, spec: &TensorSpec) -> String {
        let (name, shape, datatype) = (string(&spec.name), self.whole(spec), spec.element.datatype());
        format!("\"name\": {name}, \"shape\": {shape:?}, \"datatype\": \"{datatype}\"")
    }

    fn v2_binary(&self) -> Option<Sample> {
        let mut data = Vec::new();
        let mut tensors = Vec::new();
        for spec in self.inputs() {
            let own = self.bytes(spec)?.repeat(self.whole(spec).iter().product());
            let size = own.len();
            tensors.push(format!(
                "{{{}, \"parameters\": {{\"binary_data_size\": {size}}}}}",
                self.v2_head(spec)
            ));
            data.extend(own);
        }
        let json = format!("{{\"inputs\": [{}]}}", tensors.join(", "));
        let attributes = [
            ("content-type", "application/octet-stream".to_owned()),
            ("inference-header-content-length", json.len().to_string()),
        ];
        Some(self.sample("v2-binary", &attributes, Body::Bytes([json.into_bytes(), data].concat())))
    }

    /// One element as it stands in binary data.
    fn bytes(&self, spec: &TensorSpec) -> Option<Vec<u8>> {
        let with_length = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).ok()?;
            Some([&length.to_le_bytes()[..], bytes].concat())
        };
        match spec.element {
            ElementType::String => with_length(self.text(spec).as_bytes()),
            ElementType::Bytes => with_length(self.image.unwrap_or_default()),
            ElementType::Composite => None,
            ElementType::Bool | ElementType::U8 | ElementType::I8 => Some(vec![0]),
            ElementType::U16 | ElementType::I16 | ElementType::F16 | ElementType::BF16 => Some(vec![0; 2]),
            ElementType::U32 | ElementType::I32 | ElementType::F32 => Some(vec![0; 4]),
            ElementType::U64 | ElementType::I64 | ElementType::F64 => Some(vec![0; 8]),
        }
    }

    /// For models of named columns, of inputs that are one column each, or of one input of several.
    fn table(&self) -> Option<Table> {
        let is_cell = |spec: &TensorSpec| {
            let is_narrow = matches!(&spec.shape[..], [_] | [_, Dim::Fixed(1)]);
            is_narrow && !matches!(spec.element, ElementType::Bytes | ElementType::Composite)
        };
        match (&self.model.signature.columns, self.inputs()) {
            (Some(columns), [only, ..]) => {
                Some((Some(columns.clone()), vec![self.element(only); columns.len()]))
            }
            (None, inputs) if !inputs.is_empty() && inputs.iter().all(is_cell) => {
                let names = inputs.iter().map(|spec| spec.name.clone()).collect();
                Some((Some(names), inputs.iter().map(|spec| self.element(spec)).collect()))
            }
            (None, [only]) if only.shape.len() == 2 && only.element != ElementType::Bytes => {
                let width = self.whole(only)[1];
                Some((None, vec![self.element(only); width]))
            }
            _ => None,
        }
    }

    fn tables(&self, names: Option<&[String]>, cells: &[String]) -> Vec<Sample> {
        let plain: Vec<String> = cells.iter().map(|cell| in_csv(&in_json(cell))).collect();
        let line = plain.join(",") + "\n";
        let csv = |protocol, header, body| {
            let kind = format!("text/csv; header={header}");
            self.sample(protocol, &[("content-type", kind)], Body::Text(body))
        };
        let mut samples = vec![csv("csv-without-header", "absent", line.clone())];
        let Some(names) = names else { return samples };
        let header: Vec<String> = names.iter().map(|name| in_csv(name)).collect();
        samples.insert(0, csv("csv", "present", format!("{}\n{line}", header.join(","))));
        let quoted: Vec<String> = names.iter().map(|name| string(name)).collect();
        let (columns, data) = (quoted.join(", "), cells.join(", "));
        let split = format!("{{\"dataframe_split\": {{\"columns\": [{columns}], \"data\": [[{data}]]}}}}");
        samples.push(self.sample("pandas-split", &[], Body::Text(split)));
        let pairs: Vec<String> =
            quoted.iter().zip(cells).map(|(name, cell)| format!("{name}: {cell}")).collect();
        let records = format!("{{\"dataframe_records\": [{{{}}}]}}", pairs.join(", "));
        samples.push(self.sample("pandas-records", &[], Body::Text(records)));
        samples
    }

    /// A body that is nothing but the one input's row: numbers, a text or an image.
    fn single(&self) -> Option<Sample> {
        let [only] = self.inputs() else { return None };
        let (protocol, kind, body) = match only.element {
            ElementType::String => ("text", "text/plain", Body::Text(self.text(only))),
            ElementType::Bytes => ("image", "image/png", Body::Bytes(self.image?.to_vec())),
            _ => {
                let rows = self.bytes(only)?.repeat(self.whole(only).iter().product());
                ("raw", "application/octet-stream", Body::Bytes(rows))
            }
        };
        Some(self.sample(protocol, &[("content-type", kind.to_owned())], body))
    }
}

fn object(inputs: &[TensorSpec], value: impl Fn(&TensorSpec) -> String) -> String {
    let pair = |spec: &TensorSpec| format!("{}: {}", string(&spec.name), value(spec));
    let pairs: Vec<String> = inputs.iter().map(pair).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn value(shape: &[usize], zero: &str) -> String {
    shape.iter().rev().fold(zero.to_owned(), |inner, length| format!("[{}]", vec![inner; *length].join(", ")))
}

fn string(text: &str) -> String {
    Value::from(text).to_string()
}

/// The text that a cell of JSON is.
fn in_json(cell: &str) -> String {
    serde_json::from_str::<String>(cell).unwrap_or_else(|_| cell.to_owned())
}

/// A field as RFC 4180 writes it.
fn in_csv(text: &str) -> String {
    let is_plain = !text.is_empty() && !text.contains([',', '"', '\n', '\r']) && text.trim() == text;
    if is_plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

/// One word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_cells_stay_whole() {
        for (text, word) in
            [("models/wine/2", "models/wine/2"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''")]
        {
            assert_eq!(quoted(text), word);
        }
        for (text, field) in [("a b", "a b"), ("", "\"\""), ("a,b", "\"a,b\""), ("5\"", "\"5\"\"\"")] {
            assert_eq!(in_csv(text), field);
        }
        assert_eq!((in_json("\"a\\\"b\""), in_json("0.0")), ("a\"b".to_owned(), "0.0".to_owned()));
    }
}
