//! Open Inference Protocol v2 (github.com/kserve/open-inference-protocol, REST specification) with its binary data extension:
//! a tensor's data stands in the JSON, or behind it where `binary_data_size` says how many bytes.

use super::RequestedOutput;
use super::binary::{self, Section};
use super::columns::WholeColumns;
use super::element::Element;
use super::inputs::{Inputs, check_rows, named};
use super::nested::plural;
use super::rows::Columns;
use super::scanner::Scanner;
use crate::decode::error::{DecodeError, Decoded, did_you_mean, quoted};
use crate::tensor::ElementType;
use crate::tensor::signature::Signature;

/// Whether the list that comes next holds v2 tensors and not a column's values.
pub(super) fn is_next(scanner: &Scanner<'_>, signature: &Signature) -> bool {
    let mut ahead = scanner.clone();
    if !ahead.take(b'[') {
        return false;
    }
    if signature.inputs.is_empty() && ahead.peek() == Some(b']') {
        return true;
    }
    if !matches!(ahead.open(b'{'), Ok(true)) {
        return false;
    }
    let mut first = true;
    while let Ok(Some(key)) = ahead.key(first) {
        if matches!(&*key, "name" | "datatype" | "shape") {
            return true;
        }
        first = false;
        if ahead.skip().is_err() {
            return false;
        }
    }
    false
}

/// Reads the list of tensors under `inputs`, and what of them stands in the section behind the JSON, where there is one.
pub(super) fn read(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    section: &mut Option<Section<'_>>,
) -> Decoded<()> {
    let columns = Columns::of(inputs).map(WholeColumns::new);
    let mut tensors = Tensors { inputs, columns, section: section.as_mut() };
    scanner.open(b'[')?;
    let mut count = 0;
    while scanner.another(count == 0, b']')? {
        let mut name = None;
        // Until its name is known, a tensor is named by its position.
        tensors.read(scanner, &mut name, count).map_err(|error| match &name {
            Some(name) => error.within(&format!("input {}", quoted(name))),
            None => error.at(count).within("inputs"),
        })?;
        count += 1;
    }
    tensors.finish().map_err(|error| error.within("inputs"))
}

/// What a tensor says of itself beside its data.
struct Head<'h> {
    name: &'h str,
    datatype: &'h str,
    shape: &'h [usize],
    /// Its position in the list.
    position: usize,
}

/// Where a tensor goes.
enum Target {
    Input(usize),
    /// A named column of the one input.
    Column(usize),
    Ignored,
}

/// The tensors of a request as they come.
struct Tensors<'t, 's, 'b> {
    inputs: &'t mut Inputs<'s>,
    /// Where the one input has named columns: clients that send frames send each as a tensor.
    columns: Option<WholeColumns<'s>>,
    section: Option<&'t mut Section<'b>>,
}

