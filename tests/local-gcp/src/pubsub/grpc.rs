//! Pub/Sub over gRPC.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::Broker;
use super::subscription::{Flow, Subscription};
use crate::faults::{Fault, delay};
use crate::proto::publisher_server::Publisher;
use crate::proto::pubsub as v1;
use crate::proto::subscriber_server::Subscriber;

/// Messages in one StreamingPull response at most.
const MOST_TOGETHER: usize = 1000;
/// Responses that wait for a slow reader.
const RESPONSES: usize = 4;
/// As long as Pull waits for a message.
const PULL_WAIT: Duration = Duration::from_secs(20);

/// The gRPC status that a fault names.
pub(crate) fn status(code: &str) -> Status {
    let known = (0..=16).map(Code::from_i32).find(|known| crate::rest::name(*known) == code);
    Status::new(known.unwrap_or(Code::Unknown), "injected fault")
}

/// What a call's fault does before the call; what it does after, is the caller's.
pub(crate) async fn before(fault: Option<&Fault>) -> Result<(), Status> {
    match fault {
        Some(Fault::Fail(code)) => Err(status(code)),
        Some(Fault::DelayMs(ms)) => {
            delay(*ms).await;
            Ok(())
        }
        Some(Fault::Hang) => std::future::pending().await,
        _ => Ok(()),
    }
}

fn lost() -> Status {
    Status::unavailable("injected fault: the reply was lost")
}

/// Runs one unary call under the faults of its method.
async fn call<T>(
    broker: &Broker,
    method: &str,
    run: impl FnOnce() -> Result<T, Status>,
) -> Result<Response<T>, Status> {
    let fault = broker.faults.next(method);
    before(fault.as_ref()).await?;
    let answer = run()?;
    if fault == Some(Fault::LoseReply) { Err(lost()) } else { Ok(Response::new(answer)) }
}

fn mask(mask: Option<prost_types::FieldMask>) -> Vec<String> {
    mask.map(|mask| mask.paths).unwrap_or_default()
}

#[derive(Debug, Clone)]
pub struct Service(pub Arc<Broker>);

#[tonic::async_trait]
impl Publisher for Service {
    async fn create_topic(&self, request: Request<v1::Topic>) -> Result<Response<v1::Topic>, Status> {
        call(&self.0, "CreateTopic", || self.0.create_topic(request.into_inner())).await
    }

    async fn update_topic(
        &self,
        request: Request<v1::UpdateTopicRequest>,
    ) -> Result<Response<v1::Topic>, Status> {
        let request = request.into_inner();
        let topic = request.topic.unwrap_or_default();
        call(&self.0, "UpdateTopic", || self.0.update_topic(topic, &mask(request.update_mask))).await
    }

    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let request = request.into_inner();
        let fault = self.0.faults.next("Publish");
        before(fault.as_ref()).await?;
        let mut message_ids = self.0.publish(&request.topic, request.messages)?;
        match fault {
            Some(Fault::LoseReply) => return Err(lost()),
            Some(Fault::FewerIds) => drop(message_ids.pop()),
            _ => {}
        }
        Ok(Response::new(v1::PublishResponse { message_ids }))
    }

    async fn get_topic(&self, request: Request<v1::GetTopicRequest>) -> Result<Response<v1::Topic>, Status> {
        let name = request.into_inner().topic;
        call(&self.0, "GetTopic", || self.0.topic(&name).map(|topic| super::read(&topic.config).clone()))
            .await
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsResponse>, Status> {
        let project = request.into_inner().project;
        call(&self.0, "ListTopics", || {
            Ok(v1::ListTopicsResponse { topics: self.0.topics(&project), ..Default::default() })
        })
        .await
    }

    async fn list_topic_subscriptions(
        &self,
        request: Request<v1::ListTopicSubscriptionsRequest>,
    ) -> Result<Response<v1::ListTopicSubscriptionsResponse>, Status> {
        let topic = request.into_inner().topic;
        call(&self.0, "ListTopicSubscriptions", || {
            let subscriptions = self.0.subscriptions_of(&topic)?;
            Ok(v1::ListTopicSubscriptionsResponse { subscriptions, ..Default::default() })
        })
        .await
    }

    async fn delete_topic(&self, request: Request<v1::DeleteTopicRequest>) -> Result<Response<()>, Status> {
        let topic = request.into_inner().topic;
        call(&self.0, "DeleteTopic", || self.0.delete_topic(&topic)).await
    }
}

#[tonic::async_trait]
impl Subscriber for Service {
    async fn create_subscription(
        &self,
        request: Request<v1::Subscription>,
    ) -> Result<Response<v1::Subscription>, Status> {
        call(&self.0, "CreateSubscription", || self.0.create_subscription(request.into_inner())).await
    }

