//! The whole body: which protocol it speaks, and what stands beside the tensors.

use std::borrow::Cow;

use super::scanner::Scanner;
use super::value::{kind, shorten};
use super::{Answer, Form, Limits, Request, columns, number, rows, v2};
use crate::error::{Code, Rejection};
use crate::tensor::{Signature, Tensor};

const FORMS: &str = "send {\"instances\": [...]}, {\"inputs\": ...} or an Open Inference Protocol v2 request";

/// One tensor for each input, in the model's order, and how many rows they hold.
pub(crate) type Inputs = (Vec<Tensor>, usize);

pub(crate) fn read(body: &[u8], signature: &Signature, limits: &Limits) -> Result<Request, Rejection> {
    let mut scanner = Scanner::new(body);
    let request = match scanner.peek() {
        None => return Err(Rejection::invalid(format!("the body is empty: {FORMS}"))),
        Some(b'[') => {
            let (inputs, rows) = rows::read(&mut scanner, "body", signature, limits)?;
            Request { inputs, rows, answer: Answer { form: Form::Rows, id: None } }
        }
        Some(b'{') => object(&mut scanner, signature, limits)?,
        Some(_) => {
            return Err(match kind(&mut scanner) {
                Ok(found) => Rejection::invalid(format!("the body is {found}: {FORMS}")),
                Err(malformed) => malformed,
            });
        }
    };
    scanner.end()?;
    Ok(request)
}

fn object(scanner: &mut Scanner<'_>, signature: &Signature, limits: &Limits) -> Result<Request, Rejection> {
    let mut content: Option<(Form, Inputs)> = None;
    let mut outputs: Option<Scanner<'_>> = None;
    let mut id = None;
    let mut id_seen = false;
    let mut others = Vec::new();
    let mut more = scanner.open(b'{')?;
    while more {
        let key = scanner.key()?;
        match &*key {
            "instances" | "inputs" if content.is_some() => {
                return Err(Rejection::invalid(format!(
                    "\"{key}\" comes on top of other inputs: send one of \"instances\" and \"inputs\", once"
                )));
            }
            "instances" => content = Some((Form::Rows, rows::read(scanner, "instances", signature, limits)?)),
            "inputs" if v2::looks_like(*scanner) => {
                content = Some((Form::V2 { outputs: Vec::new() }, v2::read(scanner, signature, limits)?));
            }
            "inputs" => content = Some((Form::Columns, columns::read(scanner, signature, limits)?)),
            "outputs" => {
                if outputs.replace(*scanner).is_some() {
                    return Err(twice("outputs"));
                }
                scanner.skip()?;
            }
            "id" => {
                if std::mem::replace(&mut id_seen, true) {
                    return Err(twice("id"));
                }
                id = read_id(scanner)?;
            }
            _ => {
                scanner.skip()?;
                others.push(key);
            }
        }
        more = scanner.another(b'{')?;
    }
    let Some((mut form, (inputs, rows))) = content else { return Err(no_inputs(&others)) };
    if let (Form::V2 { outputs }, Some(mut wanted)) = (&mut form, outputs) {
        *outputs = v2::read_outputs(&mut wanted, signature)?;
    }
    Ok(Request { inputs, rows, answer: Answer { form, id } })
}

/// A string or a number, kept as text; `null` is none.
fn read_id(scanner: &mut Scanner<'_>) -> Result<Option<String>, Rejection> {
    match scanner.peek() {
        Some(b'"') => scanner.string().map(|id| Some(id.into_owned())),
        Some(b'-' | b'0'..=b'9') => {
            number::scan(scanner).map(|number| Some(String::from_utf8_lossy(number.text).into_owned()))
        }
        _ if scanner.literal("null") => Ok(None),
        _ => {
            let found = kind(scanner)?;
            Err(Rejection::invalid(format!("\"id\" must be a string or a number, got {found}")))
        }
    }
}

/// The `id` of a body that was refused, wherever it stands before the first syntax error.
pub(crate) fn find_id(body: &[u8]) -> Option<String> {
    let mut scanner = Scanner::new(body);
    let mut more = scanner.open(b'{').ok()?;
    while more {
        if scanner.key().ok()? == "id" {
            return read_id(&mut scanner).ok()?;
        }
        scanner.skip().ok()?;
        more = scanner.another(b'{').ok()?;
    }
    None
}

pub(crate) fn check_rows(rows: usize, place: &str, limits: &Limits) -> Result<(), Rejection> {
    if rows == 0 {
        return Err(Rejection::invalid(format!("{place}: expected at least one row, got none")));
    }
    if rows > limits.max_rows {
        return Err(Rejection::new(
            Code::InputTooLarge,
            format!("{place}: more than {} rows; send fewer rows in one message", limits.max_rows),
        ));
    }
    Ok(())
}

pub(crate) fn twice(key: &str) -> Rejection {
    Rejection::invalid(format!("key \"{}\" is given twice", shorten(key)))
}

fn no_inputs(others: &[Cow<'_, str>]) -> Rejection {
    let found = match others {
        [] => "no other key".to_owned(),
        _ => quoted(others.iter().map(AsRef::as_ref)),
    };
    Rejection::invalid(format!("the body has neither \"instances\" nor \"inputs\", but {found}: {FORMS}"))
}

/// `"a", "b"`, the first few.
pub(crate) fn quoted<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const SHOWN: usize = 8;
    let mut names = names.map(|name| format!("\"{}\"", shorten(name)));
    let mut list = names.by_ref().take(SHOWN).collect::<Vec<_>>().join(", ");
    let left = names.count();
    if left > 0 {
        list += &format!(" and {left} more");
    }
    list
}

/// The index of the input with this name.
pub(crate) fn input_named(
    name: &str,
    signature: &Signature,
    place: impl std::fmt::Display,
) -> Result<usize, Rejection> {
    signature.inputs.iter().position(|input| input.name == name).ok_or_else(|| {
        Rejection::invalid(format!(
            "{place}: no input is named \"{}\"; the model takes {}",
            shorten(name),
            quoted(signature.inputs.iter().map(|input| input.name.as_str()))
        ))
    })
}

/// Refuses when an input was not given.
pub(crate) fn check_missing(
    given: &[bool],
    signature: &Signature,
    place: impl std::fmt::Display,
) -> Result<(), Rejection> {
    if given.iter().all(|given| *given) {
        return Ok(());
    }
    let missing = signature
        .inputs
        .iter()
        .zip(given)
        .filter(|(_, given)| !**given)
        .map(|(input, _)| input.name.as_str());
    Err(Rejection::invalid(format!("{place}: input {} is missing", quoted(missing))))
}
