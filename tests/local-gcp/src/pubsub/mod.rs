//! Google Pub/Sub: topics, subscriptions and the messages between them, in memory.
//!
//! Owns every topic and subscription of one server. A request takes a subscription's lock once, whatever the
//! number of its messages; a message is stored once and shared by all subscriptions. `grpc` and `rest` only
//! translate.

mod ack_id;
mod admin;
pub(crate) mod errors;
mod filter;
pub(crate) mod grpc;
mod iam;
mod iam_types;
mod limits;
mod pull;
mod queue;
pub(crate) mod rest;
mod rest_types;
mod streaming;
mod subscription;
pub mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant, SystemTime};

use tonic::Status;

pub(crate) use iam::Binding;
pub use queue::{Counts, Stored};

use crate::faults::Faults;
use crate::history::{History, What};
use crate::iam::{Iam, PUBSUB_AGENT};
use queue::settle::Settled;
use subscription::Subscription;
use wire::{PublishRequest, PubsubMessage};

/// Topic that the real service shows for a subscription whose topic is gone.
pub const DELETED_TOPIC: &str = "_deleted-topic_";

/// Messages that a topic's schema would accept.
type Schema = Arc<dyn Fn(&PubsubMessage) -> bool + Send + Sync>;

struct Topic {
    name: Arc<str>,
    proto: Mutex<wire::Topic>,
    schema: RwLock<Option<Schema>>,
    subscriptions: RwLock<Vec<Arc<Subscription>>>,
    published: AtomicU64,
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Topic").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Registry {
    topics: HashMap<String, Arc<Topic>>,
    subscriptions: HashMap<String, Arc<Subscription>>,
}

/// One server's topics and subscriptions.
#[derive(Debug)]
pub struct PubSub {
    registry: RwLock<Registry>,
    faults: Arc<Faults>,
    history: Arc<History>,
    iam: Arc<Iam>,
    policies: iam::Policies,
    next_message: AtomicU64,
    next_subscription: AtomicU64,
    runtime: tokio::runtime::Handle,
}