    async fn get_subscription(
        &self,
        request: Request<v1::GetSubscriptionRequest>,
    ) -> Result<Response<v1::Subscription>, Status> {
        let name = request.into_inner().subscription;
        call(&self.0, "GetSubscription", || self.0.subscription(&name).map(|s| s.config())).await
    }

    async fn update_subscription(
        &self,
        request: Request<v1::UpdateSubscriptionRequest>,
    ) -> Result<Response<v1::Subscription>, Status> {
        let request = request.into_inner();
        let subscription = request.subscription.unwrap_or_default();
        call(&self.0, "UpdateSubscription", || {
            self.0.update_subscription(subscription, &mask(request.update_mask))
        })
        .await
    }

    async fn list_subscriptions(
        &self,
        request: Request<v1::ListSubscriptionsRequest>,
    ) -> Result<Response<v1::ListSubscriptionsResponse>, Status> {
        let project = request.into_inner().project;
        call(&self.0, "ListSubscriptions", || {
            Ok(v1::ListSubscriptionsResponse {
                subscriptions: self.0.subscriptions(&project),
                ..Default::default()
            })
        })
        .await
    }

    async fn delete_subscription(
        &self,
        request: Request<v1::DeleteSubscriptionRequest>,
    ) -> Result<Response<()>, Status> {
        let name = request.into_inner().subscription;
        call(&self.0, "DeleteSubscription", || self.0.delete_subscription(&name)).await
    }

    async fn modify_ack_deadline(
        &self,
        request: Request<v1::ModifyAckDeadlineRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        call(&self.0, "ModifyAckDeadline", || {
            let subscription = self.0.subscription(&request.subscription)?;
            let seconds = deadline(request.ack_deadline_seconds)?;
            refuse_stale(&subscription, subscription.modify(&request.ack_ids, seconds))
        })
        .await
    }

    async fn acknowledge(&self, request: Request<v1::AcknowledgeRequest>) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        call(&self.0, "Acknowledge", || {
            let subscription = self.0.subscription(&request.subscription)?;
            refuse_stale(&subscription, subscription.acknowledge(&request.ack_ids))
        })
        .await
    }

    async fn pull(&self, request: Request<v1::PullRequest>) -> Result<Response<v1::PullResponse>, Status> {
        let request = request.into_inner();
        before(self.0.faults.next("Pull").as_ref()).await?;
        #[expect(deprecated, reason = "gcloud still sends it")]
        let wait = if request.return_immediately { Duration::ZERO } else { PULL_WAIT };
        let received_messages = pull(&self.0, &request.subscription, request.max_messages, wait).await?;
        Ok(Response::new(v1::PullResponse { received_messages }))
    }

    type StreamingPullStream = Pin<Box<dyn Stream<Item = Result<v1::StreamingPullResponse, Status>> + Send>>;

    async fn streaming_pull(
        &self,
        request: Request<Streaming<v1::StreamingPullRequest>>,
    ) -> Result<Response<Self::StreamingPullStream>, Status> {
        let fault = self.0.faults.next("StreamingPull");
        before(fault.as_ref()).await?;
        let mut requests = request.into_inner();
        let first = requests
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("The stream began without a request."))?;
        let subscription = self.0.subscription(&first.subscription)?;
        if !(10..=600).contains(&first.stream_ack_deadline_seconds) {
            return Err(Status::invalid_argument("stream_ack_deadline_seconds must be between 10 and 600."));
        }
        let unlimited = fault == Some(Fault::IgnoreFlowControl);
        let flow = if unlimited {
            Flow::new(0, 0)
        } else {
            Flow::new(first.max_outstanding_messages, first.max_outstanding_bytes)
        };
        let (responses, stream) = mpsc::channel(RESPONSES);
        let pull = StreamingPull {
            id: subscription.open_stream(flow),
            subscription,
            deadline: Duration::from_secs(u64::from(first.stream_ack_deadline_seconds.unsigned_abs())),
            responses,
            fault,
        };
        pull.apply(&first);
        tokio::spawn(pull.run(requests, self.0.on_reset()));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

fn deadline(seconds: i32) -> Result<u64, Status> {
    match u64::try_from(seconds) {
        Ok(seconds) if seconds <= 600 => Ok(seconds),
        _ => Err(Status::invalid_argument("ack_deadline_seconds must be between 0 and 600.")),
    }
}

