//! Requests made of zeros of the right shape, in every form that may fit a model.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::request::{Body, Sample};
use crate::model::Model;
use crate::tensor::ElementType;
use crate::tensor::signature::{Dim, TensorSpec, ValueKind};

/// Most elements of an input of a sample.
const MOST_ELEMENTS: usize = 1 << 20;

/// Makes the samples of one model.
pub struct Zeros<'a> {
    pub model: &'a Model,
    pub text: &'static str,
    /// Length of free dimensions, except for the rows.
    pub size: usize,
    /// Number of dimensions beyond the known ones, where the model leaves it open.
    pub open: usize,
    /// An image, for a model that takes images.
    pub image: Option<&'a [u8]>,
}

/// One row as cells: the names of the columns, where they have any, and the values in JSON.
pub type Table = (Option<Vec<String>>, Vec<String>);

impl<'a> Zeros<'a> {
    fn inputs(&self) -> &'a [TensorSpec] {
        &self.model.signature.inputs
    }

    /// True when an input would have more than `MOST_ELEMENTS`.
    pub fn is_too_large(&self) -> bool {
        let count = |spec: &TensorSpec| {
            self.whole(spec).into_iter().chain(self.inner(&spec.kind)).try_fold(1, usize::checked_mul)
        };
        !self.inputs().iter().all(|spec| count(spec).is_some_and(|count| count <= MOST_ELEMENTS))
    }

    /// Requests in all forms that may fit; the model decides which do.
    pub fn samples(&self) -> Vec<Sample> {
        let json = |protocol, body: String| self.sample(protocol, &[], Body::Text(body));
        let rows = self.rows();
        let event = format!(
            "{{\"specversion\": \"1.0\", \"id\": \"1\", \"source\": \"//example\", \
             \"type\": \"example.request\", \"data\": {rows}}}"
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

    /// One row as `{"instances": […]}`.
    pub fn rows(&self) -> String {
        format!("{{\"instances\": [{}]}}", self.named(|spec| self.row(spec)))
    }

    fn sample(&self, protocol: &'static str, attributes: &[(&'static str, String)], body: Body) -> Sample {
        Sample::new(self.model, protocol, attributes, body)
    }

    fn whole_inputs(&self) -> String {
        let whole = |spec: &TensorSpec| {
            self.composite(spec).unwrap_or_else(|| value(&self.whole(spec), &self.element(spec)))
        };
        match self.inputs() {
            // A bare map would be read as inputs by name.
            [only] if matches!(only.kind, ValueKind::Map { .. }) => object(self.inputs(), whole),
            _ => self.named(whole),
        }
    }

    /// The bare value of a single input, else an object of all inputs by name.
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
            number => if number.is_float() { "0.0" } else { "0" }.to_owned(),
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

    /// One element as binary data.
    fn bytes(&self, spec: &TensorSpec) -> Option<Vec<u8>> {
        let with_length = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).ok()?;
            Some([&length.to_le_bytes()[..], bytes].concat())
        };
        match spec.element {
            ElementType::String => with_length(self.text(spec).as_bytes()),
            ElementType::Bytes => with_length(self.image.unwrap_or_default()),
            ElementType::Composite => None,
            number => Some(vec![0; number.size()]),
        }
    }

    /// A row for models of named columns, of inputs that are one column each, or of one input of several
    /// columns.
    pub fn table(&self) -> Option<Table> {
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

    /// A body that is the row of the only input: numbers, a string or an image.
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

/// Decodes a cell of JSON: a string, or the number as written.
fn in_json(cell: &str) -> String {
    serde_json::from_str::<String>(cell).unwrap_or_else(|_| cell.to_owned())
}

/// Quotes a field as RFC 4180 does.
fn in_csv(text: &str) -> String {
    let is_plain = !text.is_empty() && !text.contains([',', '"', '\n', '\r']) && text.trim() == text;
    if is_plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_whole() {
        for (text, field) in [("a b", "a b"), ("", "\"\""), ("a,b", "\"a,b\""), ("5\"", "\"5\"\"\"")] {
            assert_eq!(in_csv(text), field);
        }
        assert_eq!((in_json("\"a\\\"b\""), in_json("0.0")), ("a\"b".to_owned(), "0.0".to_owned()));
    }
}
