//! The JSON forms of the protocol's messages: camelCase, base64 data, durations as `"600s"`.
//!
//! Unknown fields are ignored and null means unset, as the real service does: its clients send both.

use std::collections::HashMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::wire;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Topic {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<HashMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_retention_duration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_key_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_settings: Option<SchemaSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_storage_policy: Option<MessageStoragePolicy>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MessageStoragePolicy {
    allowed_persistence_regions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enforce_in_transit: Option<bool>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SchemaSettings {
    schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_revision_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_revision_id: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Subscription {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    push_config: Option<PushConfig>,
    #[serde(skip_serializing)]
    bigquery_config: Option<serde_json::Value>,
    #[serde(skip_serializing)]
    cloud_storage_config: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_deadline_seconds: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_acked_messages: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_retention_duration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<HashMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enable_message_ordering: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_policy: Option<ExpirationPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter_policy: Option<DeadLetterPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_policy: Option<RetryPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enable_exactly_once_delivery: Option<bool>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PushConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    push_endpoint: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ExpirationPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeadLetterPolicy {
    dead_letter_topic: String,
    max_delivery_attempts: i32,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RetryPolicy {
    #[serde(skip_serializing_if = "Option::is_none")]
    minimum_backoff: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum_backoff: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct UpdateTopic {
    pub(super) topic: Topic,
    pub(super) update_mask: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct UpdateSubscription {
    pub(super) subscription: Subscription,
    pub(super) update_mask: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Publish {
    pub(super) messages: Vec<Message>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<HashMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    publish_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Pull {
    pub(super) max_messages: i32,
    pub(super) return_immediately: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Settle {
    pub(super) ack_ids: Vec<String>,
    pub(super) ack_deadline_seconds: i32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Received {
    ack_id: String,
    message: Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_attempt: Option<i32>,
}

fn some<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

fn text(duration: Option<prost_types::Duration>) -> Option<String> {
    // The protocol's own text form: "600s", "0.500s".
    duration.map(|duration| duration.to_string())
}

fn duration(text: Option<String>, field: &str) -> Result<Option<prost_types::Duration>, Status> {
    let Some(text) = text else { return Ok(None) };
    let parsed = text.parse::<prost_types::Duration>();
    parsed.map(Some).map_err(|_| {
        Status::invalid_argument(format!("{field}: expected a duration as \"600s\", not {text:?}"))
    })
}

impl Topic {
    pub(super) fn into_wire(self, name: String) -> Result<wire::Topic, Status> {
        Ok(wire::Topic {
            name,
            labels: self.labels.unwrap_or_default(),
            message_retention_duration: duration(
                self.message_retention_duration,
                "messageRetentionDuration",
            )?,
            kms_key_name: self.kms_key_name.unwrap_or_default(),
            schema_settings: self.schema_settings.map(|settings| wire::SchemaSettings {
                schema: settings.schema,
                encoding: settings
                    .encoding
                    .as_deref()
                    .and_then(wire::Encoding::from_str_name)
                    .map_or(0, i32::from),
                first_revision_id: settings.first_revision_id.unwrap_or_default(),
                last_revision_id: settings.last_revision_id.unwrap_or_default(),
            }),
            message_storage_policy: self.message_storage_policy.map(|policy| wire::MessageStoragePolicy {
                allowed_persistence_regions: policy.allowed_persistence_regions,
                enforce_in_transit: policy.enforce_in_transit.unwrap_or_default(),
            }),
            ..wire::Topic::default()
        })
    }
}

impl From<wire::Topic> for Topic {
    fn from(topic: wire::Topic) -> Topic {
        Topic {
            name: topic.name,
            labels: some(topic.labels),
            message_retention_duration: text(topic.message_retention_duration),
            kms_key_name: some(topic.kms_key_name),
            schema_settings: topic.schema_settings.map(|settings| SchemaSettings {
                encoding: some(settings.encoding).map(|_| settings.encoding().as_str_name().to_owned()),
                schema: settings.schema,
                first_revision_id: some(settings.first_revision_id),
                last_revision_id: some(settings.last_revision_id),
            }),
            message_storage_policy: topic.message_storage_policy.map(|policy| MessageStoragePolicy {
                allowed_persistence_regions: policy.allowed_persistence_regions,
                enforce_in_transit: some(policy.enforce_in_transit),
            }),
        }
    }
}

impl Subscription {
    pub(super) fn into_wire(self, name: String) -> Result<wire::Subscription, Status> {
        let ttl = |policy: ExpirationPolicy| {
            Ok::<_, Status>(wire::ExpirationPolicy { ttl: duration(policy.ttl, "ttl")? })
        };
        let backoff = |policy: RetryPolicy| {
            Ok::<_, Status>(wire::RetryPolicy {
                minimum_backoff: duration(policy.minimum_backoff, "minimumBackoff")?,
                maximum_backoff: duration(policy.maximum_backoff, "maximumBackoff")?,
            })
        };
        Ok(wire::Subscription {
            name,
            topic: self.topic,
            push_config: self.push_config.map(|push| wire::PushConfig {
                push_endpoint: push.push_endpoint,
                ..wire::PushConfig::default()
            }),
            // Their content does not matter: such a subscription is refused.
            bigquery_config: self.bigquery_config.map(|_| wire::BigQueryConfig::default()),
            cloud_storage_config: self.cloud_storage_config.map(|_| wire::CloudStorageConfig::default()),
            ack_deadline_seconds: self.ack_deadline_seconds.unwrap_or_default(),
            retain_acked_messages: self.retain_acked_messages.unwrap_or_default(),
            message_retention_duration: duration(
                self.message_retention_duration,
                "messageRetentionDuration",
            )?,
            labels: self.labels.unwrap_or_default(),
            enable_message_ordering: self.enable_message_ordering.unwrap_or_default(),
            expiration_policy: self.expiration_policy.map(ttl).transpose()?,
            filter: self.filter.unwrap_or_default(),
            dead_letter_policy: self.dead_letter_policy.map(|policy| wire::DeadLetterPolicy {
                dead_letter_topic: policy.dead_letter_topic,
                max_delivery_attempts: policy.max_delivery_attempts,
            }),
            retry_policy: self.retry_policy.map(backoff).transpose()?,
            enable_exactly_once_delivery: self.enable_exactly_once_delivery.unwrap_or_default(),
            ..wire::Subscription::default()
        })
    }
}

impl From<wire::Subscription> for Subscription {
    fn from(subscription: wire::Subscription) -> Subscription {
        Subscription {
            state: Some(subscription.state().as_str_name()),
            name: subscription.name,
            topic: subscription.topic,
            push_config: Some(PushConfig::default()),
            bigquery_config: None,
            cloud_storage_config: None,
            ack_deadline_seconds: Some(subscription.ack_deadline_seconds),
            retain_acked_messages: some(subscription.retain_acked_messages),
            message_retention_duration: text(subscription.message_retention_duration),
            labels: some(subscription.labels),
            enable_message_ordering: some(subscription.enable_message_ordering),
            expiration_policy: subscription
                .expiration_policy
                .map(|policy| ExpirationPolicy { ttl: text(policy.ttl) }),
            filter: some(subscription.filter),
            dead_letter_policy: subscription.dead_letter_policy.map(|policy| DeadLetterPolicy {
                dead_letter_topic: policy.dead_letter_topic,
                max_delivery_attempts: policy.max_delivery_attempts,
            }),
            retry_policy: subscription.retry_policy.map(|policy| RetryPolicy {
                minimum_backoff: text(policy.minimum_backoff),
                maximum_backoff: text(policy.maximum_backoff),
            }),
            enable_exactly_once_delivery: some(subscription.enable_exactly_once_delivery),
        }
    }
}

impl Message {
    pub(super) fn into_wire(self) -> Result<wire::PubsubMessage, Status> {
        // Both alphabets are taken, as the protocol's JSON form demands.
        let data = self.data.unwrap_or_default().replace('-', "+").replace('_', "/");
        let data = BASE64
            .decode(data)
            .map_err(|error| Status::invalid_argument(format!("data: expected base64: {error}")))?;
        Ok(wire::PubsubMessage {
            data: data.into(),
            attributes: self.attributes.unwrap_or_default(),
            ordering_key: self.ordering_key.unwrap_or_default(),
            ..wire::PubsubMessage::default()
        })
    }
}

impl From<wire::ReceivedMessage> for Received {
    fn from(received: wire::ReceivedMessage) -> Received {
        let message = received.message.unwrap_or_default();
        Received {
            ack_id: received.ack_id,
            message: Message {
                data: some(BASE64.encode(&message.data)),
                attributes: some(message.attributes),
                message_id: some(message.message_id),
                publish_time: message.publish_time.map(|time| time.to_string()),
                ordering_key: some(message.ordering_key),
            },
            delivery_attempt: some(received.delivery_attempt),
        }
    }
}
