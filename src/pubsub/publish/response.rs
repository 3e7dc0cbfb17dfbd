//! A reply as the message that Pub/Sub gets.

use std::collections::HashMap;

use google_cloud_pubsub::model::Message;

use crate::decode::{Id, envelope};
use crate::error::{Code, Rejection};
use crate::headers;
use crate::model::Model;
use crate::pubsub::delivery::{Reply, Requester};

/// Pub/Sub's limit of one message, data and attributes together.
const MAX_MESSAGE_BYTES: usize = 10_000_000;
const MAX_ATTRIBUTES: usize = 100;
const MAX_ATTRIBUTE_BYTES: usize = 1024;
/// Attributes that a response has of its own at most: 9 that a traced one has, what its body needs (2), where
/// it lies (1), a CloudEvent's (9).
const OWN_ATTRIBUTES: usize = 19;
/// Attributes that each response has: of the request, of the model, of the outcome and of its body.
const USUAL_ATTRIBUTES: usize = 6;
/// Characters of a refusal that its error response repeats.
const LONGEST_REASON: usize = 300;

/// The message, and the reply that it was made of. Pub/Sub takes the message, whatever the reply is, where
/// the topic has no schema.
pub(super) fn message(reply: Reply) -> (Message, Reply) {
    let mut reply = fit(reply);
    let (body, outcome) = (reply.body.clone(), reply.code());
    let (id, format, model) = (reply.id.as_ref(), &reply.origin.response_format, reply.model.as_deref());
    let mut all = attributes(reply.requester(), id, format, model, outcome);
    reply.origin.trace.publishing(&mut all, body.len(), outcome);
    all.extend(reply.attributes.iter().map(|(key, value)| ((*key).to_owned(), (**value).to_owned())));
    let ordering_key = reply.requester().ordering_key.clone();
    let mut message = Message::new().set_data(body).set_ordering_key(ordering_key);
    // The setter would fill another table.
    message.attributes = all;
    (message, reply)
}

/// The error that is published in place of a response which the topic refused: nothing but what says whose
/// answer it is.
pub(super) fn in_place_of(mut reply: Reply, why: &str) -> Reply {
    let attributes = &mut reply.origin.reply_to.requester.attributes;
    attributes.retain(|key, _| matches!(key.as_str(), "request_id" | "traceparent"));
    let event = std::mem::take(&mut reply.origin.response_format).event;
    if let Some(event) = event.filter(|event| reply.id.is_none() && is_attribute(&event.id)) {
        attributes.entry("request_id".to_owned()).or_insert(event.id);
    }
    let code = reply.code().err().unwrap_or(Code::InferenceFailed);
    let why = why.char_indices().nth(LONGEST_REASON).map_or(why, |(end, _)| &why[..end]);
    reply.id = reply.id.filter(|id| is_attribute(id.as_str()));
    reply.into_error(Rejection::new(code, format!("the response topic refused the response: {why}")))
}

/// A response that Pub/Sub would refuse becomes an error that it takes.
fn fit(reply: Reply) -> Reply {
    let attributes = &reply.origin.reply_to.requester.attributes;
    let attributes: usize = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    let most = MAX_MESSAGE_BYTES.saturating_sub(attributes + OWN_ATTRIBUTES * MAX_ATTRIBUTE_BYTES);
    if reply.body.len() <= most {
        return reply;
    }
    let message = format!("the response has {} bytes, at most {most} can be published", reply.body.len());
    reply.into_error(Rejection::new(Code::ResponseTooLarge, message))
}

/// True for a value that Pub/Sub takes as an attribute and that is not empty.
fn is_attribute(value: &str) -> bool {
    !value.is_empty() && value.len() <= MAX_ATTRIBUTE_BYTES
}

/// Attributes of a response: the request's own, then those that say what became of it. Those that describe
/// its body are not among them.
pub fn attributes(
    requester: &Requester,
    id: Option<&Id>,
    response_format: &envelope::ResponseFormat,
    model: Option<&Model>,
    outcome: Result<(), Code>,
) -> HashMap<String, String> {
    let mut all = requester.attributes.clone();
    let message_id = &*requester.message_id;
    let event_id = response_format.event.as_ref().map(|event| event.id.as_str());
    let given_id = [id.map(Id::as_str), event_id].into_iter().flatten().find(|id| is_attribute(id));
    all.retain(|key, _| headers::is_repeated(key));
    if all.len() > MAX_ATTRIBUTES - OWN_ATTRIBUTES {
        // Pub/Sub would refuse the response for ever; what identifies it matters more than what was passed
        // along.
        let request_id = all.remove("request_id");
        let kept = MAX_ATTRIBUTES - OWN_ATTRIBUTES;
        all = all.into_iter().take(kept).collect();
        all.extend(request_id.map(|id| ("request_id".to_owned(), id)));
    }
    all.reserve(USUAL_ATTRIBUTES);
    if !all.contains_key("request_id") {
        all.insert("request_id".to_owned(), given_id.unwrap_or(message_id).to_owned());
    }
    let mut set = |key: &str, value: &str| all.insert(key.to_owned(), value.to_owned());
    set("request_message_id", message_id);
    if let Some(model) = model {
        set("model", &model.name);
        set("model_version", &model.version);
    }
    match outcome {
        Ok(()) => {
            set("status", "ok");
            all.remove("error_code");
        }
        Err(code) => {
            set("status", "error");
            set("error_code", code.as_str());
        }
    }
    all
}