impl Tensors<'_, '_, '_> {
    fn read(&mut self, scanner: &mut Scanner<'_>, name: &mut Option<String>, position: usize) -> Decoded<()> {
        if !scanner.open(b'{')? {
            return Err(scanner.unexpected("an object with name, shape, datatype and data"));
        }
        let (mut shape, mut datatype) = (None, None);
        // Where `data` stands when it comes before what tells how to read it.
        let mut waiting = None;
        let (mut done, mut has_parameters) = (false, false);
        let mut binary_size = None;
        let mut first = true;
        while let Some(key) = scanner.key(first)? {
            first = false;
            let seen = match &*key {
                "name" => name.replace(text(scanner, "name")?).is_some(),
                "datatype" => datatype.replace(text(scanner, "datatype")?).is_some(),
                "shape" => {
                    shape.replace(dimensions(scanner).map_err(|error| error.within(" shape"))?).is_some()
                }
                "data" if done || waiting.is_some() => true,
                "data" => {
                    if let (Some(name), Some(datatype), Some(shape)) = (&*name, &datatype, &shape) {
                        self.data(scanner, &Head { name, datatype, shape, position })?;
                        done = true;
                    } else {
                        scanner.peek();
                        waiting = Some(scanner.clone());
                        scanner.skip()?;
                    }
                    false
                }
                "parameters" => {
                    binary_size = parameter(scanner, "binary_data_size", |scanner| u64::read(scanner))
                        .map_err(|error| error.within(" parameters"))?;
                    std::mem::replace(&mut has_parameters, true)
                }
                _ => {
                    scanner.skip()?;
                    false
                }
            };
            if seen {
                return Err(DecodeError::new(format!("expected each key once, got {} twice", quoted(&key))));
            }
        }
        if binary_size.is_some() && (done || waiting.is_some()) {
            return Err(DecodeError::new("expected data or binary_data_size, got both"));
        }
        if done {
            return Ok(());
        }
        let missing =
            |key: &str| DecodeError::new(format!("expected name, shape, datatype and data, got no {key}"));
        let name = name.as_ref().ok_or_else(|| missing("name"))?;
        let datatype = &datatype.ok_or_else(|| missing("datatype"))?;
        let shape = &shape.ok_or_else(|| missing("shape"))?;
        let head = Head { name, datatype, shape, position };
        if let Some(size) = binary_size {
            return self.binary(size, &head);
        }
        let mut waiting = waiting.ok_or_else(|| missing("data"))?;
        self.data(&mut waiting, &head)
    }

    fn data(&mut self, scanner: &mut Scanner<'_>, head: &Head<'_>) -> Decoded<()> {
        match (self.target(head)?, &mut self.columns) {
            (Target::Input(index), _) => {
                check_json_datatype(self.inputs, index, head)?;
                self.inputs.read_shaped(index, scanner, head.shape)
            }
            (Target::Column(place), Some(columns)) => {
                check_json_datatype(self.inputs, 0, head)?;
                let expected = column_length(head, self.inputs)?;
                let got = columns.read(place, scanner, self.inputs)?;
                if got == expected {
                    return Ok(());
                }
                let (plural, shape) = (plural(expected), head.shape);
                Err(DecodeError::new(format!(
                    "expected {expected} value{plural} for shape {shape:?}, got {got}"
                )))
            }
            _ => scanner.skip(),
        }
    }

    /// Takes `size` bytes of the section behind the JSON.
    fn binary(&mut self, size: u64, head: &Head<'_>) -> Decoded<()> {
        let Some(section) = &mut self.section else {
            return Err(DecodeError::new(
                "expected the attribute inference-header-content-length beside binary_data_size, got none",
            ));
        };
        let data = section.take(usize::try_from(size).unwrap_or(usize::MAX))?;
        match (self.target(head)?, &mut self.columns) {
            (Target::Input(index), _) => {
                check_datatype(self.inputs, index, head)?;
                self.inputs.read_binary(index, data, head.shape)
            }
            (Target::Column(place), Some(columns)) => {
                // Bytes are taken as they are, whereas JSON's numbers fit every type.
                check_datatype(self.inputs, 0, head)?;
                let length = column_length(head, self.inputs)?;
                let values = binary::read(self.inputs.list[0].spec.element, data, length)?;
                columns.take(place, &values, self.inputs)
            }
            _ => Ok(()),
        }
    }

    /// Fails where what it is for has come before.
    fn target(&self, head: &Head<'_>) -> Decoded<Target> {
        let twice = || Err(DecodeError::new("expected each input once, got it twice"));
        let both = || Err(DecodeError::new("expected the whole input or its columns, got both"));
        let input = self.inputs.position(head.name, head.position);
        // A column may have the input's name.
        if let Some(columns) = &self.columns
            && (input.is_none() || matches!(head.shape, [_] | [_, 1]))
            && let Some(place) = columns.table.find(head.name, head.position)
        {
            return match () {
                () if columns.is_filled(place) => twice(),
                () if self.inputs.list[0].times > 0 && !columns.has_any() => both(),
                () => Ok(Target::Column(place)),
            };
        }
        match (input, &self.columns) {
            (Some(_), Some(columns)) if columns.has_any() => both(),
            (Some(index), _) if self.inputs.list[index].times > 0 => twice(),
            (Some(index), _) => Ok(Target::Input(index)),
            (None, Some(columns)) => {
                columns.table.find_known(head.name, head.position).map(|_| Target::Ignored)
            }
            (None, None) => {
                let found = self.inputs.find_known(head.name, head.position)?;
                Ok(found.map_or(Target::Ignored, Target::Input))
            }
        }
    }

    fn finish(self) -> Decoded<()> {
        match self.columns {
            Some(columns) if columns.has_any() => columns.finish(self.inputs),
            _ => self.inputs.complete_whole(),
        }
    }
}

/// How many values a column has by its shape.
fn column_length(head: &Head<'_>, inputs: &Inputs<'_>) -> Decoded<usize> {
    match head.shape {
        [rows] | [rows, 1] => check_rows(*rows, inputs.limits.max_rows).map(|()| *rows),
        other => Err(DecodeError::new(format!(
            "expected a column of shape [rows] or [rows, 1], got shape {other:?}"
        ))),
    }
}

/// For data in JSON, where numbers of all types are written alike: a frame's column may have another type of number than the
/// model has.
fn check_json_datatype(inputs: &Inputs<'_>, index: usize, head: &Head<'_>) -> Decoded<()> {
    let own = inputs.list[index].spec;
    let is_number = |element: ElementType| {
        !matches!(element, ElementType::String | ElementType::Bytes | ElementType::Composite)
    };
    let is_column = matches!(head.shape, [_] | [_, 1]) && inputs.signature.batched;
    if is_column && is_number(own.element) && ElementType::from_datatype(head.datatype).is_some_and(is_number)
    {
        return Ok(());
    }
    check_datatype(inputs, index, head)
}

fn check_datatype(inputs: &Inputs<'_>, index: usize, head: &Head<'_>) -> Decoded<()> {
    let own = inputs.list[index].spec;
    let expected = own.element.datatype();
    if head.datatype == expected && !own.kind.is_composite() {
        return Ok(());
    }
    let what = own.describe();
    if own.kind.is_composite() {
        return Err(DecodeError::new(format!(
            "expected {{\"instances\": […]}} or {{\"inputs\": {{…}}}}: {what} is no tensor, and the protocol has only those"
        )));
    }
    let got = quoted(head.datatype);
    Err(DecodeError::new(format!("expected datatype \"{expected}\" ({what}), got {got}")))
}

