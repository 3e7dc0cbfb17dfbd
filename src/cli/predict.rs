//! `predictd predict`: one request through the worker's own engine, without Pub/Sub.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

use super::report::Hint as _;
use crate::model::Model;
use crate::{decode, encode, infer};

/// The body of the response and whether it is a prediction: byte for byte what the worker would publish.
pub fn predict(model: &Model, body: &[u8], content_type: Option<&str>) -> (Vec<u8>, bool) {
    let limits = decode::Limits::default();
    let decoded = decode::supported(content_type, None)
        .map_err(|rejection| decode::Failure { rejection, id: None })
        .and_then(|()| decode::decode(body, &model.signature, &limits));
    let (answered, id) = match decoded {
        Ok(request) => {
            let (mut ids, mut answers) = infer::predict(model, 0, vec![request]);
            let answered = answers.pop().expect("one request has one answer");
            (answered, ids.pop().flatten())
        }
        Err(failure) => (Err(failure.rejection), failure.id),
    };
    match answered {
        Ok(body) => (body, true),
        Err(rejection) => (encode::error(&rejection, id.as_ref()), false),
    }
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
