//! StreamingPull: one task reads the client's acknowledgements, the response stream leases messages as the
//! client takes them.
//!
//! Messages are leased only when the connection asks for more, so none waits in a buffer while its deadline
//! runs. The task and the membership end with the response stream, whoever drops it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::Stream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::queue::Limits;
use super::subscription::Subscription;
use super::wire::streaming_pull_response::SubscriptionProperties;
use super::wire::{ReceivedMessage, StreamingPullRequest, StreamingPullResponse};
use super::{PubSub, errors, pull};
use crate::faults::{self, Fault};
use crate::history::{Delivery, What};
use pull::Membership;

/// Between signs of life to clients that asked for them.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The two halves of a stream share how it ends.
#[derive(Default)]
struct End {
    half_closed: AtomicBool,
    error: Mutex<Option<Status>>,
}

struct Session {
    pubsub: Arc<PubSub>,
    member: Membership,
    end: Arc<End>,
    _reader: AbortOnDropHandle<()>,
    resets: u64,
    fault: Option<Fault>,
    /// Messages sent so far, for the faults that count them.
    sent: u64,
    /// A response to be sent a second time.
    again: Option<StreamingPullResponse>,
    properties: SubscriptionProperties,
    heartbeat: bool,
    finished: bool,
}

/// Opens a stream from its first request on.
pub(super) async fn open(
    pubsub: Arc<PubSub>,
    mut requests: Streaming<StreamingPullRequest>,
) -> Result<impl Stream<Item = Result<StreamingPullResponse, Status>> + use<>, Status> {
    let fault = pubsub.faults.next("StreamingPull");
    match &fault {
        Some(Fault::Fail(code)) => return Err(errors::injected(code)),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::DelayMs(ms)) => faults::delay(*ms).await,
        _ => {}
    }
    let Some(first) = requests.message().await? else {
        return Err(Status::invalid_argument("the stream ended before its first request"));
    };
    // Once a stream: what is revoked while it is open counts from the next one on.
    pubsub.may("pubsub.subscriptions.consume", &first.subscription)?;
    let subscription = pubsub.subscription(&first.subscription)?;
    let stream_deadline = u64::try_from(first.stream_ack_deadline_seconds).unwrap_or(0);
    if !(10..=600).contains(&stream_deadline) {
        return Err(Status::invalid_argument(format!(
            "stream ack deadline: expected 10 to 600 seconds, not {}",
            first.stream_ack_deadline_seconds
        )));
    }
    let unlimited = matches!(fault, Some(Fault::IgnoreFlowControl));
    let limits = Limits {
        messages: if unlimited { 0 } else { first.max_outstanding_messages },
        bytes: if unlimited { 0 } else { first.max_outstanding_bytes },
        ack_deadline: Some(Duration::from_secs(stream_deadline)),
    };
    let resets = subscription.resets.load(Ordering::Acquire);
    let proto = subscription.proto();
    let properties = SubscriptionProperties {
        exactly_once_delivery_enabled: proto.enable_exactly_once_delivery,
        message_ordering_enabled: proto.enable_message_ordering,
    };
    let member = Membership::new(subscription.clone(), limits, false);
    let (stream, notify) = (member.stream, member.notify.clone());
    let heartbeat = first.protocol_version >= 1;
    let end = Arc::new(End::default());
    let reader = {
        let (end, pubsub) = (end.clone(), pubsub.clone());
        tokio::spawn(async move {
            let mut next = Ok(Some(first));
            while let Ok(Some(request)) = next {
                if let Err(status) = apply(&pubsub, &subscription, stream, &request) {
                    *end.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                    break;
                }
                next = requests.message().await;
            }
            end.half_closed.store(true, Ordering::Release);
            notify.notify_one();
        })
    };
    let session = Session {
        pubsub,
        member,
        end,
        _reader: AbortOnDropHandle::new(reader),
        resets,
        fault,
        sent: 0,
        again: None,
        properties,
        heartbeat,
        finished: false,
    };
    Ok(futures::stream::unfold(session, async |mut session| {
        let response = session.next().await?;
        Some((response, session))
    }))
}