fn text(scanner: &mut Scanner<'_>, key: &str) -> Decoded<String> {
    if scanner.peek() != Some(b'"') {
        return Err(scanner.unexpected(&format!("a string in \"{key}\"")));
    }
    Ok(scanner.string()?.into_owned())
}

fn dimensions(scanner: &mut Scanner<'_>) -> Decoded<Vec<usize>> {
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected("a list of dimensions"));
    }
    let mut shape = Vec::new();
    while scanner.another(shape.is_empty(), b']')? {
        // Far more than any tensor has; bounds what the error about a wrong shape repeats.
        if shape.len() == 64 {
            return Err(DecodeError::new("expected at most 64 dimensions, got more"));
        }
        let length = u64::read(scanner).map_err(|error| error.at(shape.len()))?;
        shape.push(usize::try_from(length).unwrap_or(usize::MAX));
    }
    Ok(shape)
}

/// The one parameter that matters here of the object that comes next; the others change nothing.
fn parameter<'a, T>(
    scanner: &mut Scanner<'a>,
    name: &str,
    read: impl Fn(&mut Scanner<'a>) -> Decoded<T>,
) -> Decoded<Option<T>> {
    if !scanner.open(b'{')? {
        if scanner.word("null") {
            return Ok(None);
        }
        return Err(scanner.unexpected("an object"));
    }
    let mut found = None;
    let mut first = true;
    while let Some(key) = scanner.key(first)? {
        first = false;
        // As clients write what they do not say.
        if key == name && scanner.word("null") {
            continue;
        }
        if key != name {
            scanner.skip()?;
            continue;
        }
        let value = read(scanner).map_err(|error| error.within(&format!(".{name}")))?;
        if found.replace(value).is_some() {
            return Err(DecodeError::new(format!("expected each key once, got \"{name}\" twice")));
        }
    }
    Ok(found)
}

/// The request's own `parameters`: whether outputs are wanted as binary data.
pub(super) fn wants_binary(scanner: &mut Scanner<'_>) -> Decoded<bool> {
    let wanted = parameter(scanner, "binary_data_output", |scanner| bool::read(scanner))?;
    Ok(wanted.unwrap_or(false))
}

/// What stands under the request's own `outputs`, in order, each one the model has.
pub(super) fn outputs(scanner: &mut Scanner<'_>, signature: &Signature) -> Decoded<Vec<RequestedOutput>> {
    if !scanner.open(b'[')? {
        // As clients write that have no wish.
        if scanner.word("null") {
            return Ok(Vec::new());
        }
        return Err(scanner.unexpected("a list of objects with a name"));
    }
    let mut all: Vec<RequestedOutput> = Vec::new();
    while scanner.another(all.is_empty(), b']')? {
        let index = all.len();
        let wanted = output(scanner).map_err(|error| error.at(index))?;
        let name = &wanted.name;
        if !signature.outputs.iter().any(|output| output.name == *name) {
            let names: Vec<&str> = signature.outputs.iter().map(|output| output.name.as_str()).collect();
            let message = format!(
                "expected {}, got unknown output {}{}",
                named("output", &names),
                quoted(name),
                did_you_mean(name, &names)
            );
            return Err(DecodeError::new(message).at(index));
        }
        if all.iter().any(|before| before.name == *name) {
            return Err(
                DecodeError::new(format!("expected each output once, got {} twice", quoted(name))).at(index)
            );
        }
        all.push(wanted);
    }
    Ok(all)
}

fn output(scanner: &mut Scanner<'_>) -> Decoded<RequestedOutput> {
    if !scanner.open(b'{')? {
        return Err(scanner.unexpected("an object with a name"));
    }
    let (mut name, mut parameters) = (None, None);
    let mut first = true;
    while let Some(key) = scanner.key(first)? {
        first = false;
        let seen = match &*key {
            "name" => name.replace(text(scanner, "name")?).is_some(),
            "parameters" => {
                refuse_classification(scanner.clone())?;
                let read = parameter(scanner, "binary_data", |scanner| bool::read(scanner));
                parameters.replace(read.map_err(|error| error.within(".parameters"))?).is_some()
            }
            _ => {
                scanner.skip()?;
                false
            }
        };
        if seen {
            return Err(DecodeError::new(format!("expected each key once, got {} twice", quoted(&key))));
        }
    }
    let name = name.ok_or_else(|| DecodeError::new("expected an object with a name, got none"))?;
    Ok(RequestedOutput { name, binary: parameters.flatten() })
}

/// Triton's own way to ask for the best classes. An answer without them would be taken for one with them.
fn refuse_classification(mut scanner: Scanner<'_>) -> Decoded<()> {
    match parameter(&mut scanner, "classification", Scanner::skip)? {
        None => Ok(()),
        Some(()) => Err(DecodeError::new(
            "expected no parameter \"classification\", got one; the bundle's model.yaml says it, with output.top and output.labels",
        )
        .within(".parameters")),
    }
}
