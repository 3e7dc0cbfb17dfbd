//! Generates the gRPC server traits over the published message types, without protoc.

use tonic_build::manual::{Builder, Method, Service};

/// A gRPC service: the crate's path to its message types, and (Rust name, route, request, response) of its
/// methods. What is not listed is answered UNIMPLEMENTED by tonic itself.
struct Shape {
    name: &'static str,
    package: &'static str,
    types: &'static str,
    methods: &'static [(&'static str, &'static str, &'static str, &'static str)],
}

const PUBLISHER: Shape = Shape {
    name: "Publisher",
    package: "google.pubsub.v1",
    types: "crate::pubsub::wire",
    methods: &[
        ("create_topic", "CreateTopic", "Topic", "Topic"),
        ("update_topic", "UpdateTopic", "UpdateTopicRequest", "Topic"),
        ("publish", "Publish", "PublishRequest", "PublishResponse"),
        ("get_topic", "GetTopic", "GetTopicRequest", "Topic"),
        ("list_topics", "ListTopics", "ListTopicsRequest", "ListTopicsResponse"),
        (
            "list_topic_subscriptions",
            "ListTopicSubscriptions",
            "ListTopicSubscriptionsRequest",
            "ListTopicSubscriptionsResponse",
        ),
        ("delete_topic", "DeleteTopic", "DeleteTopicRequest", "Empty"),
    ],
};

const SUBSCRIBER: Shape = Shape {
    name: "Subscriber",
    package: "google.pubsub.v1",
    types: "crate::pubsub::wire",
    methods: &[
        ("create_subscription", "CreateSubscription", "Subscription", "Subscription"),
        ("get_subscription", "GetSubscription", "GetSubscriptionRequest", "Subscription"),
        ("update_subscription", "UpdateSubscription", "UpdateSubscriptionRequest", "Subscription"),
        ("list_subscriptions", "ListSubscriptions", "ListSubscriptionsRequest", "ListSubscriptionsResponse"),
        ("delete_subscription", "DeleteSubscription", "DeleteSubscriptionRequest", "Empty"),
        ("modify_ack_deadline", "ModifyAckDeadline", "ModifyAckDeadlineRequest", "Empty"),
        ("acknowledge", "Acknowledge", "AcknowledgeRequest", "Empty"),
        ("pull", "Pull", "PullRequest", "PullResponse"),
        ("streaming_pull", "StreamingPull", "StreamingPullRequest", "StreamingPullResponse"),
    ],
};

const IAM_POLICY: Shape = Shape {
    name: "IAMPolicy",
    package: "google.iam.v1",
    types: "::googleapis_tonic_google_iam_v1::google::iam::v1",
    methods: &[
        ("set_iam_policy", "SetIamPolicy", "SetIamPolicyRequest", "Policy"),
        ("get_iam_policy", "GetIamPolicy", "GetIamPolicyRequest", "Policy"),
        (
            "test_iam_permissions",
            "TestIamPermissions",
            "TestIamPermissionsRequest",
            "TestIamPermissionsResponse",
        ),
    ],
};

const STORAGE: Shape = Shape {
    name: "Storage",
    package: "google.storage.v2",
    types: "::googleapis_tonic_google_storage_v2::google::storage::v2",
    methods: &[
        ("get_bucket", "GetBucket", "GetBucketRequest", "Bucket"),
        ("create_bucket", "CreateBucket", "CreateBucketRequest", "Bucket"),
        ("list_buckets", "ListBuckets", "ListBucketsRequest", "ListBucketsResponse"),
        ("delete_bucket", "DeleteBucket", "DeleteBucketRequest", "Empty"),
        ("get_object", "GetObject", "GetObjectRequest", "Object"),
        ("list_objects", "ListObjects", "ListObjectsRequest", "ListObjectsResponse"),
        ("delete_object", "DeleteObject", "DeleteObjectRequest", "Empty"),
        ("update_object", "UpdateObject", "UpdateObjectRequest", "Object"),
        ("rewrite_object", "RewriteObject", "RewriteObjectRequest", "RewriteResponse"),
    ],
};

const STORAGE_CONTROL: Shape = Shape {
    name: "StorageControl",
    package: "google.storage.control.v2",
    types: "::googleapis_tonic_google_iam_v1::google::iam::v1",
    methods: &[(
        "test_iam_permissions",
        "TestIamPermissions",
        "TestIamPermissionsRequest",
        "TestIamPermissionsResponse",
    )],
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let services = [PUBLISHER, SUBSCRIBER, IAM_POLICY, STORAGE, STORAGE_CONTROL].map(|shape| service(&shape));
    Builder::new().build_client(false).compile(&services);
}

fn service(shape: &Shape) -> Service {
    let mut service = Service::builder().name(shape.name).package(shape.package);
    for (name, route, request, response) in shape.methods {
        // google.protobuf.Empty is `()`, which needs a path that the generated code can name.
        let response = match *response {
            "Empty" => "crate::Empty".to_owned(),
            message => format!("{}::{message}", shape.types),
        };
        let mut method = Method::builder()
            .name(name)
            .route_name(route)
            .input_type(format!("{}::{request}", shape.types))
            .output_type(response)
            .codec_path("::tonic_prost::ProstCodec");
        if *route == "StreamingPull" {
            method = method.client_streaming().server_streaming();
        }
        service = service.method(method.build());
    }
    service.build()
}
