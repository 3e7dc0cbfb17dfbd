//! The tensors of a request.

use super::fields::{read_dimensions, read_parameter, read_string};
use crate::decode::binary::{self, Section};
use crate::decode::columns::WholeColumns;
use crate::decode::element::Element;
use crate::decode::error::{DecodeError, Decoded, Located, plural, quoted, refuse, set_once, twice};
use crate::decode::inputs::Inputs;
use crate::decode::named_columns::NamedColumns;
use crate::decode::scanner::Scanner;
use crate::tensor::ElementType;
use crate::tensor::signature::Signature;

/// True if the next list has v2 tensors, not the values of a column.
pub(in crate::decode) fn is_next(scanner: &Scanner<'_>, signature: &Signature) -> bool {
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
    while let Ok(Some(key)) = ahead.key() {
        if matches!(&*key, "name" | "datatype" | "shape") {
            return true;
        }
        if ahead.skip().is_err() {
            return false;
        }
    }
    false
}

/// Reads the list of tensors under `inputs`, and their data in the section behind the JSON, if there is one.
pub(in crate::decode) fn read_tensors(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    section: &mut Option<Section<'_>>,
) -> Decoded<()> {
    let columns = NamedColumns::of(inputs).map(WholeColumns::new);
    let mut tensors = Tensors { inputs, columns, section: section.as_mut() };
    scanner.open(b'[')?;
    let mut count = 0;
    while scanner.another(b']')? {
        let mut name = None;
        // Until a tensor's name is read, its errors have its position.
        tensors.read_tensor(scanner, &mut name, count).map_err(|error| match &name {
            Some(name) => error.within(&format!("input {}", quoted(name))),
            None => error.at(count).within("inputs"),
        })?;
        count += 1;
    }
    tensors.finish().within("inputs")
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
        scanner.enter(b'{', "an object with name, shape, datatype and data")?;
        let (mut shape, mut datatype, mut parameters) = (None, None, None);
        // The position of `data` that comes before the keys that are needed to read it.
        let mut waiting = None;
        let mut done = false;
        while let Some(key) = scanner.key()? {
            match &*key {
                "name" => set_once(name, read_string(scanner, "name")?, &key)?,
                "datatype" => set_once(&mut datatype, read_string(scanner, "datatype")?, &key)?,
                "shape" => set_once(&mut shape, read_dimensions(scanner).within(" shape")?, &key)?,
                "data" if done || waiting.is_some() => return Err(twice("key", &key)),
                "data" => {
                    if let (Some(name), Some(datatype), Some(shape)) = (&*name, &datatype, &shape) {
                        self.read_data(scanner, &Head { name, datatype, shape, position })?;
                        done = true;
                    } else {
                        waiting = Some(scanner.set_aside()?);
                    }
                }
                "parameters" => {
                    let size = read_parameter(scanner, "binary_data_size", u64::read_element);
                    set_once(&mut parameters, size.within(" parameters")?, &key)?;
                }
                _ => scanner.skip()?,
            }
        }
        let binary_size = parameters.flatten();
        if binary_size.is_some() && (done || waiting.is_some()) {
            return refuse("expected data or binary_data_size, got both");
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
                refuse(format!("expected {expected} value{plural} for shape {shape:?}, got {got}"))
            }
            _ => scanner.skip(),
        }
    }

    /// Takes `size` bytes of the section behind the JSON.
    fn read_binary(&mut self, size: u64, head: &Head<'_>) -> Decoded<()> {
        let Some(section) = &mut self.section else {
            return refuse("expected inference-header-content-length beside binary_data_size, got none");
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
        let twice = || refuse("expected each input once, got it twice");
        let both = || refuse("expected the whole input or its columns, got both");
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
        other => refuse(format!("expected a column of shape [rows] or [rows, 1], got shape {other:?}")),
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
        return refuse(format!(
            "expected {{\"instances\": […]}} or {{\"inputs\": {{…}}}}: {what} is no tensor, and the \
             protocol has only those"
        ));
    }
    let got = quoted(head.datatype);
    refuse(format!("expected datatype \"{expected}\" ({what}), got {got}"))
}
