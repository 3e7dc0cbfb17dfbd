//! Ordering keys whose oldest request is being fetched from a bucket: what comes under such a key waits in
//! its lane, without being decompressed or decoded, and the stream goes on with the others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::subscriber::handler::Handler;

use crate::decode::reference::Reference;
use crate::engine::budget::{Budget, Room};
use crate::lock::lock;

/// A message as it came.
pub(super) struct Delivered {
    pub(super) message: Message,
    pub(super) handler: Handler,
    /// The object that holds its request; none when the message itself does.
    pub(super) reference: Option<Box<Reference>>,
}

/// One lane for each key, from the first fetch until nothing waits behind the last.
pub(super) struct Lanes {
    lanes: Mutex<HashMap<String, Lane>>,
    room: Budget,
}

type Lane = VecDeque<(Delivered, Room)>;

impl Lanes {
    /// `bytes` is the limit of all lanes together.
    pub(super) fn new(bytes: usize) -> Self {
        Self { lanes: Mutex::default(), room: Budget::new(bytes) }
    }

    /// Lets messages with this `key` wait from now on.
    pub(super) fn open(&self, key: &str) {
        if !key.is_empty() {
            self.lanes().insert(key.to_owned(), VecDeque::new());
        }
    }

    pub(super) fn is_open(&self, key: &str) -> bool {
        !key.is_empty() && self.lanes().contains_key(key)
    }

    /// Room for a message, if there is some right now.
    pub(super) fn try_room(&self, message: &Message) -> Option<Room> {
        self.room.try_take(message.data.len())
    }

    /// Waits for room.
    pub(super) async fn room(&self, message: &Message) -> Room {
        self.room.take(message.data.len()).await
    }

    /// Puts a message into its key's lane; gives it back when that has closed meanwhile.
    pub(super) fn wait(&self, delivered: Delivered, room: Room) -> Option<Delivered> {
        match self.lanes().get_mut(&delivered.message.ordering_key) {
            Some(lane) => {
                lane.push_back((delivered, room));
                None
            }
            None => Some(delivered),
        }
    }

    /// The next message of `key`. The lane closes when there is none.
    pub(super) fn next(&self, key: &str) -> Option<(Delivered, Room)> {
        let mut lanes = self.lanes();
        let next = lanes.get_mut(key)?.pop_front();
        if next.is_none() {
            lanes.remove(key);
        }
        next
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<String, Lane>> {
        lock(&self.lanes)
    }
}
