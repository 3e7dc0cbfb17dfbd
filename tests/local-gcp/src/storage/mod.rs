//! Cloud Storage in memory: buckets, object generations, preconditions, uploads and notifications.
//!
//! `Storage` owns everything under one lock that is never held across an await or a publish. Objects are
//! `Arc<Version>` over `Bytes`: a read shares the bytes and copies nothing. `rest` and `grpc` translate the
//! two protocols. Not modelled: access control lists (policies count where [`crate::iam`] says so),
//! encryption, holds and retention, soft delete, compose, decompressive transcoding; what a client sets there
//! on a bucket is kept and shown, and has no effect.

mod bucket;
mod clock;
mod conditions;
mod error;
pub mod grpc;
mod iam;
mod listing;
mod notify;
mod object;
mod objects;
pub mod rest;
mod uploads;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use crate::faults::Faults;
use crate::history::{Generation, History, What};
use crate::iam::Iam;
use bucket::Bucket;
use clock::Clock;
pub use conditions::Conditions;
pub use error::{Error, Kind, Result};
pub use listing::{ListQuery, Page};
use notify::{Change, Message};
pub use object::{Attributes, Checksums, Version};
pub use objects::{Insert, Target};
use uploads::Uploads;

/// Publishes a notification: topic (`projects/P/topics/T`), attributes, data; answers the message id.
pub type PublishFn = Arc<
    dyn Fn(&str, HashMap<String, String>, Bytes) -> std::result::Result<String, tonic::Status> + Send + Sync,
>;

/// The whole of one local Cloud Storage.
pub struct Storage {
    faults: Arc<Faults>,
    history: Arc<History>,
    iam: Arc<Iam>,
    publish: PublishFn,
    address: OnceLock<SocketAddr>,
    state: Mutex<State>,
}

struct State {
    history: Arc<History>,
    clock: Clock,
    buckets: BTreeMap<String, Bucket>,
    uploads: Uploads,
}

impl Storage {
    pub fn new(faults: Arc<Faults>, history: Arc<History>, iam: Arc<Iam>, publish: PublishFn) -> Arc<Self> {
        let state = State {
            history: history.clone(),
            clock: Clock::default(),
            buckets: BTreeMap::new(),
            uploads: Uploads::default(),
        };
        Arc::new(Self { faults, history, iam, publish, address: OnceLock::new(), state: Mutex::new(state) })
    }

    /// Says where the server listens, for the links that it hands out. Needed for resumable uploads: Google's
    /// Rust client sends a `Host` without the port, so a session's URL cannot be made from the request.
    pub fn listens_at(&self, address: SocketAddr) {
        let _ = self.address.set(address); // one server has one address; the first stays
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes what a change asks for. A notification is a hint: a topic that is not there loses it.
    fn publish_all(&self, messages: Vec<Message>) {
        for Message { topic, attributes, data } in messages {
            if let Err(status) = (self.publish)(&topic, attributes, data) {
                tracing::warn!(topic, %status, "a bucket's notification was not published");
            }
        }
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("address", &self.address).finish_non_exhaustive()
    }
}

impl State {
    fn bucket(&self, name: &str) -> Result<&Bucket> {
        self.buckets.get(name).ok_or_else(Error::no_bucket)
    }

    fn bucket_mut(&mut self, name: &str) -> Result<&mut Bucket> {
        self.buckets.get_mut(name).ok_or_else(Error::no_bucket)
    }

    /// Called under the lock, so that the history has the order of the changes.
    fn record(&self, what: impl FnOnce(Generation) -> What, version: &Version) {
        self.history.record(|| {
            let (bucket, object) = (version.bucket.clone(), version.name.clone());
            what(Generation { bucket, object, generation: version.generation })
        });
    }

    fn messages(&self, changes: &[Change<'_>]) -> Vec<Message> {
        let of_change = |change: &Change<'_>| match self.buckets.get(&change.version.bucket) {
            Some(bucket) => notify::messages(bucket.notifications.values(), change),
            None => Vec::new(),
        };
        changes.iter().flat_map(of_change).collect()
    }
}
