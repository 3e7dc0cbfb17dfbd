//! Server traits for Google's services, over message types that a crate already holds: no protoc is needed.

use tonic_build::manual::{Builder, Method, Service};

const CODEC: &str = "tonic_prost::ProstCodec";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    Builder::new().build_client(false).compile(&[publisher(), subscriber(), storage()]);
}

fn method(name: &str, route: &str, input: &str, output: &str) -> Method {
    Method::builder()
        .name(name)
        .route_name(route)
        .input_type(input)
        .output_type(output)
        .codec_path(CODEC)
        .build()
}

fn pubsub(name: &str, route: &str, output: &str) -> Method {
    let v1 = "crate::proto::pubsub";
    let output = if output == "Empty" { "crate::proto::Empty".to_owned() } else { format!("{v1}::{output}") };
    method(name, route, &format!("{v1}::{route}Request"), &output)
}

fn publisher() -> Service {
    let v1 = "crate::proto::pubsub";
    Service::builder()
        .name("Publisher")
        .package("google.pubsub.v1")
        .method(method("create_topic", "CreateTopic", &format!("{v1}::Topic"), &format!("{v1}::Topic")))
        .method(pubsub("update_topic", "UpdateTopic", "Topic"))
        .method(pubsub("publish", "Publish", "PublishResponse"))
        .method(pubsub("get_topic", "GetTopic", "Topic"))
        .method(pubsub("list_topics", "ListTopics", "ListTopicsResponse"))
        .method(pubsub(
            "list_topic_subscriptions",
            "ListTopicSubscriptions",
            "ListTopicSubscriptionsResponse",
        ))
        .method(pubsub("delete_topic", "DeleteTopic", "Empty"))
        .build()
}

fn subscriber() -> Service {
    let v1 = "crate::proto::pubsub";
    let subscription = format!("{v1}::Subscription");
    let streaming_pull = Method::builder()
        .name("streaming_pull")
        .route_name("StreamingPull")
        .input_type(format!("{v1}::StreamingPullRequest"))
        .output_type(format!("{v1}::StreamingPullResponse"))
        .codec_path(CODEC)
        .client_streaming()
        .server_streaming()
        .build();
    Service::builder()
        .name("Subscriber")
        .package("google.pubsub.v1")
        .method(method("create_subscription", "CreateSubscription", &subscription, &subscription))
        .method(pubsub("get_subscription", "GetSubscription", "Subscription"))
        .method(pubsub("update_subscription", "UpdateSubscription", "Subscription"))
        .method(pubsub("list_subscriptions", "ListSubscriptions", "ListSubscriptionsResponse"))
        .method(pubsub("delete_subscription", "DeleteSubscription", "Empty"))
        .method(pubsub("modify_ack_deadline", "ModifyAckDeadline", "Empty"))
        .method(pubsub("acknowledge", "Acknowledge", "Empty"))
        .method(pubsub("pull", "Pull", "PullResponse"))
        .method(streaming_pull)
        .build()
}

fn storage() -> Service {
    let v2 = "crate::proto::storage";
    let call = |name: &str, route: &str, output: &str| {
        method(name, route, &format!("{v2}::{route}Request"), &format!("{v2}::{output}"))
    };
    Service::builder()
        .name("Storage")
        .package("google.storage.v2")
        .method(call("list_objects", "ListObjects", "ListObjectsResponse"))
        .method(call("get_object", "GetObject", "Object"))
        .method(call("get_bucket", "GetBucket", "Bucket"))
        .build()
}