// One request of the client: acks, deadlines, a new stream deadline. Stale ids on a stream are not refused:
// only unary calls answer.
fn apply(
    pubsub: &PubSub,
    subscription: &Arc<Subscription>,
    stream: u64,
    request: &StreamingPullRequest,
) -> Result<(), Status> {
    let exactly_once = pubsub.exactly_once(subscription);
    let tolerate = |result: Result<(), Status>| if exactly_once { Ok(()) } else { result };
    if !request.ack_ids.is_empty() {
        tolerate(pubsub.acknowledge_on(subscription, &request.ack_ids))?;
    }
    if !request.modify_deadline_ack_ids.is_empty() {
        let (ids, seconds) = (&request.modify_deadline_ack_ids, &request.modify_deadline_seconds);
        tolerate(pubsub.modify_on(subscription, ids, seconds))?;
    }
    if let Ok(seconds @ 10..=600) = u64::try_from(request.stream_ack_deadline_seconds) {
        subscription.queue().set_ack_deadline(stream, Duration::from_secs(seconds));
    }
    Ok(())
}

impl Session {
    async fn next(&mut self) -> Option<Result<StreamingPullResponse, Status>> {
        loop {
            if self.finished {
                return None;
            }
            if let Some(response) = self.again.take() {
                self.record(&response.received_messages);
                return Some(Ok(response));
            }
            if let Some(end) = self.ended() {
                self.finished = true;
                return end.map(Err);
            }
            let stalled = matches!(self.fault, Some(Fault::StallAfter(most)) if self.sent >= most);
            let batch = if stalled { Vec::new() } else { self.lease() };
            if batch.is_empty() {
                let told = self.member.notify.notified();
                if tokio::time::timeout(HEARTBEAT, told).await.is_err() && self.heartbeat && !stalled {
                    return Some(Ok(StreamingPullResponse::default()));
                }
                continue;
            }
            self.sent += batch.len() as u64;
            let response = StreamingPullResponse {
                received_messages: batch,
                subscription_properties: Some(self.properties),
                ..StreamingPullResponse::default()
            };
            if matches!(self.fault, Some(Fault::DeliverTwice)) {
                self.again = Some(response.clone());
            }
            return Some(Ok(response));
        }
    }

    /// Second copies; of the first ones the queue tells.
    fn record(&self, copies: &[ReceivedMessage]) {
        for copy in copies {
            self.pubsub.history.record(|| {
                What::Delivered(Delivery {
                    subscription: self.member.subscription.proto().name.into(),
                    message_id: copy.message.as_ref().map_or_else(String::new, |it| it.message_id.clone()),
                    ack_id: copy.ack_id.clone(),
                    attempt: u32::try_from(copy.delivery_attempt).unwrap_or(0).max(1),
                })
            });
        }
    }

    fn lease(&self) -> Vec<ReceivedMessage> {
        let most = match self.fault {
            Some(Fault::ResetAfter(most) | Fault::StallAfter(most) | Fault::CloseAfter(most)) => {
                most - self.sent
            }
            _ => u64::MAX,
        };
        pull::received(
            self.member.subscription.take(self.member.stream, usize::try_from(most).unwrap_or(usize::MAX)),
        )
    }

    // Some when the stream must end now: with an error, or cleanly.
    fn ended(&self) -> Option<Option<Status>> {
        if self.member.is_deleted() {
            return Some(Some(Status::not_found("the subscription was deleted")));
        }
        if self.member.subscription.resets.load(Ordering::Acquire) != self.resets {
            return Some(Some(Status::unavailable("the stream was reset")));
        }
        match self.fault {
            Some(Fault::ResetAfter(most)) if self.sent >= most => {
                return Some(Some(Status::unavailable("injected fault: the stream was reset")));
            }
            Some(Fault::CloseAfter(most)) if self.sent >= most => return Some(None),
            _ => {}
        }
        if !self.end.half_closed.load(Ordering::Acquire) {
            return None;
        }
        Some(self.end.error.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}
