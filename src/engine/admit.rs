//! Admission of a request: which model and version it asks for, whether anybody still waits for it, and its
//! decoding.

use std::sync::Arc;
use std::time::SystemTime;

use crate::decode::envelope::Content;
use crate::decode::{Id, Limits, Request};
use crate::engine::deadline;
use crate::error::Rejection;
use crate::headers::Headers;
use crate::model::{Model, Models};

/// Limits of every request, whichever transport brings it.
pub const LIMITS: Limits = Limits::DEFAULT;

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

/// Decodes a request against the signature of its model. `id` is the request's own unless its body gives one.
///
/// # Errors
/// `INVALID_INPUT`, or `INPUT_TOO_LARGE` beyond [`LIMITS`].
pub fn decode(
    content: Result<Content<'_>, Rejection>,
    model: &Arc<Model>,
    id: Option<Id>,
) -> Result<Request, Box<Refusal>> {
    let refused = |rejection, id| Refusal { rejection, id, model: Some(Arc::clone(model)) };
    let content = match content {
        Ok(content) => content,
        Err(rejection) => return Err(refused(rejection, id).into()),
    };
    match content.decode(&model.signature, &LIMITS) {
        Ok(mut request) => {
            request.response.id = request.response.id.or(id);
            Ok(request)
        }
        Err(failure) => Err(refused(failure.rejection, failure.id.or(id)).into()),
    }
}
