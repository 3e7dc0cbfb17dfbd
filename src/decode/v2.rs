//! Open Inference Protocol v2 in JSON (github.com/kserve/open-inference-protocol, REST specification).

use super::fault::{Fault, Read, shown};
use super::inputs::{Inputs, named};
use super::scanner::Scanner;
use crate::tensor::Signature;

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

/// Reads the list of tensors under `inputs`.
pub(super) fn read(scanner: &mut Scanner<'_>, inputs: &mut Inputs<'_>) -> Read<()> {
    scanner.open(b'[')?;
    let mut count = 0;
    while scanner.another(count == 0, b']')? {
        let mut name = None;
        // Until its name is known, a tensor is shown by its position.
        tensor(scanner, inputs, &mut name, count).map_err(|fault| match &name {
            Some(name) => fault.within(&format!("input {}", shown(name))),
            None => fault.at(count).within("inputs"),
        })?;
        count += 1;
    }
    inputs.complete(1).map_err(|fault| fault.within("inputs"))
}

fn tensor(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
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
                parameters(scanner)?;
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
    if done {
        return Ok(());
    }
    let missing = |key: &str| Fault::new(format!("expected name, shape, datatype and data, got no {key}"));
    let name = name.as_ref().ok_or_else(|| missing("name"))?;
    let datatype = datatype.ok_or_else(|| missing("datatype"))?;
    let shape = shape.ok_or_else(|| missing("shape"))?;
    let mut waiting = waiting.ok_or_else(|| missing("data"))?;
    data(&mut waiting, inputs, (name, &datatype, &shape), guess)
}

fn data(
    scanner: &mut Scanner<'_>,
    inputs: &mut Inputs<'_>,
    (name, datatype, shape): (&str, &str, &[usize]),
    guess: usize,
) -> Read<()> {
    let index = inputs.find(name, guess)?;
    let input = &inputs.list[index];
    if input.times > 0 {
        return Err(Fault::new("expected each input once, got it twice"));
    }
    let expected = input.spec.element.datatype();
    if datatype != expected {
        let what = input.spec.describe();
        return Err(Fault::new(format!(
            "expected datatype \"{expected}\" ({what}), got {}",
            shown(datatype)
        )));
    }
    inputs.read_shaped(index, scanner, shape)
}

fn text(scanner: &mut Scanner<'_>, key: &str) -> Read<String> {
    if scanner.peek() != Some(b'"') {
        return Err(scanner.unexpected(&format!("a string in \"{key}\"")));
    }
    Ok(scanner.string()?.into_owned())
}

fn dimensions(scanner: &mut Scanner<'_>) -> Read<Vec<usize>> {
    use super::element::Element;
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

/// Tensor parameters change nothing here, but for the one that moves the data out of the JSON.
fn parameters(scanner: &mut Scanner<'_>) -> Read<()> {
    if !scanner.open(b'{')? {
        return scanner.skip();
    }
    let mut first = true;
    while let Some(key) = scanner.key(first)? {
        first = false;
        if key == "binary_data_size" {
            return Err(Fault::new(
                "expected the values in \"data\", got binary_data_size, which JSON alone cannot carry",
            ));
        }
        scanner.skip()?;
    }
    Ok(())
}

/// The names under the request's own `outputs`, in order, each one the model has.
pub(super) fn outputs(scanner: &mut Scanner<'_>, signature: &Signature) -> Read<Vec<String>> {
    if !scanner.open(b'[')? {
        return Err(scanner.unexpected("a list of objects with a name"));
    }
    let mut wanted: Vec<String> = Vec::new();
    while scanner.another(wanted.is_empty(), b']')? {
        let index = wanted.len();
        let name = output(scanner).map_err(|fault| fault.at(index))?;
        if !signature.outputs.iter().any(|output| output.name == name) {
            let names: Vec<&str> = signature.outputs.iter().map(|output| output.name.as_str()).collect();
            let message =
                format!("expected {}, got unknown output {}", named("output", &names), shown(&name));
            return Err(Fault::new(message).at(index));
        }
        if wanted.contains(&name) {
            return Err(
                Fault::new(format!("expected each output once, got {} twice", shown(&name))).at(index)
            );
        }
        wanted.push(name);
    }
    Ok(wanted)
}

fn output(scanner: &mut Scanner<'_>) -> Read<String> {
    if !scanner.open(b'{')? {
        return Err(scanner.unexpected("an object with a name"));
    }
    let mut name = None;
    let mut first = true;
    while let Some(key) = scanner.key(first)? {
        first = false;
        if key != "name" {
            scanner.skip()?;
        } else if name.replace(text(scanner, "name")?).is_some() {
            return Err(Fault::new("expected each key once, got \"name\" twice"));
        }
    }
    name.ok_or_else(|| Fault::new("expected an object with a name, got none"))
}