impl PubSub {
    /// Deadlines are watched by tasks on `runtime`.
    pub fn new(
        faults: Arc<Faults>,
        history: Arc<History>,
        iam: Arc<Iam>,
        runtime: tokio::runtime::Handle,
    ) -> Arc<PubSub> {
        let micros = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64);
        Arc::new(PubSub {
            registry: RwLock::default(),
            faults,
            history,
            iam,
            policies: iam::Policies::default(),
            // Message ids do not come again after a restart: consumers deduplicate by them.
            next_message: AtomicU64::new(micros),
            next_subscription: AtomicU64::new(micros),
            runtime,
        })
    }

    fn registry(&self) -> RwLockReadGuard<'_, Registry> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, Status> {
        let found = self.registry().topics.get(name).cloned();
        found.ok_or_else(|| Status::not_found(format!("Resource not found (resource={name}): no such topic")))
    }

    fn subscription(&self, name: &str) -> Result<Arc<Subscription>, Status> {
        let found = self.registry().subscriptions.get(name).cloned();
        found.ok_or_else(|| {
            Status::not_found(format!("Resource not found (resource={name}): no such subscription"))
        })
    }

    /// Publishes as the gRPC method does, without its faults; returns one id a message, in order.
    pub fn publish(&self, topic: &str, messages: Vec<PubsubMessage>) -> Result<Vec<String>, Status> {
        self.publish_request(PublishRequest { topic: topic.to_owned(), messages })
    }

    fn publish_request(&self, request: PublishRequest) -> Result<Vec<String>, Status> {
        self.may("pubsub.topics.publish", &request.topic)?;
        limits::publish(&request)?;
        let topic = self.topic(&request.topic)?;
        let schema = topic.schema.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(is_valid) = schema
            && !request.messages.iter().all(|message| is_valid(message))
        {
            return Err(Status::invalid_argument(
                "Invalid data in message: Message failed schema validation.",
            ));
        }
        Ok(self.publish_checked(&topic, request.messages))
    }

    /// Sets a predicate in place of an Avro or protobuf schema: from now on a call of Publish is refused as a
    /// whole, as in the real service, unless `is_valid` holds for each of its messages. `None` takes the
    /// schema away.
    pub fn set_schema(
        &self,
        topic: &str,
        is_valid: Option<impl Fn(&PubsubMessage) -> bool + Send + Sync + 'static>,
    ) -> Result<(), Status> {
        let topic = self.topic(topic)?;
        let schema = is_valid.map(|is_valid| Arc::new(is_valid) as Schema);
        *topic.schema.write().unwrap_or_else(PoisonError::into_inner) = schema;
        Ok(())
    }

    fn publish_checked(&self, topic: &Topic, messages: Vec<PubsubMessage>) -> Vec<String> {
        let count = messages.len() as u64;
        let first = self.next_message.fetch_add(count, Ordering::Relaxed);
        let (time, now) = (prost_types::Timestamp::from(SystemTime::now()), Instant::now());
        let mut ids = Vec::with_capacity(messages.len());
        let stored: Vec<Arc<Stored>> = messages
            .into_iter()
            .zip(first..)
            .map(|(mut message, id)| {
                message.message_id = id.to_string();
                message.publish_time = Some(time);
                ids.push(message.message_id.clone());
                Arc::new(Stored { size: limits::size(&message), message, published: now })
            })
            .collect();
        topic.published.fetch_add(count, Ordering::Relaxed);
        for message in &stored {
            self.history.record(|| What::Published { topic: topic.name.clone(), message: message.clone() });
        }
        let subscriptions = topic.subscriptions.read().unwrap_or_else(PoisonError::into_inner);
        subscriptions.iter().for_each(|subscription| subscription.push(&stored));
        ids
    }

    // Forwards what used up its attempts. When the topic is gone, or Pub/Sub's agent lacks a grant, the
    // message stays, as in the real service.
    fn forward_dead(&self, subscription: &Arc<Subscription>, settled: &mut Settled) {
        if settled.dead.is_empty() {
            return;
        }
        let proto = subscription.proto();
        let target = proto.dead_letter_policy.and_then(|policy| {
            let may = || {
                self.may("pubsub.subscriptions.consume", &proto.name)?;
                self.may("pubsub.topics.publish", &policy.dead_letter_topic)
            };
            PUBSUB_AGENT.does(may).ok()?;
            self.topic(&policy.dead_letter_topic).ok()
        });
        let (project, name) = errors::project_and_id(&proto.name);
        for entry in settled.dead.drain(..) {
            let Some(target) = &target else {
                subscription.queue().take_back(entry);
                continue;
            };
            subscription.queue().dead_lettered(&entry);
            let mut message = entry.stored.message.clone();
            let published = message.publish_time.map(|time| time.to_string()).unwrap_or_default();
            for (key, value) in [
                ("CloudPubSubDeadLetterSourceDeliveryCount", entry.failures.to_string()),
                ("CloudPubSubDeadLetterSourceSubscription", name.to_owned()),
                ("CloudPubSubDeadLetterSourceSubscriptionProject", project.to_owned()),
                ("CloudPubSubDeadLetterSourceTopicPublishTime", published),
            ] {
                message.attributes.insert(key.to_owned(), value);
            }
            self.publish_checked(target, vec![message]);
        }
    }

    /// Breaks every open stream with UNAVAILABLE, at once.
    pub fn reset_streams(&self) {
        self.registry().subscriptions.values().for_each(|subscription| subscription.reset_streams());
    }

    /// Ends every lease and every backoff of a subscription now, as if their time had passed.
    pub fn expire_leases(&self, subscription: &str) -> Result<(), Status> {
        let subscription = self.subscription(subscription)?;
        let mut settled = subscription.queue().on_time(Instant::now() + Duration::from_secs(3600));
        self.forward_dead(&subscription, &mut settled);
        Ok(())
    }

    /// The numbers of a subscription.
    pub fn counts(&self, subscription: &str) -> Result<Counts, Status> {
        Ok(self.subscription(subscription)?.queue().counts())
    }

    /// Every subscription's numbers, by name.
    pub fn all_counts(&self) -> BTreeMap<String, Counts> {
        let registry = self.registry();
        registry.subscriptions.iter().map(|(name, it)| (name.clone(), it.queue().counts())).collect()
    }

    /// Number of messages that each topic accepted, by name.
    pub fn published(&self) -> BTreeMap<String, u64> {
        let registry = self.registry();
        registry
            .topics
            .iter()
            .map(|(name, it)| (name.clone(), it.published.load(Ordering::Relaxed)))
            .collect()
    }

    fn refused(&self, method: &'static str, status: &Status) {
        self.history.record(|| What::Refused {
            method,
            code: status.code(),
            message: status.message().to_owned(),
        });
    }
}
