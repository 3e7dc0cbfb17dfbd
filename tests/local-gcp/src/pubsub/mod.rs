//! Google Pub/Sub: topics, subscriptions, and what publishing does. Whatever the real service refuses, this one does too.

mod filter;
pub mod grpc;
pub mod rest;
mod subscription;
mod validate;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::watch;
use tonic::Status;

use crate::faults::Faults;
use crate::history::{Event, History};
use crate::proto::pubsub::{PubsubMessage, Subscription as Config, Topic as TopicConfig};
pub use subscription::{Counts, Subscription};

/// A topic that a subscription outlived is named so.
const DELETED_TOPIC: &str = "_deleted-topic_";

#[derive(Debug)]
struct Topic {
    config: RwLock<TopicConfig>,
    subscriptions: RwLock<Vec<Arc<Subscription>>>,
    published: AtomicU64,
}

/// All topics and subscriptions of one server.
#[derive(Debug)]
pub struct Broker {
    topics: RwLock<BTreeMap<String, Arc<Topic>>>,
    subscriptions: RwLock<BTreeMap<String, Arc<Subscription>>>,
    next_id: AtomicU64,
    pub faults: Arc<Faults>,
    pub history: Arc<History>,
    /// Grows when every open stream must break.
    resets: watch::Sender<u64>,
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn not_found(name: &str) -> Status {
    Status::not_found(format!("Resource not found (resource={name})."))
}

impl Broker {
    pub fn new(faults: Arc<Faults>, history: Arc<History>) -> Arc<Self> {
        Arc::new(Self {
            topics: RwLock::default(),
            subscriptions: RwLock::default(),
            next_id: AtomicU64::new(1),
            faults,
            history,
            resets: watch::Sender::new(0),
        })
    }

    /// Breaks every open stream with UNAVAILABLE.
    pub fn reset_streams(&self) {
        self.resets.send_modify(|resets| *resets += 1);
    }

    fn on_reset(&self) -> watch::Receiver<u64> {
        let mut receiver = self.resets.subscribe();
        receiver.mark_unchanged();
        receiver
    }

