//! What the real service refuses, with its codes: <https://cloud.google.com/pubsub/quotas#resource_limits>.

use tonic::Status;

use crate::proto::pubsub::{PubsubMessage, Subscription};

const MAX_CALL_MESSAGES: usize = 1000;
const MAX_CALL_BYTES: usize = 10_000_000;
const MAX_ATTRIBUTES: usize = 100;
const MAX_KEY_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 1024;
const MAX_ORDERING_KEY_BYTES: usize = 1024;

/// `projects/P/{collection}/NAME`.
pub(super) fn name(name: &str, collection: &str) -> Result<(), Status> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.~+%".contains(c);
    let is_good = match name.split('/').collect::<Vec<_>>()[..] {
        ["projects", project, kind, short] => {
            !project.is_empty()
                && kind == collection
                && (3..=255).contains(&short.len())
                && short.starts_with(|c: char| c.is_ascii_alphabetic())
                && !short.starts_with("goog")
                && short.chars().all(legal)
        }
        _ => false,
    };
    if is_good {
        Ok(())
    } else {
        Err(Status::invalid_argument(format!("Invalid [{collection}] name: (name={name})")))
    }
}

/// Also fills in the defaults.
pub(super) fn subscription(config: &mut Subscription) -> Result<(), Status> {
    name(&config.name, "subscriptions")?;
    if config.ack_deadline_seconds == 0 {
        config.ack_deadline_seconds = 10;
    }
    if !(10..=600).contains(&config.ack_deadline_seconds) {
        return Err(Status::invalid_argument(format!(
            "Invalid ack deadline given: {}. Must be between 10 and 600 seconds.",
            config.ack_deadline_seconds
        )));
    }
    if let Some(policy) = &mut config.dead_letter_policy {
        if policy.max_delivery_attempts == 0 {
            policy.max_delivery_attempts = 5;
        }
        if !(5..=100).contains(&policy.max_delivery_attempts) {
            return Err(Status::invalid_argument("max_delivery_attempts must be between 5 and 100."));
        }
        name(&policy.dead_letter_topic, "topics")?;
    }
    if config.message_retention_duration.is_none() {
        config.message_retention_duration = Some(prost_types::Duration { seconds: 604_800, nanos: 0 });
    }
    if config.push_config.as_ref().is_some_and(|push| !push.push_endpoint.is_empty()) {
        return Err(Status::unimplemented("push subscriptions are not part of this local server"));
    }
    Ok(())
}

pub(super) fn messages(messages: &[PubsubMessage]) -> Result<(), Status> {
    if messages.is_empty() {
        return Err(Status::invalid_argument("The request contains no messages."));
    }
    if messages.len() > MAX_CALL_MESSAGES {
        return Err(Status::invalid_argument(format!(
            "The value for message_count is too large. You passed {}, the maximum value is {MAX_CALL_MESSAGES}.",
            messages.len()
        )));
    }
    let mut total = 0;
    for message in messages {
        total += self::message(message)?;
    }
    if total > MAX_CALL_BYTES {
        return Err(Status::invalid_argument(format!(
            "Request payload size exceeds the limit: {MAX_CALL_BYTES} bytes."
        )));
    }
    let key = &messages[0].ordering_key;
    if messages.iter().any(|message| message.ordering_key != *key) {
        return Err(Status::invalid_argument(
            "All messages in a publish request must have the same ordering key.",
        ));
    }
    Ok(())
}

/// The size that counts against the limits.
fn message(message: &PubsubMessage) -> Result<usize, Status> {
    if message.data.is_empty() && message.attributes.is_empty() {
        return Err(Status::invalid_argument("Some message is empty: it has neither data nor attributes."));
    }
    if message.attributes.len() > MAX_ATTRIBUTES {
        return Err(Status::invalid_argument("The number of attributes in a message exceeds 100."));
    }
    let mut size = message.data.len() + message.ordering_key.len();
    for (key, value) in &message.attributes {
        if key.is_empty() || key.len() > MAX_KEY_BYTES || key.starts_with("goog") {
            return Err(Status::invalid_argument(format!("Invalid attribute key: {key:?}.")));
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(Status::invalid_argument(format!(
                "The value of attribute {key:?} exceeds 1024 bytes."
            )));
        }
        size += key.len() + value.len();
    }
    if message.ordering_key.len() > MAX_ORDERING_KEY_BYTES {
        return Err(Status::invalid_argument("The ordering key exceeds 1024 bytes."));
    }
    Ok(size)
}
