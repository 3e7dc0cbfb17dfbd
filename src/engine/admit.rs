//! Admission of a request: which model and version it asks for, whether anybody still waits for it, and its
//! decoding.

use std::sync::Arc;
use std::time::SystemTime;

use crate::decode::envelope::{self, Content, Envelope, ResponseFormat};
use crate::decode::{Failure, Id, Limits, Request};
use crate::engine::deadline;
use crate::error::Rejection;
use crate::headers::Headers;
use crate::model::{Model, Models};

/// Limits of every request, whichever transport brings it.
pub const LIMITS: Limits = Limits::DEFAULT;

/// A body larger than this, decompressed, is decoded where blocking is allowed.
pub const LARGE_BODY: usize = 256 << 10;

/// Decodes or compresses so many bytes: many of them block their thread for a while.
pub fn may_block<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE_BODY { tokio::task::block_in_place(work) } else { work() }
}

/// The model that a request is for, and its conditions.
#[derive(Debug)]
pub struct Target {
    pub model: Arc<Model>,
    pub wanted_version: Option<String>,
    pub deadline: Option<SystemTime>,
}

/// Why a request is not computed.
#[derive(Debug)]
pub struct Refusal {
    pub rejection: Rejection,
    /// The request's own id, where it is known.
    pub id: Option<Id>,
    pub model: Option<Arc<Model>>,
}

/// Reads a request that came whole: the form that its response mirrors, its target, and its rows.
///
/// # Errors
/// The errors of [`target`] and [`decode`].
pub fn read(
    models: &Models,
    headers: Headers<'_>,
    body: &[u8],
) -> (ResponseFormat, Result<(Request, Target), Box<Refusal>>) {
    let Envelope { response_format, content } = envelope::open(headers, body, &LIMITS);
    let id = || content.as_ref().ok().and_then(Content::id);
    let target = target(models, headers, id);
    (response_format, target.and_then(|target| decode(content, target, None)))
}

/// Finds the model and the version that `headers` ask for. A request that no answer is computed for costs no
/// decoding: `id` finds its id.
///
/// # Errors
/// `MODEL_NOT_FOUND`, `DEADLINE_EXCEEDED`, or `INVALID_INPUT` for a deadline that cannot be read.
pub fn target(
    models: &Models,
    headers: Headers<'_>,
    id: impl FnOnce() -> Option<Id>,
) -> Result<Target, Box<Refusal>> {
    let model = match models.resolve(headers.get("model")) {
        Ok(model) => model,
        Err(rejection) => return Err(Refusal { rejection, id: id(), model: None }.into()),
    };
    let wanted_version = headers.get("model_version");
    let checked = model.check_version(wanted_version).and_then(|()| {
        let deadline = headers.get("deadline").map(deadline::parse).transpose()?;
        deadline::check(deadline)?;
        Ok(deadline)
    });
    match checked {
        Ok(deadline) => Ok(Target { wanted_version: wanted_version.map(str::to_owned), model, deadline }),
        Err(rejection) => Err(Refusal { rejection, id: id(), model: Some(model) }.into()),
    }
}

/// Decodes a request against the signature of its target. `id` is the request's own unless its body gives one.
///
/// # Errors
/// `INVALID_INPUT`, or `INPUT_TOO_LARGE` beyond [`LIMITS`].
pub fn decode(
    content: Result<Content<'_>, Rejection>,
    target: Target,
    id: Option<Id>,
) -> Result<(Request, Target), Box<Refusal>> {
    let decoded = match content {
        Ok(content) => content.decode(&target.model.signature, &LIMITS),
        Err(rejection) => Err(Failure { rejection, id: None }),
    };
    match decoded {
        Ok(mut request) => {
            request.response.id = request.response.id.or(id);
            Ok((request, target))
        }
        Err(Failure { rejection, id: own }) => {
            Err(Refusal { rejection, id: own.or(id), model: Some(target.model) }.into())
        }
    }
}
