//! Creating, changing, listing and deleting topics and subscriptions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};

use tonic::Status;

use super::filter::Filter;
use super::subscription::Subscription;
use super::{DELETED_TOPIC, PubSub, Registry, Topic, limits, wire};

const DEFAULT_ACK_DEADLINE_SECONDS: i32 = 10;
const DEFAULT_RETENTION_SECONDS: i64 = 7 * 86_400;
const DEFAULT_EXPIRATION_SECONDS: i64 = 31 * 86_400;
const DEFAULT_ATTEMPTS: i32 = 5;

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn exists(name: &str) -> Status {
    Status::already_exists(format!("Resource already exists in the project (resource={name})"))
}

/// One page of a sorted list; tokens are positions.
pub(crate) fn page<T>(mut all: Vec<T>, size: i32, token: &str) -> Result<(Vec<T>, String), Status> {
    let start = match token {
        "" => 0,
        token => {
            token.parse().map_err(|_| Status::invalid_argument(format!("unknown page token {token:?}")))?
        }
    };
    let size = usize::try_from(size).ok().filter(|size| *size > 0).unwrap_or(1000);
    let next = if start + size < all.len() { (start + size).to_string() } else { String::new() };
    Ok((all.drain(start.min(all.len())..).take(size).collect(), next))
}

