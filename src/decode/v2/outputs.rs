//! The outputs that a request asks for, and their form.

use std::time::Duration;

use super::fields::{read_parameter, read_string};
use crate::decode::element::Element;
use crate::decode::error::{DecodeError, Decoded, Located, refuse, set_once, twice, unknown};
use crate::decode::request::RequestedOutput;
use crate::decode::scanner::Scanner;
use crate::tensor::signature::Signature;

/// Reads the request's own `parameters`: true if outputs are requested as binary data.
pub(in crate::decode) fn read_binary_output(scanner: &mut Scanner<'_>) -> Decoded<bool> {
    let wanted = read_parameter(scanner, "binary_data_output", bool::read_element)?;
    Ok(wanted.unwrap_or(false))
}

/// Reads the request's own `parameters`: the time in which the response is wanted, in microseconds. 0 is none.
pub(in crate::decode) fn read_timeout(scanner: &mut Scanner<'_>) -> Decoded<Option<Duration>> {
    let wanted = read_parameter(scanner, "timeout", u64::read_element)?;
    Ok(wanted.filter(|limit| *limit > 0).map(Duration::from_micros))
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
    while scanner.another(b']')? {
        let index = all.len();
        let requested = read_output(scanner).at(index)?;
        let name = &requested.name;
        if !signature.outputs.iter().any(|output| output.name == *name) {
            let names = signature.outputs.iter().map(|output| output.name.as_str());
            return Err(unknown("output", name, names).at(index));
        }
        if all.iter().any(|before| before.name == *name) {
            return Err(twice("output", name).at(index));
        }
        all.push(requested);
    }
    Ok(all)
}

fn read_output(scanner: &mut Scanner<'_>) -> Decoded<RequestedOutput> {
    scanner.enter(b'{', "an object with a name")?;
    let (mut name, mut parameters) = (None, None);
    while let Some(key) = scanner.key()? {
        match &*key {
            "name" => set_once(&mut name, read_string(scanner, "name")?, &key)?,
            "parameters" => {
                refuse_classification(scanner.clone())?;
                let read = read_parameter(scanner, "binary_data", bool::read_element);
                set_once(&mut parameters, read.within(".parameters")?, &key)?;
            }
            _ => scanner.skip()?,
        }
    }
    let name = name.ok_or_else(|| DecodeError::new("expected an object with a name, got none"))?;
    Ok(RequestedOutput { name, binary: parameters.flatten() })
}

/// Refuses Triton's parameter for the best classes, because a client would take the full outputs for them.
fn refuse_classification(mut scanner: Scanner<'_>) -> Decoded<()> {
    match read_parameter(&mut scanner, "classification", Scanner::skip)? {
        None => Ok(()),
        Some(()) => refuse(
            "expected no parameter \"classification\", got one; declare the classes in the bundle's \
             model.yaml, with output.top and output.labels",
        )
        .within(".parameters"),
    }
}
