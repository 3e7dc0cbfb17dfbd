//! Requests that lie in a bucket: fetched beside the stream, decoded like any other, and handed on to the
//! batches.
//!
//! A few at a time; the stream goes on meanwhile. What follows under the same ordering key is taken after it.
//! A request that cannot be fetched for now is nacked.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::blocked_keys::Delivered;
use super::take::{Intake, Referred, Whole, job};
use crate::decode::envelope::{self, Envelope};
use crate::decode::reference::Object;
use crate::engine::admit::{self, LIMITS, Refusal, may_block};
use crate::engine::job::Job;
use crate::headers::Headers;
use crate::objects::{Failed, Fetched};
use crate::pubsub::delivery::{Delivery, Reply};
use crate::pubsub::ticket::nack;
use crate::stages::pass_panic_on;

/// The fetches under way, and the quarantined requests that wait. They end with their owner, and their
/// requests are nacked.
#[derive(Default)]
pub(super) struct Fetches(JoinSet<()>);

impl Fetches {
    pub(super) fn start(&mut self, intake: &Arc<Intake>, referred: Referred) {
        while self.0.try_join_next().and_then(pass_panic_on).is_some() {}
        intake.lanes.open(&referred.origin.reply_to.requester.ordering_key);
        self.0.spawn(Arc::clone(intake).follow(referred));
    }

    /// Lets a quarantined request wait for its turn beside the stream.
    pub(super) fn quarantine(&mut self, intake: &Arc<Intake>, whole: Whole) {
        while self.0.try_join_next().and_then(pass_panic_on).is_some() {}
        self.0.spawn(Arc::clone(intake).decode_alone(whole));
    }

    pub(super) async fn finish(&mut self) {
        while self.0.join_next().await.and_then(pass_panic_on).is_some() {}
    }
}

impl Intake {
    /// Fetches a request, and takes what has come under its key meanwhile.
    async fn follow(self: Arc<Self>, referred: Referred) {
        let key = referred.origin.reply_to.requester.ordering_key.clone();
        self.fetch(referred).await;
        while let Some((delivered, _room)) = self.lanes.next(&key) {
            let Delivered { message, handler, reference } = delivered;
            if self.stop.is_cancelled() {
                nack(handler, &self.around.metrics);
                continue;
            }
            match reference {
                Some(reference) => match self.refer(message, handler, reference) {
                    Ok(referred) => self.fetch(referred).await,
                    Err(reply) => self.pass_on(Err(reply)).await,
                },
                None => {
                    let weight = Self::weigh(&message);
                    let room = self.around.budget.take(weight).await;
                    self.decode_whole(self.take(message, handler, weight, room)).await;
                }
            }
        }
    }

    async fn decode_whole(&self, whole: Whole) {
        self.decode(whole.weight, || self.read(whole)).await;
    }

    /// Decodes a request of this weight beside the stream, and hands it on.
    async fn decode(&self, weight: usize, decode: impl FnOnce() -> Result<Job<Delivery>, Box<Reply>>) {
        let decoding = self.decoding(weight).await;
        // Its own: several decode at a time, for no longer than this.
        let pulse = self.around.health.pulse("receive");
        let working = pulse.work();
        let decoded = decode();
        drop((working, decoding));
        self.pass_on(decoded).await;
    }

    /// Decodes a quarantined request once it is its turn.
    async fn decode_alone(self: Arc<Self>, mut whole: Whole) {
        self.wait_alone(&mut whole.origin.reply_to).await;
        self.decode_whole(whole).await;
    }

    async fn wait_alone(&self, delivery: &mut Delivery) {
        let Delivery { requester, attempt, .. } = &delivery;
        delivery.alone = self.quarantine.turn(&requester.message_id, *attempt, &self.stop).await;
    }

    /// Dropping the request gives it back.
    async fn fetch(&self, referred: Referred) {
        let Referred { object, reference, target, mut origin } = referred;
        let slot = tokio::select! {
            // Fetches that have not begun when the worker stops are nacked at once.
            biased;
            () = self.stop.cancelled() => return,
            slot = self.slots.acquire() => slot,
        };
        let read =
            self.around.objects.read(&object, &reference, &LIMITS, &self.around.budget, &self.stop).await;
        drop(slot);
        let fetched = match read {
            Ok(fetched) => fetched,
            Err(Failed::Rejected(rejection)) => {
                let refusal = Refusal { rejection, id: reference.id, model: Some(target.model) };
                return self.pass_on(Err(Reply::refused(refusal, origin).into())).await;
            }
            Err(Failed::Unavailable(why)) => {
                self.warn(&object, &why);
                return origin.reply_to.give_up();
            }
        };
        let Fetched { attributes, body, weight, room } = fetched;
        origin.memory.hold(weight, room);
        if self.is_quarantined(&origin.reply_to) {
            self.wait_alone(&mut origin.reply_to).await;
        }
        let decode = || {
            let Envelope { response_format, content } = envelope::open(Headers(&attributes), &body, &LIMITS);
            // The message's own envelope is what its answer mirrors; an object's counts where the message has
            // none.
            origin.response_format.event = origin.response_format.event.take().or(response_format.event);
            job(admit::decode(content, target, reference.id), origin)
        };
        self.decode(weight, || may_block(weight, decode)).await;
    }

    /// A stage that is gone has its own error; the request goes back.
    async fn pass_on(&self, decoded: Result<Job<Delivery>, Box<Reply>>) {
        match decoded {
            Ok(job) => (self.around.submit)(vec![job]),
            Err(reply) => drop(self.around.replies.send(vec![*reply]).await),
        }
    }

    /// Once in a while: a bucket that cannot be read concerns many requests.
    fn warn(&self, object: &Object, why: &str) {
        if self.unreadable.admit() {
            tracing::error!(
                %object,
                why,
                hint = "check the rights (roles/storage.objectViewer) and the network",
                "cannot read the object that a request refers to, the request is nacked"
            );
        }
    }
}
