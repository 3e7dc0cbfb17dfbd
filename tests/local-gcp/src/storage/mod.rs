//! Google Cloud Storage: buckets, objects by generation, and the notifications of what happens to them. All in memory.

pub mod grpc;
pub mod notify;
pub mod rest;
mod upload;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Value, json};
use tonic::Status;

use crate::faults::Faults;
use crate::history::{Event, History};
use notify::Notification;

/// Publishes one message: full topic name, attributes, data; its id.
pub type PublishFn =
    Arc<dyn Fn(&str, HashMap<String, String>, Bytes) -> Result<String, Status> + Send + Sync>;

/// The live generation of one object.
#[derive(Debug, Clone)]
pub struct Object {
    pub bucket: String,
    pub name: String,
    /// Microseconds since 1970, strictly growing.
    pub generation: i64,
    pub created: SystemTime,
    pub content_type: String,
    pub metadata: HashMap<String, String>,
    pub crc32c: u32,
    pub data: Bytes,
}

#[derive(Debug, Default)]
struct Bucket {
    /// As it was given, for whoever reads it back.
    settings: serde_json::Map<String, Value>,
    objects: BTreeMap<String, Object>,
    notifications: Vec<Notification>,
}

pub struct Storage {
    buckets: Mutex<BTreeMap<String, Bucket>>,
    uploads: upload::Uploads,
    last_generation: Mutex<i64>,
    pub faults: Arc<Faults>,
    history: Arc<History>,
    publish: PublishFn,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").finish_non_exhaustive()
    }
}

/// What must hold of the live generation before a change or a read; zero: it must not exist.
#[derive(Debug, Clone, Copy, Default)]
pub struct Precondition {
    pub generation_match: Option<i64>,
    pub generation_not_match: Option<i64>,
}

impl Precondition {
    fn check(self, live: Option<&Object>) -> Result<(), Status> {
        let generation = live.map_or(0, |object| object.generation);
        let failed = self.generation_match.is_some_and(|wanted| wanted != generation)
            || self.generation_not_match.is_some_and(|unwanted| unwanted == generation);
        if failed {
            return Err(Status::failed_precondition(
                "At least one of the pre-conditions you specified did not hold.",
            ));
        }
        Ok(())
    }
}

