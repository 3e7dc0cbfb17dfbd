//! The REST face, as Google's discovery document, gcloud and Terraform use it.
//!
//! The same calls as gRPC's, under the same fault names; errors are `{"error": {"code", "message",
//! "status"}}`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tonic::Status;

use super::admin::page;
use super::iam_types::{Policy, SetPolicy, TestPermissions};
use super::rest_types::{
    Publish, Pull, Received, Settle, Subscription, Topic, UpdateSubscription, UpdateTopic,
};
use super::{PubSub, wire};
use crate::codes;
use crate::faults::Fault;

/// Above what 10 MB become in base64, so that the service's own refusal is what a client sees.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

type App = State<Arc<PubSub>>;
type Answer = Result<axum::Json<Value>, Failure>;

struct Failure(Status);

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure(status)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        codes::error_response(&self.0)
    }
}

/// The routes under `/v1/projects/`.
pub(crate) fn router(pubsub: Arc<PubSub>) -> Router {
    Router::new()
        .route("/v1/projects/{project}/topics", get(list_topics))
        .route("/v1/projects/{project}/subscriptions", get(list_subscriptions))
        .route("/v1/projects/{project}/topics/{topic}/subscriptions", get(list_topic_subscriptions))
        .route(
            "/v1/projects/{project}/topics/{topic}",
            get(get_topic).put(create_topic).patch(update_topic).delete(delete_topic).post(topic_verb),
        )
        .route(
            "/v1/projects/{project}/subscriptions/{subscription}",
            get(get_subscription)
                .put(create_subscription)
                .patch(update_subscription)
                .delete(delete_subscription)
                .post(subscription_verb),
        )
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(pubsub)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Paging {
    page_size: i32,
    page_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Mask {
    update_mask: String,
}

// An empty body is an empty object: some clients send none where every field is optional.
fn parse<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Status> {
    if body.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| Status::invalid_argument(format!("invalid JSON payload: {error}")))
}

fn topic_name(project: &str, id: &str) -> String {
    format!("projects/{project}/topics/{id}")
}

fn subscription_name(project: &str, id: &str) -> String {
    format!("projects/{project}/subscriptions/{id}")
}

/// `ackDeadlineSeconds,labels` as the paths that gRPC uses.
fn mask_paths(query: &str, body: &str) -> Vec<String> {
    let text = if query.is_empty() { body } else { query };
    let paths = text.split(',').map(str::trim).filter(|path| !path.is_empty());
    paths
        .map(|path| {
            let mut snake = String::with_capacity(path.len() + 4);
            for c in path.chars() {
                if c.is_ascii_uppercase() {
                    snake.push('_');
                }
                snake.push(c.to_ascii_lowercase());
            }
            snake
        })
        .collect()
}

fn answer(value: impl serde::Serialize) -> Answer {
    let value =
        serde_json::to_value(value).map_err(|error| Status::internal(format!("cannot answer: {error}")))?;
    Ok(axum::Json(value))
}

// A page under its key; an empty list is left out, as the protocol's JSON form does.
fn list<T: serde::Serialize>(key: &str, all: Vec<T>, paging: &Paging) -> Result<Value, Status> {
    let (all, next) = page(all, paging.page_size, &paging.page_token)?;
    let mut body = json!({});
    if !all.is_empty() {
        body[key] = json!(all);
    }
    if !next.is_empty() {
        body["nextPageToken"] = json!(next);
    }
    Ok(body)
}

async fn list_topics(State(app): App, Path(project): Path<String>, Query(paging): Query<Paging>) -> Answer {
    let all = async || {
        let topics = app.list_topics(&format!("projects/{project}"))?;
        list("topics", topics.into_iter().map(Topic::from).collect(), &paging)
    };
    answer(app.call("ListTopics", all).await?)
}

async fn list_subscriptions(
    State(app): App,
    Path(project): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer {
    let all = async || {
        let subscriptions = app.list_subscriptions(&format!("projects/{project}"))?;
        list("subscriptions", subscriptions.into_iter().map(Subscription::from).collect(), &paging)
    };
    answer(app.call("ListSubscriptions", all).await?)
}

async fn list_topic_subscriptions(
    State(app): App,
    Path((project, topic)): Path<(String, String)>,
    Query(paging): Query<Paging>,
) -> Answer {
    let all =
        async || list("subscriptions", app.list_topic_subscriptions(&topic_name(&project, &topic))?, &paging);
    answer(app.call("ListTopicSubscriptions", all).await?)
}

async fn get_topic(State(app): App, Path((project, topic)): Path<(String, String)>) -> Answer {
    // Google's paths put the one verb that is a GET behind a colon too.
    if let Some((topic, verb @ "getIamPolicy")) = topic.rsplit_once(':') {
        return iam_verb(&app, &topic_name(&project, topic), verb, &Bytes::new()).await;
    }
    let get = async || app.get_topic(&topic_name(&project, &topic));
    answer(Topic::from(app.call("GetTopic", get).await?))
}

async fn create_topic(
    State(app): App,
    Path((project, topic)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let create = async || app.create_topic(parse::<Topic>(&body)?.into_wire(topic_name(&project, &topic))?);
    answer(Topic::from(app.call("CreateTopic", create).await?))
}

async fn update_topic(
    State(app): App,
    Path((project, topic)): Path<(String, String)>,
    Query(mask): Query<Mask>,
    body: Bytes,
) -> Answer {
    let update = async || {
        let request: UpdateTopic = parse(&body)?;
        let paths = mask_paths(&mask.update_mask, &request.update_mask);
        app.update_topic(request.topic.into_wire(topic_name(&project, &topic))?, &paths)
    };
    answer(Topic::from(app.call("UpdateTopic", update).await?))
}

async fn delete_topic(State(app): App, Path((project, topic)): Path<(String, String)>) -> Answer {
    app.call("DeleteTopic", async || app.delete_topic(&topic_name(&project, &topic))).await?;
    answer(json!({}))
}

async fn get_subscription(State(app): App, Path((project, id)): Path<(String, String)>) -> Answer {
    if let Some((id, verb @ "getIamPolicy")) = id.rsplit_once(':') {
        return iam_verb(&app, &subscription_name(&project, id), verb, &Bytes::new()).await;
    }
    let get = async || app.get_subscription(&subscription_name(&project, &id));
    answer(Subscription::from(app.call("GetSubscription", get).await?))
}

async fn create_subscription(
    State(app): App,
    Path((project, id)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let create = async || {
        let request: Subscription = parse(&body)?;
        app.create_subscription(request.into_wire(subscription_name(&project, &id))?)
    };
    answer(Subscription::from(app.call("CreateSubscription", create).await?))
}

async fn update_subscription(
    State(app): App,
    Path((project, id)): Path<(String, String)>,
    Query(mask): Query<Mask>,
    body: Bytes,
) -> Answer {
    let update = async || {
        let request: UpdateSubscription = parse(&body)?;
        let paths = mask_paths(&mask.update_mask, &request.update_mask);
        app.update_subscription(request.subscription.into_wire(subscription_name(&project, &id))?, &paths)
    };
    answer(Subscription::from(app.call("UpdateSubscription", update).await?))
}

async fn delete_subscription(State(app): App, Path((project, id)): Path<(String, String)>) -> Answer {
    app.call("DeleteSubscription", async || app.delete_subscription(&subscription_name(&project, &id)))
        .await?;
    answer(json!({}))
}

fn unsupported(verb: &str) -> Failure {
    Failure(Status::unimplemented(format!("local-gcp does not know the method {verb:?}")))
}

// `:getIamPolicy`, `:setIamPolicy` and `:testIamPermissions`, the same for every kind of resource.
async fn iam_verb(app: &PubSub, resource: &str, verb: &str, body: &Bytes) -> Answer {
    match verb {
        "getIamPolicy" => {
            answer(Policy::from(app.call("GetIamPolicy", async || app.policy(resource)).await?))
        }
        "setIamPolicy" => {
            let set = async || app.set_policy(resource, parse::<SetPolicy>(body)?.policy.into_wire()?);
            answer(Policy::from(app.call("SetIamPolicy", set).await?))
        }
        "testIamPermissions" => {
            let test = async || app.test_permissions(resource, parse::<TestPermissions>(body)?.permissions);
            answer(json!({ "permissions": app.call("TestIamPermissions", test).await? }))
        }
        other => Err(unsupported(other)),
    }
}

async fn topic_verb(State(app): App, Path((project, rest)): Path<(String, String)>, body: Bytes) -> Answer {
    let Some((topic, verb)) = rest.rsplit_once(':') else { return Err(unsupported(&rest)) };
    if verb != "publish" {
        return iam_verb(&app, &topic_name(&project, topic), verb, &body).await;
    }
    let publish = async |fault: Option<&Fault>| {
        let request: Publish = parse(&body)?;
        let messages =
            request.messages.into_iter().map(|message| message.into_wire()).collect::<Result<_, _>>()?;
        let mut ids =
            app.publish_request(wire::PublishRequest { topic: topic_name(&project, topic), messages })?;
        if matches!(fault, Some(Fault::FewerIds)) {
            ids.pop();
        }
        Ok(json!({ "messageIds": ids }))
    };
    answer(app.call_with("Publish", publish).await?)
}

async fn subscription_verb(
    State(app): App,
    Path((project, rest)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let Some((id, verb)) = rest.rsplit_once(':') else { return Err(unsupported(&rest)) };
    let name = subscription_name(&project, id);
    match verb {
        "pull" => {
            let pull = async || {
                let request: Pull = parse(&body)?;
                let messages = app.pull(&name, request.max_messages, request.return_immediately).await?;
                let messages: Vec<Received> = messages.into_iter().map(Received::from).collect();
                Ok(if messages.is_empty() { json!({}) } else { json!({ "receivedMessages": messages }) })
            };
            answer(app.call("Pull", pull).await?)
        }
        "acknowledge" => {
            let acknowledge = async || app.acknowledge(&name, &parse::<Settle>(&body)?.ack_ids);
            app.call("Acknowledge", acknowledge).await?;
            answer(json!({}))
        }
        "modifyAckDeadline" => {
            let modify = async || {
                let request: Settle = parse(&body)?;
                app.modify_ack_deadline(&name, &request.ack_ids, request.ack_deadline_seconds)
            };
            app.call("ModifyAckDeadline", modify).await?;
            answer(json!({}))
        }
        other => iam_verb(&app, &name, other, &body).await,
    }
}
