//! The outputs that a request asks for, and their form.

use super::fields::{read_parameter, read_string};
use crate::decode::element::Element;
use crate::decode::error::{DecodeError, Decoded, did_you_mean, key_twice, one_of, quoted};
use crate::decode::request::RequestedOutput;
use crate::decode::scanner::Scanner;
use crate::tensor::signature::Signature;

/// Reads the request's own `parameters`: true if outputs are requested as binary data.
pub(in crate::decode) fn read_binary_output(scanner: &mut Scanner<'_>) -> Decoded<bool> {
    let wanted = read_parameter(scanner, "binary_data_output", |scanner| bool::read_element(scanner))?;
    Ok(wanted.unwrap_or(false))
}

/// Reads the request's own `outputs`, in order. All must be outputs of the model.
pub(in crate::decode) fn read_outputs(
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
