//! Objects over the JSON API, all but uploads.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::super::bucket::merge_patch;
use super::super::listing::ListQuery;
use super::super::object::Attributes;
use super::super::objects::Target;
use super::super::{Conditions, Error, Result, Storage};
use super::fault::with_faults;
use super::{Params, link_base, media};

type Shared = State<Arc<Storage>>;
type Named = Path<(String, String)>;

fn target(bucket: String, name: String, params: &Params) -> Result<Target> {
    Ok(Target { bucket, name, generation: params.integer("generation")?, conditions: params.conditions()? })
}

/// Metadata, or with `alt=media` the bytes.
pub(super) async fn get(
    State(storage): Shared,
    Path((bucket, name)): Named,
    params: Params,
    headers: HeaderMap,
) -> Response {
    if params.text("alt") == Some("media") {
        let answer = async {
            let version = target(bucket, name, &params).and_then(|target| storage.read_object(&target));
            version
                .and_then(|version| media::response(&version, &headers))
                .map_err(Error::into_media_response)
        };
        return with_faults(&storage, "storage.objects.get.media", answer).await;
    }
    let answer = async {
        let version = storage.get_object(&target(bucket, name, &params)?)?;
        Ok::<_, Error>(Json(version.to_json(&link_base(&storage, &headers))))
    };
    with_faults(&storage, "storage.objects.get", answer).await
}

pub(super) async fn list(
    State(storage): Shared,
    Path(bucket): Path<String>,
    params: Params,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        for unsupported in ["matchGlob", "filter", "softDeleted"] {
            if params.text(unsupported).is_some_and(|value| !["", "false", "False"].contains(&value)) {
                return Err(Error::new(
                    super::Kind::Unsupported,
                    format!("{unsupported} is not supported here"),
                ));
            }
        }
        let text = |key: &str| params.text(key).unwrap_or_default().to_owned();
        let page = storage.list_objects(
            &bucket,
            &ListQuery {
                prefix: text("prefix"),
                delimiter: text("delimiter"),
                include_trailing_delimiter: params.is_true("includeTrailingDelimiter"),
                start: text("startOffset"),
                end: text("endOffset"),
                versions: params.is_true("versions"),
                page_size: params.integer("maxResults")?.unwrap_or(0).try_into().unwrap_or(0),
                page_token: text("pageToken"),
            },
        )?;
        let base = link_base(&storage, &headers);
        let mut answer = json!({ "kind": "storage#objects" });
        if !page.objects.is_empty() {
            answer["items"] = page.objects.iter().map(|version| version.to_json(&base)).collect();
        }
        if !page.prefixes.is_empty() {
            answer["prefixes"] = json!(page.prefixes);
        }
        if let Some(token) = page.next_page_token {
            answer["nextPageToken"] = json!(token);
        }
        Ok(Json(answer))
    };
    with_faults(&storage, "storage.objects.list", answer).await
}

pub(super) async fn delete(State(storage): Shared, Path((bucket, name)): Named, params: Params) -> Response {
    let answer = async {
        storage.delete_object(&target(bucket, name, &params)?)?;
        Ok::<_, Error>(StatusCode::NO_CONTENT)
    };
    with_faults(&storage, "storage.objects.delete", answer).await
}

pub(super) async fn patch(
    state: Shared,
    path: Named,
    params: Params,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    change(state, path, params, headers, body, "storage.objects.patch").await
}

pub(super) async fn update(
    state: Shared,
    path: Named,
    params: Params,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    change(state, path, params, headers, body, "storage.objects.update").await
}

async fn change(
    State(storage): Shared,
    Path((bucket, name)): Named,
    params: Params,
    headers: HeaderMap,
    body: Bytes,
    method: &'static str,
) -> Response {
    let answer = async {
        let given = parse_json(&body)?;
        let target = target(bucket, name, &params)?;
        let version = storage.update_object(&target, |old| {
            let mut new = if method.ends_with("patch") { json!(old) } else { json!({}) };
            merge_patch(&mut new, &given);
            attributes(new)
        })?;
        Ok::<_, Error>(Json(version.to_json(&link_base(&storage, &headers))))
    };
    with_faults(&storage, method, answer).await
}

/// Bucket, object, destination bucket, destination object.
type FromTo = Path<(String, String, String, String)>;

pub(super) async fn copy(
    State(storage): Shared,
    Path(path): FromTo,
    params: Params,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = async {
        Ok::<_, Error>(Json(copied(&storage, path, &params, &body)?.to_json(&link_base(&storage, &headers))))
    };
    with_faults(&storage, "storage.objects.copy", answer).await
}

/// A rewrite that is always done in one call.
pub(super) async fn rewrite(
    State(storage): Shared,
    Path(path): FromTo,
    params: Params,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = async {
        let version = copied(&storage, path, &params, &body)?;
        let size = version.body.len().to_string();
        Ok::<_, Error>(Json(json!({
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": size,
            "objectSize": size,
            "done": true,
            "resource": version.to_json(&link_base(&storage, &headers)),
        })))
    };
    with_faults(&storage, "storage.objects.rewrite", answer).await
}

fn copied(
    storage: &Storage,
    (bucket, name, to_bucket, to_name): (String, String, String, String),
    params: &Params,
    body: &Bytes,
) -> Result<Arc<super::super::Version>> {
    let source = Target {
        bucket,
        name,
        generation: params.integer("sourceGeneration")?,
        conditions: Conditions {
            generation_match: params.integer("ifSourceGenerationMatch")?,
            generation_not_match: params.integer("ifSourceGenerationNotMatch")?,
            metageneration_match: params.integer("ifSourceMetagenerationMatch")?,
            metageneration_not_match: params.integer("ifSourceMetagenerationNotMatch")?,
        },
    };
    let conditions = params.conditions()?;
    let destination = Target { bucket: to_bucket, name: to_name, generation: None, conditions };
    let given = attributes(parse_json(body)?)?;
    let given = (given != Attributes::default()).then_some(given); // an empty resource keeps the source's
    storage.copy_object(&source, destination, given)
}

/// The settable part of an object resource.
pub(super) fn attributes(resource: Value) -> Result<Attributes> {
    serde_json::from_value(resource)
        .map_err(|error| Error::invalid(format!("Invalid object resource: {error}")))
}

/// A JSON body; an empty one is an empty object.
pub(super) fn parse_json(body: &[u8]) -> Result<Value> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Error::invalid(format!("Parse Error: {error}")))?;
    if value.is_object() { Ok(value) } else { Err(Error::invalid("Parse Error: expected an object")) }
}