/// Waits up to `wait` for something to deliver.
pub(super) async fn pull(
    broker: &Broker,
    name: &str,
    most: i32,
    wait: Duration,
) -> Result<Vec<v1::ReceivedMessage>, Status> {
    let subscription = broker.subscription(name)?;
    let Some(most) = usize::try_from(most).ok().filter(|most| *most > 0) else {
        return Err(Status::invalid_argument("max_messages must be positive."));
    };
    let deadline = Duration::from_secs(u64::from(subscription.config().ack_deadline_seconds.unsigned_abs()));
    let until = tokio::time::Instant::now() + wait;
    loop {
        let changed = subscription.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let taken = subscription.take(most.min(MOST_TOGETHER), deadline, None);
        if !taken.is_empty() || tokio::time::timeout_at(until, changed).await.is_err() {
            return Ok(taken);
        }
    }
}

/// Only an exactly-once subscription tells of stale ids, in the form that Google's clients read.
fn refuse_stale(subscription: &Subscription, stale: Vec<String>) -> Result<(), Status> {
    if stale.is_empty() || !subscription.config().enable_exactly_once_delivery {
        return Ok(());
    }
    let reason = "PERMANENT_FAILURE_INVALID_ACK_ID".to_owned();
    let info = ErrorInfo {
        reason: "EXACTLY_ONCE_ACKID_FAILURE".to_owned(),
        domain: "pubsub.googleapis.com".to_owned(),
        metadata: stale.into_iter().map(|id| (id, reason.clone())).collect(),
    };
    let message = "Some acknowledgement ids in the request were invalid.".to_owned();
    let detail = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
        value: info.encode_to_vec(),
    };
    let details =
        RpcStatus { code: Code::InvalidArgument as i32, message: message.clone(), details: vec![detail] };
    Err(Status::with_details(Code::InvalidArgument, message, details.encode_to_vec().into()))
}

/// google.rpc.Status
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// google.rpc.ErrorInfo
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: std::collections::HashMap<String, String>,
}

/// One open stream; its task ends with the client, the subscription, a reset or a fault.
struct StreamingPull {
    subscription: Arc<Subscription>,
    id: u64,
    deadline: Duration,
    responses: mpsc::Sender<Result<v1::StreamingPullResponse, Status>>,
    fault: Option<Fault>,
}

impl StreamingPull {
    async fn run(
        self,
        mut requests: Streaming<v1::StreamingPullRequest>,
        mut resets: tokio::sync::watch::Receiver<u64>,
    ) {
        let mut sent = 0u64;
        let mut first = true;
        loop {
            let changed = self.subscription.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // Room first: what is taken must not wait here while its lease runs.
            let Ok(slot) = self.responses.reserve().await else { break };
            let limit = match self.fault {
                Some(Fault::ResetAfter(n) | Fault::StallAfter(n) | Fault::CloseAfter(n)) => {
                    n.saturating_sub(sent)
                }
                _ => u64::MAX,
            };
            if limit == 0 {
                match self.fault {
                    Some(Fault::ResetAfter(_)) => {
                        slot.send(Err(Status::unavailable("injected fault: stream reset")))
                    }
                    Some(Fault::StallAfter(_)) => self.responses.closed().await,
                    _ => {}
                }
                break;
            }
            let most = MOST_TOGETHER.min(usize::try_from(limit).unwrap_or(MOST_TOGETHER));
            let mut messages = self.subscription.take(most, self.deadline, Some(self.id));
            if !messages.is_empty() || first {
                first = false;
                sent += messages.len() as u64;
                if self.fault == Some(Fault::DeliverTwice) {
                    messages.extend(messages.clone());
                }
                let config = self.subscription.config();
                let properties = v1::streaming_pull_response::SubscriptionProperties {
                    exactly_once_delivery_enabled: config.enable_exactly_once_delivery,
                    message_ordering_enabled: config.enable_message_ordering,
                };
                let response = v1::StreamingPullResponse {
                    received_messages: messages,
                    subscription_properties: Some(properties),
                    ..Default::default()
                };
                slot.send(Ok(response));
                continue;
            }
            drop(slot);
            tokio::select! {
                () = changed => {}
                request = requests.next() => match request {
                    Some(Ok(request)) => self.apply(&request),
                    _ => break,
                },
                () = self.subscription.ended().cancelled() => {
                    let _ = self.responses.send(Err(super::not_found("subscription"))).await;
                    break;
                }
                _ = resets.changed() => {
                    let _ = self.responses.send(Err(Status::unavailable("The stream was reset."))).await;
                    break;
                }
                () = self.responses.closed() => break,
            }
        }
        self.subscription.close_stream(self.id);
    }

    /// Acknowledgements and deadlines that came over the stream.
    fn apply(&self, request: &v1::StreamingPullRequest) {
        if !request.ack_ids.is_empty() {
            self.subscription.acknowledge(&request.ack_ids);
        }
        for (id, seconds) in request.modify_deadline_ack_ids.iter().zip(&request.modify_deadline_seconds) {
            self.subscription.modify(std::slice::from_ref(id), u64::try_from(*seconds).unwrap_or(0));
        }
    }
}
