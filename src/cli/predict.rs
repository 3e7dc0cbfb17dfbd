//! `predictd predict`: one request through the worker's own stages, without Pub/Sub between them.

use std::collections::{BTreeMap, HashMap};
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use google_cloud_pubsub::model::Message;

use super::output;
use crate::engine::job::Batch;
use crate::engine::predict;
use crate::headers::{CONTENT_TYPE, describes_body};
use crate::hint::Hint as _;
use crate::model::Models;
use crate::pubsub::{publish, receive};

/// What stands for the message's id, which only Pub/Sub gives.
const MESSAGE_ID: &str = "local";

/// The message that the worker would publish, but for what only Pub/Sub gives: ids and the times of CloudEvents.
#[derive(Debug)]
pub struct Answer {
    pub body: Bytes,
    pub attributes: HashMap<String, String>,
    pub is_prediction: bool,
}

/// Answers one request as a worker that has these models and no configuration.
pub fn predict(models: &Models, body: Vec<u8>, attributes: HashMap<String, String>) -> Answer {
    let message = Message::new().set_message_id(MESSAGE_ID).set_data(body).set_attributes(attributes);
    let reply = match receive::take_local(message, models) {
        Ok(pending) => {
            let batch = Batch { model: pending.model.clone(), requests: vec![pending] };
            predict::answer(0, batch, &predict::Running::default()).pop().expect("one request has one answer")
        }
        Err(refused) => *refused,
    };
    let (message, reply) = publish::message(reply);
    Answer { body: message.data, attributes: message.attributes, is_prediction: reply.outcome.is_ok() }
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

/// The body alone to standard output; a terminal gets a line end. Attributes go to standard error, in order: all of them, or those
/// without which the body cannot be read, such as `inference-header-content-length`.
pub fn write(answer: &Answer, all: bool) -> anyhow::Result<()> {
    output::print(&answer.body)?;
    if std::io::stdout().is_terminal() {
        output::print("\n")?;
    }
    let tells_of_the_body = |key: &str, value: &str| match key {
        CONTENT_TYPE => value != "application/json",
        _ => describes_body(key),
    };
    let attributes: BTreeMap<&String, &String> =
        answer.attributes.iter().filter(|(key, value)| all || tells_of_the_body(key, value)).collect();
    for (key, value) in attributes {
        output::print_error(&format!("{key}: {value}\n"));
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