impl PubSub {
    fn registry_mut(&self) -> RwLockWriteGuard<'_, Registry> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn create_topic(&self, proto: wire::Topic) -> Result<wire::Topic, Status> {
        limits::resource_name(&proto.name, "topics")?;
        self.may("pubsub.topics.create", project(&proto.name))?;
        let mut registry = self.registry_mut();
        if registry.topics.contains_key(&proto.name) {
            return Err(exists(&proto.name));
        }
        let topic = Topic {
            name: proto.name.as_str().into(),
            proto: Mutex::new(proto.clone()),
            schema: RwLock::default(),
            subscriptions: RwLock::default(),
            published: AtomicU64::new(0),
        };
        registry.topics.insert(proto.name.clone(), Arc::new(topic));
        Ok(proto)
    }

    pub fn get_topic(&self, name: &str) -> Result<wire::Topic, Status> {
        self.may("pubsub.topics.get", name)?;
        Ok(self.topic(name)?.proto.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub fn update_topic(&self, new: wire::Topic, mask: &[String]) -> Result<wire::Topic, Status> {
        self.may("pubsub.topics.update", &new.name)?;
        let topic = self.topic(&new.name)?;
        let mut proto = topic.proto.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = proto.clone();
        check_mask(mask)?;
        for path in mask {
            match path.as_str() {
                "labels" => changed.labels = new.labels.clone(),
                "message_retention_duration" => {
                    changed.message_retention_duration = new.message_retention_duration
                }
                "message_storage_policy" => {
                    changed.message_storage_policy = new.message_storage_policy.clone()
                }
                "schema_settings" => changed.schema_settings = new.schema_settings.clone(),
                "kms_key_name" => changed.kms_key_name = new.kms_key_name.clone(),
                other => return Err(immutable(other, "topic")),
            }
        }
        *proto = changed.clone();
        Ok(changed)
    }

    /// All topics of `projects/P`, by name.
    pub fn list_topics(&self, project: &str) -> Result<Vec<wire::Topic>, Status> {
        self.may("pubsub.topics.list", project)?;
        let registry = self.registry();
        let topics = registry.topics.values();
        let mut all: Vec<wire::Topic> =
            topics.map(|topic| topic.proto.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect();
        all.retain(|topic| is_of(&topic.name, project));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Names of a topic's subscriptions, sorted.
    pub fn list_topic_subscriptions(&self, topic: &str) -> Result<Vec<String>, Status> {
        self.may("pubsub.topics.get", topic)?;
        let topic = self.topic(topic)?;
        let subscriptions = topic.subscriptions.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> =
            subscriptions.iter().map(|subscription| subscription.name.to_string()).collect();
        names.sort();
        Ok(names)
    }

    /// Its subscriptions stay with what they hold, and show `_deleted-topic_`.
    pub fn delete_topic(&self, name: &str) -> Result<(), Status> {
        self.may("pubsub.topics.delete", name)?;
        let topic = self.topic(name)?;
        self.registry_mut().topics.remove(name);
        self.forget_policy(name);
        for subscription in topic.subscriptions.write().unwrap_or_else(PoisonError::into_inner).drain(..) {
            subscription.set_topic_deleted();
        }
        Ok(())
    }

    pub fn create_subscription(
        self: &Arc<Self>,
        mut proto: wire::Subscription,
    ) -> Result<wire::Subscription, Status> {
        limits::resource_name(&proto.name, "subscriptions")?;
        if proto.topic != DELETED_TOPIC {
            limits::resource_name(&proto.topic, "topics")?;
        }
        self.may("pubsub.subscriptions.create", project(&proto.name))?;
        self.may("pubsub.topics.attachSubscription", &proto.topic)?;
        limits::subscription(&proto)?;
        let filter = Filter::parse(&proto.filter).map_err(Status::invalid_argument)?;
        fill_defaults(&mut proto);
        proto.state = wire::subscription::State::Active as i32;
        let uid = self.next_subscription.fetch_add(1, Ordering::Relaxed);
        let topic = self.topic(&proto.topic)?;
        let subscription = Subscription::new(proto.clone(), filter, uid, self.history.clone());
        {
            let mut registry = self.registry_mut();
            if registry.subscriptions.contains_key(&proto.name) {
                return Err(exists(&proto.name));
            }
            registry.subscriptions.insert(proto.name.clone(), subscription.clone());
        }
        topic.subscriptions.write().unwrap_or_else(PoisonError::into_inner).push(subscription.clone());
        let pubsub = Arc::downgrade(self);
        self.runtime.spawn(subscription.watch(move |subscription, mut settled| {
            if let Some(pubsub) = pubsub.upgrade() {
                pubsub.forward_dead(subscription, &mut settled);
            }
        }));
        Ok(proto)
    }

    pub fn get_subscription(&self, name: &str) -> Result<wire::Subscription, Status> {
        self.may("pubsub.subscriptions.get", name)?;
        Ok(self.subscription(name)?.proto())
    }

    pub fn update_subscription(
        &self,
        new: wire::Subscription,
        mask: &[String],
    ) -> Result<wire::Subscription, Status> {
        self.may("pubsub.subscriptions.update", &new.name)?;
        let subscription = self.subscription(&new.name)?;
        let mut changed = subscription.proto();
        check_mask(mask)?;
        for path in mask {
            match path.as_str() {
                "ack_deadline_seconds" => changed.ack_deadline_seconds = new.ack_deadline_seconds,
                "retain_acked_messages" => changed.retain_acked_messages = new.retain_acked_messages,
                "message_retention_duration" => {
                    changed.message_retention_duration = new.message_retention_duration
                }
                "labels" => changed.labels = new.labels.clone(),
                "expiration_policy" => changed.expiration_policy = new.expiration_policy,
                "dead_letter_policy" => changed.dead_letter_policy = new.dead_letter_policy.clone(),
                "retry_policy" => changed.retry_policy = new.retry_policy,
                "enable_exactly_once_delivery" => {
                    changed.enable_exactly_once_delivery = new.enable_exactly_once_delivery;
                }
                "push_config" => changed.push_config = new.push_config.clone(),
                // Terraform names it in every mask, with nothing in the body.
                "bigquery_config" => changed.bigquery_config = new.bigquery_config.clone(),
                "cloud_storage_config" => changed.cloud_storage_config = new.cloud_storage_config.clone(),
                other => return Err(immutable(other, "subscription")),
            }
        }
        limits::subscription(&changed)?;
        fill_defaults(&mut changed);
        subscription.configure(changed.clone());
        Ok(changed)
    }

    /// All subscriptions of `projects/P`, by name.
    pub fn list_subscriptions(&self, project: &str) -> Result<Vec<wire::Subscription>, Status> {
        self.may("pubsub.subscriptions.list", project)?;
        let mut all: Vec<wire::Subscription> =
            self.registry().subscriptions.values().map(|subscription| subscription.proto()).collect();
        all.retain(|subscription| is_of(&subscription.name, project));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Its messages are lost and its streams end with NOT_FOUND.
    pub fn delete_subscription(&self, name: &str) -> Result<(), Status> {
        self.may("pubsub.subscriptions.delete", name)?;
        let subscription = self.subscription(name)?;
        self.registry_mut().subscriptions.remove(name);
        self.forget_policy(name);
        if let Ok(topic) = self.topic(&subscription.proto().topic) {
            let mut subscriptions = topic.subscriptions.write().unwrap_or_else(PoisonError::into_inner);
            subscriptions.retain(|other| !Arc::ptr_eq(other, &subscription));
        }
        subscription.delete();
        Ok(())
    }
}

/// `projects/P` of a full name.
fn project(name: &str) -> &str {
    name.match_indices('/').nth(1).map_or(name, |(end, _)| &name[..end])
}

fn is_of(name: &str, project: &str) -> bool {
    name.strip_prefix(project).is_some_and(|rest| rest.starts_with('/'))
}

fn check_mask(mask: &[String]) -> Result<(), Status> {
    if mask.is_empty() {
        return Err(Status::invalid_argument("the update mask must name at least one field, it is empty"));
    }
    Ok(())
}

fn immutable(path: &str, what: &str) -> Status {
    Status::invalid_argument(format!("invalid update mask: field {path:?} of a {what} cannot be changed"))
}

// Defaults of the real service for fields that were left out.
fn fill_defaults(proto: &mut wire::Subscription) {
    if proto.ack_deadline_seconds == 0 {
        proto.ack_deadline_seconds = DEFAULT_ACK_DEADLINE_SECONDS;
    }
    proto.message_retention_duration.get_or_insert(seconds(DEFAULT_RETENTION_SECONDS));
    proto
        .expiration_policy
        .get_or_insert(wire::ExpirationPolicy { ttl: Some(seconds(DEFAULT_EXPIRATION_SECONDS)) });
    if let Some(policy) = &mut proto.dead_letter_policy
        && policy.max_delivery_attempts == 0
    {
        policy.max_delivery_attempts = DEFAULT_ATTEMPTS;
    }
    if let Some(policy) = &mut proto.retry_policy {
        policy.minimum_backoff.get_or_insert(seconds(10));
        policy.maximum_backoff.get_or_insert(seconds(600));
    }
}
