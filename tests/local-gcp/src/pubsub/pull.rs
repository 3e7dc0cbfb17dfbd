//! Unary pull, acknowledgements and deadlines, as gRPC and REST both need them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tonic::Status;

use super::ack_id::AckId;
use super::queue::{Limits, Outgoing, Stored};
use super::subscription::Subscription;
use super::wire::ReceivedMessage;
use super::{PubSub, errors, limits};

/// Time that a pull waits for a first message; the real service bounds it too, without documenting the bound.
const PULL_WAIT: Duration = Duration::from_secs(5);

/// A stream or pull that leaves its subscription when dropped, whatever ended it.
pub(crate) struct Membership {
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) stream: u64,
    pub(crate) notify: Arc<Notify>,
    unary: bool,
}

impl Membership {
    pub(crate) fn new(subscription: Arc<Subscription>, limits: Limits, unary: bool) -> Membership {
        let notify = Arc::new(Notify::new());
        let stream = subscription.open(limits, notify.clone());
        Membership { subscription, stream, notify, unary }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.subscription.deleted.load(Ordering::Acquire)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.subscription.close(self.stream, self.unary);
    }
}

/// Turns leased messages into the protocol's.
pub(crate) fn received(batch: Vec<Outgoing>) -> Vec<ReceivedMessage> {
    batch
        .into_iter()
        .map(|outgoing| ReceivedMessage {
            ack_id: outgoing.ack_id.to_string(),
            message: Some(outgoing.stored.message.clone()),
            delivery_attempt: outgoing.attempt.try_into().unwrap_or(i32::MAX),
        })
        .collect()
}

fn parse_all(ids: &[String], exactly_once: bool) -> Result<Vec<AckId>, Status> {
    let parsed: Vec<Option<AckId>> = ids.iter().map(|id| AckId::parse(id)).collect();
    if parsed.iter().all(Option::is_some) {
        return Ok(parsed.into_iter().flatten().collect());
    }
    let wrong = || ids.iter().zip(&parsed).filter(|(_, id)| id.is_none()).map(|(text, _)| text.as_str());
    if exactly_once {
        return Err(errors::stale_ack_ids(wrong()));
    }
    let first = wrong().next().unwrap_or_default();
    Err(Status::invalid_argument(format!(
        "You have passed an invalid ack ID to the service (ack_id={first})"
    )))
}

impl PubSub {
    pub(crate) fn exactly_once(&self, subscription: &Subscription) -> bool {
        subscription.queue().config.exactly_once
    }

    /// Ends leases; on an exactly-once subscription refuses the ids that name no current lease.
    pub fn acknowledge(&self, subscription: &str, ids: &[String]) -> Result<(), Status> {
        self.may("pubsub.subscriptions.consume", subscription)?;
        let subscription = self.subscription(subscription)?;
        limits::ack_ids(ids)?;
        self.acknowledge_on(&subscription, ids)
    }

    pub(crate) fn acknowledge_on(&self, subscription: &Subscription, ids: &[String]) -> Result<(), Status> {
        let parsed = parse_all(ids, self.exactly_once(subscription))?;
        let settled = subscription.ack(&parsed);
        refuse_stale(ids, &settled.stale)
    }

    /// Moves deadlines to `seconds` from now; 0 gives the messages back.
    pub fn modify_ack_deadline(
        &self,
        subscription: &str,
        ids: &[String],
        seconds: i32,
    ) -> Result<(), Status> {
        self.may("pubsub.subscriptions.consume", subscription)?;
        let subscription = self.subscription(subscription)?;
        limits::ack_ids(ids)?;
        self.modify_on(&subscription, ids, &vec![seconds; ids.len()])
    }

    pub(crate) fn modify_on(
        &self,
        subscription: &Arc<Subscription>,
        ids: &[String],
        seconds: &[i32],
    ) -> Result<(), Status> {
        if ids.len() != seconds.len() {
            let (ids, deadlines) = (ids.len(), seconds.len());
            return Err(Status::invalid_argument(format!("{ids} ack ids came with {deadlines} deadlines")));
        }
        let deadlines =
            seconds.iter().map(|seconds| limits::ack_deadline(*seconds)).collect::<Result<Vec<_>, _>>()?;
        let parsed = parse_all(ids, self.exactly_once(subscription))?;
        let changes: Vec<(AckId, Duration)> = parsed.into_iter().zip(deadlines).collect();
        let mut settled = subscription.modify(&changes);
        self.forward_dead(subscription, &mut settled);
        refuse_stale(ids, &settled.stale)
    }

    /// Up to `max` messages; waits a while for the first unless `at_once`.
    pub async fn pull(
        &self,
        subscription: &str,
        max: i32,
        at_once: bool,
    ) -> Result<Vec<ReceivedMessage>, Status> {
        self.may("pubsub.subscriptions.consume", subscription)?;
        let subscription = self.subscription(subscription)?;
        if max <= 0 {
            return Err(Status::invalid_argument(format!(
                "max messages: expected a positive number, not {max}"
            )));
        }
        let limits = Limits { messages: max.into(), bytes: 0, ack_deadline: None };
        let member = Membership::new(subscription, limits, true);
        let first = async {
            loop {
                let batch = member.subscription.take(member.stream, usize::MAX);
                if !batch.is_empty() || at_once {
                    return Ok(batch);
                }
                member.notify.notified().await;
                if member.is_deleted() {
                    return Err(Status::not_found("the subscription was deleted"));
                }
            }
        };
        let batch = tokio::time::timeout(PULL_WAIT, first).await.unwrap_or(Ok(Vec::new()))?;
        Ok(received(batch))
    }

    /// Takes and acknowledges everything that waits now; for tests and benchmarks that look at what was sent.
    pub fn drain(&self, subscription: &str) -> Result<Vec<Arc<Stored>>, Status> {
        let limits = Limits { messages: 0, bytes: 0, ack_deadline: None };
        Ok(take_and_ack(&Membership::new(self.subscription(subscription)?, limits, true)))
    }

    /// The same, once there is something; empty when nothing came within `wait`.
    pub async fn drain_within(&self, subscription: &str, wait: Duration) -> Result<Vec<Arc<Stored>>, Status> {
        let limits = Limits { messages: 0, bytes: 0, ack_deadline: None };
        let member = Membership::new(self.subscription(subscription)?, limits, true);
        let end = tokio::time::Instant::now() + wait;
        loop {
            let messages = take_and_ack(&member);
            if !messages.is_empty() || tokio::time::timeout_at(end, member.notify.notified()).await.is_err() {
                return Ok(messages);
            }
        }
    }
}

fn take_and_ack(member: &Membership) -> Vec<Arc<Stored>> {
    let mut messages = Vec::new();
    loop {
        let batch = member.subscription.take(member.stream, usize::MAX);
        if batch.is_empty() {
            return messages;
        }
        let ids: Vec<AckId> = batch.iter().map(|outgoing| outgoing.ack_id).collect();
        member.subscription.ack(&ids);
        messages.extend(batch.into_iter().map(|outgoing| outgoing.stored));
    }
}

fn refuse_stale(ids: &[String], stale: &[usize]) -> Result<(), Status> {
    if stale.is_empty() {
        return Ok(());
    }
    Err(errors::stale_ack_ids(stale.iter().filter_map(|index| ids.get(*index)).map(String::as_str)))
}
