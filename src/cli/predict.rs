//! `predictd predict`: one request through the worker's own engine, without Pub/Sub.

use std::collections::HashMap;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;

use super::report::Hint as _;
use crate::decode::envelope::{Envelope, Headers, open};
use crate::decode::{Failure, Limits};
use crate::encode::envelope::{Sealed, Sender, seal};
use crate::model::Model;
use crate::{encode, infer};

/// What stands for the message's id, which only Pub/Sub gives.
const MESSAGE_ID: &str = "local";

/// The response and whether it is a prediction: byte for byte what the worker would publish, but for a CloudEvent's id and time.
pub fn predict(model: &Model, body: &[u8], attributes: &HashMap<String, String>) -> (Sealed, bool) {
    let limits = Limits::default();
    let Envelope { delivery, content } = open(Headers(attributes), body, &limits);
    let decoded = content
        .map_err(|rejection| Failure { rejection, id: None })
        .and_then(|content| content.decode(&model.signature, &limits));
    let (answered, id) = match decoded {
        Ok(request) => {
            let (mut ids, mut answers) = infer::predict(model, 0, vec![request]);
            let answered = answers.pop().expect("one request has one answer");
            (answered, ids.pop().flatten())
        }
        Err(failure) => (Err(failure.rejection), failure.id),
    };
    let is_ok = answered.is_ok();
    let body = answered.unwrap_or_else(|rejection| encode::error(&rejection, id.as_ref()).into());
    let sender = Sender { model: Some(&model.name), message_id: MESSAGE_ID, is_ok, now: SystemTime::now() };
    (seal(body, &delivery, &sender), is_ok)
}

/// `KEY=VALUE`.
pub fn attribute(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, as in content-encoding=gzip".to_owned()),
    }
}

pub fn content_type(value: String) -> (String, String) {
    ("content-type".to_owned(), value)
}

/// The body alone to standard output; a terminal gets a line end. What its attributes say beyond plain JSON goes to
/// standard error: without `inference-header-content-length`, for one, binary data cannot be read.
pub fn write(answer: &Sealed) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(&answer.body).context("cannot write to standard output")?;
    if out.is_terminal() {
        out.write_all(b"\n").context("cannot write to standard output")?;
    }
    out.flush().context("cannot write to standard output")?;
    for (key, value) in answer.attributes.iter().filter(|(_, value)| value != "application/json") {
        eprintln!("{key}: {value}");
    }
    Ok(())
}

/// The request: a file, or standard input for `-`.
pub fn read(input: &Path) -> anyhow::Result<Vec<u8>> {
    if input == Path::new("-") {
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body).context("cannot read standard input")?;
        return Ok(body);
    }
    std::fs::read(input)
        .with_context(|| format!("cannot read the request {input:?}"))
        .hint("name a file, or pipe the request in: predictd inspect MODEL shows one")
}
