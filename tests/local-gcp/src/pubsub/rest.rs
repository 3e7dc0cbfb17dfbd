//! Pub/Sub over REST, as gcloud, curl and Google's Terraform provider use it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use tonic::Status;

use super::Broker;
use crate::proto::pubsub as v1;
use crate::rest;

/// A publish of 10 MB is longer in base64.
const MAX_BODY: usize = 20 << 20;

pub fn router(broker: Arc<Broker>) -> Router {
    Router::new().route("/v1/{*path}", any(handle)).layer(DefaultBodyLimit::max(MAX_BODY)).with_state(broker)
}

async fn handle(
    State(broker): State<Arc<Broker>>,
    method: Method,
    Path(path): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    body: bytes::Bytes,
) -> Response {
    let call = Call { broker: &broker, query: &query };
    let parsed = if body.is_empty() { Ok(json!({})) } else { serde_json::from_slice(&body) };
    let answer = match parsed {
        Ok(body) => call.answer(&method, &path, body).await,
        Err(error) => Err(Status::invalid_argument(format!("Invalid JSON payload received. {error}"))),
    };
    answer.map_or_else(|status| rest::error(&status), |value| axum::Json(value).into_response())
}

struct Call<'a> {
    broker: &'a Arc<Broker>,
    query: &'a HashMap<String, String>,
}

