//! IAM policies of topics and subscriptions, over REST as Terraform's provider asks and over gRPC.

use googleapis_tonic_google_iam_v1::google::iam::v1::iam_policy_client::IamPolicyClient;
use googleapis_tonic_google_iam_v1::google::iam::v1::{
    GetIamPolicyRequest, SetIamPolicyRequest, TestIamPermissionsRequest,
};
use local_gcp::Server;
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Endpoint;

use crate::support::call;

const TOPIC: &str = "projects/demo/topics/requests";
const SUBSCRIPTION: &str = "projects/demo/subscriptions/requests";

async fn server() -> Server {
    Server::builder().topic(TOPIC).subscription(SUBSCRIPTION, TOPIC).start().await.unwrap()
}

#[tokio::test]
async fn a_policy_is_read_changed_and_guarded_by_its_etag() {
    let server = server().await;
    for resource in [TOPIC, SUBSCRIPTION] {
        let get = format!("/v1/{resource}:getIamPolicy?alt=json");
        let set = format!("/v1/{resource}:setIamPolicy?alt=json");
        let (status, first) = call(&server, "GET", &get, Value::Null).await;
        assert_eq!((status, first.get("bindings")), (200, None), "{first}");
        let bindings = json!([
            {"role": "roles/pubsub.publisher", "members": ["user:a@b.test"]},
            {"role": "roles/pubsub.viewer", "members": ["user:c@b.test"], "condition": {"expression": "true", "title": "t"}},
        ]);
        let wish = json!({"policy": {"bindings": bindings, "etag": first["etag"], "version": 3}});
        let (status, stored) = call(&server, "POST", &set, wish.clone()).await;
        assert_eq!((status, &stored["bindings"], &stored["version"]), (200, &bindings, &json!(3)));
        assert_ne!(stored["etag"], first["etag"]);
        assert_eq!(call(&server, "GET", &get, Value::Null).await, (200, stored));
        let (status, refused) = call(&server, "POST", &set, wish).await;
        assert_eq!(
            (status, &refused["error"]["status"]),
            (409, &json!("ABORTED")),
            "the policy has changed since"
        );
        // The last member's removal sends a policy without bindings.
        let (_, emptied) = call(&server, "POST", &set, json!({"policy": {"version": 3}})).await;
        assert_eq!(emptied.get("bindings"), None);
        let test = format!("/v1/{resource}:testIamPermissions");
        let wish = json!({"permissions": ["pubsub.topics.publish"]});
        assert_eq!(call(&server, "POST", &test, wish.clone()).await, (200, wish));
    }
    let missing = "/v1/projects/demo/topics/missing:getIamPolicy";
    assert_eq!(call(&server, "GET", missing, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_deleted_topic_takes_its_policy_with_it() {
    let server = server().await;
    let topic = format!("/v1/{TOPIC}");
    let policy = json!({"policy": {"bindings": [{"role": "roles/viewer", "members": ["user:a@b.test"]}]}});
    assert_eq!(call(&server, "POST", &format!("{topic}:setIamPolicy"), policy).await.0, 200);
    assert_eq!(call(&server, "DELETE", &topic, Value::Null).await.0, 200);
    assert_eq!(call(&server, "PUT", &topic, json!({})).await.0, 200);
    let (_, policy) = call(&server, "GET", &format!("{topic}:getIamPolicy"), Value::Null).await;
    assert_eq!(policy.get("bindings"), None);
}

#[tokio::test]
async fn grpc_shows_the_same_policy() {
    let server = server().await;
    let bindings = json!([{"role": "roles/pubsub.publisher", "members": ["user:a@b.test"]}]);
    let set = format!("/v1/{TOPIC}:setIamPolicy");
    call(&server, "POST", &set, json!({"policy": {"bindings": bindings}})).await;
    let channel = Endpoint::from_shared(server.endpoint()).unwrap().connect().await.unwrap();
    let mut client = IamPolicyClient::new(channel);
    let resource = TOPIC.to_owned();
    let get = GetIamPolicyRequest { resource: resource.clone(), options: None };
    let policy = client.get_iam_policy(get).await.unwrap().into_inner();
    assert_eq!(policy.bindings[0].role, "roles/pubsub.publisher");
    let set =
        SetIamPolicyRequest { resource: resource.clone(), policy: Some(policy.clone()), update_mask: None };
    let stored = client.set_iam_policy(set.clone()).await.unwrap().into_inner();
    assert_ne!(stored.etag, policy.etag);
    assert_eq!(client.set_iam_policy(set).await.unwrap_err().code(), Code::Aborted);
    let permissions = vec!["pubsub.topics.get".to_owned()];
    let test = TestIamPermissionsRequest { resource, permissions: permissions.clone() };
    assert_eq!(client.test_iam_permissions(test).await.unwrap().into_inner().permissions, permissions);
}
