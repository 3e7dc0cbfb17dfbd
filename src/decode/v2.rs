//! Open Inference Protocol v2 (github.com/kserve/open-inference-protocol, REST specification) with its binary data extension:
//! a tensor's data stands in the JSON, or behind it where `binary_data_size` says how many bytes.

use super::Wanted;
use super::binary::Section;
use super::element::Element;
use super::fault::{Fault, Read, shown};
use super::inputs::{Inputs, named};
use super::scanner::Scanner;
use crate::signature::Signature;

/// Whether the list that comes next holds v2 tensors and not a column's values.
pub(super) fn is_next(scanner: &Scanner<'_>) -> bool {
    let mut ahead = scanner.clone();
    if !ahead.take(b'[') || !matches!(ahead.open(b'{'), Ok(true)) {
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
) -> Read<()> {
    scanner.open(b'[')?;
    let mut count = 0;
    while scanner.another(count == 0, b']')? {
        let mut name = None;
        // Until its name is known, a tensor is shown by its position.
        tensor(scanner, inputs, section.as_mut(), &mut name, count).map_err(|fault| match &name {
            Some(name) => fault.within(&format!("input {}", shown(name))),
            None => fault.at(count).within("inputs"),
        })?;
        count += 1;
    }
    inputs.complete_whole().map_err(|fault| fault.within("inputs"))
}

fn tensor(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    section: Option<&mut Section<'_>>,
    name: &mut Option<String>,
    guess: usize,
) -> Read<()> {
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
            "shape" => shape.replace(dimensions(scanner).map_err(|fault| fault.within(" shape"))?).is_some(),
            "data" if done || waiting.is_some() => true,
            "data" => {
                if let (Some(name), Some(datatype), Some(shape)) = (&*name, &datatype, &shape) {
                    data(scanner, inputs, (name, datatype, shape), guess)?;
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
                    .map_err(|fault| fault.within(" parameters"))?;
                std::mem::replace(&mut has_parameters, true)
            }
            _ => {
                scanner.skip()?;
                false
            }
        };
        if seen {
            return Err(Fault::new(format!("expected each key once, got {} twice", shown(&key))));
        }
    }
    if binary_size.is_some() && (done || waiting.is_some()) {
        return Err(Fault::new("expected data or binary_data_size, got both"));
    }
    if done {
        return Ok(());
    }
    let missing = |key: &str| Fault::new(format!("expected name, shape, datatype and data, got no {key}"));
    let name = name.as_ref().ok_or_else(|| missing("name"))?;
    let datatype = datatype.ok_or_else(|| missing("datatype"))?;
    let shape = shape.ok_or_else(|| missing("shape"))?;
    if let Some(size) = binary_size {
        let Some(section) = section else {
            return Err(Fault::new(
                "expected the attribute inference-header-content-length beside binary_data_size, got none",
            ));
        };
        let index = find(inputs, (name, &datatype), guess)?;
        let data = section.take(usize::try_from(size).unwrap_or(usize::MAX))?;
        return inputs.read_binary(index, data, &shape);
    }
    let mut waiting = waiting.ok_or_else(|| missing("data"))?;
    data(&mut waiting, inputs, (name, &datatype, &shape), guess)
}

fn data(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    (name, datatype, shape): (&str, &str, &[usize]),
    guess: usize,
) -> Read<()> {
    let index = find(inputs, (name, datatype), guess)?;
    inputs.read_shaped(index, scanner, shape)
}

/// The position of an input, which must not have come yet and must be of this type.
fn find(inputs: &Inputs<'_>, (name, datatype): (&str, &str), guess: usize) -> Read<usize> {
    let index = inputs.find(name, guess)?;
    let input = &inputs.list[index];
    if input.times > 0 {
        return Err(Fault::new("expected each input once, got it twice"));
    }
    if input.spec.kind.is_composite() {
        let what = input.spec.describe();
        return Err(Fault::new(format!(
            "expected {{\"instances\": […]}} or {{\"inputs\": {{…}}}}: {what} is no tensor, and the protocol has only those"
        )));
    }
    let expected = input.spec.element.datatype();
    if datatype != expected {
        let what = input.spec.describe();
        return Err(Fault::new(format!(
            "expected datatype \"{expected}\" ({what}), got {}",
            shown(datatype)
        )));
    }
    Ok(index)
}

