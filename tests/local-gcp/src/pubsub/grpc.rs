//! The gRPC face: `google.pubsub.v1.Publisher` and `Subscriber`, `google.iam.v1.IAMPolicy` for their
//! resources.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tonic::service::RoutesBuilder;
use tonic::{Request, Response, Status, Streaming};

use super::admin::page;
use super::iam::{
    GetIamPolicyRequest, Policy, SetIamPolicyRequest, TestIamPermissionsRequest, TestIamPermissionsResponse,
};
use super::wire::i_a_m_policy_server::{IAMPolicy, IAMPolicyServer};
use super::wire::publisher_server::{Publisher, PublisherServer};
use super::wire::subscriber_server::{Subscriber, SubscriberServer};
use super::wire::*;
use super::{PubSub, streaming};
use crate::faults::Fault;

/// Above every limit of the service, so that its own refusal is what a client sees.
const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

#[derive(Clone)]
struct Grpc(Arc<PubSub>);

/// Adds the services.
pub(crate) fn routes(pubsub: Arc<PubSub>, routes: &mut RoutesBuilder) {
    let publisher = PublisherServer::new(Grpc(pubsub.clone()));
    let subscriber = SubscriberServer::new(Grpc(pubsub.clone()));
    let iam_policy = IAMPolicyServer::new(Grpc(pubsub));
    routes
        .add_service(publisher.max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(subscriber.max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(iam_policy);
}

type Answer<T> = Result<Response<T>, Status>;

fn paths(mask: Option<prost_types::FieldMask>) -> Vec<String> {
    mask.map(|mask| mask.paths).unwrap_or_default()
}

fn missing(what: &str) -> Status {
    Status::invalid_argument(format!("expected a {what}, none came"))
}

#[tonic::async_trait]
impl Publisher for Grpc {
    async fn create_topic(&self, request: Request<Topic>) -> Answer<Topic> {
        self.0
            .call("CreateTopic", async || self.0.create_topic(request.into_inner()))
            .await
            .map(Response::new)
    }

    async fn update_topic(&self, request: Request<UpdateTopicRequest>) -> Answer<Topic> {
        let request = request.into_inner();
        let update = async || {
            self.0.update_topic(request.topic.ok_or_else(|| missing("topic"))?, &paths(request.update_mask))
        };
        self.0.call("UpdateTopic", update).await.map(Response::new)
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Answer<PublishResponse> {
        let publish = async |fault: Option<&Fault>| {
            let mut message_ids = self.0.publish_request(request.into_inner())?;
            if matches!(fault, Some(Fault::FewerIds)) {
                message_ids.pop();
            }
            Ok(PublishResponse { message_ids })
        };
        self.0.call_with("Publish", publish).await.map(Response::new)
    }

    async fn get_topic(&self, request: Request<GetTopicRequest>) -> Answer<Topic> {
        self.0
            .call("GetTopic", async || self.0.get_topic(&request.into_inner().topic))
            .await
            .map(Response::new)
    }

    async fn list_topics(&self, request: Request<ListTopicsRequest>) -> Answer<ListTopicsResponse> {
        let request = request.into_inner();
        let list = async || {
            let all = self.0.list_topics(&request.project)?;
            let (topics, next_page_token) = page(all, request.page_size, &request.page_token)?;
            Ok(ListTopicsResponse { topics, next_page_token })
        };
        self.0.call("ListTopics", list).await.map(Response::new)
    }

    async fn list_topic_subscriptions(
        &self,
        request: Request<ListTopicSubscriptionsRequest>,
    ) -> Answer<ListTopicSubscriptionsResponse> {
        let request = request.into_inner();
        let list = async || {
            let all = self.0.list_topic_subscriptions(&request.topic)?;
            let (subscriptions, next_page_token) = page(all, request.page_size, &request.page_token)?;
            Ok(ListTopicSubscriptionsResponse { subscriptions, next_page_token })
        };
        self.0.call("ListTopicSubscriptions", list).await.map(Response::new)
    }

    async fn delete_topic(&self, request: Request<DeleteTopicRequest>) -> Answer<Empty> {
        self.0
            .call("DeleteTopic", async || self.0.delete_topic(&request.into_inner().topic))
            .await
            .map(Response::new)
    }
}

#[tonic::async_trait]
impl Subscriber for Grpc {
    type StreamingPullStream = Pin<Box<dyn Stream<Item = Result<StreamingPullResponse, Status>> + Send>>;

    async fn create_subscription(&self, request: Request<Subscription>) -> Answer<Subscription> {
        let create = async || self.0.create_subscription(request.into_inner());
        self.0.call("CreateSubscription", create).await.map(Response::new)
    }

    async fn get_subscription(&self, request: Request<GetSubscriptionRequest>) -> Answer<Subscription> {
        let get = async || self.0.get_subscription(&request.into_inner().subscription);
        self.0.call("GetSubscription", get).await.map(Response::new)
    }

    async fn update_subscription(&self, request: Request<UpdateSubscriptionRequest>) -> Answer<Subscription> {
        let request = request.into_inner();
        let update = async || {
            let subscription = request.subscription.ok_or_else(|| missing("subscription"))?;
            self.0.update_subscription(subscription, &paths(request.update_mask))
        };
        self.0.call("UpdateSubscription", update).await.map(Response::new)
    }

    async fn list_subscriptions(
        &self,
        request: Request<ListSubscriptionsRequest>,
    ) -> Answer<ListSubscriptionsResponse> {
        let request = request.into_inner();
        let list = async || {
            let all = self.0.list_subscriptions(&request.project)?;
            let (subscriptions, next_page_token) = page(all, request.page_size, &request.page_token)?;
            Ok(ListSubscriptionsResponse { subscriptions, next_page_token })
        };
        self.0.call("ListSubscriptions", list).await.map(Response::new)
    }

    async fn delete_subscription(&self, request: Request<DeleteSubscriptionRequest>) -> Answer<Empty> {
        let delete = async || self.0.delete_subscription(&request.into_inner().subscription);
        self.0.call("DeleteSubscription", delete).await.map(Response::new)
    }

    async fn modify_ack_deadline(&self, request: Request<ModifyAckDeadlineRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        let modify = async || {
            self.0.modify_ack_deadline(&request.subscription, &request.ack_ids, request.ack_deadline_seconds)
        };
        self.0.call("ModifyAckDeadline", modify).await.map(Response::new)
    }

    async fn acknowledge(&self, request: Request<AcknowledgeRequest>) -> Answer<Empty> {
        let request = request.into_inner();
        let acknowledge = async || self.0.acknowledge(&request.subscription, &request.ack_ids);
        self.0.call("Acknowledge", acknowledge).await.map(Response::new)
    }

    async fn pull(&self, request: Request<PullRequest>) -> Answer<PullResponse> {
        let request = request.into_inner();
        #[allow(deprecated)]
        let at_once = request.return_immediately;
        let pull = async || {
            let received_messages = self.0.pull(&request.subscription, request.max_messages, at_once).await?;
            Ok(PullResponse { received_messages })
        };
        self.0.call("Pull", pull).await.map(Response::new)
    }

    async fn streaming_pull(
        &self,
        request: Request<Streaming<StreamingPullRequest>>,
    ) -> Answer<Self::StreamingPullStream> {
        match streaming::open(self.0.clone(), request.into_inner()).await {
            Ok(stream) => Ok(Response::new(Box::pin(stream))),
            Err(status) => {
                self.0.refused("StreamingPull", &status);
                Err(status)
            }
        }
    }
}

#[tonic::async_trait]
impl IAMPolicy for Grpc {
    async fn get_iam_policy(&self, request: Request<GetIamPolicyRequest>) -> Answer<Policy> {
        let get = async || self.0.policy(&request.into_inner().resource);
        self.0.call("GetIamPolicy", get).await.map(Response::new)
    }

    async fn set_iam_policy(&self, request: Request<SetIamPolicyRequest>) -> Answer<Policy> {
        let request = request.into_inner();
        let set = async || {
            let policy = request.policy.ok_or_else(|| missing("policy"))?;
            self.0.set_policy(&request.resource, policy)
        };
        self.0.call("SetIamPolicy", set).await.map(Response::new)
    }

    async fn test_iam_permissions(
        &self,
        request: Request<TestIamPermissionsRequest>,
    ) -> Answer<TestIamPermissionsResponse> {
        let TestIamPermissionsRequest { resource, permissions } = request.into_inner();
        let test = async || {
            let permissions = self.0.test_permissions(&resource, permissions)?;
            Ok(TestIamPermissionsResponse { permissions })
        };
        self.0.call("TestIamPermissions", test).await.map(Response::new)
    }
}
