//! Open Inference Protocol v2 (github.com/kserve/open-inference-protocol, REST specification) with its binary
//! data extension: a tensor's data is in the JSON, or behind it with its number of bytes as
//! `binary_data_size`.

use super::binary::{self, Section};
use super::columns::WholeColumns;
use super::element::Element;
use super::error::{DecodeError, Decoded, did_you_mean, key_twice, one_of, plural, quoted};
use super::inputs::Inputs;
use super::named_columns::NamedColumns;
use super::request::RequestedOutput;
use super::scanner::Scanner;
use crate::tensor::ElementType;
use crate::tensor::signature::Signature;

/// True if the next list has v2 tensors, not the values of a column.
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

/// Reads the list of tensors under `inputs`, and their data in the section behind the JSON, if there is one.
pub(super) fn read_tensors(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    section: &mut Option<Section<'_>>,
) -> Decoded<()> {
    let columns = NamedColumns::of(inputs).map(WholeColumns::new);
    let mut tensors = Tensors { inputs, columns, section: section.as_mut() };
    scanner.open(b'[')?;
    let mut count = 0;
    while scanner.another(count == 0, b']')? {
        let mut name = None;
        // Until a tensor's name is read, its errors have its position.
        tensors.read_tensor(scanner, &mut name, count).map_err(|error| match &name {
            Some(name) => error.within(&format!("input {}", quoted(name))),
            None => error.at(count).within("inputs"),
        })?;
        count += 1;
    }
    tensors.finish().map_err(|error| error.within("inputs"))
}

/// The description of a tensor, without its data.
struct Head<'h> {
    name: &'h str,
    datatype: &'h str,
    shape: &'h [usize],
    /// Its position in the list.
    position: usize,
}

/// The place of a tensor.
enum Target {
    Input(usize),
    /// A named column of the one input.
    Column(usize),
    Ignored,
}

/// The tensors of a request while they are read.
struct Tensors<'t, 's, 'b> {
    inputs: &'t mut Inputs<'s>,
    /// Set if the one input has named columns: clients send each column of a DataFrame as a tensor.
    columns: Option<WholeColumns<'s>>,
    section: Option<&'t mut Section<'b>>,
}

