//! Buckets over the JSON API: the resource, notifications, IAM policy, and a project's service account.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{MatchedPath, Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::bucket::no_notification;
use super::super::notify::NotificationConfig;
use super::super::{Error, Result, Storage};
use super::fault::with_faults;
use super::objects::parse_json;
use super::{Params, link_base};

type Shared = State<Arc<Storage>>;
type Answer = Result<Json<Value>>;

/// The discovery document's name of a call, by its method and the route below `/storage/v1`.
fn named(method: &Method, route: &str) -> &'static str {
    match (method.as_str(), route) {
        ("GET", "/b") => "storage.buckets.list",
        ("POST", "/b") => "storage.buckets.insert",
        ("GET", "/b/{bucket}") => "storage.buckets.get",
        ("PATCH", "/b/{bucket}") => "storage.buckets.patch",
        ("PUT", "/b/{bucket}") => "storage.buckets.update",
        ("DELETE", "/b/{bucket}") => "storage.buckets.delete",
        ("GET", "/b/{bucket}/storageLayout") => "storage.buckets.getStorageLayout",
        ("GET", "/b/{bucket}/notificationConfigs") => "storage.notifications.list",
        ("POST", "/b/{bucket}/notificationConfigs") => "storage.notifications.insert",
        ("GET", "/b/{bucket}/notificationConfigs/{id}") => "storage.notifications.get",
        ("DELETE", "/b/{bucket}/notificationConfigs/{id}") => "storage.notifications.delete",
        ("GET", "/b/{bucket}/iam") => "storage.buckets.getIamPolicy",
        ("PUT", "/b/{bucket}/iam") => "storage.buckets.setIamPolicy",
        ("GET", "/b/{bucket}/iam/testPermissions") => "storage.buckets.testIamPermissions",
        ("GET", "/projects/{project}/serviceAccount") => "storage.projects.serviceAccount.get",
        _ => "storage.unknown",
    }
}

/// Every call of this file meets its faults here.
pub(super) async fn faults(
    State(storage): Shared,
    route: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let route = route.as_str().trim_start_matches("/storage/v1");
    let method = named(request.method(), route);
    with_faults(&storage, method, next.run(request)).await
}

pub(super) async fn insert(
    State(storage): Shared,
    params: Params,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let project = params.required("project")?;
    storage.insert_bucket(project, &parse_json(&body)?, &link_base(&storage, &headers)).map(Json)
}

/// All in one page: a local server has few buckets.
pub(super) async fn list(State(storage): Shared, params: Params, headers: HeaderMap) -> Answer {
    let base = link_base(&storage, &headers);
    let prefix = params.text("prefix").unwrap_or_default();
    let items = storage.buckets(params.required("project")?, prefix, |bucket| bucket.to_json(&base))?;
    Ok(Json(json!({ "kind": "storage#buckets", "items": items })))
}

pub(super) async fn get(
    State(storage): Shared,
    Path(bucket): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Answer {
    let (metageneration, resource) = storage.with_bucket(&bucket, |bucket| {
        (bucket.metageneration, bucket.to_json(&link_base(&storage, &headers)))
    })?;
    if params.integer("ifMetagenerationMatch")?.is_some_and(|wanted| wanted != metageneration) {
        return Err(Error::precondition());
    }
    Ok(Json(resource))
}

pub(super) async fn patch(
    State(storage): Shared,
    Path(bucket): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    storage.update_bucket(&bucket, &parse_json(&body)?, false, &link_base(&storage, &headers)).map(Json)
}

pub(super) async fn update(
    State(storage): Shared,
    Path(bucket): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    storage.update_bucket(&bucket, &parse_json(&body)?, true, &link_base(&storage, &headers)).map(Json)
}

pub(super) async fn delete(
    State(storage): Shared,
    Path(bucket): Path<String>,
    params: Params,
) -> Result<StatusCode> {
    storage.delete_bucket(&bucket, params.integer("ifMetagenerationMatch")?)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn layout(State(storage): Shared, Path(bucket): Path<String>) -> Answer {
    storage.with_bucket(&bucket, |bucket| {
        Json(json!({
            "kind": "storage#storageLayout",
            "bucket": bucket.name,
            "location": bucket.setting("location"),
            "locationType": bucket.setting("locationType"),
            "hierarchicalNamespace": { "enabled": false },
        }))
    })
}

pub(super) async fn insert_notification(
    State(storage): Shared,
    Path(bucket): Path<String>,
    body: Bytes,
) -> Result<Json<NotificationConfig>> {
    let wish = serde_json::from_value(parse_json(&body)?);
    let wish = wish.map_err(|error| Error::invalid(format!("Invalid notification config: {error}")))?;
    storage.insert_notification(&bucket, wish).map(Json)
}

pub(super) async fn list_notifications(State(storage): Shared, Path(bucket): Path<String>) -> Answer {
    storage.with_bucket(&bucket, |bucket| {
        let items: Vec<_> = bucket.notifications.values().collect();
        let mut answer = json!({ "kind": "storage#notifications" });
        if !items.is_empty() {
            answer["items"] = json!(items);
        }
        Json(answer)
    })
}

pub(super) async fn get_notification(
    State(storage): Shared,
    Path((bucket, id)): Path<(String, String)>,
) -> Result<Json<NotificationConfig>> {
    let found =
        storage.with_bucket(&bucket, |bucket| bucket.notifications.get(&id.parse().ok()?).cloned())?;
    found.map(Json).ok_or_else(|| no_notification(&id))
}

pub(super) async fn delete_notification(
    State(storage): Shared,
    Path((bucket, id)): Path<(String, String)>,
) -> Result<StatusCode> {
    storage.delete_notification(&bucket, &id)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn get_policy(State(storage): Shared, Path(bucket): Path<String>) -> Answer {
    storage.policy(&bucket).map(Json)
}

pub(super) async fn set_policy(State(storage): Shared, Path(bucket): Path<String>, body: Bytes) -> Answer {
    storage.set_policy(&bucket, parse_json(&body)?).map(Json)
}

/// Anybody may ask what they themselves may do.
pub(super) async fn test_permissions(
    State(storage): Shared,
    Path(bucket): Path<String>,
    params: Params,
) -> Answer {
    let permissions = params.all("permissions").map(str::to_owned).collect();
    let permissions = storage.test_permissions(&bucket, permissions)?;
    Ok(Json(json!({ "kind": "storage#testIamPermissionsResponse", "permissions": permissions })))
}

pub(super) async fn service_account(State(storage): Shared, Path(project): Path<String>) -> Answer {
    storage.may_in_project("resourcemanager.projects.get", &project)?;
    let email_address = "service-1@gs-project-accounts.iam.gserviceaccount.com";
    Ok(Json(json!({ "kind": "storage#serviceAccount", "email_address": email_address })))
}
