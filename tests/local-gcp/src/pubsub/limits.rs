//! Limits of the real service, with its codes: <https://cloud.google.com/pubsub/quotas#resource_limits>.

use std::time::Duration;

use prost::Message as _;
use tonic::Status;

use super::wire::{PublishRequest, PubsubMessage, Subscription};

const MAX_REQUEST_BYTES: usize = 10 * 1024 * 1024;
const MAX_MESSAGE_BYTES: usize = 10_000_000;
const MAX_MESSAGES: usize = 1000;
const MAX_ATTRIBUTES: usize = 100;
const MAX_KEY_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 1024;
const MAX_ORDERING_KEY_BYTES: usize = 1024;
const MAX_ACK_REQUEST_BYTES: usize = 524_288;

fn invalid(message: String) -> Status {
    Status::invalid_argument(message)
}

/// Bytes that a message counts for: data, attributes and ordering key.
pub(crate) fn size(message: &PubsubMessage) -> usize {
    let attributes: usize = message.attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    message.data.len() + attributes + message.ordering_key.len()
}

/// `projects/P/{kind}/NAME`, NAME of 3–255 characters that begins with a letter, not with `goog`.
pub(crate) fn resource_name(name: &str, kind: &str) -> Result<(), Status> {
    let parts: Vec<&str> = name.split('/').collect();
    let [_, project, _, id] = parts[..] else { return Err(bad_name(name, kind)) };
    let shape = parts[0] == "projects" && parts[2] == kind && !project.is_empty();
    let characters = id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~+%".contains(c));
    let starts = id.starts_with(|c: char| c.is_ascii_alphabetic()) && !id.starts_with("goog");
    if shape && characters && starts && (3..=255).contains(&id.len()) {
        return Ok(());
    }
    Err(bad_name(name, kind))
}

fn bad_name(name: &str, kind: &str) -> Status {
    invalid(format!(
        "invalid resource name {name:?}: expected projects/PROJECT/{kind}/NAME with a NAME of 3 to 255 characters that \
         begins with a letter and not with \"goog\""
    ))
}

pub(crate) fn publish(request: &PublishRequest) -> Result<(), Status> {
    if request.messages.is_empty() {
        return Err(invalid("a publish request needs at least one message, this one has none".to_owned()));
    }
    if request.messages.len() > MAX_MESSAGES {
        let count = request.messages.len();
        return Err(invalid(format!(
            "a publish request has at most {MAX_MESSAGES} messages, this one has {count}"
        )));
    }
    let mut total = 0;
    for (index, each) in request.messages.iter().enumerate() {
        message(each).map_err(|problem| invalid(format!("message {index}: {problem}")))?;
        total += size(each);
    }
    // The exact length is only counted when it can matter: it walks through every attribute.
    if total > MAX_REQUEST_BYTES / 2 {
        let length = request.encoded_len();
        if length > MAX_REQUEST_BYTES {
            return Err(invalid(format!(
                "request payload size exceeds the limit: {MAX_REQUEST_BYTES} bytes, this one has {length}"
            )));
        }
    }
    Ok(())
}

fn message(message: &PubsubMessage) -> Result<(), String> {
    if message.data.is_empty() && message.attributes.is_empty() {
        return Err("expected data or at least one attribute, both are empty".to_owned());
    }
    let size = size(message);
    if size > MAX_MESSAGE_BYTES {
        return Err(format!("a message has at most {MAX_MESSAGE_BYTES} bytes, this one has {size}"));
    }
    if message.attributes.len() > MAX_ATTRIBUTES {
        let count = message.attributes.len();
        return Err(format!("a message has at most {MAX_ATTRIBUTES} attributes, this one has {count}"));
    }
    for (key, value) in &message.attributes {
        if key.is_empty()
            || key.len() > MAX_KEY_BYTES
            || key.starts_with("goog") && !key.starts_with("googclient_")
        {
            return Err(format!(
                "an attribute's key has 1 to {MAX_KEY_BYTES} bytes and does not begin with \"goog\", this one is {key:?}"
            ));
        }
        if value.len() > MAX_VALUE_BYTES {
            let length = value.len();
            return Err(format!(
                "attribute {key:?} has at most {MAX_VALUE_BYTES} bytes, this one has {length}"
            ));
        }
    }
    if message.ordering_key.len() > MAX_ORDERING_KEY_BYTES {
        let length = message.ordering_key.len();
        return Err(format!(
            "an ordering key has at most {MAX_ORDERING_KEY_BYTES} bytes, this one has {length}"
        ));
    }
    Ok(())
}

/// Checks the configuration of a subscription; `topic` and `filter` are checked elsewhere.
pub(crate) fn subscription(subscription: &Subscription) -> Result<(), Status> {
    let deadline = subscription.ack_deadline_seconds;
    // Zero means the default of 10 seconds.
    if deadline != 0 && !(10..=600).contains(&deadline) {
        return Err(invalid(format!("ack deadline: expected 10 to 600 seconds, not {deadline}")));
    }
    if let Some(policy) = &subscription.dead_letter_policy {
        let attempts = policy.max_delivery_attempts;
        if attempts != 0 && !(5..=100).contains(&attempts) {
            return Err(invalid(format!("max delivery attempts: expected 5 to 100, not {attempts}")));
        }
        resource_name(&policy.dead_letter_topic, "topics")?;
    }
    if let Some(policy) = &subscription.retry_policy {
        let seconds =
            |limit: &Option<prost_types::Duration>, default| limit.as_ref().map_or(default, |it| it.seconds);
        let (least, most) = (seconds(&policy.minimum_backoff, 10), seconds(&policy.maximum_backoff, 600));
        if !(0..=600).contains(&least) || !(0..=600).contains(&most) || least > most {
            return Err(invalid(format!(
                "retry policy: expected 0 to 600 seconds, the minimum not above the maximum, not {least} and {most}"
            )));
        }
    }
    if let Some(retention) = &subscription.message_retention_duration
        && !(600..=31 * 86_400).contains(&retention.seconds)
    {
        return Err(invalid(format!(
            "message retention: expected 10 minutes to 31 days, not {} seconds",
            retention.seconds
        )));
    }
    let pushes = subscription.push_config.as_ref().is_some_and(|push| !push.push_endpoint.is_empty());
    let exports = subscription.bigquery_config.is_some()
        || subscription.cloud_storage_config.is_some()
        || subscription.bigtable_config.is_some();
    if pushes || exports {
        return Err(Status::unimplemented(
            "local-gcp only has pull subscriptions: leave push and export configs out",
        ));
    }
    Ok(())
}

/// The deadline of an acknowledgement request: 0 gives the message back.
pub(crate) fn ack_deadline(seconds: i32) -> Result<Duration, Status> {
    match u64::try_from(seconds) {
        Ok(seconds @ 0..=600) => Ok(Duration::from_secs(seconds)),
        _ => Err(invalid(format!("ack deadline: expected 0 to 600 seconds, not {seconds}"))),
    }
}

pub(crate) fn ack_ids(ids: &[String]) -> Result<(), Status> {
    if ids.is_empty() {
        return Err(invalid("expected at least one ack id, none came".to_owned()));
    }
    let bytes: usize = ids.iter().map(String::len).sum();
    if bytes > MAX_ACK_REQUEST_BYTES {
        return Err(invalid(format!(
            "request payload size exceeds the limit: {MAX_ACK_REQUEST_BYTES} bytes, this one has {bytes}"
        )));
    }
    Ok(())
}