impl Call<'_> {
    async fn answer(&self, method: &Method, path: &str, body: Value) -> Result<Value, Status> {
        let (name, verb) = path.split_once(':').map_or((path, ""), |(name, verb)| (name, verb));
        let parts: Vec<&str> = name.split('/').collect();
        match parts[..] {
            ["projects", project, "topics"] if *method == Method::GET => {
                let topics = self.broker.topics(&format!("projects/{project}"));
                Ok(json!({"topics": topics.iter().map(topic_json).collect::<Vec<_>>()}))
            }
            ["projects", project, "subscriptions"] if *method == Method::GET => {
                let all = self.broker.subscriptions(&format!("projects/{project}"));
                Ok(json!({"subscriptions": all.iter().map(subscription_json).collect::<Vec<_>>()}))
            }
            ["projects", _, "topics", _, "subscriptions"] if *method == Method::GET => {
                let topic = name.trim_end_matches("/subscriptions");
                Ok(json!({"subscriptions": self.broker.subscriptions_of(topic)?}))
            }
            ["projects", _, "topics", _] => self.topic(method, name, verb, &body).await,
            ["projects", _, "subscriptions", _] => self.subscription(method, name, verb, &body).await,
            _ => Err(Status::not_found(format!("No such method: {method} /v1/{path}"))),
        }
    }

    fn mask(&self) -> Vec<String> {
        self.query
            .get("updateMask")
            .map_or_else(Vec::new, |mask| mask.split(',').map(str::to_owned).collect())
    }

    async fn topic(&self, method: &Method, name: &str, verb: &str, body: &Value) -> Result<Value, Status> {
        match (method.as_str(), verb) {
            ("PUT", "") => Ok(topic_json(&self.broker.create_topic(topic(name, body))?)),
            ("GET", "") => Ok(topic_json(&super::read(&self.broker.topic(name)?.config))),
            ("PATCH", "") => {
                Ok(topic_json(&self.broker.update_topic(topic(name, &body["topic"]), &self.mask())?))
            }
            ("DELETE", "") => self.broker.delete_topic(name).map(|()| json!({})),
            ("POST", "publish") => {
                let fault = self.broker.faults.next("Publish");
                super::grpc::before(fault.as_ref()).await?;
                let messages = list(&body["messages"]).iter().map(message).collect::<Result<_, _>>()?;
                Ok(json!({"messageIds": self.broker.publish(name, messages)?}))
            }
            _ => Err(Status::unimplemented(format!("{method} :{verb} of a topic"))),
        }
    }

    async fn subscription(
        &self,
        method: &Method,
        name: &str,
        verb: &str,
        body: &Value,
    ) -> Result<Value, Status> {
        let ack_ids = || strings(&body["ackIds"]);
        match (method.as_str(), verb) {
            ("PUT", "") => {
                Ok(subscription_json(&self.broker.create_subscription(subscription(name, body)?)?))
            }
            ("GET", "") => Ok(subscription_json(&self.broker.subscription(name)?.config())),
            ("PATCH", "") => {
                let new = subscription(name, &body["subscription"])?;
                Ok(subscription_json(&self.broker.update_subscription(new, &self.mask())?))
            }
            ("DELETE", "") => self.broker.delete_subscription(name).map(|()| json!({})),
            ("POST", "pull") => {
                // A REST client that waits in vain is worse off than one that asks again.
                let most = i32::try_from(body["maxMessages"].as_i64().unwrap_or(0)).unwrap_or(0);
                let received = super::grpc::pull(self.broker, name, most, Duration::ZERO).await?;
                if received.is_empty() {
                    return Ok(json!({}));
                }
                Ok(json!({"receivedMessages": received.iter().map(received_json).collect::<Vec<_>>()}))
            }
            ("POST", "acknowledge") => {
                self.broker.subscription(name)?.acknowledge(&ack_ids());
                Ok(json!({}))
            }
            ("POST", "modifyAckDeadline") => {
                let seconds = body["ackDeadlineSeconds"].as_u64().filter(|seconds| *seconds <= 600);
                let seconds = seconds.ok_or_else(|| {
                    Status::invalid_argument("ackDeadlineSeconds must be between 0 and 600.")
                })?;
                self.broker.subscription(name)?.modify(&ack_ids(), seconds);
                Ok(json!({}))
            }
            _ => Err(Status::unimplemented(format!("{method} :{verb} of a subscription"))),
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn strings(value: &Value) -> Vec<String> {
    list(value).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn map(value: &Value) -> HashMap<String, String> {
    value
        .as_object()
        .map_or_else(HashMap::new, |map| map.iter().map(|(key, value)| (key.clone(), text(value))).collect())
}

fn message(value: &Value) -> Result<v1::PubsubMessage, Status> {
    let data = value["data"].as_str().unwrap_or_default();
    let data = BASE64
        .decode(data)
        .map_err(|error| Status::invalid_argument(format!("data is no base64: {error}")))?;
    Ok(v1::PubsubMessage {
        data: data.into(),
        attributes: map(&value["attributes"]),
        ordering_key: text(&value["orderingKey"]),
        ..Default::default()
    })
}

fn received_json(received: &v1::ReceivedMessage) -> Value {
    let message = received.message.clone().unwrap_or_default();
    let mut shown = json!({
        "data": BASE64.encode(&message.data),
        "messageId": message.message_id,
        "publishTime": message.publish_time.map(|time| time.to_string()),
    });
    if !message.attributes.is_empty() {
        shown["attributes"] = json!(message.attributes);
    }
    if !message.ordering_key.is_empty() {
        shown["orderingKey"] = message.ordering_key.into();
    }
    let mut received_json = json!({"ackId": received.ack_id, "message": shown});
    if received.delivery_attempt > 0 {
        received_json["deliveryAttempt"] = received.delivery_attempt.into();
    }
    received_json
}

fn topic(name: &str, value: &Value) -> v1::Topic {
    v1::Topic {
        name: name.to_owned(),
        labels: map(&value["labels"]),
        message_retention_duration: duration(&value["messageRetentionDuration"]),
        ..Default::default()
    }
}

fn topic_json(topic: &v1::Topic) -> Value {
    let mut shown = json!({"name": topic.name});
    if !topic.labels.is_empty() {
        shown["labels"] = json!(topic.labels);
    }
    put_duration(&mut shown, "messageRetentionDuration", topic.message_retention_duration);
    shown
}

fn duration(value: &Value) -> Option<prost_types::Duration> {
    value.as_str()?.parse().ok()
}

fn put_duration(shown: &mut Value, key: &str, duration: Option<prost_types::Duration>) {
    if let Some(duration) = duration {
        shown[key] = duration.to_string().into();
    }
}

fn subscription(name: &str, value: &Value) -> Result<v1::Subscription, Status> {
    let object = |key: &str| value[key].as_object().map(|map| Value::Object(map.clone()));
    let integer = |value: &Value| i32::try_from(value.as_i64().unwrap_or(0)).unwrap_or(i32::MAX);
    Ok(v1::Subscription {
        name: name.to_owned(),
        topic: text(&value["topic"]),
        ack_deadline_seconds: integer(&value["ackDeadlineSeconds"]),
        filter: text(&value["filter"]),
        labels: map(&value["labels"]),
        enable_message_ordering: value["enableMessageOrdering"].as_bool().unwrap_or(false),
        enable_exactly_once_delivery: value["enableExactlyOnceDelivery"].as_bool().unwrap_or(false),
        message_retention_duration: duration(&value["messageRetentionDuration"]),
        expiration_policy: object("expirationPolicy")
            .map(|policy| v1::ExpirationPolicy { ttl: duration(&policy["ttl"]) }),
        retry_policy: object("retryPolicy").map(|policy| v1::RetryPolicy {
            minimum_backoff: duration(&policy["minimumBackoff"]),
            maximum_backoff: duration(&policy["maximumBackoff"]),
        }),
        dead_letter_policy: object("deadLetterPolicy").map(|policy| v1::DeadLetterPolicy {
            dead_letter_topic: text(&policy["deadLetterTopic"]),
            max_delivery_attempts: integer(&policy["maxDeliveryAttempts"]),
        }),
        push_config: object("pushConfig")
            .map(|push| v1::PushConfig { push_endpoint: text(&push["pushEndpoint"]), ..Default::default() }),
        ..Default::default()
    })
}

fn subscription_json(config: &v1::Subscription) -> Value {
    let mut shown = json!({
        "name": config.name,
        "topic": config.topic,
        "ackDeadlineSeconds": config.ack_deadline_seconds,
        "pushConfig": Map::new(),
        "state": "ACTIVE",
    });
    put_duration(&mut shown, "messageRetentionDuration", config.message_retention_duration);
    if !config.filter.is_empty() {
        shown["filter"] = config.filter.clone().into();
    }
    if !config.labels.is_empty() {
        shown["labels"] = json!(config.labels);
    }
    if config.enable_message_ordering {
        shown["enableMessageOrdering"] = true.into();
    }
    if config.enable_exactly_once_delivery {
        shown["enableExactlyOnceDelivery"] = true.into();
    }
    if let Some(policy) = &config.expiration_policy {
        let mut expiration = json!({});
        put_duration(&mut expiration, "ttl", policy.ttl);
        shown["expirationPolicy"] = expiration;
    }
    if let Some(policy) = &config.retry_policy {
        let mut retry = json!({});
        put_duration(&mut retry, "minimumBackoff", policy.minimum_backoff);
        put_duration(&mut retry, "maximumBackoff", policy.maximum_backoff);
        shown["retryPolicy"] = retry;
    }
    if let Some(policy) = &config.dead_letter_policy {
        shown["deadLetterPolicy"] = json!({"deadLetterTopic": policy.dead_letter_topic, "maxDeliveryAttempts": policy.max_delivery_attempts});
    }
    shown
}
