//! Requests that lie in a bucket: fetched beside the stream, decoded like any other, and handed on to the batches.
//!
//! A few at a time; the stream goes on meanwhile. A request that cannot be fetched for now is given back to Pub/Sub.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::away::Leave;
use super::{LARGE_BODY, LIMITS};
use crate::decode::envelope::{self, Envelope, Headers};
use crate::decode::reference::{Object, Reference};
use crate::message::{Origin, Pending, Reply};
use crate::model::Model;
use crate::reference::{Budget, Failed, Fetched, Objects};

/// Objects fetched at a time: enough for one connection's delays to hide behind the others.
const AT_A_TIME: usize = 16;
/// Between two warnings of requests that could not be fetched.
const QUIET: Duration = Duration::from_secs(10);

/// What every fetch shares.
pub(super) struct Follow {
    pub(super) objects: Arc<Objects>,
    pub(super) budget: Budget,
    pub(super) requests: mpsc::Sender<Vec<Pending>>,
    pub(super) replies: mpsc::Sender<Vec<Reply>>,
    pub(super) stop: CancellationToken,
    slots: Semaphore,
    warned: std::sync::Mutex<Option<std::time::Instant>>,
}

/// A request to fetch.
pub(super) struct Referred {
    pub(super) object: Object,
    pub(super) reference: Box<Reference>,
    pub(super) model: Arc<Model>,
    pub(super) origin: Origin,
    /// Keeps what follows under the same ordering key waiting.
    pub(super) leave: Option<Leave>,
}

/// The fetches under way. They end with their owner, and their requests go back to Pub/Sub.
#[derive(Default)]
pub(super) struct Fetches(JoinSet<()>);

impl Fetches {
    pub(super) fn start(&mut self, follow: &Arc<Follow>, referred: Referred) {
        while let Some(ended) = self.0.try_join_next() {
            pass_panic_on(ended);
        }
        self.0.spawn(Arc::clone(follow).fetch(referred));
    }

    pub(super) async fn finish(&mut self) {
        while let Some(ended) = self.0.join_next().await {
            pass_panic_on(ended);
        }
    }
}

fn pass_panic_on(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

impl Follow {
    pub(super) fn new(
        objects: Arc<Objects>,
        budget: Budget,
        (requests, replies): (mpsc::Sender<Vec<Pending>>, mpsc::Sender<Vec<Reply>>),
        stop: CancellationToken,
    ) -> Self {
        let slots = Semaphore::new(AT_A_TIME);
        Self { objects, budget, requests, replies, stop, slots, warned: std::sync::Mutex::default() }
    }

    /// Dropping the request gives it back.
    async fn fetch(self: Arc<Self>, referred: Referred) {
        let Referred { object, reference, model, mut origin, leave } = referred;
        let slot = tokio::select! {
            // What has not begun when the worker stops goes back at once.
            biased;
            () = self.stop.cancelled() => return,
            slot = self.slots.acquire() => slot,
        };
        let read = self.objects.read(&object, &reference, &LIMITS, &self.budget, &self.stop).await;
        drop(slot);
        let fetched = match read {
            Ok(fetched) => fetched,
            Err(Failed::Rejected(rejection)) => {
                let reply = Reply::refused(&rejection, reference.id, Some(model), origin);
                // A stage that is gone has its own error; the request goes back.
                let _ = self.replies.send(vec![reply]).await;
                return;
            }
            Err(Failed::Unavailable(why)) => {
                self.warn(&object, &why);
                return origin.give_up();
            }
        };
        let Fetched { attributes, body, weight, room } = fetched;
        origin.ticket.hold(weight, room);
        let decode = || {
            let Envelope { delivery, content } = envelope::open(Headers(&attributes), &body, &LIMITS);
            // The message's own envelope is what its answer mirrors; an object's counts where the message has none.
            origin.delivery.event = origin.delivery.event.take().or(delivery.event);
            super::take::decode(content, model, reference.id, origin)
        };
        let decoded = if weight > LARGE_BODY { tokio::task::block_in_place(decode) } else { decode() };
        match decoded {
            Ok(pending) => drop(self.requests.send(vec![pending]).await),
            Err(reply) => drop(self.replies.send(vec![*reply]).await),
        }
        drop(leave);
    }

    /// Once in a while: a bucket that cannot be read concerns many requests.
    fn warn(&self, object: &Object, why: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() > QUIET) {
            *warned = Some(std::time::Instant::now());
            tracing::error!(
                %object,
                why,
                hint = "check the rights (roles/storage.objectViewer) and the network",
                "cannot read what a request refers to, it goes back to Pub/Sub"
            );
        }
    }
}
