//! `predictd predict`: one request through the worker's own stages, without Pub/Sub.

use std::collections::{BTreeMap, HashMap};
use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;

use super::output;
use crate::decode::{Request, reference};
use crate::encode;
use crate::encode::envelope::{ResponseMetadata, wrap};
use crate::engine::admit::{self, Refusal, Target};
use crate::engine::budget::Memory;
use crate::engine::job::{Batch, Job, Origin, Outcome, ReplyTo, Response};
use crate::engine::run_batch::{Running, run_batch};
use crate::headers::{self, CONTENT_TYPE, Headers, describes_body};
use crate::hint::Hint as _;
use crate::model::Models;
use crate::ops::metrics::Metrics;
use crate::ops::traces::MessageTrace;
use crate::pubsub::delivery::Requester;
use crate::pubsub::publish;

/// Stands for the message id, which Pub/Sub would assign.
const MESSAGE_ID: &str = "local";

/// The response that the worker would publish, without what only Pub/Sub gives: ids, and the times of
/// CloudEvents.
#[derive(Debug)]
pub struct Answer {
    pub body: Vec<u8>,
    pub attributes: HashMap<String, String>,
    pub is_prediction: bool,
}

impl ReplyTo for Requester {}

/// Answers one request as a worker with these models and without configuration.
pub fn predict(models: &Models, body: &[u8], mut attributes: HashMap<String, String>) -> Answer {
    headers::to_lower_case(&mut attributes);
    let requester = Requester { attributes, message_id: MESSAGE_ID.to_owned(), ordering_key: String::new() };
    let mut origin = Origin::new(requester, Memory::new(Metrics::new()), MessageTrace::default());
    let response = match admit(models, body, &mut origin) {
        Ok((request, target)) => {
            let job = Job::new(request, target, false, origin);
            let batch = Batch { model: Arc::clone(&job.model), jobs: vec![job] };
            let mut responses = run_batch(0, batch, &Running::default(), &mut || {});
            responses.pop().expect("one request has one answer")
        }
        Err(refusal) => Response::refused(*refusal, origin),
    };
    let Response { outcome, id, model, origin } = response;
    let (body, outcome) = match outcome {
        Outcome::Computed(body) => (body, Ok(())),
        Outcome::Rejected(rejection) => (encode::error(&rejection, id.as_ref()).into(), Err(rejection.code)),
        Outcome::Expired => unreachable!("this request does not expire"),
    };
    let (format, model, now) = (&origin.response_format, model.as_deref(), SystemTime::now());
    let mut attributes = publish::attributes(&origin.reply_to, id.as_ref(), format, model, outcome);
    let model = model.map(|model| &*model.name);
    let sender = ResponseMetadata { model, message_id: MESSAGE_ID, is_ok: outcome.is_ok(), now };
    let wrapped = wrap(body, format, &sender);
    attributes.extend(wrapped.headers.into_iter().map(|(key, value)| (key.to_owned(), value.into_owned())));
    Answer { body: wrapped.body, attributes, is_prediction: outcome.is_ok() }
}

/// Decodes the request; one that refers to an object is refused, since no bucket is allowed.
fn admit(
    models: &Models,
    body: &[u8],
    origin: &mut Origin<Requester>,
) -> Result<(Request, Target), Box<Refusal>> {
    let headers = Headers(&origin.reply_to.attributes);
    if let Some(mut reference) = reference::find(headers, body) {
        origin.response_format = std::mem::take(&mut reference.response_format);
        let target = admit::target(models, headers, || reference.id.clone())?;
        let rejection = reference.object.map_or_else(|rejection| rejection, |object| object.forbidden());
        return Err(Refusal { rejection, id: reference.id, model: Some(target.model) }.into());
    }
    let (response_format, admitted) = admit::read(models, headers, body);
    origin.response_format = response_format;
    admitted
}

/// Reads `KEY=VALUE`.
pub fn attribute(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, as in content-encoding=gzip".to_owned()),
    }
}

/// Prints the body to standard output, with a line end on a terminal. Prints attributes to standard error, in
/// order: all of them, or only those without which the body cannot be read, such as
/// `inference-header-content-length`.
pub fn write(answer: &Answer, all: bool) -> anyhow::Result<()> {
    output::print(&answer.body)?;
    if std::io::stdout().is_terminal() {
        output::print("\n")?;
    }
    let describes_the_body = |key: &str, value: &str| match key {
        CONTENT_TYPE => value != "application/json",
        _ => describes_body(key),
    };
    let attributes: BTreeMap<&String, &String> =
        answer.attributes.iter().filter(|(key, value)| all || describes_the_body(key, value)).collect();
    for (key, value) in attributes {
        output::print_error(&format!("{key}: {value}\n"));
    }
    Ok(())
}

/// Reads the request from a file, or from standard input for `-`.
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
