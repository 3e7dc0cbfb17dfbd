//! Results that are too large for a message: written to a bucket, then published as a reference to the
//! object.
//!
//! An object is named by the message id of its request, so that a redelivered request replaces the result of
//! the first delivery. It is written before its reference is published. Errors are short and never written.

use std::borrow::Cow;
use std::sync::Arc;

use google_cloud_storage::client::Storage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Location, Responses};
use crate::decode::event::Mode;
use crate::encode;
use crate::gcp::clients;
use crate::gcp::storage::{self, ObjectMetadata};
use crate::headers::{CONTENT_ENCODING, CONTENT_TYPE, DATAREF, HEADER_LENGTH};
use crate::pubsub::delivery::Reply;

/// Results written at a time. At this limit publishing waits, so that large results do not fill the memory.
const AT_A_TIME: usize = 16;

#[derive(Debug)]
pub struct Large {
    /// The destination, and the most bytes of a result that is published itself.
    bucket: Option<(Storage, Location, usize)>,
    places: Arc<Semaphore>,
}

impl Large {
    pub async fn connect(config: &Responses) -> anyhow::Result<Self> {
        let bucket = match &config.bucket {
            Some(bucket) => Some((clients::storage().await?, bucket.clone(), config.inline_limit)),
            None => None,
        };
        Ok(Self { bucket, places: Arc::new(Semaphore::new(AT_A_TIME)) })
    }

    /// True for a response that goes to the bucket and is not written yet.
    pub(super) fn takes(&self, reply: &Reply) -> bool {
        let is_long = self.bucket.as_ref().is_some_and(|(_, _, inline)| reply.body.len() > *inline);
        is_long && reply.outcome.is_ok() && !reply.attributes.iter().any(|(name, _)| *name == DATAREF)
    }

    /// Waits for the permission to write one more.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Writes a result that this [`takes`](Self::takes). Returns the reference to it, or the reply that was
    /// not written.
    pub(super) async fn write(&self, mut reply: Reply) -> Result<Reply, (Reply, anyhow::Error)> {
        let Some((client, Location { bucket, prefix }, _)) = &self.bucket else { return Ok(reply) };
        let id = &reply.requester().message_id;
        let name = if prefix.is_empty() { id.clone() } else { format!("{prefix}/{id}") };
        let attribute = |name: &str| {
            let found = reply.attributes.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| &**value)
        };
        // Readers of the object need the length of its JSON head too.
        let length = attribute(HEADER_LENGTH).map(|length| (HEADER_LENGTH, length));
        let metadata = ObjectMetadata {
            content_type: attribute(CONTENT_TYPE).unwrap_or("application/json"),
            content_encoding: attribute(CONTENT_ENCODING),
            custom: length.into_iter().collect(),
        };
        if let Err(error) = storage::write(client, bucket, &name, reply.body.clone(), &metadata).await {
            return Err((reply, error));
        }
        refer(&mut reply, format!("gs://{bucket}/{name}"));
        Ok(reply)
    }
}

/// Turns the reply into a reference. The attributes that describe the body are those of the object now.
fn refer(reply: &mut Reply, address: String) {
    reply.body = encode::reference(&address, reply.id.as_ref()).into();
    reply.origin.memory.respond(reply.body.len());
    reply.attributes.retain(|(key, _)| ![CONTENT_TYPE, CONTENT_ENCODING].contains(key));
    let is_binary = |event: &crate::decode::event::Event| event.mode == Mode::Binary;
    if reply.origin.response_format.event.as_deref().is_some_and(is_binary) {
        reply.attributes.push(("ce-dataref", Cow::Owned(address.clone())));
    }
    reply.attributes.push((CONTENT_TYPE, Cow::Borrowed("application/json")));
    reply.attributes.push((DATAREF, Cow::Owned(address)));
}