impl Tensors<'_, '_, '_> {
    fn read_tensor(
        &mut self,
        scanner: &mut Scanner<'_>,
        name: &mut Option<String>,
        position: usize,
    ) -> Decoded<()> {
        if !scanner.open(b'{')? {
            return Err(scanner.unexpected("an object with name, shape, datatype and data"));
        }
        let (mut shape, mut datatype) = (None, None);
        // The position of `data` that comes before the keys that are needed to read it.
        let mut waiting = None;
        let (mut done, mut has_parameters) = (false, false);
        let mut binary_size = None;
        let mut first = true;
        while let Some(key) = scanner.key(first)? {
            first = false;
            let seen = match &*key {
                "name" => name.replace(read_string(scanner, "name")?).is_some(),
                "datatype" => datatype.replace(read_string(scanner, "datatype")?).is_some(),
                "shape" => {
                    shape.replace(read_dimensions(scanner).map_err(|error| error.within(" shape"))?).is_some()
                }
                "data" if done || waiting.is_some() => true,
                "data" => {
                    if let (Some(name), Some(datatype), Some(shape)) = (&*name, &datatype, &shape) {
                        self.read_data(scanner, &Head { name, datatype, shape, position })?;
                        done = true;
                    } else {
                        scanner.peek();
                        waiting = Some(scanner.clone());
                        scanner.skip()?;
                    }
                    false
                }
                "parameters" => {
                    binary_size =
                        read_parameter(scanner, "binary_data_size", |scanner| u64::read_element(scanner))
                            .map_err(|error| error.within(" parameters"))?;
                    std::mem::replace(&mut has_parameters, true)
                }
                _ => {
                    scanner.skip()?;
                    false
                }
            };
            if seen {
                return Err(key_twice(&key));
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
            return self.read_binary(size, &head);
        }
        let mut waiting = waiting.ok_or_else(|| missing("data"))?;
        self.read_data(&mut waiting, &head)
    }

    fn read_data(&mut self, scanner: &mut Scanner<'_>, head: &Head<'_>) -> Decoded<()> {
        match (self.target(head)?, &mut self.columns) {
            (Target::Input(index), _) => {
                check_json_datatype(self.inputs, index, head)?;
                self.inputs.read_shaped(index, scanner, head.shape)
            }
            (Target::Column(place), Some(columns)) => {
                check_json_datatype(self.inputs, 0, head)?;
                let expected = column_length(head, self.inputs)?;
                let got = columns.read_column(place, scanner, self.inputs)?;
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
    fn read_binary(&mut self, size: u64, head: &Head<'_>) -> Decoded<()> {
        let Some(section) = &mut self.section else {
            return Err(DecodeError::new(
                "expected inference-header-content-length beside binary_data_size, got none",
            ));
        };
        let data = section.take(usize::try_from(size).unwrap_or(usize::MAX))?;
        match (self.target(head)?, &mut self.columns) {
            (Target::Input(index), _) => {
                check_datatype(self.inputs, index, head)?;
                self.inputs.read_binary(index, data, head.shape)
            }
            (Target::Column(place), Some(columns)) => {
                // Bytes are not converted, so the datatype must be the input's own.
                check_datatype(self.inputs, 0, head)?;
                let length = column_length(head, self.inputs)?;
                let values = binary::read_elements(self.inputs.list[0].spec.element, data, length)?;
                columns.copy_column(place, &values, self.inputs)
            }
            _ => Ok(()),
        }
    }

    /// The place of a tensor; an error if that place already has values.
    fn target(&self, head: &Head<'_>) -> Decoded<Target> {
        let twice = || Err(DecodeError::new("expected each input once, got it twice"));
        let both = || Err(DecodeError::new("expected the whole input or its columns, got both"));
        let input = self.inputs.position(head.name, head.position);
        // A column may have the input's name.
        if let Some(columns) = &self.columns
            && (input.is_none() || matches!(head.shape, [_] | [_, 1]))
            && let Some(place) = columns.named.find(head.name, head.position)
        {
            return match () {
                () if columns.is_filled(place) => twice(),
                () if self.inputs.list[0].values_read > 0 && !columns.has_any() => both(),
                () => Ok(Target::Column(place)),
            };
        }
        match (input, &self.columns) {
            (Some(_), Some(columns)) if columns.has_any() => both(),
            (Some(index), _) if self.inputs.list[index].values_read > 0 => twice(),
            (Some(index), _) => Ok(Target::Input(index)),
            (None, Some(columns)) => {
                columns.named.find_known(head.name, head.position).map(|_| Target::Ignored)
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
            _ => self.inputs.complete_tensors(),
        }
    }
}

/// The number of a column's values, from its shape.
fn column_length(head: &Head<'_>, inputs: &Inputs<'_>) -> Decoded<usize> {
    match head.shape {
        [rows] | [rows, 1] => inputs.limits.check_rows(*rows).map(|()| *rows),
        other => Err(DecodeError::new(format!(
            "expected a column of shape [rows] or [rows, 1], got shape {other:?}"
        ))),
    }
}

/// Checks the datatype of data in JSON, which writes numbers of all types alike: a column of a DataFrame may
/// have another type of number than the model.
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
            "expected {{\"instances\": […]}} or {{\"inputs\": {{…}}}}: {what} is no tensor, and the \
             protocol has only those"
        )));
    }
    let got = quoted(head.datatype);
    Err(DecodeError::new(format!("expected datatype \"{expected}\" ({what}), got {got}")))
}