/// One page of a listing.
#[derive(Debug, Default)]
pub struct Page {
    pub objects: Vec<Object>,
    pub prefixes: Vec<String>,
    pub next: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Query {
    pub prefix: String,
    pub delimiter: String,
    /// The last name of the page before.
    pub after: String,
    pub most: usize,
}

impl Storage {
    pub fn new(faults: Arc<Faults>, history: Arc<History>, publish: PublishFn) -> Arc<Self> {
        Arc::new(Self {
            buckets: Mutex::default(),
            uploads: upload::Uploads::default(),
            last_generation: Mutex::default(),
            faults,
            history,
            publish,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn create_bucket(&self, name: &str) -> Result<(), Status> {
        self.insert_bucket(name, serde_json::Map::new())
    }

    fn insert_bucket(&self, name: &str, settings: serde_json::Map<String, Value>) -> Result<(), Status> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        if !(3..=222).contains(&name.len()) || !name.chars().all(legal) {
            return Err(Status::invalid_argument(format!("Invalid bucket name: '{name}'")));
        }
        let mut buckets = self.lock();
        if buckets.contains_key(name) {
            return Err(Status::already_exists(
                "Your previous request to create the named bucket succeeded and you already own it.",
            ));
        }
        buckets.insert(name.to_owned(), Bucket { settings, ..Default::default() });
        Ok(())
    }

    fn with_bucket<T>(
        &self,
        name: &str,
        run: impl FnOnce(&mut Bucket) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let mut buckets = self.lock();
        let bucket =
            buckets.get_mut(name).ok_or_else(|| Status::not_found("The specified bucket does not exist."))?;
        run(bucket)
    }

    fn delete_bucket(&self, name: &str) -> Result<(), Status> {
        self.with_bucket(name, |bucket| {
            if bucket.objects.is_empty() {
                Ok(())
            } else {
                Err(Status::aborted("The bucket you tried to delete is not empty."))
            }
        })?;
        self.lock().remove(name);
        Ok(())
    }

    /// Notifies `topic` of what happens to objects under `prefix`, as JSON_API_V1; the configuration's id.
    pub fn create_notification(
        &self,
        bucket: &str,
        topic: &str,
        prefix: Option<&str>,
    ) -> Result<String, Status> {
        let prefix = prefix.unwrap_or_default().to_owned();
        let notification = Notification { topic: topic.to_owned(), prefix, ..Default::default() };
        self.add_notification(bucket, notification).map(|added| added.id)
    }

    fn add_notification(&self, bucket: &str, mut notification: Notification) -> Result<Notification, Status> {
        self.with_bucket(bucket, |bucket| {
            let last =
                bucket.notifications.iter().filter_map(|n| n.id.parse::<u64>().ok()).max().unwrap_or(0);
            notification.id = (last + 1).to_string();
            bucket.notifications.push(notification.clone());
            Ok(notification)
        })
    }

    fn next_generation(&self) -> i64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let mut last = self.last_generation.lock().unwrap_or_else(PoisonError::into_inner);
        *last = now.max(*last + 1);
        *last
    }

    /// Writes an object whole; the new generation is live, and announced, at once.
    pub fn insert(
        &self,
        bucket: &str,
        name: &str,
        data: Bytes,
        content_type: &str,
        metadata: HashMap<String, String>,
        precondition: Precondition,
    ) -> Result<Object, Status> {
        if name.is_empty() || name.len() > 1024 || name.contains(['\r', '\n']) {
            return Err(Status::invalid_argument(format!("Invalid object name: {name:?}")));
        }
        let object = Object {
            bucket: bucket.to_owned(),
            name: name.to_owned(),
            generation: self.next_generation(),
            created: SystemTime::now(),
            content_type: content_type.to_owned(),
            metadata,
            crc32c: crc32c::crc32c(&data),
            data,
        };
        let (old, notifications) = self.with_bucket(bucket, |bucket| {
            precondition.check(bucket.objects.get(name))?;
            let old = bucket.objects.insert(name.to_owned(), object.clone());
            let notifications = bucket.notifications.clone();
            let (bucket, name) = (object.bucket.clone(), object.name.clone());
            self.history.record(|| Event::Finalized { bucket, object: name, generation: object.generation });
            Ok((old, notifications))
        })?;
        self.announce(&object, "OBJECT_FINALIZE", old.as_ref(), &notifications);
        Ok(object)
    }

    /// The live generation, or exactly `generation` if that is live.
    pub fn get(
        &self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        precondition: Precondition,
    ) -> Result<Object, Status> {
        self.with_bucket(bucket, |bucket| {
            let live = bucket
                .objects
                .get(name)
                .filter(|object| generation.is_none_or(|wanted| wanted == object.generation));
            let object = live.ok_or_else(|| Status::not_found(format!("No such object: {name}")))?;
            precondition.check(Some(object))?;
            Ok(object.clone())
        })
    }

    pub fn delete(
        &self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        precondition: Precondition,
    ) -> Result<(), Status> {
        let object = self.get(bucket, name, generation, precondition)?;
        let notifications = self.with_bucket(bucket, |bucket| {
            bucket.objects.remove(name);
            Ok(bucket.notifications.clone())
        })?;
        self.announce(&object, "OBJECT_DELETE", None, &notifications);
        Ok(())
    }

    pub fn list(&self, bucket: &str, query: &Query) -> Result<Page, Status> {
        self.with_bucket(bucket, |bucket| {
            let mut page = Page::default();
            let mut last = String::new();
            for (name, object) in bucket.objects.range(query.prefix.clone()..) {
                let Some(rest) = name.strip_prefix(&query.prefix) else { break };
                if *name <= query.after && !query.after.is_empty() {
                    continue;
                }
                let folder = (!query.delimiter.is_empty()).then(|| rest.find(&query.delimiter)).flatten();
                let folder = folder.map(|end| format!("{}{}{}", query.prefix, &rest[..end], query.delimiter));
                if folder.as_ref().is_some_and(|folder| page.prefixes.last() == Some(folder)) {
                    last.clone_from(name);
                    continue;
                }
                if page.objects.len() + page.prefixes.len() == query.most {
                    page.next = Some(last);
                    break;
                }
                last.clone_from(name);
                match folder {
                    Some(folder) => page.prefixes.push(folder),
                    None => page.objects.push(object.clone()),
                }
            }
            Ok(page)
        })
    }
}

/// A crc32c as Cloud Storage writes it: base64 of its 4 big-endian bytes.
pub(crate) fn base64_crc32c(crc: u32) -> String {
    BASE64.encode(crc.to_be_bytes())
}

impl Object {
    /// The object resource of the JSON API.
    pub fn resource(&self) -> Value {
        let Self { bucket, name, generation, .. } = self;
        let created = prost_types::Timestamp::from(self.created).to_string();
        let escaped = rest::escape(name);
        let mut resource = json!({
            "kind": "storage#object",
            "id": format!("{bucket}/{name}/{generation}"),
            "selfLink": format!("http://localhost/storage/v1/b/{bucket}/o/{escaped}"),
            "mediaLink": format!("http://localhost/download/storage/v1/b/{bucket}/o/{escaped}?generation={generation}&alt=media"),
            "name": name,
            "bucket": bucket,
            "generation": generation.to_string(),
            "metageneration": "1",
            "contentType": self.content_type,
            "storageClass": "STANDARD",
            "size": self.data.len().to_string(),
            "crc32c": base64_crc32c(self.crc32c),
            "etag": BASE64.encode(generation.to_be_bytes()),
            "timeCreated": created,
            "updated": created,
            "timeStorageClassUpdated": created,
        });
        if !self.metadata.is_empty() {
            resource["metadata"] = json!(self.metadata);
        }
        resource
    }
}
