//! Notifications of a bucket: which configurations an event concerns, and the messages that Cloud Storage
//! would publish.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::clock::rfc3339;
use super::error::{Error, Kind, Result};
use super::object::Version;

/// The host of links in a payload: there is no request to take it from.
const LINK_BASE: &str = "https://www.googleapis.com";
const TOPIC_HOST: &str = "//pubsub.googleapis.com/";
const EVENT_TYPES: [&str; 4] =
    ["OBJECT_FINALIZE", "OBJECT_METADATA_UPDATE", "OBJECT_DELETE", "OBJECT_ARCHIVE"];

/// The `notificationConfigs` resource, named as the JSON API does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NotificationConfig {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) topic: String,
    pub(crate) payload_format: String,
    pub(crate) etag: String,
    #[serde(rename = "selfLink")]
    pub(crate) self_link: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) event_types: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) object_name_prefix: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) custom_attributes: BTreeMap<String, String>,
}

impl NotificationConfig {
    /// Checks what a client asks for and gives it its id.
    pub(crate) fn complete(mut self, bucket: &str, id: u64) -> Result<Self> {
        let topic = self.topic.strip_prefix(TOPIC_HOST).unwrap_or(&self.topic);
        let parts: Vec<&str> = topic.split('/').collect();
        let ["projects", project, "topics", name] = parts[..] else {
            return Err(Error::invalid(format!("Invalid Google Cloud Pub/Sub topic: {:?}", self.topic)));
        };
        if project.is_empty() || name.is_empty() {
            return Err(Error::invalid(format!("Invalid Google Cloud Pub/Sub topic: {:?}", self.topic)));
        }
        if let Some(unknown) = self.event_types.iter().find(|name| !EVENT_TYPES.contains(&name.as_str())) {
            return Err(Error::invalid(format!("Invalid event type: {unknown:?}")));
        }
        match self.payload_format.as_str() {
            "NONE" | "JSON_API_V1" => {}
            "" => return Err(Error::new(Kind::Required, "Required parameter: payload_format")),
            other => return Err(Error::invalid(format!("Invalid payload format: {other:?}"))),
        }
        self.topic = format!("{TOPIC_HOST}{topic}");
        self.kind = "storage#notification".to_owned();
        self.id = id.to_string();
        self.etag = id.to_string();
        self.self_link = format!("{LINK_BASE}/storage/v1/b/{bucket}/notificationConfigs/{id}");
        Ok(self)
    }

    fn concerns(&self, event: &str, object: &str) -> bool {
        let wanted = self.event_types.is_empty() || self.event_types.iter().any(|name| name == event);
        wanted && self.object_name_prefix.as_deref().is_none_or(|prefix| object.starts_with(prefix))
    }
}

/// Change of an object, before it is announced.
pub(crate) struct Change<'a> {
    pub(crate) event: &'static str,
    pub(crate) version: &'a Version,
    /// Microseconds since 1970.
    pub(crate) at: i64,
    /// `overwroteGeneration` or `overwrittenByGeneration` with the other generation.
    pub(crate) other: Option<(&'static str, i64)>,
}

/// A message ready to be published.
#[derive(Debug)]
pub(crate) struct Message {
    /// `projects/P/topics/T`
    pub(crate) topic: String,
    pub(crate) attributes: HashMap<String, String>,
    pub(crate) data: Bytes,
}

/// The messages that the configurations of a bucket ask for.
pub(crate) fn messages<'a>(
    configs: impl Iterator<Item = &'a NotificationConfig>,
    change: &Change<'_>,
) -> Vec<Message> {
    let Change { event, version, at, other } = change;
    let bucket = &version.bucket;
    configs
        .filter(|config| config.concerns(event, &version.name))
        .map(|config| {
            let mut attributes: HashMap<String, String> =
                config.custom_attributes.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            let name = format!("projects/_/buckets/{bucket}/notificationConfigs/{}", config.id);
            let mut set = |key: &str, value: String| attributes.insert(key.to_owned(), value);
            set("notificationConfig", name);
            set("eventType", (*event).to_owned());
            set("payloadFormat", config.payload_format.clone());
            set("bucketId", bucket.clone());
            set("objectId", version.name.clone());
            set("objectGeneration", version.generation.to_string());
            set("eventTime", rfc3339(*at));
            if let Some((key, generation)) = other {
                set(key, generation.to_string());
            }
            let data = match config.payload_format.as_str() {
                "NONE" => Bytes::new(),
                _ => Bytes::from(version.to_json(LINK_BASE).to_string()),
            };
            let topic = config.topic.strip_prefix(TOPIC_HOST).unwrap_or(&config.topic).to_owned();
            Message { topic, attributes, data }
        })
        .collect()
}