fn text(scanner: &mut Scanner<'_>, key: &str) -> Read<String> {
    if scanner.peek() != Some(b'"') {
        return Err(scanner.unexpected(&format!("a string in \"{key}\"")));
    }
    Ok(scanner.string()?.into_owned())
}

fn dimensions(scanner: &mut Scanner<'_>) -> Read<Vec<usize>> {
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected("a list of dimensions"));
    }
    let mut shape = Vec::new();
    while scanner.another(shape.is_empty(), b']')? {
        // Far more than any tensor has; bounds what the error about a wrong shape repeats.
        if shape.len() == 64 {
            return Err(Fault::new("expected at most 64 dimensions, got more"));
        }
        let length = u64::read(scanner).map_err(|fault| fault.at(shape.len()))?;
        shape.push(usize::try_from(length).unwrap_or(usize::MAX));
    }
    Ok(shape)
}

/// The one parameter that matters here of the object that comes next; the others change nothing.
fn parameter<'a, T>(
    scanner: &mut Scanner<'a>,
    name: &str,
    read: impl Fn(&mut Scanner<'a>) -> Read<T>,
) -> Read<Option<T>> {
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
        let value = read(scanner).map_err(|fault| fault.within(&format!(".{name}")))?;
        if found.replace(value).is_some() {
            return Err(Fault::new(format!("expected each key once, got \"{name}\" twice")));
        }
    }
    Ok(found)
}

/// The request's own `parameters`: whether outputs are wanted as binary data.
pub(super) fn wants_binary(scanner: &mut Scanner<'_>) -> Read<bool> {
    let wanted = parameter(scanner, "binary_data_output", |scanner| bool::read(scanner))?;
    Ok(wanted.unwrap_or(false))
}

/// What stands under the request's own `outputs`, in order, each one the model has.
pub(super) fn outputs(scanner: &mut Scanner<'_>, signature: &Signature) -> Read<Vec<Wanted>> {
    if !scanner.open(b'[')? {
        // As clients write that have no wish.
        if scanner.word("null") {
            return Ok(Vec::new());
        }
        return Err(scanner.unexpected("a list of objects with a name"));
    }
    let mut all: Vec<Wanted> = Vec::new();
    while scanner.another(all.is_empty(), b']')? {
        let index = all.len();
        let wanted = output(scanner).map_err(|fault| fault.at(index))?;
        let name = &wanted.name;
        if !signature.outputs.iter().any(|output| output.name == *name) {
            let names: Vec<&str> = signature.outputs.iter().map(|output| output.name.as_str()).collect();
            let message = format!("expected {}, got unknown output {}", named("output", &names), shown(name));
            return Err(Fault::new(message).at(index));
        }
        if all.iter().any(|before| before.name == *name) {
            return Err(Fault::new(format!("expected each output once, got {} twice", shown(name))).at(index));
        }
        all.push(wanted);
    }
    Ok(all)
}

fn output(scanner: &mut Scanner<'_>) -> Read<Wanted> {
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
                parameters.replace(read.map_err(|fault| fault.within(".parameters"))?).is_some()
            }
            _ => {
                scanner.skip()?;
                false
            }
        };
        if seen {
            return Err(Fault::new(format!("expected each key once, got {} twice", shown(&key))));
        }
    }
    let name = name.ok_or_else(|| Fault::new("expected an object with a name, got none"))?;
    Ok(Wanted { name, binary: parameters.flatten() })
}

/// Triton's own way to ask for the best classes. An answer without them would be taken for one with them.
fn refuse_classification(mut scanner: Scanner<'_>) -> Read<()> {
    match parameter(&mut scanner, "classification", Scanner::skip)? {
        None => Ok(()),
        Some(()) => Err(Fault::new(
            "expected no parameter \"classification\", got one; the bundle's model.yaml says it, with output.top and output.labels",
        )
        .within(".parameters")),
    }
}
