//! Notifications: <https://cloud.google.com/storage/docs/pubsub-notifications#format>.

use std::collections::HashMap;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Object, Storage};

/// One notificationConfig of a bucket.
#[derive(Debug, Clone, Default)]
pub struct Notification {
    pub id: String,
    /// `projects/P/topics/T`.
    pub topic: String,
    pub prefix: String,
    /// All when empty.
    pub event_types: Vec<String>,
    /// `JSON_API_V1` (also when empty) or `NONE`.
    pub payload_format: String,
    pub custom_attributes: HashMap<String, String>,
}

impl Notification {
    pub(super) fn from_json(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let texts = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            id: String::new(),
            topic: text("topic").trim_start_matches("//pubsub.googleapis.com/").to_owned(),
            prefix: text("object_name_prefix"),
            event_types: value["event_types"]
                .as_array()
                .map_or_else(Vec::new, |all| all.iter().filter_map(texts).collect()),
            payload_format: text("payload_format"),
            custom_attributes: value["custom_attributes"].as_object().map_or_else(HashMap::new, |all| {
                all.iter().filter_map(|(key, value)| Some((key.clone(), texts(value)?))).collect()
            }),
        }
    }

    pub(super) fn resource(&self) -> Value {
        let mut resource = json!({
            "kind": "storage#notification",
            "id": self.id,
            "topic": format!("//pubsub.googleapis.com/{}", self.topic),
            "payload_format": self.payload_format(),
            "etag": self.id,
        });
        if !self.prefix.is_empty() {
            resource["object_name_prefix"] = self.prefix.clone().into();
        }
        if !self.event_types.is_empty() {
            resource["event_types"] = json!(self.event_types);
        }
        if !self.custom_attributes.is_empty() {
            resource["custom_attributes"] = json!(self.custom_attributes);
        }
        resource
    }

    fn payload_format(&self) -> &str {
        if self.payload_format.is_empty() { "JSON_API_V1" } else { &self.payload_format }
    }

    fn wants(&self, event: &str, object: &str) -> bool {
        object.starts_with(&self.prefix)
            && (self.event_types.is_empty() || self.event_types.iter().any(|e| e == event))
    }
}

impl Storage {
    pub(super) fn announce(
        &self,
        object: &Object,
        event: &str,
        overwritten: Option<&Object>,
        to: &[Notification],
    ) {
        for notification in to.iter().filter(|notification| notification.wants(event, &object.name)) {
            let mut attributes = notification.custom_attributes.clone();
            let config =
                format!("projects/_/buckets/{}/notificationConfigs/{}", object.bucket, notification.id);
            let now = prost_types::Timestamp::from(SystemTime::now()).to_string();
            let mut set = |key: &str, value: String| attributes.insert(key.to_owned(), value);
            set("notificationConfig", config);
            set("eventType", event.to_owned());
            set("eventTime", now);
            set("payloadFormat", notification.payload_format().to_owned());
            set("bucketId", object.bucket.clone());
            set("objectId", object.name.clone());
            set("objectGeneration", object.generation.to_string());
            if let Some(old) = overwritten {
                set("overwroteGeneration", old.generation.to_string());
            }
            let payload = if notification.payload_format() == "NONE" {
                Bytes::new()
            } else {
                object.resource().to_string().into()
            };
            if let Err(error) = (self.publish)(&notification.topic, attributes, payload) {
                // As with the real service: a topic that is gone loses the notification, not the upload.
                tracing::warn!(topic = notification.topic, %error, "notification lost");
            }
        }
    }
}