fn read_string(scanner: &mut Scanner<'_>, key: &str) -> Decoded<String> {
    if scanner.peek() != Some(b'"') {
        return Err(scanner.unexpected(&format!("a string in \"{key}\"")));
    }
    Ok(scanner.string()?.into_owned())
}

fn read_dimensions(scanner: &mut Scanner<'_>) -> Decoded<Vec<usize>> {
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected("a list of dimensions"));
    }
    let mut shape = Vec::new();
    while scanner.another(shape.is_empty(), b']')? {
        // Far more than any tensor has. Bounds the length of the error about a wrong shape.
        if shape.len() == 64 {
            return Err(DecodeError::new("expected at most 64 dimensions, got more"));
        }
        let length = u64::read_element(scanner).map_err(|error| error.at(shape.len()))?;
        shape.push(usize::try_from(length).unwrap_or(usize::MAX));
    }
    Ok(shape)
}

/// Reads an object and returns the parameter called `name`; the others are ignored.
fn read_parameter<'a, T>(
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
        // Some clients write null for a parameter that they do not set.
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

/// Reads the request's own `parameters`: true if outputs are requested as binary data.
pub(super) fn read_binary_output(scanner: &mut Scanner<'_>) -> Decoded<bool> {
    let wanted = read_parameter(scanner, "binary_data_output", |scanner| bool::read_element(scanner))?;
    Ok(wanted.unwrap_or(false))
}

/// Reads the request's own `outputs`, in order. All must be outputs of the model.
pub(super) fn read_outputs(
    scanner: &mut Scanner<'_>,
    signature: &Signature,
) -> Decoded<Vec<RequestedOutput>> {
    if !scanner.open(b'[')? {
        // Some clients write null for all outputs.
        if scanner.word("null") {
            return Ok(Vec::new());
        }
        return Err(scanner.unexpected("a list of objects with a name"));
    }
    let mut all: Vec<RequestedOutput> = Vec::new();
    while scanner.another(all.is_empty(), b']')? {
        let index = all.len();
        let requested = read_output(scanner).map_err(|error| error.at(index))?;
        let name = &requested.name;
        if !signature.outputs.iter().any(|output| output.name == *name) {
            let names: Vec<&str> = signature.outputs.iter().map(|output| output.name.as_str()).collect();
            let message = format!(
                "expected {}, got unknown output {}{}",
                one_of("output", &names),
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
        all.push(requested);
    }
    Ok(all)
}

fn read_output(scanner: &mut Scanner<'_>) -> Decoded<RequestedOutput> {
    if !scanner.open(b'{')? {
        return Err(scanner.unexpected("an object with a name"));
    }
    let (mut name, mut parameters) = (None, None);
    let mut first = true;
    while let Some(key) = scanner.key(first)? {
        first = false;
        let seen = match &*key {
            "name" => name.replace(read_string(scanner, "name")?).is_some(),
            "parameters" => {
                refuse_classification(scanner.clone())?;
                let read = read_parameter(scanner, "binary_data", |scanner| bool::read_element(scanner));
                parameters.replace(read.map_err(|error| error.within(".parameters"))?).is_some()
            }
            _ => {
                scanner.skip()?;
                false
            }
        };
        if seen {
            return Err(key_twice(&key));
        }
    }
    let name = name.ok_or_else(|| DecodeError::new("expected an object with a name, got none"))?;
    Ok(RequestedOutput { name, binary: parameters.flatten() })
}

/// Refuses Triton's parameter for the best classes, because a client would take the full outputs for them.
fn refuse_classification(mut scanner: Scanner<'_>) -> Decoded<()> {
    match read_parameter(&mut scanner, "classification", Scanner::skip)? {
        None => Ok(()),
        Some(()) => Err(DecodeError::new(
            "expected no parameter \"classification\", got one; declare the classes in the bundle's \
             model.yaml, with output.top and output.labels",
        )
        .within(".parameters")),
    }
}
