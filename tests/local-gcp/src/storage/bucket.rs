//! Buckets: their resource as the client gave it, their notifications, their IAM policy.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Storage;
use super::clock::rfc3339;
use super::error::{Error, Kind, Result};
use super::notify::NotificationConfig;
use super::object::Version;

/// Fields that the server itself sets: a client's values for these are ignored.
const OUTPUT_ONLY: [&str; 10] = [
    "kind",
    "id",
    "name",
    "selfLink",
    "projectNumber",
    "etag",
    "metageneration",
    "timeCreated",
    "updated",
    "acl",
];

pub(crate) struct Bucket {
    pub(crate) name: String,
    /// Empty when nobody said.
    pub(crate) project: String,
    pub(crate) created: i64,
    pub(crate) updated: i64,
    pub(crate) metageneration: i64,
    /// The settable part of the resource: labels, lifecycle, versioning, …
    settings: Map<String, Value>,
    /// Generations of each name, oldest first; only the last can be live. No empty lists.
    pub(crate) objects: BTreeMap<String, Vec<Arc<Version>>>,
    pub(crate) notifications: BTreeMap<u64, NotificationConfig>,
    next_notification: u64,
    pub(super) policy: Value,
    policy_changes: u64,
}

impl Bucket {
    pub(crate) fn versioned(&self) -> bool {
        self.settings.get("versioning").is_some_and(|versioning| versioning["enabled"] == true)
    }

    pub(crate) fn setting(&self, key: &str) -> Option<&Value> {
        self.settings.get(key)
    }

    pub(crate) fn to_json(&self, base: &str) -> Value {
        let mut resource = self.settings.clone();
        let fixed = json!({
            "kind": "storage#bucket",
            "id": self.name,
            "name": self.name,
            "selfLink": format!("{base}/storage/v1/b/{}", self.name),
            "projectNumber": "1",
            "metageneration": self.metageneration.to_string(),
            "etag": format!("{}", self.metageneration),
            "timeCreated": rfc3339(self.created),
            "updated": rfc3339(self.updated),
        });
        if let Value::Object(fixed) = fixed {
            resource.extend(fixed);
        }
        Value::Object(resource)
    }
}

/// Cloud Storage's rules for names, less those about owned domains.
fn check_bucket_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    let ends =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = name.as_bytes();
    let length_allowed = (3..=63).contains(&bytes.len());
    let good = length_allowed
        && bytes.iter().all(|byte| allowed(*byte))
        && ends(bytes.first())
        && ends(bytes.last());
    if good && !name.contains("..") && !name.starts_with("goog") {
        return Ok(());
    }
    Err(Error::invalid(format!("Invalid bucket name: '{name}'")))
}