    pub fn create_topic(&self, config: TopicConfig) -> Result<TopicConfig, Status> {
        validate::name(&config.name, "topics")?;
        let mut topics = write(&self.topics);
        if topics.contains_key(&config.name) {
            return Err(Status::already_exists(format!(
                "Resource already exists in the project (resource={}).",
                config.name
            )));
        }
        let topic = Topic {
            config: RwLock::new(config.clone()),
            subscriptions: RwLock::default(),
            published: AtomicU64::new(0),
        };
        topics.insert(config.name.clone(), Arc::new(topic));
        Ok(config)
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, Status> {
        read(&self.topics).get(name).cloned().ok_or_else(|| not_found(name))
    }

    fn update_topic(&self, new: TopicConfig, mask: &[String]) -> Result<TopicConfig, Status> {
        let topic = self.topic(&new.name)?;
        let mut config = write(&topic.config);
        for path in mask {
            match path.as_str() {
                "labels" => config.labels.clone_from(&new.labels),
                "message_retention_duration" | "messageRetentionDuration" => {
                    config.message_retention_duration = new.message_retention_duration;
                }
                other => return Err(Status::invalid_argument(format!("Invalid update_mask path: {other}"))),
            }
        }
        Ok(config.clone())
    }

    fn delete_topic(&self, name: &str) -> Result<(), Status> {
        let topic = write(&self.topics).remove(name).ok_or_else(|| not_found(name))?;
        for subscription in read(&topic.subscriptions).iter() {
            subscription.configure(|config| config.topic = DELETED_TOPIC.to_owned());
        }
        Ok(())
    }

    fn topics(&self, project: &str) -> Vec<TopicConfig> {
        let prefix = format!("{project}/topics/");
        let topics = read(&self.topics);
        topics
            .values()
            .map(|topic| read(&topic.config).clone())
            .filter(|c| c.name.starts_with(&prefix))
            .collect()
    }

    fn subscriptions_of(&self, topic: &str) -> Result<Vec<String>, Status> {
        Ok(read(&self.topic(topic)?.subscriptions).iter().map(|s| s.config().name).collect())
    }

    /// Must run on a Tokio runtime: each subscription has a task that sees leases expire.
    pub fn create_subscription(self: &Arc<Self>, mut config: Config) -> Result<Config, Status> {
        validate::subscription(&mut config)?;
        let topic = self.topic(&config.topic)?;
        let mut subscriptions = write(&self.subscriptions);
        if subscriptions.contains_key(&config.name) {
            return Err(Status::already_exists(format!(
                "Resource already exists in the project (resource={}).",
                config.name
            )));
        }
        let subscription = Subscription::start(config.clone(), Arc::downgrade(self))?;
        subscriptions.insert(config.name.clone(), Arc::clone(&subscription));
        write(&topic.subscriptions).push(subscription);
        Ok(config)
    }

    pub fn subscription(&self, name: &str) -> Result<Arc<Subscription>, Status> {
        read(&self.subscriptions).get(name).cloned().ok_or_else(|| not_found(name))
    }

    fn update_subscription(&self, new: Config, mask: &[String]) -> Result<Config, Status> {
        let subscription = self.subscription(&new.name)?;
        let mut config = subscription.config();
        for path in mask {
            match path.as_str() {
                "ack_deadline_seconds" | "ackDeadlineSeconds" => {
                    config.ack_deadline_seconds = new.ack_deadline_seconds
                }
                "labels" => config.labels.clone_from(&new.labels),
                "retry_policy" | "retryPolicy" => config.retry_policy = new.retry_policy,
                "dead_letter_policy" | "deadLetterPolicy" => {
                    config.dead_letter_policy.clone_from(&new.dead_letter_policy)
                }
                "expiration_policy" | "expirationPolicy" => config.expiration_policy = new.expiration_policy,
                "enable_exactly_once_delivery" | "enableExactlyOnceDelivery" => {
                    config.enable_exactly_once_delivery = new.enable_exactly_once_delivery;
                }
                "message_retention_duration" | "messageRetentionDuration" => {
                    config.message_retention_duration = new.message_retention_duration;
                }
                // Google's Terraform provider names it in every mask and never sends it.
                "bigqueryConfig" => {}
                other => return Err(Status::invalid_argument(format!("Invalid update_mask path: {other}"))),
            }
        }
        validate::subscription(&mut config)?;
        subscription.configure(|old| *old = config.clone());
        Ok(config)
    }

    fn delete_subscription(&self, name: &str) -> Result<(), Status> {
        let gone = write(&self.subscriptions).remove(name).ok_or_else(|| not_found(name))?;
        if let Ok(topic) = self.topic(&gone.config().topic) {
            write(&topic.subscriptions).retain(|kept| !Arc::ptr_eq(kept, &gone));
        }
        gone.end();
        Ok(())
    }

    fn subscriptions(&self, project: &str) -> Vec<Config> {
        let prefix = format!("{project}/subscriptions/");
        read(&self.subscriptions)
            .values()
            .map(|s| s.config())
            .filter(|c| c.name.starts_with(&prefix))
            .collect()
    }

    /// Publishes one call's messages; their ids, in order.
    pub fn publish(&self, topic: &str, messages: Vec<PubsubMessage>) -> Result<Vec<String>, Status> {
        let found = self.topic(topic)?;
        validate::messages(&messages)?;
        let now = SystemTime::now();
        let first = self.next_id.fetch_add(messages.len() as u64, Ordering::Relaxed);
        let messages: Vec<Arc<PubsubMessage>> = messages
            .into_iter()
            .zip(first..)
            .map(|(mut message, id)| {
                message.message_id = id.to_string();
                message.publish_time = Some(now.into());
                Arc::new(message)
            })
            .collect();
        found.published.fetch_add(messages.len() as u64, Ordering::Relaxed);
        for message in &messages {
            self.history
                .record(|| Event::Published { topic: topic.to_owned(), message: Arc::clone(message) });
        }
        for subscription in read(&found.subscriptions).iter() {
            subscription.enqueue(&messages);
        }
        Ok(messages.iter().map(|message| message.message_id.clone()).collect())
    }

    /// One message, as the server itself publishes them: bucket notifications and dead letters.
    pub fn publish_one(
        &self,
        topic: &str,
        attributes: HashMap<String, String>,
        data: Bytes,
    ) -> Result<String, Status> {
        let message = PubsubMessage { data, attributes, ..Default::default() };
        let ids = self.publish(topic, vec![message])?;
        ids.into_iter().next().ok_or_else(|| Status::internal("no id"))
    }

    /// For `/control/stats`.
    pub fn stats(&self) -> serde_json::Value {
        let topics: BTreeMap<String, u64> = read(&self.topics)
            .iter()
            .map(|(name, topic)| (name.clone(), topic.published.load(Ordering::Relaxed)))
            .collect();
        let subscriptions: BTreeMap<String, Counts> =
            read(&self.subscriptions).iter().map(|(name, s)| (name.clone(), s.counts())).collect();
        serde_json::json!({ "topics": topics, "subscriptions": subscriptions })
    }
}