impl Storage {
    /// Makes an empty bucket with default settings. Errors: a bad name, a name in use.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        self.insert_bucket("", &json!({ "name": name }), "").map(drop)
    }

    /// Makes a bucket from its JSON resource and answers the full one.
    pub(crate) fn insert_bucket(&self, project: &str, resource: &Value, base: &str) -> Result<Value> {
        self.may_in_project("storage.buckets.create", project)?;
        let name = resource["name"]
            .as_str()
            .ok_or_else(|| Error::new(Kind::Required, "Required parameter: name"))?;
        check_bucket_name(name)?;
        let mut settings = resource.as_object().cloned().unwrap_or_default();
        settings.retain(|key, value| !OUTPUT_ONLY.contains(&key.as_str()) && !value.is_null());
        let location = settings.get("location").and_then(Value::as_str).unwrap_or("US").to_uppercase();
        let multi_region = ["US", "EU", "ASIA"].contains(&location.as_str());
        settings.insert("locationType".into(), json!(if multi_region { "multi-region" } else { "region" }));
        settings.insert("location".into(), json!(location));
        settings.entry("storageClass").or_insert_with(|| json!("STANDARD"));
        let mut state = self.lock();
        if state.buckets.contains_key(name) {
            let message =
                "Your previous request to create the named bucket succeeded and you already own it.";
            return Err(Error::new(Kind::AlreadyExists, message));
        }
        let now = state.clock.tick();
        let bucket = Bucket {
            name: name.to_owned(),
            project: project.to_owned(),
            created: now,
            updated: now,
            metageneration: 1,
            settings,
            objects: BTreeMap::new(),
            notifications: BTreeMap::new(),
            next_notification: 1,
            policy: json!({}),
            policy_changes: 1,
        };
        let resource = bucket.to_json(base);
        state.buckets.insert(name.to_owned(), bucket);
        Ok(resource)
    }

    /// Looks at a bucket under the lock.
    pub(crate) fn with_bucket<T>(&self, name: &str, look: impl FnOnce(&Bucket) -> T) -> Result<T> {
        let state = self.lock();
        self.may(&state, "storage.buckets.get", name)?;
        state.bucket(name).map(look)
    }

    /// Looks at every bucket of a project, by name; buckets without a project belong to all.
    pub(crate) fn buckets<T>(
        &self,
        project: &str,
        prefix: &str,
        look: impl Fn(&Bucket) -> T,
    ) -> Result<Vec<T>> {
        self.may_in_project("storage.buckets.list", project)?;
        let state = self.lock();
        let buckets = state.buckets.values().filter(|bucket| bucket.name.starts_with(prefix));
        let of_project = buckets.filter(|bucket| bucket.project.is_empty() || bucket.project == project);
        Ok(of_project.map(look).collect())
    }

    /// Number of live objects in each bucket, by name.
    pub fn object_counts(&self) -> BTreeMap<String, usize> {
        let live = |bucket: &Bucket| bucket.objects.keys().filter(|name| bucket.live(name).is_some()).count();
        self.lock().buckets.iter().map(|(name, bucket)| (name.clone(), live(bucket))).collect()
    }

    /// Merges a JSON patch into the settings, or replaces them all.
    pub(crate) fn update_bucket(
        &self,
        name: &str,
        patch: &Value,
        replace: bool,
        base: &str,
    ) -> Result<Value> {
        let mut state = self.lock();
        self.may(&state, "storage.buckets.update", name)?;
        let now = state.clock.tick();
        let bucket = state.bucket_mut(name)?;
        let mut settings = Value::Object(bucket.settings.clone());
        if replace && let Some(map) = settings.as_object_mut() {
            map.retain(|key, _| ["location", "locationType", "storageClass"].contains(&key.as_str()));
        }
        let mut patch = patch.clone();
        if let Some(map) = patch.as_object_mut() {
            map.retain(|key, _| {
                !OUTPUT_ONLY.contains(&key.as_str()) && key != "location" && key != "locationType"
            });
        }
        merge_patch(&mut settings, &patch);
        bucket.settings = settings.as_object().cloned().unwrap_or_default();
        bucket.metageneration += 1;
        bucket.updated = now;
        Ok(bucket.to_json(base))
    }

    pub(crate) fn delete_bucket(&self, name: &str, metageneration: Option<i64>) -> Result<()> {
        let mut state = self.lock();
        self.may(&state, "storage.buckets.delete", name)?;
        let bucket = state.bucket(name)?;
        if metageneration.is_some_and(|wanted| wanted != bucket.metageneration) {
            return Err(Error::precondition());
        }
        if !bucket.objects.is_empty() {
            return Err(Error::new(Kind::NotEmpty, "The bucket you tried to delete is not empty."));
        }
        state.buckets.remove(name);
        Ok(())
    }

    /// Publishes every change under `prefix` (all without one), with the object as JSON, to
    /// `projects/P/topics/T`.
    pub fn create_notification(&self, bucket: &str, topic: &str, prefix: Option<&str>) -> Result<String> {
        self.create_notification_with(bucket, topic, prefix, BTreeMap::new())
    }

    /// Like `create_notification`, with attributes of its own in every message.
    pub fn create_notification_with(
        &self,
        bucket: &str,
        topic: &str,
        prefix: Option<&str>,
        attributes: BTreeMap<String, String>,
    ) -> Result<String> {
        let wish = NotificationConfig {
            topic: topic.to_owned(),
            payload_format: "JSON_API_V1".to_owned(),
            object_name_prefix: prefix.map(str::to_owned),
            custom_attributes: attributes,
            ..Default::default()
        };
        self.insert_notification(bucket, wish).map(|config| config.id)
    }

    pub(crate) fn insert_notification(
        &self,
        bucket: &str,
        wish: NotificationConfig,
    ) -> Result<NotificationConfig> {
        let mut state = self.lock();
        self.may(&state, "storage.buckets.update", bucket)?;
        let bucket = state.bucket_mut(bucket)?;
        let id = bucket.next_notification;
        let config = wish.complete(&bucket.name, id)?;
        bucket.next_notification += 1;
        bucket.notifications.insert(id, config.clone());
        Ok(config)
    }

    pub(crate) fn delete_notification(&self, bucket: &str, id: &str) -> Result<()> {
        let mut state = self.lock();
        self.may(&state, "storage.buckets.update", bucket)?;
        let notifications = &mut state.bucket_mut(bucket)?.notifications;
        let removed = id.parse().ok().and_then(|id: u64| notifications.remove(&id));
        removed.map(drop).ok_or_else(|| no_notification(id))
    }

    pub(crate) fn policy(&self, bucket: &str) -> Result<Value> {
        let state = self.lock();
        self.may(&state, "storage.buckets.getIamPolicy", bucket)?;
        state.bucket(bucket).map(policy_resource)
    }

    pub(crate) fn set_policy(&self, bucket: &str, policy: Value) -> Result<Value> {
        let mut state = self.lock();
        self.may(&state, "storage.buckets.setIamPolicy", bucket)?;
        let bucket = state.bucket_mut(bucket)?;
        let given = policy["etag"].as_str();
        if given.is_some_and(|etag| !etag.is_empty() && etag != policy_etag(bucket)) {
            return Err(Error::precondition());
        }
        bucket.policy = policy;
        bucket.policy_changes += 1;
        Ok(policy_resource(bucket))
    }
}

pub(crate) fn no_notification(id: &str) -> Error {
    Error::new(Kind::NotFound, format!("The specified notification config does not exist: {id}"))
}

fn policy_etag(bucket: &Bucket) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(bucket.policy_changes.to_be_bytes())
}

fn policy_resource(bucket: &Bucket) -> Value {
    let mut policy = bucket.policy.clone();
    policy["kind"] = json!("storage#policy");
    policy["resourceId"] = json!(format!("projects/_/buckets/{}", bucket.name));
    policy["etag"] = json!(policy_etag(bucket));
    policy
}

/// RFC 7396: objects merge, null removes, anything else replaces.
pub(crate) fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in changes {
        match (change, target.as_object_mut()) {
            (Value::Null, Some(map)) => drop(map.remove(key)),
            _ => merge_patch(&mut target[key.as_str()], change),
        }
    }
}
